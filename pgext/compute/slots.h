/*
 * Inside the page store: slots.c has the slots, their file and who leaves; page_store.c decides what
 * is put into them.
 */
#ifndef PAGESERVER_SLOTS_H
#define PAGESERVER_SLOTS_H

#include "compute/compute.h"
#include "port/pg_crc32c.h"

#define STORE_FILE "pageserver.pages"
/* A page that is read again is passed over so often by the search. */
#define USES_MAX 3

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

typedef struct StoreState
{
	uint32		given;			/* slots 0..given-1 have been used */
	uint32		taken;			/* of those, the ones that hold a page */
	uint32		first_free;
	uint32		hand;			/* where the next search begins */
	Slot		slots[FLEXIBLE_ARRAY_MEMBER];
} StoreState;

#define NO_SLOT PG_UINT32_MAX

/* What decides whether pages may leave. Not to be taken under the lock. */
typedef struct Horizon
{
	XLogRecPtr	page_server;
	TransactionId oldest;
} Horizon;

extern StoreState *store;

/* Limits, in slots. */
extern uint32 slots_max(void);
extern uint32 slots_max_with_reserve(void);

extern Horizon horizon_now(void);
extern bool slot_may_leave(const Slot *slot, const Horizon *horizon);

/* Under the lock, shared is enough. */
extern Slot *slot_find(const PageKey *key);
/* A page that passes its checksum. */
extern bool slot_read(const Slot *slot, char *page);
/* By the only process that may write this page. False: not written whole; errno need not say why. */
extern bool slot_write(Slot *slot, const char *page);

/* Under the exclusive lock. */

/* A slot for a page that has none; NULL when there is no room for it below the limit. */
extern Slot *slot_add(const PageKey *key, uint32 limit, const Horizon *horizon);
extern void slot_release(Slot *slot);

/* Opens the file, which may fail: before the lock is taken. */
extern void slots_open(void);

#endif							/* PAGESERVER_SLOTS_H */
