/*
 * The test at start that each callback is reached: smgr.c asks in each of them whether it is one.
 */
#ifndef PAGESERVER_SMGR_TEST_H
#define PAGESERVER_SMGR_TEST_H

#include "compute/compute.h"

/* In the order in which the test calls them: the first that is not reached is the one to name. */
typedef enum Callback
{
	SLOT_CREATE, SLOT_EXISTS, SLOT_EXTEND, SLOT_PREFETCH, SLOT_READ, SLOT_WRITE, SLOT_WRITEBACK,
	SLOT_NBLOCKS, SLOT_TRUNCATE, SLOT_CLOSE, SLOT_UNLINK, SLOT_COUNT
} Callback;

extern bool smgr_testing;
/* While testing; shared with the process that started the test. */
extern bool *smgr_reached;

static inline bool
is_test(Callback slot)
{
	if (unlikely(smgr_testing))
		smgr_reached[slot] = true;
	return unlikely(smgr_testing);
}

#endif							/* PAGESERVER_SMGR_TEST_H */
