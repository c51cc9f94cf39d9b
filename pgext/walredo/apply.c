/*
 * Pages and records. The page being rebuilt lives in the buffer pool while records are applied,
 * and in target.page ("disk") otherwise.
 *
 * What holds between messages: the pool contains the target or not, and else only pages that read
 * as "already applied" (smgr.c). A record that may have put something else there is followed by
 * dropping all but the target: a later record would take half-made pages for real ones.
 *
 * A record that does not change the page it was sent for is an error, never a page handed out.
 */
#include "walredo/walredo.h"

#include "access/rmgr.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "storage/smgr.h"
#include "utils/memutils.h"

/* Relations that smgr.c of the server remembers are forgotten after this many pages. */
#define PAGES_BETWEEN_FORGETTING 4096
#define SCRATCH_BYTES (256 * 1024)

static XLogReaderState *reader;
static MemoryContext work;		/* reset after each record */

static XLogRecord *record_copy; /* aligned; PostgreSQL reads structs in it */
static size_t record_copy_size;
static DecodedXLogRecord *decoded;
static size_t decoded_size;

static bool started;			/* a page is under way */
static Buffer target_buffer;	/* where the target was seen last */
static XLogRecPtr last_lsn;		/* of the last record applied, for messages */
static unsigned pages_served;

static void
set_target(const RedoTag *tag)
{
	target.node = (RelFileNode) {tag->tablespace, tag->database, tag->relation};
	target.fork = (ForkNumber) tag->fork;
	target.block = tag->block;
	if (tag->fork > MAX_FORKNUM || tag->block >= MaxBlockNumber || tag->relation == 0)
		elog(ERROR, "page tag is out of range: fork %u, relation %u, block %u",
			 tag->fork, tag->relation, tag->block);
}

/* The line that follows every error of this page. */
static void
describe_target(void *arg)
{
	(void) arg;
	if (started)
		errcontext("WAL redo of page %u/%u/%u.%d block %u, record that ends at %X/%X, %s",
				   target.node.spcNode, target.node.dbNode, target.node.relNode,
				   (int) target.fork, target.block, LSN_FORMAT_ARGS(last_lsn),
				   reader->record == NULL ? "no record" :
				   RmgrIdExists(reader->record->header.xl_rmid) ?
				   GetRmgr(reader->record->header.xl_rmid).rm_name : "unknown resource manager");
}

void
apply_start(void)
{
	static ErrorContextCallback callback = {.callback = describe_target};

	/* The first block of a context is kept at reset: large enough, and nothing is ever given back. */
	work = AllocSetContextCreate(TopMemoryContext, "redo record", SCRATCH_BYTES, SCRATCH_BYTES,
								 ALLOCSET_DEFAULT_MAXSIZE);
	target.page = MemoryContextAlloc(TopMemoryContext, WIRE_PAGE_BYTES);
	reader = XLogReaderAllocate(wal_segment_size, NULL, XL_ROUTINE(.page_read = NULL), NULL);
	if (reader == NULL)
		elog(FATAL, "out of memory");
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	MemoryContextSwitchTo(work);
}

static bool
holds_target(Buffer buffer)
{
	BufferTag	tag;

	if (buffer == InvalidBuffer)
		return false;
	INIT_BUFFERTAG(tag, target.node, target.fork, target.block);
	return BUFFERTAGS_EQUAL(GetBufferDescriptor(buffer - 1)->tag, tag);
}

/* The target's contents now, in the pool. Valid until the next call into PostgreSQL. */
static Page
target_contents(void)
{
	/* Nobody else uses this pool, so a buffer with the right tag is valid and not being read. */
	if (!holds_target(target_buffer))
	{
		target_buffer = ReadBufferWithoutRelcache(target.node, target.fork, target.block,
												  RBM_NORMAL, NULL, true);
		ReleaseBuffer(target_buffer);
	}
	return BufferGetPage(target_buffer);
}

/* Takes the target out of the pool into target.page. */
static void
save_target(void)
{
	Page		page = target_contents();

	memcpy(target.page, page, BLCKSZ);
	target.has_page = target.has_page || !PageIsNew(page);
}

/* Empties the pool of the databases that the current record and the target name. */
static void
drop_buffers(const DecodedXLogRecord *record)
{
	Oid			last = target.node.dbNode;

	DropDatabaseBuffers(last);
	for (int i = 0; record != NULL && i <= record->max_block_id; i++)
	{
		if (!record->blocks[i].in_use || record->blocks[i].rnode.dbNode == last)
			continue;
		last = record->blocks[i].rnode.dbNode;
		DropDatabaseBuffers(last);
	}
	target_buffer = InvalidBuffer;
}

void
apply_begin(const RedoTag *tag, const uint8 *base_page)
{
	set_target(tag);
	started = true;
	last_lsn = InvalidXLogRecPtr;
	reader->record = NULL;
	target_buffer = InvalidBuffer;
	/* The previous page's database was emptied at its end; this one may hold "applied" pages. */
	DropDatabaseBuffers(target.node.dbNode);
	target.has_page = base_page != NULL;
	if (base_page != NULL)
		memcpy(target.page, base_page, WIRE_PAGE_BYTES);
}

