/*
 * When another compute has taken this one's place, this server's history is nobody's: commits that wait
 * for the page server would wait for ever, and what is read from buffers is not what the timeline holds.
 * So a background worker asks the page server every second, and ends the server by an immediate
 * shutdown: no commit that waits returns, none becomes visible to others, and every client hears that
 * its connection is gone. A page server that does not answer says nothing about our place.
 */
#include "compute/client.h"

#include "catalog/pg_database.h"
#include "catalog/pg_tablespace_d.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#define ASK_EVERY_MS 1000
#define ANSWER_MS_MAX 5000
#define RESTART_SECONDS 1

#pragma GCC visibility push(default)
extern void pageserver_guard_main(Datum arg);
#pragma GCC visibility pop

/* One question, with an end. NULL: no answer, or one that says nothing against us. */
static const char *
why_replaced(uint64 id)
{
	/* pg_database: what is answered is of no interest, whether we are refused is. */
	Request		request = {
		.tag = PAGESTREAM_EXISTS,
		.key = {.node = {.spcNode = GLOBALTABLESPACE_OID, .relNode = DatabaseRelationId}},
		.since = start_lsn,
	};
	Answer		answer = {0};
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ANSWER_MS_MAX);
	uint8	   *bytes = NULL;
	int			length;

	message_encode(&request, id);
	if ((connection_open() || connection_start(deadline)) &&
		connection_put(request.bytes, request.length) && connection_flush(true))
		bytes = connection_get(&length, deadline);
	/* An answer that comes later would be taken for the next one's. */
	if (bytes == NULL || message_decode(&request, bytes, length, &answer) != NULL)
		connection_drop();
	if (bytes != NULL)
		connection_free(bytes);
	return answer.error != NULL && message_is_of_replaced(answer.error) ? answer.error : NULL;
}

static void
end_server(const char *why)
{
	ereport(LOG,
			(errmsg("this server ends at once: %s", why),
			 errdetail("Commits that wait for the page server are not acknowledged.")));
	kill(PostmasterPid, SIGQUIT);
	for (;;)
		(void) WaitLatch(NULL, WL_EXIT_ON_PM_DEATH, 0, PG_WAIT_EXTENSION);
}

void
pageserver_guard_main(Datum arg)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "pageserver guard",
												  ALLOCSET_SMALL_SIZES);

	(void) arg;
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	MemoryContextSwitchTo(context);
	for (uint64 id = 1; !ShutdownRequestPending; id++)
	{
		const char *why = why_replaced(id);

		if (why != NULL)
			end_server(why);
		MemoryContextReset(context);
		if (!ShutdownRequestPending)
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 ASK_EVERY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	connection_drop();
	proc_exit(0);
}

void
guard_install(void)
{
	worker_register("pageserver guard", "pageserver_guard_main", RESTART_SECONDS);
}
