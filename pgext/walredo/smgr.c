/*
 * The storage manager of WAL redo. One block, the target, has contents. Every other block of
 * every relation exists and reads as an empty page whose LSN is the highest possible, so that
 * PostgreSQL's redo finds each record already applied to it (BLK_DONE) and leaves it alone.
 */
#include "walredo/walredo.h"

#include "common/smgr_table.h"
#include "storage/bufpage.h"

Target		target;

bool
is_target(RelFileNode node, ForkNumber fork, BlockNumber block)
{
	return block == target.block && fork == target.fork && RelFileNodeEquals(node, target.node);
}

static void
redo_init(void)
{
}

static void
redo_open(SMgrRelation reln)
{
	(void) reln;
}

static void
redo_close(SMgrRelation reln, ForkNumber fork)
{
	(void) reln;
	(void) fork;
}

static void
redo_create(SMgrRelation reln, ForkNumber fork, bool is_redo)
{
	(void) reln;
	(void) fork;
	(void) is_redo;
}

static bool
redo_exists(SMgrRelation reln, ForkNumber fork)
{
	(void) reln;
	(void) fork;
	return true;
}

/* Records that drop or cut relations are never sent here. */
static void
redo_unlink(RelFileNodeBackend node, ForkNumber fork, bool is_redo)
{
	(void) node;
	(void) fork;
	(void) is_redo;
	elog(ERROR, "WAL redo of a page does not drop relations");
}

static void
redo_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks, BlockNumber blocks)
{
	(void) reln;
	(void) fork;
	(void) old_blocks;
	(void) blocks;
	elog(ERROR, "WAL redo of a page does not truncate relations");
}

/* Every block exists, so nothing asks to extend. */
static void
redo_extend(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, bool skip_fsync)
{
	(void) reln;
	(void) fork;
	(void) page;
	(void) skip_fsync;
	elog(ERROR, "WAL redo of a page extends a relation to block %u", block);
}

static bool
redo_prefetch(SMgrRelation reln, ForkNumber fork, BlockNumber block)
{
	(void) reln;
	(void) fork;
	(void) block;
	return false;
}

static void
redo_read(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page)
{
	if (is_target(reln->smgr_rnode.node, fork, block))
	{
		/* No base yet: a new page. Redo of a record that needs more than that reports it. */
		if (target.has_page)
			memcpy(page, target.page, BLCKSZ);
		else
			memset(page, 0, BLCKSZ);
		return;
	}
	PageInit((Page) page, BLCKSZ, 0);
	PageSetLSN((Page) page, PG_UINT64_MAX);
}

static void
redo_write(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, bool skip_fsync)
{
	(void) skip_fsync;
	if (!is_target(reln->smgr_rnode.node, fork, block))
		return;
	memcpy(target.page, page, BLCKSZ);
	target.has_page = true;
}

static void
redo_writeback(SMgrRelation reln, ForkNumber fork, BlockNumber block, BlockNumber count)
{
	(void) reln;
	(void) fork;
	(void) block;
	(void) count;
}

static BlockNumber
redo_nblocks(SMgrRelation reln, ForkNumber fork)
{
	(void) reln;
	(void) fork;
	return MaxBlockNumber;
}

static void
redo_immedsync(SMgrRelation reln, ForkNumber fork)
{
	(void) reln;
	(void) fork;
}

void
redo_smgr_install(void)
{
	static const SmgrTable table = {
		.init = redo_init,
		.shutdown = NULL,
		.open = redo_open,
		.close = redo_close,
		.create = redo_create,
		.exists = redo_exists,
		.unlink = redo_unlink,
		.extend = redo_extend,
		.prefetch = redo_prefetch,
		.read = redo_read,
		.write = redo_write,
		.writeback = redo_writeback,
		.nblocks = redo_nblocks,
		.truncate = redo_truncate,
		.immedsync = redo_immedsync,
	};
	const char *problem = smgr_table_replace(&table);

	if (problem != NULL)
		elog(FATAL, "%s", problem);
}
