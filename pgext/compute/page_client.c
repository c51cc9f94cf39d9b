/*
 * What is asked of the page server. Requests are pipelined: a ring holds those under way, answers come
 * in their order, and pages that were asked ahead stay in it until they are wanted or their place is.
 * All requests are reads, so whatever was under way when a connection broke is asked again on the next.
 * A query that is cancelled leaves its request in the ring; its answer is read, and dropped, later.
 */
#include "compute/client.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "utils/memutils.h"

/* Pages of memory a process may take for what it asked: 1 MB. */
#define RING 128
/* Of those, how many may be asked ahead: the rest is for what is wanted now. */
#define AHEAD_MAX (RING - 8)
#define SIZE_REQUESTS 2

typedef enum PlaceState
{
	PLACE_FREE,
	PLACE_SENT,					/* its answer is under way */
	PLACE_UNWANTED,				/* so is this one's, but nobody wants it */
	PLACE_ANSWERED,
} PlaceState;

typedef struct Place
{
	PlaceState	state;
	bool		ahead;			/* asked before it was needed */
	Request		request;
	Answer		answer;
} Place;

static Place *ring;
/* Places are numbered from the connection's beginning on; [answered, asked) are under way. */
static uint64 asked;
static uint64 answered;
static uint64 last_request_id;

static Place *
place(uint64 number)
{
	return &ring[number % RING];
}

/* The connection is gone: nothing under way will be answered. Answers that are here stay good. */
static void
lose(void)
{
	connection_drop();
	for (; answered < asked; answered++)
		place(answered)->state = PLACE_FREE;
}

static void
bad_answer(const char *what)
{
	lose();
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("the page server's answer cannot be right: %s", what),
			 errhint("Is it a page server of the same version?")));
}

static void
forget_answer(Place *at)
{
	if (at->answer.error != NULL)
		pfree(at->answer.error);
	at->answer.error = NULL;
	at->state = PLACE_FREE;
}

/* Reads the answer of the first place that waits for one. False: the connection has ended. */
static bool
receive(void)
{
	Place	   *first = place(answered);
	int			length;
	uint8	   *bytes = connection_get(&length, NO_DEADLINE);
	const char *problem;
	MemoryContext before;

	if (bytes == NULL)
		return false;
	before = MemoryContextSwitchTo(TopMemoryContext);
	problem = message_decode(&first->request, bytes, length, &first->answer);
	MemoryContextSwitchTo(before);
	pfree(bytes);
	if (problem != NULL)
		bad_answer(problem);
	answered++;
	if (first->state == PLACE_SENT)
		first->state = PLACE_ANSWERED;
	else
		forget_answer(first);
	return true;
}

/* Puts a request on its way; the ring has a place for it. False: the connection has ended. */
static bool
ask(const Request *request, bool ahead)
{
	Place	   *at;

	if (ring == NULL)
		ring = MemoryContextAllocZero(TopMemoryContext, RING * sizeof(Place));
	at = place(asked);
	forget_answer(at);
	if (at->answer.page == NULL)
		at->answer.page = MemoryContextAlloc(TopMemoryContext, BLCKSZ);
	at->request = *request;
	at->ahead = ahead;
	message_encode(&at->request, ++last_request_id);
	if (!connection_put(at->request.bytes, at->request.length))
		return false;
	at->state = PLACE_SENT;
	asked++;
	return true;
}

/* Sends all and waits for their answers, which are then the ring's last. */
static bool
try_exchange(const Request *requests, int wanted)
{
	uint64		end;

	while (asked - answered + wanted > RING)
	{
		if (!receive())
			return false;
	}
	/* An idle process uses the same few places, and their memory, again and again. */
	if (asked == answered && ring != NULL && asked % RING != 0 && place(0)->state == PLACE_FREE)
		asked = answered = asked - asked % RING + RING;
	for (int i = 0; i < wanted; i++)
	{
		if (!ask(&requests[i], false))
			return false;
	}
	end = asked;
	if (!connection_flush(true))
		return false;
	while (answered < end)
	{
		if (!receive())
			return false;
	}
	return true;
}

/* NULL, or an error of the last exchange that time may heal. */
static const char *
transient_error(int wanted)
{
	for (int i = 1; i <= wanted; i++)
	{
		const char *error = place(asked - i)->answer.error;

		if (error != NULL && message_is_transient(error))
			return error;
	}
	return NULL;
}

static TimestampTz
reconnect_deadline(void)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									   setting_reconnect_seconds * INT64CONST(1000));
}

/* One attempt; NULL, or what kept it from its end: palloc'd. */
static char *
attempt(const Request *requests, int wanted)
{
	const char *error;

	if (!connection_open() && !connection_start(reconnect_deadline()))
	{
		char	   *problem = connection_problem();

		connection_drop();
		return problem;
	}
	if (!try_exchange(requests, wanted))
	{
		char	   *problem = connection_problem();

		lose();
		return problem;
	}
	error = transient_error(wanted);
	return error == NULL ? NULL : pstrdup(error);
}

/* Asks until there are answers. Says once that it has to wait, and once that it need not any more. */
static void
exchange_patiently(const Request *requests, int wanted)
{
	TimestampTz deadline = 0;
	char	   *problem;

	while ((problem = attempt(requests, wanted)) != NULL)
	{
		if (deadline == 0)
		{
			deadline = reconnect_deadline();
			count(&counters->reconnects);
			ereport(LOG, (errmsg("waiting for the page server: %s", problem)));
		}
		else if (GetCurrentTimestamp() > deadline)
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("the page server cannot be reached: %s", problem),
					 errhint("Is it running? pageserver.reconnect_timeout says how long to wait "
							 "for it (%d s).", setting_reconnect_seconds)));
		else
			connection_pause();
		pfree(problem);
	}
	if (deadline != 0)
		ereport(LOG, (errmsg("the page server answers again")));
}

