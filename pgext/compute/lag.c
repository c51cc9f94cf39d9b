/*
 * How far the page server may be behind. A commit that waits for it bounds nothing but itself: one long
 * transaction, or commits that do not wait, could write WAL faster than it is taken in, until the disk of
 * this server is full. So whoever writes waits, where PostgreSQL allows it, until the page server is less
 * than pageserver.max_lag behind. Who only reads does not.
 */
#include "compute/client.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"

uint64
lag_bytes(void)
{
	XLogRecPtr	flushed = GetFlushRecPtr(NULL);
	XLogRecPtr	known = lsn_page_server();

	return flushed > known ? flushed - known : 0;
}

static uint64
lag_max(void)
{
	return (uint64) setting_max_lag_mb * 1024 * 1024;
}

static void
wait_for_page_server(void)
{
	instr_time	begun,
				now;

	INSTR_TIME_SET_CURRENT(begun);
	ereport(LOG,
			(errmsg("a writer waits: the page server is " UINT64_FORMAT " MB of WAL behind",
					lag_bytes() / (1024 * 1024)),
			 errhint("Is it running? pageserver.max_lag is how far it may be behind.")));
	while (lag_bytes() > lag_max())
		connection_pause();
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, begun);
	pg_atomic_fetch_add_u64(&counters->throttled_us, INSTR_TIME_GET_MICROSEC(now));
	/* Whoever waits on the latch above us shall look again: we may have taken their signal. */
	SetLatch(MyLatch);
}

void
lag_throttle(void)
{
	/* Under a lock nobody may wait for long; and who has no transaction id has written nothing. */
	if (InterruptHoldoffCount > 0 || CritSectionCount > 0 ||
		!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	if (lag_bytes() > lag_max())
		wait_for_page_server();
}

static void
on_transaction(XactEvent event, void *arg)
{
	(void) arg;
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		lag_throttle();
}

void
lag_install(void)
{
	RegisterXactCallback(on_transaction, NULL);
}
