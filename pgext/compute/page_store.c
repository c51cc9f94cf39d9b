/*
 * Pages that are kept here: those that may not leave yet, and as a cache those that may. What is
 * written always finds its way: to a slot (slots.c), or without one to the page server, by the WAL that
 * made it or as a whole.
 */
#include "compute/slots.h"

#include "access/xloginsert.h"
#include "catalog/pg_tablespace_d.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/bufpage.h"

/* ---- reading ---- */

bool
store_has(const PageKey *key)
{
	bool		has;

	LWLockAcquire(store_lock, LW_SHARED);
	has = slot_find(key) != NULL;
	LWLockRelease(store_lock);
	return has;
}

static void
damaged(const PageKey *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("block %u of relation %u/%u/%u, fork %d, is damaged in file \"%s\"",
					key->block, key->node.spcNode, key->node.dbNode, key->node.relNode,
					key->fork, STORE_FILE),
			 errhint("Stop the compute and start it anew: the page server has its history.")));
}

bool
store_read(const PageKey *key, char *page)
{
	Slot	   *slot;
	Horizon		horizon;
	bool		good;

	slots_open();
	LWLockAcquire(store_lock, LW_SHARED);
	slot = slot_find(key);
	good = slot != NULL && slot_read(slot, page);
	if (good && slot->uses < USES_MAX)
		slot->uses++;
	LWLockRelease(store_lock);
	if (slot == NULL || good)
		return good;

	/* It may have been written while we read, which bufmgr.c rules out but pg_prewarm does not. */
	horizon = horizon_now();
	LWLockAcquire(store_lock, LW_EXCLUSIVE);
	slot = slot_find(key);
	good = slot != NULL && slot_read(slot, page);
	if (!good && slot != NULL)
	{
		if (!slot_may_leave(slot, &horizon))
			damaged(key);
		ereport(LOG,
				(errmsg("a page in file \"%s\" is damaged: the page server has it too",
						STORE_FILE)));
		lsn_raise(key, slot->lsn);
		slot_release(slot);
	}
	LWLockRelease(store_lock);
	return good;
}

/* ---- writing ---- */

typedef struct PageToKeep
{
	PageKey		key;
	const char *page;
	KeepReason	reason;
	TransactionId newest;
	XLogRecPtr	lsn;
} PageToKeep;

static bool
put(Slot *slot, const PageToKeep *kept)
{
	slot->reason = kept->reason;
	slot->newest = kept->newest;
	slot->lsn = kept->lsn;
	return slot_write(slot, kept->page);
}

/* Pages that must not wait for the log, or be behind it, may use the reserve. */
static uint32
limit_for(const PageToKeep *kept)
{
	bool		important = kept->key.node.spcNode == GLOBALTABLESPACE_OID ||
		kept->reason == KEEP_SEQUENCE;

	return important ? slots_max_with_reserve() : slots_max();
}

/*
 * False when there is no room: neither below the limit nor on the disk. The shared lock is enough for
 * a page that has a slot, as only one process at a time can write a page.
 */
static bool
keep(const PageToKeep *kept)
{
	Slot	   *slot;
	Horizon		horizon;
	bool		done;

	slots_open();
	LWLockAcquire(store_lock, LW_SHARED);
	slot = slot_find(&kept->key);
	done = slot != NULL && put(slot, kept);
	LWLockRelease(store_lock);
	if (done || slot != NULL)
		return done;

	horizon = horizon_now();
	LWLockAcquire(store_lock, LW_EXCLUSIVE);
	slot = slot_find(&kept->key);
	if (slot == NULL)
		slot = slot_add(&kept->key, limit_for(kept), &horizon);
	done = slot != NULL && put(slot, kept);
	LWLockRelease(store_lock);
	return done;
}

/*
 * The page finds no room. If replay would not give it back as it is, it is logged as it is, from our
 * copy of it: its next record, if any, comes later and fits. A sequence is not: the log is ahead of its
 * page on purpose.
 */
static void
do_without(PageToKeep *kept, char *copy)
{
	Slot	   *slot;

	if (kept->reason != KEEP_NOT && kept->reason != KEEP_SEQUENCE)
	{
		kept->lsn = log_newpage(&kept->key.node, kept->key.fork, kept->key.block, copy, false);
		count(&counters->logged);
	}
	else
		count(&counters->left);
	LWLockAcquire(store_lock, LW_EXCLUSIVE);
	lsn_raise(&kept->key, kept->lsn);
	slot = slot_find(&kept->key);
	if (slot != NULL)
		slot_release(slot);
	LWLockRelease(store_lock);
}

