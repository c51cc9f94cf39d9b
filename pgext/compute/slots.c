/*
 * The slots of the page store: one bounded local file, an index of it in shared memory, and the choice
 * of the page that leaves when room is needed. Checksums are kept in memory, so a file that was damaged
 * or truncated is noticed.
 */
#include "compute/slots.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/transam.h"
#include "common/file_perm.h"
#include "storage/fd.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

/* Slots looked at to find one whose page may leave: then it is better to do without. */
#define SCAN_MAX 4096
/*
 * Slots above the limit, for pages that must find room. WAL travels through a WAL sender, which reads
 * shared catalogs when it logs in: those pages must not wait for WAL that waits for them.
 */
#define RESERVE 128

typedef struct IndexEntry
{
	PageKey		key;
	uint32		slot;
} IndexEntry;

static HTAB *pages;
StoreState *store;
static int	store_fd = -1;

uint32
slots_max(void)
{
	return (uint32) setting_page_store_mb * (1024 * 1024 / BLCKSZ);
}

uint32
slots_max_with_reserve(void)
{
	return slots_max() + RESERVE;
}

static Size
state_size(void)
{
	return add_size(offsetof(StoreState, slots),
					mul_size(slots_max_with_reserve(), sizeof(Slot)));
}

Size
store_shmem_size(void)
{
	return add_size(state_size(),
					hash_estimate_size(slots_max_with_reserve(), sizeof(IndexEntry)));
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
	pages = ShmemInitHash("pageserver pages", slots_max_with_reserve(), slots_max_with_reserve(),
						  &control, HASH_ELEM | HASH_BLOBS);
	LWLockRelease(AddinShmemInitLock);
}

/* Opened by each process when it first needs it, and kept. */
void
slots_open(void)
{
	if (store_fd >= 0)
		return;
	ReserveExternalFD();
	store_fd = open(STORE_FILE, O_RDWR | O_CREAT | O_CLOEXEC, pg_file_create_mode);
	if (store_fd >= 0)
		return;
	ReleaseExternalFD();
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not open file \"%s\": %m", STORE_FILE)));
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

Slot *
slot_find(const PageKey *key)
{
	IndexEntry *entry = hash_search(pages, key, HASH_FIND, NULL);

	return entry == NULL ? NULL : &store->slots[entry->slot];
}

bool
slot_read(const Slot *slot, char *page)
{
	return pread(store_fd, page, BLCKSZ, (off_t) (slot - store->slots) * BLCKSZ) == BLCKSZ &&
		checksum(page) == slot->crc;
}

bool
slot_write(Slot *slot, const char *page)
{
	slot->crc = checksum(page);
	return pwrite(store_fd, page, BLCKSZ, (off_t) (slot - store->slots) * BLCKSZ) == BLCKSZ;
}

Horizon
horizon_now(void)
{
	return (Horizon) {
		.page_server = lsn_page_server(),
		.oldest = GetOldestActiveTransactionId(),
	};
}

bool
slot_may_leave(const Slot *slot, const Horizon *horizon)
{
	if (slot->lsn > horizon->page_server)
		return false;
	return slot->reason == KEEP_NOT ||
		(slot->reason == KEEP_TRANSACTION &&
		 TransactionIdPrecedes(slot->newest, horizon->oldest));
}

void
slot_release(Slot *slot)
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
		if (!slot->taken || !slot_may_leave(slot, horizon))
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
	slot_release(chosen);
	count(&counters->left);
	return true;
}

Slot *
slot_add(const PageKey *key, uint32 limit, const Horizon *horizon)
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
