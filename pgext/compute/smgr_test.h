/*
 * The test at start that each callback is reached: smgr.c asks in each of them whether it is one.
 */
#ifndef PAGESERVER_SMGR_TEST_H
#define PAGESERVER_SMGR_TEST_H

#include "compute/compute.h"

typedef enum Callback
{
	SLOT_CLOSE, SLOT_CREATE, SLOT_EXISTS, SLOT_UNLINK, SLOT_EXTEND, SLOT_PREFETCH, SLOT_READ,
	SLOT_WRITE, SLOT_WRITEBACK, SLOT_NBLOCKS, SLOT_TRUNCATE, SLOT_COUNT
} Callback;

extern bool smgr_testing;
extern bool smgr_reached[SLOT_COUNT];

static inline bool
is_test(Callback slot)
{
	if (unlikely(smgr_testing))
		smgr_reached[slot] = true;
	return unlikely(smgr_testing);
}

#endif							/* PAGESERVER_SMGR_TEST_H */
