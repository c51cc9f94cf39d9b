/*
 * Whether the replaced storage manager is the one that the server calls. A compiler that knows what a
 * slot of the table holds calls md.c directly: then pages would be looked for in files.
 */
#include "compute/smgr_test.h"

#include "storage/smgr.h"

static const char *const slot_names[SLOT_COUNT] = {
	"close", "create", "exists", "unlink", "extend", "prefetch", "read", "write", "writeback",
	"nblocks", "truncate",
};

bool		smgr_testing;
bool		smgr_reached[SLOT_COUNT];

/* A relation of this number cannot exist: OIDs that high are given out last of all. */
void
smgr_self_test(void)
{
	RelFileNode nobody = {PG_UINT32_MAX, PG_UINT32_MAX, PG_UINT32_MAX};
	SMgrRelation reln = smgropen(nobody, InvalidBackendId);
	ForkNumber	fork = MAIN_FORKNUM;
	BlockNumber blocks = 0;
	char		page[BLCKSZ] = {0};

	smgr_testing = true;
	smgrcreate(reln, fork, false);
	(void) smgrexists(reln, fork);
	smgrextend(reln, fork, 0, page, true);
	(void) smgrprefetch(reln, fork, 0);
	smgrread(reln, fork, 0, page);
	smgrwrite(reln, fork, 0, page, true);
	smgrwriteback(reln, fork, 0, 1);
	(void) smgrnblocks(reln, fork);
	smgrtruncate2(reln, &fork, 1, &blocks, &blocks);
	smgrdounlinkall(&reln, 1, false);
	smgrclose(reln);
	smgr_testing = false;
	for (int slot = 0; slot < SLOT_COUNT; slot++)
	{
		if (!smgr_reached[slot])
			ereport(FATAL,
					(errmsg("this server was compiled so that its storage manager's %s cannot be "
							"replaced", slot_names[slot]),
					 errhint("Use the server program of a distribution this library was tried "
							 "with.")));
	}
}
