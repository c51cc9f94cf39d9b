/*
 * The store of pages: one bounded local file of slots, and an index of it in shared memory. It holds
 * pages that may not leave yet, and besides, as a cache, pages that may. A slot is reached only under
 * the lock that guards the index; its checksum is kept in memory, so a file that was damaged or
 * truncated is noticed.
 */
#include "compute/compute.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/transam.h"
#include "access/xloginsert.h"
#include "catalog/pg_tablespace_d.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "postmaster/interrupt.h"
#include "storage/bufpage.h"
#include "storage/fd.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#define STORE_FILE "pageserver.pages"
/* Slots looked at to find one whose page may leave: then it is better to do without. */
#define SCAN_MAX 4096
/* A page that is read again is passed over so often by the search. */
#define USES_MAX 3
/*
 * Slots above the limit, for pages that must find room. WAL travels through a WAL sender, which reads
 * shared catalogs when it logs in: those pages must not wait for WAL that waits for them.
 */
#define RESERVE 128

typedef struct Slot
{
	PageKey		key;
	bool		taken;
	uint8		uses;
	uint8		reason;			/* KeepReason */
	TransactionId newest;		/* with KEEP_TRANSACTION */
	uint32		next_free;		/* when not taken; NO_SLOT ends the list */
	pg_crc32c	crc;
	XLogRecPtr	lsn;			/* of the page */
} Slot;

typedef struct IndexEntry
{
	PageKey		key;
	uint32		slot;
} IndexEntry;

typedef struct StoreState
{
	uint32		given;			/* slots 0..given-1 have been used */
	uint32		taken;			/* of those, the ones that hold a page */
	uint32		first_free;
	uint32		hand;			/* where the next search begins */
	Slot		slots[FLEXIBLE_ARRAY_MEMBER];
} StoreState;

#define NO_SLOT PG_UINT32_MAX

/* What decides whether pages may leave. */
typedef struct Horizon
{
	XLogRecPtr	page_server;
	TransactionId oldest;
} Horizon;

static HTAB *pages;
static StoreState *store;
static int	store_fd = -1;

static uint32
slots_max(void)
{
	return (uint32) setting_page_store_mb * (1024 * 1024 / BLCKSZ);
}

static Size
state_size(void)
{
	return add_size(offsetof(StoreState, slots),
					mul_size(slots_max() + RESERVE, sizeof(Slot)));
}

Size
store_shmem_size(void)
{
	return add_size(state_size(),
					hash_estimate_size(slots_max() + RESERVE, sizeof(IndexEntry)));
}

void
store_shmem_init(void)
{
	HASHCTL		control = {.keysize = sizeof(PageKey), .entrysize = sizeof(IndexEntry)};
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	store = ShmemInitStruct("pageserver page store", state_size(), &found);
	if (!found)
	{
		memset(store, 0, offsetof(StoreState, slots));
		store->first_free = NO_SLOT;
	}
	/* All entries from the start: later there may be no shared memory left for them. */
	pages = ShmemInitHash("pageserver pages", slots_max() + RESERVE, slots_max() + RESERVE,
						  &control, HASH_ELEM | HASH_BLOBS);
	LWLockRelease(AddinShmemInitLock);
}

/* The store's file, opened by each process when it first needs it, and kept. */
static int
open_store(void)
{
	if (store_fd < 0)
	{
		ReserveExternalFD();
		store_fd = open(STORE_FILE, O_RDWR | O_CREAT | O_CLOEXEC, pg_file_create_mode);
		if (store_fd < 0)
		{
			ReleaseExternalFD();
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not open file \"%s\": %m", STORE_FILE)));
		}
	}
	return store_fd;
}

static pg_crc32c
checksum(const char *page)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, page, BLCKSZ);
	FIN_CRC32C(crc);
	return crc;
}

/* ---- slots; all under the exclusive lock, but for find and transfers ---- */

static Slot *
find(const PageKey *key)
{
	IndexEntry *entry = hash_search(pages, key, HASH_FIND, NULL);

	return entry == NULL ? NULL : &store->slots[entry->slot];
}

static bool
read_slot(int fd, const Slot *slot, char *page)
{
	return pread(fd, page, BLCKSZ, (off_t) (slot - store->slots) * BLCKSZ) == BLCKSZ &&
		checksum(page) == slot->crc;
}

static bool
write_slot(int fd, Slot *slot, const char *page)
{
	slot->crc = checksum(page);
	return pwrite(fd, page, BLCKSZ, (off_t) (slot - store->slots) * BLCKSZ) == BLCKSZ;
}

static Horizon
horizon_now(void)
{
	return (Horizon) {
		.page_server = lsn_page_server(),
		.oldest = GetOldestActiveTransactionId(),
	};
}

static bool
may_leave(const Slot *slot, const Horizon *horizon)
{
	if (slot->lsn > horizon->page_server)
		return false;
	return slot->reason == KEEP_NOT ||
		(slot->reason == KEEP_TRANSACTION &&
		 TransactionIdPrecedes(slot->newest, horizon->oldest));
}

static void
release(Slot *slot)
{
	hash_search(pages, &slot->key, HASH_REMOVE, NULL);
	slot->taken = false;
	slot->next_free = store->first_free;
	store->first_free = slot - store->slots;
	store->taken--;
}

