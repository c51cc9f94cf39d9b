/*
 * The pipe. A system call costs as much as applying a record, so input is read in pieces as large
 * as the pipe gives, and answered pages gather until the next read would block or the output
 * buffer is full. Waiting for input with answers unsent never happens.
 *
 * File descriptors: 0 input, 1 is turned to stderr (nothing may print into the answers), answers
 * go to OUT_FD.
 */
#include "walredo/walredo.h"

#include <errno.h>
#include <unistd.h>

#include "utils/memutils.h"

#define OUT_FD 3
#define IN_BYTES (1024 * 1024)
#define OUT_PAGES 64

static uint8 *in;
static size_t in_size;			/* of the buffer */
static size_t in_start;			/* first byte not yet consumed */
static size_t in_end;			/* end of the bytes read */

static uint8 *out;
static size_t out_used;

static void write_hello(uint32 server_version, uint32 wal_magic);

void
io_start(uint32 server_version, uint32 wal_magic)
{
	in_size = IN_BYTES;
	in = MemoryContextAllocHuge(TopMemoryContext, in_size);
	out = MemoryContextAllocHuge(TopMemoryContext, OUT_PAGES * WIRE_PAGE_BYTES);
	if (dup2(STDOUT_FILENO, OUT_FD) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		elog(FATAL, "could not set up the answer pipe: %m");
	write_hello(server_version, wal_magic);
}

static void
write_hello(uint32 server_version, uint32 wal_magic)
{
	redo_put_hello(out, server_version, wal_magic);
	out_used = REDO_HELLO_BYTES;
	if (!io_flush())
		_exit(0);
}

/* Makes at least `want` unconsumed bytes available. False at a clean end of input. */
static bool
fill(size_t want)
{
	if (in_size - in_start < want)
	{
		memmove(in, in + in_start, in_end - in_start);
		in_end -= in_start;
		in_start = 0;
		if (in_size < want)
		{
			in_size = want + IN_BYTES;
			in = repalloc_huge(in, in_size);
		}
	}
	while (in_end - in_start < want)
	{
		ssize_t		n;

		if (!io_flush())
			return false;
		n = read(STDIN_FILENO, in + in_end, in_size - in_end);
		if (n > 0)
			in_end += (size_t) n;
		else if (n == 0)
		{
			if (in_end != in_start)
				elog(FATAL, "input ended within a message");
			return false;
		}
		else if (errno != EINTR)
			elog(FATAL, "could not read input: %m");
	}
	return true;
}

bool
io_next(RedoMessage *message)
{
	const char *problem;

	if (in_start == in_end)
		in_start = in_end = 0;
	if (!fill(REDO_HEADER_BYTES))
		return false;
	problem = redo_get_header(in + in_start, message);
	if (problem != NULL)
		elog(FATAL, "%s", problem);
	if (!fill(REDO_HEADER_BYTES + message->length))
		return false;
	message->body = in + in_start + REDO_HEADER_BYTES;
	in_start += REDO_HEADER_BYTES + message->length;
	return true;
}

uint8 *
io_page_slot(void)
{
	if (out_used == OUT_PAGES * WIRE_PAGE_BYTES && !io_flush())
		_exit(0);
	return out + out_used;
}

void
io_page_done(void)
{
	out_used += WIRE_PAGE_BYTES;
}

bool
io_flush(void)
{
	size_t		sent = 0;

	while (sent < out_used)
	{
		ssize_t		n = write(OUT_FD, out + sent, out_used - sent);

		if (n > 0)
			sent += (size_t) n;
		else if (errno != EINTR)
			return false;
	}
	out_used = 0;
	return true;
}
