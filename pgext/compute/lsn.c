/*
 * Positions of the log. For every page that left this server, an LSN that no version of it may be
 * older than when it is read again: kept in an array of buckets by hash, each the highest of all its
 * pages. A bucket that is too high asks for newer WAL than needed, which the page server nearly
 * always has; it never makes a page too old. So the array needs no entries, locks or eviction.
 */
#include "compute/compute.h"

#include "access/xlog.h"
#include "common/hashfn.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/shmem.h"
#include "storage/spin.h"

/* 512 kB of shared memory. More pages than this leave within one lag of the page server rarely. */
#define BUCKETS 65536

static pg_atomic_uint64 *buckets;

Size
lsn_shmem_size(void)
{
	return BUCKETS * sizeof(pg_atomic_uint64);
}

void
lsn_shmem_init(void)
{
	bool		found;

	buckets = ShmemInitStruct("pageserver last-written LSNs", lsn_shmem_size(), &found);
	for (int i = 0; !found && i < BUCKETS; i++)
		pg_atomic_init_u64(&buckets[i], start_lsn);
}

static pg_atomic_uint64 *
bucket_of(const PageKey *key)
{
	return &buckets[hash_bytes((const unsigned char *) key, sizeof(PageKey)) % BUCKETS];
}

XLogRecPtr
lsn_last_written(const PageKey *key)
{
	return pg_atomic_read_u64(bucket_of(key));
}

void
lsn_raise(const PageKey *key, XLogRecPtr lsn)
{
	pg_atomic_uint64 *bucket = bucket_of(key);
	uint64		known = pg_atomic_read_u64(bucket);

	while (known < lsn && !pg_atomic_compare_exchange_u64(bucket, &known, lsn))
		;
}

/*
 * Of all WAL senders the farthest: physical ones serve the page server alone (utility.c). It need not
 * be right: requests name what they need, and wait for it if they must.
 */
XLogRecPtr
lsn_page_server(void)
{
	XLogRecPtr	farthest = start_lsn;

	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *sender = &WalSndCtl->walsnds[i];
		XLogRecPtr	applied = InvalidXLogRecPtr;

		SpinLockAcquire(&sender->mutex);
		if (sender->pid != 0)
			applied = sender->apply;
		SpinLockRelease(&sender->mutex);
		farthest = Max(farthest, applied);
	}
	return farthest;
}

void
lsn_flush(XLogRecPtr since)
{
	if (since > start_lsn && since > GetFlushRecPtr(NULL))
		XLogFlush(since);
}
