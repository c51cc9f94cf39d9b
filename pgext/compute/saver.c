/*
 * What PostgreSQL does not log, but the next compute of the timeline should have: free space maps. A
 * background worker sleeps until the server is asked to stop. When all sessions have ended it logs the
 * maps that were changed here, before the shutdown checkpoint, after which nothing can be logged.
 */
#include "compute/compute.h"

#include "access/xlog.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/bgwriter.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/smgr.h"
#include "utils/backend_status.h"
#include "utils/guc.h"

/* A server that is stopped for longer than this has other troubles than its free space maps. */
#define SESSIONS_END_MS_MAX 10000
#define SESSIONS_POLL_MS 20

#pragma GCC visibility push(default)
extern void pageserver_saver_main(Datum arg);
#pragma GCC visibility pop

static bool
has_sessions(void)
{
	pgstat_clear_backend_activity_snapshot();
	for (int i = 1; i <= pgstat_fetch_stat_numbackends(); i++)
	{
		LocalPgBackendStatus *local = pgstat_fetch_stat_local_beentry(i);

		if (local != NULL && local->backendStatus.st_procpid > 0 &&
			local->backendStatus.st_procpid != MyProcPid &&
			(local->backendStatus.st_backendType == B_BACKEND ||
			 local->backendStatus.st_backendType == B_AUTOVAC_WORKER ||
			 local->backendStatus.st_backendType == B_BG_WORKER))
			return true;
	}
	return false;
}

/* Sessions that end remove relations that nobody else has seen: those must not be logged after. */
static bool
sessions_have_ended(void)
{
	for (int waited = 0; waited < SESSIONS_END_MS_MAX; waited += SESSIONS_POLL_MS)
	{
		if (!has_sessions())
			return true;
		pg_usleep(SESSIONS_POLL_MS * 1000L);
	}
	return false;
}

static XLogRecPtr
log_map_page(const PageKey *key)
{
	PGAlignedBlock page;
	RelFileNode node = key->node;

	smgrread(smgropen(node, InvalidBackendId), key->fork, key->block, page.data);
	return log_newpage(&node, key->fork, key->block, page.data, false);
}

/* The map of a relation that was created here. */
static void
log_local_map(RelFileNode node, void *arg)
{
	SMgrRelation reln = smgropen(node, InvalidBackendId);
	PageKey		key = {.node = node, .fork = FSM_FORKNUM};
	BlockNumber blocks = smgrnblocks(reln, FSM_FORKNUM);

	for (key.block = 0; key.block < blocks; key.block++)
		*(XLogRecPtr *) arg = log_map_page(&key);
	smgrclose(reln);
}

static void
save_maps(void)
{
	XLogRecPtr	last = InvalidXLogRecPtr;
	uint32		at = 0;
	PageKey		key;

	if (!sessions_have_ended())
		return;
	/* From the buffers to the store and the files. The shutdown checkpoint finds little left. */
	RequestCheckpoint(CHECKPOINT_IMMEDIATE | CHECKPOINT_FORCE | CHECKPOINT_WAIT);
	while (store_next_map(&at, &key))
		last = log_map_page(&key);
	relation_each_local_map(log_local_map, &last);
	if (last != InvalidXLogRecPtr)
		XLogFlush(last);
}

void
pageserver_saver_main(Datum arg)
{
	(void) arg;
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	/* The maps are mostly zeros. */
	SetConfigOption("wal_compression", "pglz", PGC_SUSET, PGC_S_OVERRIDE);
	while (!ShutdownRequestPending)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	save_maps();
	proc_exit(0);
}

void
saver_install(void)
{
	worker_register("pageserver saver", "pageserver_saver_main", BGW_NEVER_RESTART);
}
