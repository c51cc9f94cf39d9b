/*
 * What is known of relations: one entry in shared memory for each relation that was touched, with
 * the state of its four forks. Entries are not evicted: a fork's size may be known to nobody else.
 */
#include "compute/compute.h"

#include "access/xlog.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#define FORKS (MAX_FORKNUM + 1)

typedef struct Relation_
{
	RelFileNode node;			/* key */
	ForkState	forks[FORKS];
} KnownRelation;

static HTAB *relations;

Size
relations_shmem_size(void)
{
	return hash_estimate_size(setting_relations_max, sizeof(KnownRelation));
}

void
relations_shmem_init(void)
{
	HASHCTL		control = {.keysize = sizeof(RelFileNode), .entrysize = sizeof(KnownRelation)};

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	relations = ShmemInitHash("pageserver relations", 1024, setting_relations_max, &control,
							  HASH_ELEM | HASH_BLOBS);
	LWLockRelease(AddinShmemInitLock);
}

static KnownRelation *
find(RelFileNode node)
{
	return hash_search(relations, &node, HASH_FIND, NULL);
}

/* Under the exclusive lock. */
static KnownRelation *
find_or_add(RelFileNode node)
{
	bool		found;
	KnownRelation *relation = NULL;

	/* Shared hash tables grow past their maximum as long as any shared memory is left. */
	if (hash_get_num_entries(relations) >= setting_relations_max)
		relation = find(node);
	else
	{
		relation = hash_search(relations, &node, HASH_ENTER_NULL, &found);
		if (relation != NULL && !found)
			memset(relation->forks, 0, sizeof(relation->forks));
	}
	if (relation == NULL)
	{
		LWLockRelease(relations_lock);
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many relations for pageserver.relations_max (%d)",
						setting_relations_max),
				 errhint("Start the compute with a higher pageserver.relations_max.")));
	}
	return relation;
}

ForkState
relation_fork(RelFileNode node, ForkNumber fork)
{
	ForkState	state = {.status = FORK_UNKNOWN};
	KnownRelation *relation;

	LWLockAcquire(relations_lock, LW_SHARED);
	relation = find(node);
	if (relation != NULL)
		state = relation->forks[fork];
	LWLockRelease(relations_lock);
	return state;
}

ForkState
relation_learn(RelFileNode node, ForkNumber fork, bool exists, BlockNumber blocks)
{
	ForkState	result;
	ForkState  *state;

	LWLockAcquire(relations_lock, LW_EXCLUSIVE);
	state = &find_or_add(node)->forks[fork];
	if (state->status == FORK_UNKNOWN)
	{
		state->status = exists ? FORK_REMOTE : FORK_ABSENT;
		state->blocks = blocks;
		state->remote_blocks = blocks;
	}
	result = *state;
	LWLockRelease(relations_lock);
	return result;
}

void
relation_create(RelFileNode node, ForkNumber fork)
{
	KnownRelation *relation;

	LWLockAcquire(relations_lock, LW_EXCLUSIVE);
	relation = find_or_add(node);
	relation->forks[fork].status = FORK_LOCAL;
	/* A new relation: the page server cannot know of its other forks. */
	for (int i = 0; fork == MAIN_FORKNUM && i < FORKS; i++)
	{
		if (relation->forks[i].status == FORK_UNKNOWN)
			relation->forks[i].status = FORK_ABSENT;
	}
	LWLockRelease(relations_lock);
}

void
relation_create_unlogged(RelFileNode node)
{
	relation_create(node, MAIN_FORKNUM);
	relation_create(node, INIT_FORKNUM);
}

