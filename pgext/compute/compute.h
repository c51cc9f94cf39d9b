/*
 * A compute without disks: a stock server whose storage manager reads pages from the page server.
 *
 * What holds:
 * - A fork that this compute created is a local file of md.c (FORK_LOCAL), and stays one.
 * - A fork that was there at the start is the page server's. Its size is ours as soon as we change
 *   it (FORK_CHANGED). Pages of it that are written go to the page store, a bounded local file.
 * - A page in the store is newer than, or equal to, what the page server has. It leaves the store
 *   when the page server's version will do (page_kind.c), and its last-written LSN is noted before
 *   (lsn.c): whoever reads it later asks for a version that is not older.
 * - A page that may not leave and finds no room is logged whole: then the page server has it as it
 *   is, with all that PostgreSQL itself would not have logged.
 * - Nothing local outlives the server: a directory starts once, and is never recovered.
 */
#ifndef PAGESERVER_COMPUTE_H
#define PAGESERVER_COMPUTE_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "port/atomics.h"
#include "storage/block.h"
#include "storage/lwlock.h"
#include "storage/relfilenode.h"

/* settings (main.c) */
extern char *setting_connection;
extern char *setting_tenant;
extern char *setting_timeline;
extern char *setting_wal_receiver;
extern int	setting_page_store_mb;
extern int	setting_relations_max;
extern int	setting_reconnect_seconds;
extern int	setting_read_ahead;
extern int	setting_max_lag_mb;
/* Shown as libpq's password; NULL: the page server asks for none. */
extern char *page_server_token;
/* The moment whose pages this compute started from. */
extern XLogRecPtr start_lsn;

/* Locks; when both are taken, relations first. Neither is held while waiting for the network. */
#define LOCK_TRANCHE "pageserver"
#define LOCK_COUNT 2
extern LWLock *relations_lock;
extern LWLock *store_lock;

typedef struct PageKey
{
	RelFileNode node;
	ForkNumber	fork;
	BlockNumber block;
} PageKey;

/* ---- counters (stat.c) ---- */

/* In shared memory; since the start of the server. */
typedef struct Counters
{
	pg_atomic_uint64 read_remotely; /* pages that came over the network */
	pg_atomic_uint64 read_from_store;
	pg_atomic_uint64 read_as_zeros; /* pages that nobody has written yet */
	pg_atomic_uint64 prefetched;
	pg_atomic_uint64 prefetch_used;
	pg_atomic_uint64 sizes_asked;
	pg_atomic_uint64 waited_us; /* for the page server, all processes together */
	pg_atomic_uint64 reconnects;
	pg_atomic_uint64 throttled_us; /* writers, for the page server to be less far behind */
	pg_atomic_uint64 written;	/* pages that came to the store */
	pg_atomic_uint64 left;		/* that left it, or found no room and need none */
	pg_atomic_uint64 logged;	/* that found no room, and were logged to do without */
} Counters;

extern Counters *counters;
extern Size stat_shmem_size(void);
extern void stat_shmem_init(void);
/* For SHOW pageserver.stat: a JSON object. */
extern const char *stat_show(void);

static inline void
count(pg_atomic_uint64 *counter)
{
	pg_atomic_fetch_add_u64(counter, 1);
}

/* ---- the storage manager (smgr.c) ---- */

/* Replaces the server's storage manager; FATAL when that cannot be done. Before fork. */
extern void smgr_install(void);

/* Calls every callback through smgr.c and sees which arrive; FATAL when one does not. */
extern void smgr_self_test(void);

/* ---- what is known of relations (relations.c) ---- */

typedef enum ForkStatus
{
	FORK_UNKNOWN,				/* the page server has not been asked */
	FORK_ABSENT,				/* not there */
	FORK_REMOTE,				/* as at the start */
	FORK_CHANGED,				/* was there at the start, changed here */
	FORK_LOCAL,					/* created here, or unlogged: files of md.c */
} ForkStatus;

typedef struct ForkState
{
	ForkStatus	status;
	BlockNumber blocks;			/* of REMOTE and CHANGED */
	/* Of blocks from here on the page server has nothing to say: not stored means zeros. */
	BlockNumber remote_blocks;
	XLogRecPtr	truncated_at;	/* end of the record; 0: not truncated here */
} ForkState;

extern Size relations_shmem_size(void);
extern void relations_shmem_init(void);
extern ForkState relation_fork(RelFileNode node, ForkNumber fork);
/* Notes the page server's answer, unless something is known already; gives what is known then. */
extern ForkState relation_learn(RelFileNode node, ForkNumber fork, bool exists,
								BlockNumber blocks);
extern void relation_create(RelFileNode node, ForkNumber fork);
/* An unlogged relation of the base backup: main and init fork are files. Before fork. */
extern void relation_create_unlogged(RelFileNode node);
/*
 * The fork has at least `blocks` blocks and is changed here; of the first `written` the page server
 * may have something to say. False when it is not known at all.
 */
extern bool relation_change(RelFileNode node, ForkNumber fork, BlockNumber blocks,
							BlockNumber written);
