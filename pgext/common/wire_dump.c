/*
 * Prints what the C side understands of a file of redo messages, one line a message, and the
 * hello it would send. Tests compare it with what the TypeScript side meant.
 *
 *   wire_dump hello VERSION MAGIC > bytes        wire_dump messages < bytes
 */
#include <stdio.h>
#include <stdlib.h>

#include "wire.h"

static int
dump_messages(const uint8_t *p, size_t left)
{
	while (left > 0)
	{
		RedoMessage m;
		const char *problem = left < REDO_HEADER_BYTES ? "header is cut off" : redo_get_header(p, &m);
		RedoTag		tag;

		if (problem == NULL && left - REDO_HEADER_BYTES < m.length)
			problem = "body is cut off";
		if (problem != NULL)
		{
			printf("error: %s\n", problem);
			return 1;
		}
		m.body = p + REDO_HEADER_BYTES;
		if (m.type == REDO_APPLY)
		{
			uint64_t	lsn = wire_get_u64(m.body);

			printf("%c lsn=%X/%X record=%u first=%02x\n", m.type, (unsigned) (lsn >> 32),
				   (unsigned) lsn, m.length - REDO_LSN_BYTES, m.body[REDO_LSN_BYTES]);
		}
		else
		{
			tag = redo_get_tag(m.body);
			printf("%c %u/%u/%u.%u block %u", m.type, tag.tablespace, tag.database, tag.relation,
				   tag.fork, tag.block);
			if (m.type == REDO_PUSH)
				printf(" first=%02x last=%02x", m.body[REDO_TAG_BYTES], m.body[m.length - 1]);
			printf("\n");
		}
		p += REDO_HEADER_BYTES + m.length;
		left -= REDO_HEADER_BYTES + m.length;
	}
	return 0;
}

int
main(int argc, char **argv)
{
	static uint8_t bytes[1024 * 1024];

	if (argc == 4 && strcmp(argv[1], "hello") == 0)
	{
		redo_put_hello(bytes, (uint32_t) strtoul(argv[2], NULL, 10),
					   (uint32_t) strtoul(argv[3], NULL, 10));
		return fwrite(bytes, REDO_HELLO_BYTES, 1, stdout) == 1 ? 0 : 1;
	}
	if (argc == 2 && strcmp(argv[1], "messages") == 0)
		return dump_messages(bytes, fread(bytes, 1, sizeof(bytes), stdin));
	fprintf(stderr, "usage: wire_dump hello VERSION MAGIC | wire_dump messages < FILE\n");
	return 2;
}