void
store_write(const PageKey *key, const char *page)
{
	/* Hint bits may be set in the buffer while we look at it. */
	static PGAlignedBlock copy;
	PageToKeep	kept = {.key = *key, .page = copy.data};

	/*
	 * The shutdown checkpoint writes pages that nobody will read again: their WAL is what counts, and
	 * nothing can be logged any more.
	 */
	if (AmCheckpointerProcess() && ShutdownRequestPending)
		return;
	count(&counters->written);
	memcpy(copy.data, page, BLCKSZ);
	kept.reason = page_keep_reason(key->fork, copy.data, &kept.newest);
	/* What has no LSN of the log must not be compared with positions of the log. */
	kept.lsn = kept.reason == KEEP_NOT_LOGGED ? InvalidXLogRecPtr : PageGetLSN(copy.data);
	if (!keep(&kept))
		do_without(&kept, copy.data);
}

void
store_cache(const PageKey *key, XLogRecPtr since, const char *page)
{
	PageToKeep	kept = {.key = *key, .page = page, .reason = KEEP_NOT};
	Horizon		horizon = {0};
	bool		full;

	slots_open();
	LWLockAcquire(store_lock, LW_SHARED);
	full = store->taken >= slots_max();
	LWLockRelease(store_lock);
	if (full)
		horizon = horizon_now();
	LWLockAcquire(store_lock, LW_EXCLUSIVE);
	/* Whoever reads past the buffers (pg_prewarm) may have been overtaken by a newer version. */
	if (slot_find(key) == NULL && lsn_last_written(key) <= since)
	{
		Slot	   *slot = slot_add(key, slots_max(), &horizon);

		if (slot != NULL && !put(slot, &kept))
			slot_release(slot);
	}
	LWLockRelease(store_lock);
}

/* ---- forgetting ---- */

void
store_forget(RelFileNode node, ForkNumber fork, BlockNumber from, BlockNumber end)
{
	PageKey		key = {.node = node, .fork = fork};
	Slot	   *slot;

	LWLockAcquire(store_lock, LW_EXCLUSIVE);
	/* Look for each block, or look at each slot: whatever is less. */
	if (end - from <= store->given)
	{
		for (key.block = from; key.block < end; key.block++)
		{
			slot = slot_find(&key);
			if (slot != NULL)
				slot_release(slot);
		}
	}
	else
	{
		for (slot = store->slots; slot < store->slots + store->given; slot++)
		{
			if (slot->taken && RelFileNodeEquals(slot->key.node, node) &&
				slot->key.fork == fork && slot->key.block >= from)
				slot_release(slot);
		}
	}
	LWLockRelease(store_lock);
}

void
store_forget_database(Oid database)
{
	LWLockAcquire(store_lock, LW_EXCLUSIVE);
	for (Slot *slot = store->slots; slot < store->slots + store->given; slot++)
	{
		if (slot->taken && slot->key.node.dbNode == database)
			slot_release(slot);
	}
	LWLockRelease(store_lock);
}

/* ---- looking ---- */

StoreUse
store_use(void)
{
	StoreUse	use = {0};
	Horizon		horizon = horizon_now();

	LWLockAcquire(store_lock, LW_SHARED);
	use.pages = store->taken;
	for (uint32 at = 0; at < store->given; at++)
	{
		const Slot *slot = &store->slots[at];

		if (slot->taken && !slot_may_leave(slot, &horizon))
			use.kept[slot->reason]++;
	}
	LWLockRelease(store_lock);
	return use;
}

bool
store_next_map(uint32 *at, PageKey *key)
{
	bool		found = false;

	LWLockAcquire(store_lock, LW_SHARED);
	for (; !found && *at < store->given; (*at)++)
	{
		const Slot *slot = &store->slots[*at];

		found = slot->taken && slot->reason == KEEP_MAP && slot->key.fork == FSM_FORKNUM;
		if (found)
			*key = slot->key;
	}
	LWLockRelease(store_lock);
	return found;
}
