/*
 * What is asked of the page server, and how long it is waited for. All requests are reads, so whatever
 * was under way when a connection broke is asked again on the next.
 */
#include "compute/client.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"

/* Of the ring's places, how many may be asked ahead: the rest is for what is wanted now. */
#define AHEAD_MAX (RING - 8)
#define SIZE_REQUESTS 2

/* Sends all and waits for their answers, which are then the ring's last. */
static bool
try_exchange(const Request *requests, int wanted)
{
	while (ring_under_way() + wanted > RING)
	{
		if (!ring_receive())
			return false;
	}
	for (int i = 0; i < wanted; i++)
	{
		if (!ring_ask(&requests[i], false))
			return false;
	}
	if (!connection_flush(true))
		return false;
	while (ring_under_way() > 0)
	{
		if (!ring_receive())
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
		const char *error = ring_place(ring_asked() - i)->answer.error;

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

		ring_lose();
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
	return ring_asked() - wanted;
}

static const char *
hint_for(const char *error)
{
	if (message_is_of_replaced(error))
		return "This server ends. Connect to the one that has its place.";
	if (message_is_of_collected(error))
		return "Start a compute at a moment that is kept: \"pageserver timeline retention\" says which are.";
	return "The page server's log and \"pageserver check\" say more.";
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
			 errhint("%s", hint_for(error))));
}

/* ---- asking ahead ---- */

void
client_prefetch(const PageKey *key, XLogRecPtr since)
{
	Request		request = {.tag = PAGESTREAM_GETPAGE, .key = *key, .since = since};

	/* Whatever goes wrong will do so again when the page is wanted, and is said then. */
	if (!connection_open() || ring_under_way() >= AHEAD_MAX || ring_find(key, since) != NULL)
		return;
	lsn_flush(since);
	if (ring_ask(&request, true))
		count(&counters->prefetched);
	else
		ring_lose();
}

void
client_prefetch_send(void)
{
	if (connection_open() && !connection_flush(false))
		ring_lose();
}

/* Takes a page that was asked ahead, waiting for it if need be. */
static bool
take_asked(const PageKey *key, XLogRecPtr since, char *page)
{
	Place	   *at = ring_find(key, since);
	bool		good;

	if (at == NULL)
		return false;
	if (at->state == PLACE_SENT)
	{
		instr_time	begun;

		INSTR_TIME_SET_CURRENT(begun);
		while (at->state == PLACE_SENT)
		{
			if (!ring_receive())
				ring_lose();
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
	ring_forget(at);
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
		Place	   *at = ring_place(exchange(&request, 1));

		if (at->answer.error != NULL)
			fail(psprintf("block %u", key->block), key, at->answer.error);
		memcpy(page, at->answer.page, BLCKSZ);
		ring_forget(at);
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
	const Answer *exists = &ring_place(first)->answer;
	const Answer *size = &ring_place(first + 1)->answer;

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
	const Answer *answer = &ring_place(exchange(&request, 1))->answer;

	if (answer->error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("could not read the size of database %u from the page server: %s",
						database, answer->error),
				 errhint("%s", hint_for(answer->error))));
	return answer->bytes;
}
