/*
 * Which pages may leave: of those that replay gives back with all that PostgreSQL still relies on.
 * PostgreSQL's rm_mask functions list what replay does not give back; most of it only costs speed
 * (hint bits, a page's prunable transaction). What would be wrong is here.
 */
#include "compute/compute.h"

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "storage/bufpage.h"

/* sequence.c: what a sequence's page has in its special space. */
#define SEQUENCE_MAGIC 0x1717

/*
 * Command ids of a running transaction are not in the log. A transaction that PostgreSQL knows to
 * have ended, by a hint, needs none.
 */
static void
look_at_tuple(HeapTupleHeader tuple, TransactionId *newest)
{
	TransactionId xmin = HeapTupleHeaderGetRawXmin(tuple);
	TransactionId xmax = HeapTupleHeaderGetRawXmax(tuple);
	uint16		bits = tuple->t_infomask;

	if ((bits & (HEAP_XMIN_COMMITTED | HEAP_XMIN_INVALID)) == 0 &&
		TransactionIdIsNormal(xmin) && TransactionIdFollows(xmin, *newest))
		*newest = xmin;
	if ((bits & (HEAP_XMAX_COMMITTED | HEAP_XMAX_INVALID)) != 0 || xmax == InvalidTransactionId)
		return;
	/* The members of a multixact are not looked up: it waits for all that may be among them. */
	if (bits & HEAP_XMAX_IS_MULTI)
	{
		xmax = ReadNextTransactionId();
		TransactionIdRetreat(xmax);
	}
	/* Of nothing yet everything is newer. */
	if (TransactionIdIsNormal(xmax) && TransactionIdFollows(xmax, *newest))
		*newest = xmax;
}

/* The newest transaction of a heap page that no hint says has ended. */
static TransactionId
newest_transaction(const char *page)
{
	TransactionId newest = InvalidTransactionId;
	OffsetNumber count = PageGetMaxOffsetNumber((Page) page);

	for (OffsetNumber at = FirstOffsetNumber; at <= count; at++)
	{
		ItemId		item = PageGetItemId((Page) page, at);

		if (!ItemIdIsNormal(item) ||
			ItemIdGetOffset(item) + SizeofHeapTupleHeader > BLCKSZ)
			continue;
		look_at_tuple((HeapTupleHeader) (page + ItemIdGetOffset(item)), &newest);
	}
	return newest;
}

static bool
is_not_logged(const char *page)
{
	XLogRecPtr	lsn = PageGetLSN((Page) page);

	return PageIsNew((Page) page) || lsn < (XLogRecPtr) wal_segment_size ||
		lsn > GetXLogInsertRecPtr();
}

KeepReason
page_keep_reason(ForkNumber fork, const char *page, TransactionId *newest)
{
	PageHeader	header = (PageHeader) page;
	Size		special;

	*newest = InvalidTransactionId;
	if (fork == FSM_FORKNUM || fork == VISIBILITYMAP_FORKNUM)
		return KEEP_MAP;
	if (is_not_logged(page) || header->pd_special > BLCKSZ)
		return KEEP_NOT_LOGGED;
	special = BLCKSZ - header->pd_special;
	if (special == MAXALIGN(sizeof(uint32)) &&
		*(const uint32 *) (page + header->pd_special) == SEQUENCE_MAGIC)
		return KEEP_SEQUENCE;
	/* Other access methods with as much special space end in an id that no cycle id can be. */
	if (special == MAXALIGN(sizeof(BTPageOpaqueData)))
	{
		BTCycleId	cycle = ((const BTPageOpaqueData *) (page + header->pd_special))->btpo_cycleid;

		return cycle > 0 && cycle <= MAX_BT_CYCLE_ID ? KEEP_VACUUM_CYCLE : KEEP_NOT;
	}
	if (special > 0)
		return KEEP_NOT;
	*newest = newest_transaction(page);
	return TransactionIdIsValid(*newest) ? KEEP_TRANSACTION : KEEP_NOT;
}