/* Lets the least used page go that may; false when too many may not. */
static bool
let_one_go(const Horizon *horizon)
{
	Slot	   *chosen = NULL;

	for (int looked = 0; looked < SCAN_MAX && looked < (int) (store->given * (USES_MAX + 1));
		 looked++)
	{
		Slot	   *slot = &store->slots[store->hand];

		store->hand = (store->hand + 1) % store->given;
		if (!slot->taken || !may_leave(slot, horizon))
			continue;
		if (chosen == NULL || slot->uses < chosen->uses)
			chosen = slot;
		if (slot->uses == 0)
			break;
		slot->uses--;
	}
	if (chosen == NULL)
		return false;
	/* First the LSN, then it is gone: whoever does not find it here must ask for this version. */
	lsn_raise(&chosen->key, chosen->lsn);
	release(chosen);
	count(&counters->left);
	return true;
}

/* A slot for a page that has none; NULL when there is no room for it. */
static Slot *
add(const PageKey *key, uint32 limit, const Horizon *horizon)
{
	IndexEntry *entry;
	Slot	   *slot;

	if (store->taken >= limit && !(store->taken > 0 && let_one_go(horizon)))
		return NULL;
	/* The reserve has been used: one was let go, and still there are too many. */
	if (store->taken >= limit)
		return NULL;
	entry = hash_search(pages, key, HASH_ENTER_NULL, NULL);
	if (entry == NULL)
		return NULL;
	if (store->first_free != NO_SLOT)
	{
		slot = &store->slots[store->first_free];
		store->first_free = slot->next_free;
	}
	else
		slot = &store->slots[store->given++];
	entry->slot = slot - store->slots;
	slot->key = *key;
	slot->taken = true;
	slot->uses = 1;
	store->taken++;
	return slot;
}

/* ---- reading ---- */

bool
store_has(const PageKey *key)
{
	bool		has;

	LWLockAcquire(store_lock, LW_SHARED);
	has = find(key) != NULL;
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
	int			fd = open_store();
	Slot	   *slot;
	Horizon		horizon;
	bool		good;

	LWLockAcquire(store_lock, LW_SHARED);
	slot = find(key);
	good = slot != NULL && read_slot(fd, slot, page);
	if (good && slot->uses < USES_MAX)
		slot->uses++;
	LWLockRelease(store_lock);
	if (slot == NULL || good)
		return good;

	/* It may have been written while we read, which bufmgr.c rules out but pg_prewarm does not. */
	horizon = horizon_now();
	LWLockAcquire(store_lock, LW_EXCLUSIVE);
	slot = find(key);
	good = slot != NULL && read_slot(fd, slot, page);
	if (!good && slot != NULL)
	{
		if (!may_leave(slot, &horizon))
			damaged(key);
		ereport(LOG,
				(errmsg("a page in file \"%s\" is damaged: the page server has it too",
						STORE_FILE)));
		lsn_raise(key, slot->lsn);
		release(slot);
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
put(int fd, Slot *slot, const PageToKeep *kept)
{
	slot->reason = kept->reason;
	slot->newest = kept->newest;
	slot->lsn = kept->lsn;
	return write_slot(fd, slot, kept->page);
}

/* Pages that must not wait for the log, or be behind it, may use the reserve. */
static uint32
limit_for(const PageToKeep *kept)
{
	bool		important = kept->key.node.spcNode == GLOBALTABLESPACE_OID ||
		kept->reason == KEEP_SEQUENCE;

	return slots_max() + (important ? RESERVE : 0);
}

/*
 * False when there is no room: neither below the limit nor on the disk. The shared lock is enough for
 * a page that has a slot, as only one process at a time can write a page.
 */
static bool
keep(const PageToKeep *kept)
{
	int			fd = open_store();
	Slot	   *slot;
	Horizon		horizon;
	bool		done;

	LWLockAcquire(store_lock, LW_SHARED);
	slot = find(&kept->key);
	done = slot != NULL && put(fd, slot, kept);
	LWLockRelease(store_lock);
	if (done || slot != NULL)
		return done;

	horizon = horizon_now();
	LWLockAcquire(store_lock, LW_EXCLUSIVE);
	slot = find(&kept->key);
	if (slot == NULL)
		slot = add(&kept->key, limit_for(kept), &horizon);
	done = slot != NULL && put(fd, slot, kept);
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
	slot = find(&kept->key);
	if (slot != NULL)
		release(slot);
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
	int			fd = open_store();
	bool		full;

	LWLockAcquire(store_lock, LW_SHARED);
	full = store->taken >= slots_max();
	LWLockRelease(store_lock);
	if (full)
		horizon = horizon_now();
	LWLockAcquire(store_lock, LW_EXCLUSIVE);
	/* Whoever reads past the buffers (pg_prewarm) may have been overtaken by a newer version. */
	if (find(key) == NULL && lsn_last_written(key) <= since)
	{
		Slot	   *slot = add(key, slots_max(), &horizon);

		if (slot != NULL && !put(fd, slot, &kept))
			release(slot);
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
			slot = find(&key);
			if (slot != NULL)
				release(slot);
		}
	}
	else
	{
		for (slot = store->slots; slot < store->slots + store->given; slot++)
		{
			if (slot->taken && RelFileNodeEquals(slot->key.node, node) &&
				slot->key.fork == fork && slot->key.block >= from)
				release(slot);
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
			release(slot);
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

		if (slot->taken && !may_leave(slot, &horizon))
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
