/*
 * Whether the replaced storage manager is the one that the server calls. A compiler that knows what a
 * slot of the table holds calls md.c directly: then pages would be looked for in files. Tried in a child,
 * so that whatever is called instead harms nobody.
 */
#include "compute/smgr_test.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/smgr.h"

static const char *const slot_names[SLOT_COUNT] = {
	"create", "exists", "extend", "prefetch", "read", "write", "writeback", "nblocks", "truncate",
	"close", "unlink",
};

bool		smgr_testing;
bool	   *smgr_reached;

static void
call_all(SMgrRelation reln)
{
	ForkNumber	fork = MAIN_FORKNUM;
	BlockNumber blocks = 0;
	char		page[BLCKSZ] = {0};

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
}

/*
 * Stops where a call does not get to us: md.c finds no such file, or crashes, as much of what it needs is
 * not there yet. A relation of this number cannot exist: OIDs that high are given out last of all.
 */
static void
call_all_in_child(void)
{
	RelFileNode nobody = {PG_UINT32_MAX, PG_UINT32_MAX, PG_UINT32_MAX};
	struct rlimit no_core = {0, 0};

	(void) setrlimit(RLIMIT_CORE, &no_core);
	smgr_testing = true;
	PG_TRY();
	{
		call_all(smgropen(nobody, InvalidBackendId));
	}
	PG_CATCH();
	{
		_exit(1);
	}
	PG_END_TRY();
	_exit(0);
}

void
smgr_self_test(void)
{
	pid_t		child;

	smgr_reached = mmap(NULL, SLOT_COUNT * sizeof(bool), PROT_READ | PROT_WRITE,
						MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	child = smgr_reached == MAP_FAILED ? -1 : fork();
	if (child < 0)
		ereport(FATAL, (errmsg("the storage manager cannot be tried: %m")));
	if (child == 0)
		call_all_in_child();
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	for (int slot = 0; slot < SLOT_COUNT; slot++)
	{
		if (!smgr_reached[slot])
			ereport(FATAL,
					(errmsg("this server was compiled so that its storage manager's %s cannot be "
							"replaced", slot_names[slot]),
					 errhint("Use the server program of a distribution this library was tried "
							 "with.")));
	}
	munmap(smgr_reached, SLOT_COUNT * sizeof(bool));
}
