/*
 * The storage manager of a compute. Each callback decides by what is known of the fork: a local
 * file of md.c, a fork of the page server's, or one of those that was changed here (compute.h).
 * Local files are never synced: the directory is disposable.
 */
#include "compute/smgr_test.h"

#include "access/xlog.h"
#include "common/relpath.h"
#include "common/smgr_table.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/md.h"

/* ---- what is known of a fork ---- */

static bool
is_local(SMgrRelation reln, ForkState state)
{
	return state.status == FORK_LOCAL || SmgrIsTemp(reln);
}

/* Asks the page server when nothing is known. */
static ForkState
fork_state(SMgrRelation reln, ForkNumber fork)
{
	RelFileNode node = reln->smgr_rnode.node;
	ForkState	state = {.status = FORK_LOCAL};
	BlockNumber blocks;
	bool		exists;

	if (SmgrIsTemp(reln))
		return state;
	state = relation_fork(node, fork);
	if (state.status != FORK_UNKNOWN)
		return state;
	exists = client_get_size(node, fork, &blocks);
	return relation_learn(node, fork, exists, blocks);
}

static char *
fork_path(SMgrRelation reln, ForkNumber fork)
{
	return relpath(reln->smgr_rnode, fork);
}

static void
fork_missing(SMgrRelation reln, ForkNumber fork)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_FILE),
			 errmsg("relation \"%s\" does not exist on the page server",
					fork_path(reln, fork))));
}

static PageKey
page_key(SMgrRelation reln, ForkNumber fork, BlockNumber block)
{
	return (PageKey) {
		.node = reln->smgr_rnode.node,
		.fork = fork,
		.block = block,
	};
}

static bool
is_zero(const char *page)
{
	static const char zeros[BLCKSZ];

	return memcmp(page, zeros, BLCKSZ) == 0;
}

/* ---- callbacks ---- */

/* The compiler may have folded init, open and immedsync into direct calls of md.c's: so be it. */
static void
compute_close(SMgrRelation reln, ForkNumber fork)
{
	if (!is_test(SLOT_CLOSE))
		mdclose(reln, fork);
}

static void
compute_create(SMgrRelation reln, ForkNumber fork, bool is_redo)
{
	RelFileNode node = reln->smgr_rnode.node;
	BlockNumber blocks;

	if (is_test(SLOT_CREATE))
		return;
	if (is_redo)
		elog(ERROR, "a compute does not recover");
	if (!SmgrIsTemp(reln))
	{
		ForkState	state = relation_fork(node, fork);

		/*
		 * PostgreSQL looks for a file to see whether a number is free after they have wrapped
		 * around: the page server may have a relation of that number, of which there is none.
		 */
		if (state.status == FORK_REMOTE || state.status == FORK_CHANGED ||
			(state.status == FORK_UNKNOWN && client_get_size(node, fork, &blocks)))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_FILE),
					 errmsg("relation \"%s\" exists on the page server already",
							fork_path(reln, fork)),
					 errhint("The number of the relation was used before. Try again.")));
		relation_create(node, fork);
	}
	mdcreate(reln, fork, is_redo);
}

static bool
compute_exists(SMgrRelation reln, ForkNumber fork)
{
	ForkState	state;

	if (is_test(SLOT_EXISTS))
		return true;
	/* Views have no relation file; catalog code asks all the same. */
	if (!OidIsValid(reln->smgr_rnode.node.relNode))
		return false;
	state = fork_state(reln, fork);
	return is_local(reln, state) ? mdexists(reln, fork) : state.status != FORK_ABSENT;
}

static void
unlink_fork(RelFileNodeBackend node, ForkNumber fork, bool is_redo)
{
	if (RelFileNodeBackendIsTemp(node))
		mdunlink(node, fork, is_redo);
	else
	{
		ForkState	state = relation_fork(node.node, fork);

		relation_forget(node.node, fork);
		if (state.status == FORK_LOCAL)
			mdunlink(node, fork, is_redo);
	}
}

/* Called after commit: nothing here may fail. */
static void
compute_unlink(RelFileNodeBackend node, ForkNumber fork, bool is_redo)
{
	if (is_test(SLOT_UNLINK))
		return;
	if (fork != InvalidForkNumber)
		unlink_fork(node, fork, is_redo);
	else
	{
		for (fork = 0; fork <= MAX_FORKNUM; fork++)
			unlink_fork(node, fork, is_redo);
	}
}

static void
compute_extend(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, bool skip_fsync)
{
	PageKey		key = page_key(reln, fork, block);
	BlockNumber written = block + 1;
	ForkState	state;

	if (is_test(SLOT_EXTEND))
		return;
	lag_throttle();
	state = fork_state(reln, fork);
	if (is_local(reln, state))
	{
		mdextend(reln, fork, block, page, skip_fsync || !SmgrIsTemp(reln));
		return;
	}
	if (block == InvalidBlockNumber)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("cannot extend file \"%s\" beyond %u blocks",
						fork_path(reln, fork), InvalidBlockNumber)));
	if (state.status == FORK_ABSENT)
		fork_missing(reln, fork);
	/* The page before the size: whoever sees the new size must find the page. */
	if (block >= state.blocks && is_zero(page))
		written = 0;
	else
		store_write(&key, page);
	if (!relation_change(key.node, fork, block + 1, written))
		fork_missing(reln, fork);
}