static void
require_started(const char *message)
{
	if (!started)
		elog(ERROR, "%s message without a page under way", message);
}

void
apply_retag(const RedoTag *tag)
{
	require_started("retag");
	save_target();
	drop_buffers(NULL);
	set_target(tag);
	DropDatabaseBuffers(target.node.dbNode);
	reader->record = NULL;
}

static void *
grow(void *memory, size_t *size, size_t need)
{
	if (*size >= need)
		return memory;
	if (memory != NULL)
		pfree(memory);
	*size = Max(need, SCRATCH_BYTES);
	return MemoryContextAllocHuge(TopMemoryContext, *size);
}

static void
decode(XLogRecPtr end_lsn, const uint8 *bytes, uint32 length)
{
	char	   *problem;

	record_copy = grow(record_copy, &record_copy_size, MAXALIGN(length));
	memcpy(record_copy, bytes, length);
	if (length < SizeOfXLogRecord || record_copy->xl_tot_len != length)
		elog(ERROR, "record's length is not the length sent, %u bytes", length);

	decoded = grow(decoded, &decoded_size, DecodeXLogRecordRequiredSpace(length));
	decoded->oversized = false;
	/* Where the record starts is not known, and only messages would tell. */
	reader->ReadRecPtr = end_lsn - Min(end_lsn, MAXALIGN(length));
	reader->EndRecPtr = end_lsn;
	reader->record = NULL;
	if (!DecodeXLogRecord(reader, decoded, record_copy, reader->ReadRecPtr, &problem))
		elog(ERROR, "%s", problem);
	decoded->next_lsn = end_lsn;
	reader->record = decoded;
}

/*
 * Whether redo of this record may leave a page in the pool, other than the target, that does not
 * read as "already applied". Blocks that it initialises or restores do; and outside heap and
 * btree, which touch a block only after its LSN said so, some routines stamp their LSN on a block
 * that needed no redo (hash: the primary bucket page of squeeze, move and delete).
 */
static bool
disturbs_others(const DecodedXLogRecord *record)
{
	bool		strict = record->header.xl_rmid == RM_HEAP_ID ||
		record->header.xl_rmid == RM_HEAP2_ID || record->header.xl_rmid == RM_BTREE_ID;

	for (int i = 0; i <= record->max_block_id; i++)
	{
		const DecodedBkpBlock *block = &record->blocks[i];

		if (!block->in_use || is_target(block->rnode, block->forknum, block->blkno))
			continue;
		if (!strict || block->apply_image || (block->flags & BKPBLOCK_WILL_INIT) != 0)
			return true;
	}
	return false;
}

static bool
names_target(const DecodedXLogRecord *record)
{
	for (int i = 0; i <= record->max_block_id; i++)
	{
		const DecodedBkpBlock *block = &record->blocks[i];

		if (block->in_use && is_target(block->rnode, block->forknum, block->blkno))
			return true;
	}
	return false;
}

/*
 * After redo the page must carry the record's LSN or a later one (then it was applied before).
 * Excused: a page that is new even now (the image of an empty page), and hash records, which name
 * the primary bucket page only to lock it.
 */
static void
require_applied(XLogRecPtr end_lsn)
{
	Page		page;

	if (XLogHaveInvalidPages())
		elog(ERROR, "record changes a page that has no contents yet");
	page = target_contents();
	if (PageGetLSN(page) < end_lsn && !PageIsNew(page) && decoded->header.xl_rmid != RM_HASH_ID)
		elog(ERROR, "redo left the page unchanged: its LSN is %X/%X",
			 LSN_FORMAT_ARGS(PageGetLSN(page)));
}

void
apply_record(XLogRecPtr end_lsn, const uint8 *bytes, uint32 length)
{
	require_started("apply");
	last_lsn = end_lsn;
	decode(end_lsn, bytes, length);
	if (!names_target(decoded))
		elog(ERROR, "record does not name the page");

	GetRmgr(decoded->header.xl_rmid).rm_redo(reader);

	require_applied(end_lsn);
	if (disturbs_others(decoded))
	{
		save_target();
		drop_buffers(decoded);
	}
	MemoryContextReset(work);
}

void
apply_get(const RedoTag *tag, uint8 *out)
{
	RelFileNode node = {tag->tablespace, tag->database, tag->relation};
	Page		page;

	require_started("get");
	if (!is_target(node, (ForkNumber) tag->fork, tag->block))
		elog(ERROR, "get message names another page than the one under way");
	page = target_contents();
	if (PageIsNew(page) && !target.has_page && last_lsn == InvalidXLogRecPtr)
		elog(ERROR, "page has neither a base image nor a record");
	memcpy(out, page, BLCKSZ);
	drop_buffers(NULL);
	started = false;

	if (++pages_served % PAGES_BETWEEN_FORGETTING == 0)
		smgrcloseall();
}
