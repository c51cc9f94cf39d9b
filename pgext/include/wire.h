/*
 * Message layouts shared with the page server: the only place in C that knows them. Plain C, no
 * PostgreSQL headers, so that build/wire_dump can check it against the TypeScript side
 * (src/protocol/redo.ts) without a server.
 *
 * Integers are big-endian. What a peer sends is untrusted: every read is bounded.
 */
#ifndef PAGESERVER_WIRE_H
#define PAGESERVER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WIRE_PAGE_BYTES 8192

/*
 * WAL redo pipe. The process first writes a hello; then it reads messages on stdin and answers
 * each 'G' with exactly WIRE_PAGE_BYTES bytes on stdout, in order. There is no error answer: it
 * writes a line to stderr and ends.
 *
 *   hello    "REDO" | protocol u32 | server_version_num u32 | WAL page magic u32 | page bytes u32
 *   message  type u8 | length u32 (of itself and the body) | body
 *     'B' begin   tag                     a page without a base image
 *     'P' push    tag, 8192 bytes         its base image
 *     'A' apply   end LSN u64, record     a WAL record, its 24-byte header on, no page headers
 *     'R' retag   tag                     go on with the same page under another tag
 *     'G' get     tag                     answer the page
 *   tag      fork u8 | tablespace u32 | database u32 | relation u32 | block u32
 */
#define REDO_PROTOCOL 1
#define REDO_HELLO_MAGIC "REDO"
#define REDO_HELLO_BYTES 20
#define REDO_HEADER_BYTES 5
#define REDO_TAG_BYTES 17
#define REDO_LSN_BYTES 8
/* A record that changes pages holds at most 33 images and about as much data: far below this. */
#define REDO_RECORD_BYTES_MAX (64 * 1024 * 1024)
#define REDO_BODY_BYTES_MAX (REDO_LSN_BYTES + REDO_RECORD_BYTES_MAX)

enum
{
	REDO_BEGIN = 'B',
	REDO_PUSH = 'P',
	REDO_APPLY = 'A',
	REDO_RETAG = 'R',
	REDO_GET = 'G',
};

typedef struct RedoTag
{
	uint8_t		fork;
	uint32_t	tablespace;
	uint32_t	database;
	uint32_t	relation;
	uint32_t	block;
} RedoTag;

typedef struct RedoMessage
{
	uint8_t		type;
	/* Length of the body and, once it has arrived, the body. */
	uint32_t	length;
	const uint8_t *body;
} RedoMessage;

static inline uint32_t
wire_get_u32(const uint8_t *p)
{
	return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

static inline uint64_t
wire_get_u64(const uint8_t *p)
{
	return (uint64_t) wire_get_u32(p) << 32 | wire_get_u32(p + 4);
}

static inline void
wire_put_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t) (v >> 24);
	p[1] = (uint8_t) (v >> 16);
	p[2] = (uint8_t) (v >> 8);
	p[3] = (uint8_t) v;
}

static inline void
wire_put_u64(uint8_t *p, uint64_t v)
{
	wire_put_u32(p, (uint32_t) (v >> 32));
	wire_put_u32(p + 4, (uint32_t) v);
}

static inline RedoTag
redo_get_tag(const uint8_t *p)
{
	return (RedoTag) {
		.fork = p[0],
		.tablespace = wire_get_u32(p + 1),
		.database = wire_get_u32(p + 5),
		.relation = wire_get_u32(p + 9),
		.block = wire_get_u32(p + 13),
	};
}

/* Reads a message header of REDO_HEADER_BYTES. NULL, or why the message cannot be right. */
static inline const char *
redo_get_header(const uint8_t *p, RedoMessage *message)
{
	uint32_t	length = wire_get_u32(p + 1);

	message->type = p[0];
	message->body = NULL;
	if (length < 4)
		return "message length is below 4";
	message->length = length - 4;
	switch (message->type)
	{
		case REDO_BEGIN:
		case REDO_RETAG:
		case REDO_GET:
			return message->length == REDO_TAG_BYTES ? NULL : "message is not one page tag long";
		case REDO_PUSH:
			return message->length == REDO_TAG_BYTES + WIRE_PAGE_BYTES ? NULL :
				"push message is not a page tag and a page long";
		case REDO_APPLY:
			return message->length > REDO_LSN_BYTES && message->length <= REDO_BODY_BYTES_MAX ?
				NULL : "apply message is too short or too long";
		default:
			return "unknown message type";
	}
}

static inline void
redo_put_hello(uint8_t *p, uint32_t server_version, uint32_t wal_magic)
{
	memcpy(p, REDO_HELLO_MAGIC, 4);
	wire_put_u32(p + 4, REDO_PROTOCOL);
	wire_put_u32(p + 8, server_version);
	wire_put_u32(p + 12, wal_magic);
	wire_put_u32(p + 16, WIRE_PAGE_BYTES);
}

/*
 * Pagestream v3, docs/wire-protocol.md; the TypeScript twin is src/protocol/pagestream.ts. An answer
 * repeats its request behind its own tag.
 *
 *   request  tag u8 | request id u64 | request_lsn u64 | not_modified_since u64 | body
 *   body     tablespace u32 | database u32 | relation u32 | fork u8 [ | block u32 ]  or  database u32
 */
enum
{
	PAGESTREAM_EXISTS = 0,
	PAGESTREAM_NBLOCKS = 1,
	PAGESTREAM_GETPAGE = 2,
	PAGESTREAM_DBSIZE = 3,
	PAGESTREAM_EXISTS_ANSWER = 100,
	PAGESTREAM_NBLOCKS_ANSWER = 101,
	PAGESTREAM_GETPAGE_ANSWER = 102,
	PAGESTREAM_ERROR = 103,
	PAGESTREAM_DBSIZE_ANSWER = 104,
};

#define PAGESTREAM_PREFIX_BYTES (1 + 8 + 8 + 8)
#define PAGESTREAM_REQUEST_BYTES_MAX (PAGESTREAM_PREFIX_BYTES + 4 + 4 + 4 + 1 + 4)
/* As request_lsn: the latest version there is. */
#define PAGESTREAM_LATEST UINT64_MAX

#endif							/* PAGESERVER_WIRE_H */