bool
relation_change(RelFileNode node, ForkNumber fork, BlockNumber blocks, BlockNumber written)
{
	KnownRelation *relation;
	bool		known;

	LWLockAcquire(relations_lock, LW_SHARED);
	relation = find(node);
	known = relation != NULL && relation->forks[fork].status == FORK_CHANGED &&
		relation->forks[fork].blocks >= blocks && relation->forks[fork].remote_blocks >= written;
	LWLockRelease(relations_lock);
	if (known)
		return true;

	LWLockAcquire(relations_lock, LW_EXCLUSIVE);
	relation = find(node);
	if (relation != NULL && (relation->forks[fork].status == FORK_REMOTE ||
							 relation->forks[fork].status == FORK_CHANGED))
	{
		ForkState  *state = &relation->forks[fork];

		state->status = FORK_CHANGED;
		state->blocks = Max(state->blocks, blocks);
		state->remote_blocks = Max(state->remote_blocks, written);
		known = true;
	}
	LWLockRelease(relations_lock);
	return known;
}

void
relation_truncate(RelFileNode node, ForkNumber fork, BlockNumber blocks)
{
	KnownRelation *relation;
	BlockNumber end = 0;

	LWLockAcquire(relations_lock, LW_EXCLUSIVE);
	relation = find(node);
	if (relation != NULL)
	{
		ForkState  *state = &relation->forks[fork];

		end = state->blocks;
		state->status = FORK_CHANGED;
		state->blocks = blocks;
		state->remote_blocks = Min(state->remote_blocks, blocks);
		/* The caller has just logged it: older versions show pages that are gone. */
		state->truncated_at = XactLastRecEnd;
	}
	LWLockRelease(relations_lock);
	if (end > blocks)
		store_forget(node, fork, blocks, end);
}

void
relation_forget(RelFileNode node, ForkNumber fork)
{
	KnownRelation *relation;
	ForkState	old = {.status = FORK_UNKNOWN};

	LWLockAcquire(relations_lock, LW_EXCLUSIVE);
	relation = find(node);
	if (relation != NULL)
	{
		bool		any = false;

		old = relation->forks[fork];
		relation->forks[fork] = (ForkState)
		{
			.status = FORK_UNKNOWN
		};
		for (int i = 0; i < FORKS; i++)
			any = any || relation->forks[i].status > FORK_ABSENT;
		if (!any)
			hash_search(relations, &node, HASH_REMOVE, NULL);
	}
	LWLockRelease(relations_lock);
	if (old.status == FORK_CHANGED || old.status == FORK_REMOTE)
		store_forget(node, fork, 0, old.blocks);
}

void
relation_forget_database(Oid database)
{
	HASH_SEQ_STATUS scan;
	KnownRelation *relation;

	LWLockAcquire(relations_lock, LW_EXCLUSIVE);
	hash_seq_init(&scan, relations);
	while ((relation = hash_seq_search(&scan)) != NULL)
	{
		if (relation->node.dbNode == database)
			hash_search(relations, &relation->node, HASH_REMOVE, NULL);
	}
	LWLockRelease(relations_lock);
	store_forget_database(database);
}

/* The list is made first: callbacks do I/O, which must not be done under the lock. */
void
relation_each_local_map(void (*callback) (RelFileNode node, void *arg), void *arg)
{
	HASH_SEQ_STATUS scan;
	KnownRelation *relation;
	RelFileNode *nodes;
	long		found = 0;

	LWLockAcquire(relations_lock, LW_SHARED);
	nodes = palloc_extended(Max(1, hash_get_num_entries(relations)) * sizeof(RelFileNode),
							MCXT_ALLOC_HUGE);
	hash_seq_init(&scan, relations);
	while ((relation = hash_seq_search(&scan)) != NULL)
	{
		/* Unlogged relations have an init fork, and no map that would outlive us. */
		if (relation->forks[FSM_FORKNUM].status == FORK_LOCAL &&
			relation->forks[INIT_FORKNUM].status != FORK_LOCAL)
			nodes[found++] = relation->node;
	}
	LWLockRelease(relations_lock);
	for (long i = 0; i < found; i++)
		callback(nodes[i], arg);
	pfree(nodes);
}
