/*
 * Pages that this compute wrote to relations that were there at its start: one file of slots, and
 * an index of it in shared memory. What is in here is newer than, or not known to, the page
 * server. A slot is reached only under the lock that guards the index.
 */
#include "compute/compute.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#define STORE_FILE "pageserver.pages"

typedef struct PageKey
{
	RelFileNode node;
	ForkNumber	fork;
	BlockNumber block;
} PageKey;

typedef struct StoredPage
{
	PageKey		key;
	uint32		slot;
} StoredPage;

typedef struct StoreState
{
	uint32		used;			/* slots 0..used-1 have been given out */
	uint32		free_count;
	uint32		free_slots[FLEXIBLE_ARRAY_MEMBER];	/* of those, the ones given back */
} StoreState;

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
	return add_size(offsetof(StoreState, free_slots), mul_size(slots_max(), sizeof(uint32)));
}

Size
store_shmem_size(void)
{
	return add_size(state_size(), hash_estimate_size(slots_max(), sizeof(StoredPage)));
}

void
store_shmem_init(void)
{
	HASHCTL		control = {.keysize = sizeof(PageKey), .entrysize = sizeof(StoredPage)};
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	store = ShmemInitStruct("pageserver page store", state_size(), &found);
	if (!found)
	{
		store->used = 0;
		store->free_count = 0;
	}
	pages = ShmemInitHash("pageserver pages", 1024, slots_max(), &control,
						  HASH_ELEM | HASH_BLOBS);
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

bool
store_read(RelFileNode node, ForkNumber fork, BlockNumber block, char *page)
{
	PageKey		key = {.node = node, .fork = fork, .block = block};
	int			fd = open_store();
	ssize_t		got = BLCKSZ;
	StoredPage *stored;

	LWLockAcquire(store_lock, LW_SHARED);
	stored = hash_search(pages, &key, HASH_FIND, NULL);
	if (stored != NULL)
		got = pread(fd, page, BLCKSZ, (off_t) stored->slot * BLCKSZ);
	LWLockRelease(store_lock);
	if (got != BLCKSZ)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read block %u of relation %u from file \"%s\": %m",
						block, node.relNode, STORE_FILE)));
	return stored != NULL;
}

/* A slot for a page that has none yet; false when all are taken. Under the exclusive lock. */
static bool
take_slot(uint32 *slot)
{
	if (store->free_count > 0)
		*slot = store->free_slots[--store->free_count];
	else if (store->used < slots_max())
		*slot = store->used++;
	else
		return false;
	return true;
}

/* False with errno when it was not written whole. */
static bool
write_slot(int fd, uint32 slot, const char *page)
{
	ssize_t		put;

	errno = 0;
	put = pwrite(fd, page, BLCKSZ, (off_t) slot * BLCKSZ);
	/* A short write sets no errno: the disk is full. */
	if (put != BLCKSZ && errno == 0)
		errno = ENOSPC;
	return put == BLCKSZ;
}

static void
write_failed(PageKey key)
{
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not write block %u of relation %u to file \"%s\": %m",
					key.block, key.node.relNode, STORE_FILE),
			 errhint("Check free disk space.")));
}

/*
 * The shutdown checkpoint writes pages that nobody will read again: their WAL is what counts. It must
 * not fail for want of room, or the last of that WAL would not be sent.
 */
static void
store_full(void)
{
	if (AmCheckpointerProcess() && ShutdownRequestPending)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DISK_FULL),
			 errmsg("the store of changed pages is full (%d MB)", setting_page_store_mb),
			 errhint("Start the compute anew, with a larger pageserver.page_store_size.")));
}

/* A page that has no slot yet: the entry comes last, so that none is without its page. */
static void
add_page(int fd, PageKey key, const char *page)
{
	StoredPage *stored;
	uint32		slot;

	if (!take_slot(&slot))
	{
		store_full();
		return;
	}
	if (!write_slot(fd, slot, page))
	{
		store->free_slots[store->free_count++] = slot;
		write_failed(key);
	}
	stored = hash_search(pages, &key, HASH_ENTER_NULL, NULL);
	if (stored == NULL)
	{
		store->free_slots[store->free_count++] = slot;
		store_full();
		return;
	}
	stored->slot = slot;
}

void
store_write(RelFileNode node, ForkNumber fork, BlockNumber block, const char *page)
{
	PageKey		key = {.node = node, .fork = fork, .block = block};
	int			fd = open_store();
	LWLockMode	mode = LW_SHARED;

	/* The lock keeps the slot ours. An ERROR releases it. */
	for (;;)
	{
		StoredPage *stored;

		LWLockAcquire(store_lock, mode);
		stored = hash_search(pages, &key, HASH_FIND, NULL);
		if (stored != NULL)
		{
			if (!write_slot(fd, stored->slot, page))
				write_failed(key);
			break;
		}
		if (mode == LW_EXCLUSIVE)
		{
			add_page(fd, key, page);
			break;
		}
		LWLockRelease(store_lock);
		mode = LW_EXCLUSIVE;
	}
	LWLockRelease(store_lock);
}

/* Under the exclusive lock. */
static void
forget(const PageKey *key)
{
	StoredPage *stored = hash_search(pages, key, HASH_REMOVE, NULL);

	if (stored != NULL)
		store->free_slots[store->free_count++] = stored->slot;
}

void
store_forget(RelFileNode node, ForkNumber fork, BlockNumber from, BlockNumber end)
{
	PageKey		key = {.node = node, .fork = fork};

	LWLockAcquire(store_lock, LW_EXCLUSIVE);
	/* Look for each block, or look at each page that is stored: whatever is less. */
	if ((long) end - (long) from <= hash_get_num_entries(pages))
	{
		for (key.block = from; key.block < end; key.block++)
			forget(&key);
	}
	else
	{
		HASH_SEQ_STATUS scan;
		StoredPage *stored;

		hash_seq_init(&scan, pages);
		while ((stored = hash_seq_search(&scan)) != NULL)
		{
			if (RelFileNodeEquals(stored->key.node, node) && stored->key.fork == fork &&
				stored->key.block >= from)
				forget(&stored->key);
		}
	}
	LWLockRelease(store_lock);
}

void
store_forget_database(Oid database)
{
	HASH_SEQ_STATUS scan;
	StoredPage *stored;

	LWLockAcquire(store_lock, LW_EXCLUSIVE);
	hash_seq_init(&scan, pages);
	while ((stored = hash_seq_search(&scan)) != NULL)
	{
		if (stored->key.node.dbNode == database)
			forget(&stored->key);
	}
	LWLockRelease(store_lock);
}