static void
measure(instr_time begun)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, begun);
	pg_atomic_fetch_add_u64(&counters->waited_us, INSTR_TIME_GET_MICROSEC(now));
}

/* Gives the place of the first answer; those of the others follow. */
static uint64
exchange(const Request *requests, int wanted)
{
	instr_time	begun;

	for (int i = 0; i < wanted; i++)
		lsn_flush(requests[i].since);
	INSTR_TIME_SET_CURRENT(begun);
	exchange_patiently(requests, wanted);
	measure(begun);
	/* Whoever waits on the latch above us shall look again: we may have taken their signal. */
	SetLatch(MyLatch);
	return asked - wanted;
}

static void
fail(const char *what, const PageKey *key, const char *error)
{
	bool		replaced = message_is_of_replaced(error);

	ereport(replaced ? FATAL : ERROR,
			(errcode(ERRCODE_IO_ERROR),
			 errmsg("could not read %s of relation %u/%u/%u, fork %d, from the page server: %s",
					what, key->node.spcNode, key->node.dbNode, key->node.relNode, key->fork,
					error),
			 replaced ? errhint("This server ends. Connect to the one that has its place.") :
			 errhint("The page server's log and \"pageserver check\" say more.")));
}

/* ---- asking ahead ---- */

/* A page that was asked for, if what comes is new enough. */
static Place *
find_asked(const PageKey *key, XLogRecPtr since)
{
	for (int i = 0; ring != NULL && i < RING; i++)
	{
		Place	   *at = &ring[i];

		if ((at->state != PLACE_SENT && at->state != PLACE_ANSWERED) ||
			at->request.tag != PAGESTREAM_GETPAGE ||
			memcmp(&at->request.key, key, sizeof(PageKey)) != 0)
			continue;
		if (at->request.since >= since)
			return at;
		/* The page has left this server since, newer than this. */
		if (at->state == PLACE_SENT)
			at->state = PLACE_UNWANTED;
		else
			forget_answer(at);
	}
	return NULL;
}

void
client_prefetch(const PageKey *key, XLogRecPtr since)
{
	Request		request = {.tag = PAGESTREAM_GETPAGE, .key = *key, .since = since};

	/* Whatever goes wrong will do so again when the page is wanted, and is said then. */
	if (!connection_open() || asked - answered >= AHEAD_MAX || find_asked(key, since) != NULL)
		return;
	lsn_flush(since);
	if (ask(&request, true))
		count(&counters->prefetched);
	else
		lose();
}

void
client_prefetch_send(void)
{
	if (connection_open() && !connection_flush(false))
		lose();
}

/* Takes a page that was asked ahead, waiting for it if need be. */
static bool
take_asked(const PageKey *key, XLogRecPtr since, char *page)
{
	Place	   *at = find_asked(key, since);
	bool		good;

	if (at == NULL)
		return false;
	if (at->state == PLACE_SENT)
	{
		instr_time	begun;

		INSTR_TIME_SET_CURRENT(begun);
		while (at->state == PLACE_SENT)
		{
			if (!receive())
				lose();
		}
		measure(begun);
		SetLatch(MyLatch);
	}
	good = at->state == PLACE_ANSWERED && at->answer.error == NULL;
	if (good)
	{
		memcpy(page, at->answer.page, BLCKSZ);
		if (at->ahead)
			count(&counters->prefetch_used);
	}
	forget_answer(at);
	return good;
}

/* ---- asking ---- */

void
client_get_page(const PageKey *key, XLogRecPtr since, char *page)
{
	Request		request = {.tag = PAGESTREAM_GETPAGE, .key = *key, .since = since};

	count(&counters->read_remotely);
	if (!take_asked(key, since, page))
	{
		Place	   *at = place(exchange(&request, 1));

		if (at->answer.error != NULL)
			fail(psprintf("block %u", key->block), key, at->answer.error);
		memcpy(page, at->answer.page, BLCKSZ);
		forget_answer(at);
	}
}

bool
client_get_size(RelFileNode node, ForkNumber fork, BlockNumber *blocks)
{
	PageKey		key = {.node = node, .fork = fork};
	Request		requests[SIZE_REQUESTS] = {
		{.tag = PAGESTREAM_EXISTS, .key = key, .since = start_lsn},
		{.tag = PAGESTREAM_NBLOCKS, .key = key, .since = start_lsn},
	};
	uint64		first = exchange(requests, SIZE_REQUESTS);
	const Answer *exists = &place(first)->answer;
	const Answer *size = &place(first + 1)->answer;

	count(&counters->sizes_asked);
	if (exists->error != NULL)
		fail("the size", &key, exists->error);
	/* Of a relation that is not there the size is an error: that is expected. */
	if (exists->exists && size->error != NULL)
		fail("the size", &key, size->error);
	*blocks = exists->exists ? size->blocks : 0;
	return exists->exists;
}

int64
client_get_database_size(Oid database)
{
	Request		request = {
		.tag = PAGESTREAM_DBSIZE, .key = {.node = {.dbNode = database}}, .since = start_lsn,
	};
	const Answer *answer = &place(exchange(&request, 1))->answer;

	if (answer->error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("could not read the size of database %u from the page server: %s",
						database, answer->error)));
	return answer->bytes;
}
