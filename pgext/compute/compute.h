/*
 * A compute without disks: a stock server whose storage manager reads pages from the page server.
 *
 * What holds:
 * - A fork that this compute created is a local file of md.c (FORK_LOCAL), and stays one.
 * - A fork that was there at the start is read from the page server until this compute writes or
 *   extends it (FORK_CHANGED). From then on its size is ours, and each of its pages that was
 *   written is in the page store, which is authoritative until this compute ends. So nothing that
 *   PostgreSQL has not logged (command ids, hint bits, cycle ids) is lost by an eviction, and the
 *   page server is only asked for pages that have not changed since the start.
 * - Nothing local outlives the server: a directory starts once, and is never recovered.
 */
#ifndef PAGESERVER_COMPUTE_H
#define PAGESERVER_COMPUTE_H

#include "postgres.h"

#include "access/xlogdefs.h"
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
/* Shown as libpq's password; NULL: the page server asks for none. */
extern char *page_server_token;
/* The moment whose pages this compute started from. */
extern XLogRecPtr start_lsn;

/* Locks; when both are taken, relations first. Neither is held while waiting for the network. */
#define LOCK_TRANCHE "pageserver"
#define LOCK_COUNT 2
extern LWLock *relations_lock;
extern LWLock *store_lock;

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
/* The fork has at least `blocks` blocks and is changed here. False when it is not known at all. */
extern bool relation_change(RelFileNode node, ForkNumber fork, BlockNumber blocks);
/* Memory only: for critical sections. */
extern void relation_truncate(RelFileNode node, ForkNumber fork, BlockNumber blocks);
extern void relation_forget(RelFileNode node, ForkNumber fork);
extern void relation_forget_database(Oid database);

/* ---- pages that were written here (page_store.c) ---- */

extern Size store_shmem_size(void);
extern void store_shmem_init(void);
extern bool store_read(RelFileNode node, ForkNumber fork, BlockNumber block, char *page);
extern void store_write(RelFileNode node, ForkNumber fork, BlockNumber block, const char *page);
/* Forgets blocks from..end-1. Memory only: for critical sections. */
extern void store_forget(RelFileNode node, ForkNumber fork, BlockNumber from, BlockNumber end);
extern void store_forget_database(Oid database);

/* ---- the page server (page_client.c) ---- */

/* Both wait as long as it takes (see pageserver.reconnect_timeout), and can be cancelled. */
extern void client_get_page(RelFileNode node, ForkNumber fork, BlockNumber block, char *page);
/* False when the fork does not exist. */
extern bool client_get_size(RelFileNode node, ForkNumber fork, BlockNumber *blocks);

/* Bytes of all relations of a database. */
extern int64 client_get_database_size(Oid database);

/* ---- functions that measure files (sizes.c) ---- */

extern void sizes_install(void);

/* ---- commands that go past the storage manager (utility.c) ---- */

extern void utility_install(void);

#endif							/* PAGESERVER_COMPUTE_H */
