/*
 * Reading ahead. PostgreSQL asks for pages ahead in bitmap scans only, and leaves sequential reading to
 * the operating system's read-ahead, which is not there. So each process watches its own reads: of a
 * few forks, the block that a sequential reader would want next, and how far has been asked for.
 */
#include "compute/compute.h"

/* Forks that one process may read sequentially at a time: a merge join's, and an index build's. */
#define STREAMS 8
/* Blocks that are in the server's buffers are not read: so many may be passed over. */
#define SKIP_MAX 16
#define WINDOW_MIN 8
/* A fork larger than this part of the page store is not cached there when it is read sequentially. */
#define SWEEP_SHARE 4

typedef struct Stream
{
	RelFileNode node;
	ForkNumber	fork;
	BlockNumber next;			/* expected */
	BlockNumber end;			/* asked for up to here */
	int			window;			/* blocks asked ahead; 0: a single read so far */
	uint64		used;			/* when: reads of this process */
} Stream;

static Stream streams[STREAMS];
static uint64 reads;

XLogRecPtr
page_since(const PageKey *key, const ForkState *state)
{
	return Max(lsn_last_written(key), state->truncated_at);
}

/* The stream that the block belongs to; NULL: none. */
static Stream *
find_stream(const PageKey *key)
{
	for (int i = 0; i < STREAMS; i++)
	{
		Stream	   *stream = &streams[i];

		if (RelFileNodeEquals(stream->node, key->node) && stream->fork == key->fork &&
			key->block >= stream->next && key->block - stream->next <= SKIP_MAX)
			return stream;
	}
	return NULL;
}

/* If there is none, the one unused for longest, made anew for it. */
static Stream *
stream_of(const PageKey *key)
{
	Stream	   *found = find_stream(key);
	Stream	   *oldest = &streams[0];

	if (found != NULL)
		return found;
	for (int i = 1; i < STREAMS; i++)
	{
		if (streams[i].used < oldest->used)
			oldest = &streams[i];
	}
	*oldest = (Stream)
	{
		.node = key->node, .fork = key->fork, .next = key->block
	};
	return oldest;
}

static void
ask_ahead(Stream *stream, const PageKey *key, const ForkState *state)
{
	BlockNumber target = Min(state->remote_blocks, stream->next + stream->window);
	PageKey		ahead = *key;

	for (ahead.block = Max(stream->end, stream->next); ahead.block < target; ahead.block++)
	{
		if (!store_has(&ahead))
			client_prefetch(&ahead, page_since(&ahead, state));
	}
	stream->end = Max(stream->end, target);
	client_prefetch_send();
}

bool
read_ahead_sweeps(const PageKey *key, const ForkState *state)
{
	const Stream *stream;

	if (state->blocks / (1024 * 1024 / BLCKSZ) < (BlockNumber) setting_page_store_mb / SWEEP_SHARE)
		return false;
	stream = find_stream(key);
	return stream != NULL && stream->window > 0;
}

void
read_ahead(const PageKey *key, const ForkState *state)
{
	Stream	   *stream;
	bool		first;

	if (setting_read_ahead == 0 || key->fork != MAIN_FORKNUM)
		return;
	stream = stream_of(key);
	first = stream->used == 0;
	stream->used = ++reads;
	stream->next = key->block + 1;
	if (first)
		return;
	/* Asked for in halves of the window, so that many requests travel together. */
	if (stream->end > stream->next && (int) (stream->end - stream->next) > stream->window / 2)
		return;
	stream->window = Min(Max(stream->window * 2, WINDOW_MIN), setting_read_ahead);
	ask_ahead(stream, key, state);
}
