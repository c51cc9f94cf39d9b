/*
 * What this server has done with pages since its start: counters in shared memory, and what is kept at
 * the moment and why. Shown as JSON by SHOW pageserver.stat, so that no catalog has to know of it;
 * pageserver_stat.sql makes views of it.
 */
#include "compute/compute.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/shmem.h"

Counters   *counters;

Size
stat_shmem_size(void)
{
	return sizeof(Counters);
}

void
stat_shmem_init(void)
{
	bool		found;
	pg_atomic_uint64 *first;

	counters = ShmemInitStruct("pageserver counters", sizeof(Counters), &found);
	first = (pg_atomic_uint64 *) counters;
	for (size_t i = 0; !found && i < sizeof(Counters) / sizeof(*first); i++)
		pg_atomic_init_u64(&first[i], 0);
}

static void
append(StringInfo text, const char *name, uint64 value)
{
	appendStringInfo(text, "%s\"%s\": " UINT64_FORMAT, text->len > 1 ? ", " : "", name, value);
}

static void
append_counters(StringInfo text)
{
	append(text, "pages_read_remotely", pg_atomic_read_u64(&counters->read_remotely));
	append(text, "pages_read_from_store", pg_atomic_read_u64(&counters->read_from_store));
	append(text, "pages_read_as_zeros", pg_atomic_read_u64(&counters->read_as_zeros));
	append(text, "pages_prefetched", pg_atomic_read_u64(&counters->prefetched));
	append(text, "prefetched_pages_used", pg_atomic_read_u64(&counters->prefetch_used));
	append(text, "sizes_asked", pg_atomic_read_u64(&counters->sizes_asked));
	append(text, "waited_us", pg_atomic_read_u64(&counters->waited_us));
	append(text, "waits_for_page_server", pg_atomic_read_u64(&counters->reconnects));
	append(text, "writers_waited_us", pg_atomic_read_u64(&counters->throttled_us));
	append(text, "pages_written", pg_atomic_read_u64(&counters->written));
	append(text, "pages_left_store", pg_atomic_read_u64(&counters->left));
	append(text, "pages_logged_for_room", pg_atomic_read_u64(&counters->logged));
}

static void
append_store(StringInfo text)
{
	static const char *const names[KEEP_REASONS] = {
		[KEEP_NOT] = "kept_bytes_lag",
		[KEEP_MAP] = "kept_bytes_maps",
		[KEEP_NOT_LOGGED] = "kept_bytes_not_logged",
		[KEEP_SEQUENCE] = "kept_bytes_sequences",
		[KEEP_VACUUM_CYCLE] = "kept_bytes_vacuum_cycles",
		[KEEP_TRANSACTION] = "kept_bytes_transactions",
	};
	StoreUse	use = store_use();

	append(text, "store_bytes", use.pages * BLCKSZ);
	append(text, "store_bytes_max", (uint64) setting_page_store_mb * 1024 * 1024);
	for (int reason = 0; reason < KEEP_REASONS; reason++)
		append(text, names[reason], use.kept[reason] * BLCKSZ);
}

const char *
stat_show(void)
{
	StringInfoData text;

	/* The postmaster shows it too (postgres -C), without shared memory. */
	if (counters == NULL || !IsUnderPostmaster)
		return "{}";
	initStringInfo(&text);
	appendStringInfoChar(&text, '{');
	append_counters(&text);
	append_store(&text);
	append(&text, "lag_bytes", lag_bytes());
	append(&text, "lag_bytes_max", (uint64) setting_max_lag_mb * 1024 * 1024);
	appendStringInfoChar(&text, '}');
	return text.data;
}