static bool
compute_prefetch(SMgrRelation reln, ForkNumber fork, BlockNumber block)
{
	PageKey		key = page_key(reln, fork, block);
	ForkState	state;

	if (is_test(SLOT_PREFETCH))
		return true;
	state = relation_fork(key.node, fork);
	if (is_local(reln, state))
		return mdprefetch(reln, fork, block);
	/* Of a fork that nothing is known of yet the first read will tell more. */
	if (block < state.remote_blocks && !store_has(&key))
	{
		client_prefetch(&key, page_since(&key, &state));
		client_prefetch_send();
	}
	return true;
}

static void
read_beyond_end(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page)
{
	if (!zero_damaged_pages)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("could not read block %u of relation \"%s\": it is beyond its end",
						block, fork_path(reln, fork))));
	memset(page, 0, BLCKSZ);
}

static void
read_remotely(const PageKey *key, const ForkState *state, char *page)
{
	XLogRecPtr	since = page_since(key, state);

	client_get_page(key, since, page);
	/* Redo does not keep checksums up; this server will look at them. */
	PageSetChecksumInplace((Page) page, key->block);
	if (!read_ahead_sweeps(key, state))
		store_cache(key, since, page);
}

static void
compute_read(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page)
{
	PageKey		key = page_key(reln, fork, block);
	ForkState	state;

	if (is_test(SLOT_READ))
		return;
	lag_throttle();
	state = fork_state(reln, fork);
	if (is_local(reln, state))
		mdread(reln, fork, block, page);
	else if (state.status == FORK_ABSENT)
		fork_missing(reln, fork);
	else if (block >= state.blocks)
		read_beyond_end(reln, fork, block, page);
	else
	{
		if (store_read(&key, page))
			count(&counters->read_from_store);
		else if (block < state.remote_blocks)
			read_remotely(&key, &state, page);
		else
		{
			count(&counters->read_as_zeros);
			memset(page, 0, BLCKSZ);
		}
		read_ahead(&key, &state);
	}
}

/* By any process, the checkpointer too: no network here. What is written was read before. */
static void
compute_write(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, bool skip_fsync)
{
	PageKey		key = page_key(reln, fork, block);
	ForkState	state;

	if (is_test(SLOT_WRITE))
		return;
	state = relation_fork(key.node, fork);
	if (is_local(reln, state))
	{
		mdwrite(reln, fork, block, page, skip_fsync || !SmgrIsTemp(reln));
		return;
	}
	if (state.status != FORK_REMOTE && state.status != FORK_CHANGED)
		fork_missing(reln, fork);
	if (block >= state.blocks)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("could not write block %u of relation \"%s\": it is beyond its end",
						block, fork_path(reln, fork))));
	store_write(&key, page);
	if (!relation_change(key.node, fork, block + 1, block + 1))
		fork_missing(reln, fork);
}

static void
compute_writeback(SMgrRelation reln, ForkNumber fork, BlockNumber block, BlockNumber count)
{
	if (is_test(SLOT_WRITEBACK))
		return;
	if (is_local(reln, relation_fork(reln->smgr_rnode.node, fork)))
		mdwriteback(reln, fork, block, count);
}

static BlockNumber
compute_nblocks(SMgrRelation reln, ForkNumber fork)
{
	ForkState	state;

	if (is_test(SLOT_NBLOCKS))
		return 0;
	state = fork_state(reln, fork);
	if (is_local(reln, state))
		return mdnblocks(reln, fork);
	if (state.status == FORK_ABSENT)
		fork_missing(reln, fork);
	return state.blocks;
}

/* In a critical section: memory only, and no ERROR that does not mean the end of the server. */
static void
compute_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks, BlockNumber blocks)
{
	ForkState	state;

	if (is_test(SLOT_TRUNCATE))
		return;
	state = relation_fork(reln->smgr_rnode.node, fork);
	if (is_local(reln, state))
		mdtruncate(reln, fork, old_blocks, blocks);
	else if (state.status != FORK_REMOTE && state.status != FORK_CHANGED)
		elog(ERROR, "truncating fork %d of relation %u, whose size is not known", fork,
			 reln->smgr_rnode.node.relNode);
	else if (blocks > state.blocks)
		elog(ERROR, "truncating fork %d of relation %u to %u blocks: it has %u", fork,
			 reln->smgr_rnode.node.relNode, blocks, state.blocks);
	else if (blocks < state.blocks)
		relation_truncate(reln->smgr_rnode.node, fork, blocks);
}

static void
compute_immedsync(SMgrRelation reln, ForkNumber fork)
{
	if (is_local(reln, relation_fork(reln->smgr_rnode.node, fork)))
		mdimmedsync(reln, fork);
}

void
smgr_install(void)
{
	static const SmgrTable table = {
		.init = mdinit,
		.shutdown = NULL,
		.open = mdopen,
		.close = compute_close,
		.create = compute_create,
		.exists = compute_exists,
		.unlink = compute_unlink,
		.extend = compute_extend,
		.prefetch = compute_prefetch,
		.read = compute_read,
		.write = compute_write,
		.writeback = compute_writeback,
		.nblocks = compute_nblocks,
		.truncate = compute_truncate,
		.immedsync = compute_immedsync,
	};
	const char *problem = smgr_table_replace(&table);

	if (problem != NULL)
		ereport(FATAL,
				(errmsg("the storage manager cannot be replaced: %s", problem),
				 errhint("Use the server program of a distribution this library was tried with.")));
}
