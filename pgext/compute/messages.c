/*
 * Pagestream v3: requests to bytes, bytes to answers. Layouts are in include/wire.h.
 */
#include "compute/client.h"

void
message_encode(Request *request, uint64 id)
{
	uint8	   *at = request->bytes;

	*at++ = request->tag;
	wire_put_u64(at, id);
	wire_put_u64(at + 8, PAGESTREAM_LATEST);
	wire_put_u64(at + 16, request->since);
	at += 24;
	if (request->tag == PAGESTREAM_DBSIZE)
	{
		wire_put_u32(at, request->key.node.dbNode);
		at += 4;
	}
	else
	{
		wire_put_u32(at, request->key.node.spcNode);
		wire_put_u32(at + 4, request->key.node.dbNode);
		wire_put_u32(at + 8, request->key.node.relNode);
		at[12] = (uint8) request->key.fork;
		at += 13;
	}
	if (request->tag == PAGESTREAM_GETPAGE)
	{
		wire_put_u32(at, request->key.block);
		at += 4;
	}
	request->length = (int) (at - request->bytes);
}

const char *
message_decode(const Request *request, const uint8 *bytes, int length, Answer *answer)
{
	uint8		tag = bytes[0];
	const uint8 *payload = bytes + request->length;
	int			payload_length = length - request->length;

	if (length < PAGESTREAM_PREFIX_BYTES ||
		memcmp(bytes + 1, request->bytes + 1, PAGESTREAM_PREFIX_BYTES - 1) != 0)
		return "it belongs to another request";
	if (tag == PAGESTREAM_ERROR)
	{
		answer->error = pnstrdup((const char *) bytes + PAGESTREAM_PREFIX_BYTES,
								 length - PAGESTREAM_PREFIX_BYTES);
		return NULL;
	}
	if (payload_length < 0 || memcmp(bytes + 1, request->bytes + 1, request->length - 1) != 0)
		return "it is about another block";
	if (request->tag == PAGESTREAM_EXISTS && tag == PAGESTREAM_EXISTS_ANSWER &&
		payload_length == 1)
		answer->exists = payload[0] != 0;
	else if (request->tag == PAGESTREAM_NBLOCKS && tag == PAGESTREAM_NBLOCKS_ANSWER &&
			 payload_length == 4)
		answer->blocks = wire_get_u32(payload);
	else if (request->tag == PAGESTREAM_GETPAGE && tag == PAGESTREAM_GETPAGE_ANSWER &&
			 payload_length == BLCKSZ)
		answer->page = payload;
	else if (request->tag == PAGESTREAM_DBSIZE && tag == PAGESTREAM_DBSIZE_ANSWER &&
			 payload_length == 8)
		answer->bytes = (int64) wire_get_u64(payload);
	else
		return "it has another type or length";
	return NULL;
}

static bool
begins_with(const char *error, const char *beginning)
{
	return strncmp(error, beginning, strlen(beginning)) == 0;
}

bool
message_is_transient(const char *error)
{
	static const char *const beginnings[] = {
		"LSN timeout: ",
		"shutdown",
		"Read error: the timeline is being loaded",
		"Read error: more than ",
	};

	for (size_t i = 0; i < lengthof(beginnings); i++)
	{
		if (begins_with(error, beginnings[i]))
			return true;
	}
	return false;
}

bool
message_is_of_replaced(const char *error)
{
	return begins_with(error, "Read error: another compute has taken this one's place");
}

bool
message_is_of_collected(const char *error)
{
	return begins_with(error, "Bad request: tried to request a page version that was garbage collected");
}