/* Memory only: for critical sections. */
extern void relation_truncate(RelFileNode node, ForkNumber fork, BlockNumber blocks);
extern void relation_forget(RelFileNode node, ForkNumber fork);
extern void relation_forget_database(Oid database);

/* Calls back for each relation with a free space map that is a local file. */
extern void relation_each_local_map(void (*callback) (RelFileNode node, void *arg), void *arg);

/* ---- positions of the log (lsn.c) ---- */

extern Size lsn_shmem_size(void);
extern void lsn_shmem_init(void);
/* No version of the page older than this may be read: it had this LSN when it last left us. */
extern XLogRecPtr lsn_last_written(const PageKey *key);
extern void lsn_raise(const PageKey *key, XLogRecPtr lsn);
/* Up to where the page server can answer without waiting, as it told our WAL sender. */
extern XLogRecPtr lsn_page_server(void);
/* Before a request for a version not older than `since`: that WAL must be on its way. */
extern void lsn_flush(XLogRecPtr since);

/* ---- how far the page server may be behind (lag.c) ---- */

/* Of the WAL that is on this disk, what the page server has not said that it can answer with. */
extern uint64 lag_bytes(void);
/* Waits while it is too far behind, if this process writes, and may wait. */
extern void lag_throttle(void);
/* Before fork. */
extern void lag_install(void);

/* ---- which pages may leave (page_kind.c) ---- */

typedef enum KeepReason
{
	KEEP_NOT,					/* the page server's version will do as soon as it has the LSN */
	KEEP_MAP,					/* visibility and free space maps: changed without WAL */
	KEEP_NOT_LOGGED,			/* its LSN says that no WAL made it */
	KEEP_SEQUENCE,				/* the log is ahead of it: values would be skipped */
	KEEP_VACUUM_CYCLE,			/* a b-tree page that was split while VACUUM ran */
	KEEP_TRANSACTION,			/* command ids of a transaction that may still run */
	KEEP_REASONS
} KeepReason;

/* Why the page may not leave; with KEEP_TRANSACTION, the newest transaction that it waits for. */
extern KeepReason page_keep_reason(ForkNumber fork, const char *page, TransactionId *newest);

/* ---- pages that are kept here (page_store.c) ---- */

extern Size store_shmem_size(void);
extern void store_shmem_init(void);
extern bool store_has(const PageKey *key);
extern bool store_read(const PageKey *key, char *page);
/* Takes a page that the server no longer has in its buffers. Never fails for want of room. */
extern void store_write(const PageKey *key, const char *page);
/* Caches what the page server answered to a request for a version not older than `since`. */
extern void store_cache(const PageKey *key, XLogRecPtr since, const char *page);
/* Forgets blocks from..end-1. Memory only: for critical sections. */
extern void store_forget(RelFileNode node, ForkNumber fork, BlockNumber from, BlockNumber end);
extern void store_forget_database(Oid database);

typedef struct StoreUse
{
	uint64		pages;
	uint64		kept[KEEP_REASONS]; /* KEEP_NOT: waits for the page server to have its WAL */
} StoreUse;

extern StoreUse store_use(void);
/* The next page of a free space map at or behind slot *at, which moves on. */
extern bool store_next_map(uint32 *at, PageKey *key);

/* ---- the page server (page_client.c) ---- */

/* At the start, by the postmaster: can we be served? Else FATAL with the reason. */
extern void client_check(void);
/* All wait as long as it takes (see pageserver.reconnect_timeout), and can be cancelled. */
extern void client_get_page(const PageKey *key, XLogRecPtr since, char *page);
/* False when the fork does not exist. */
extern bool client_get_size(RelFileNode node, ForkNumber fork, BlockNumber *blocks);
/* Bytes of all relations of a database. */
extern int64 client_get_database_size(Oid database);

/* Asks for a page ahead, if that is possible without waiting. */
extern void client_prefetch(const PageKey *key, XLogRecPtr since);
/* Lets go what was asked ahead. */
extern void client_prefetch_send(void);

/* ---- reading ahead (read_ahead.c) ---- */

/* What a request for the page must not be older than. */
extern XLogRecPtr page_since(const PageKey *key, const ForkState *state);
/*
 * The block is one of so many that are read one after the other that they would drive everything else
 * out of the page store. (PostgreSQL keeps such reads to a few of its buffers likewise.)
 */
extern bool read_ahead_sweeps(const PageKey *key, const ForkState *state);
/* A block was read: asks for what a sequential reader will want next. */
extern void read_ahead(const PageKey *key, const ForkState *state);

/* ---- functions that measure files (sizes.c) ---- */

extern void sizes_install(void);

/* ---- background workers; all before fork ---- */

/* FATAL when it cannot be registered. */
extern void worker_register(const char *name, const char *function, int restart_seconds);

/* ---- what is logged at the end (saver.c) ---- */

extern void saver_install(void);

/* ---- whether another compute has our place (guard.c) ---- */

extern void guard_install(void);

/* ---- commands that go past the storage manager (utility.c) ---- */

extern void utility_install(void);

#endif							/* PAGESERVER_COMPUTE_H */
