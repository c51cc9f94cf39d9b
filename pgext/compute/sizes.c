/*
 * pg_relation_size and its kin look at files, of which there are none here. They are replaced, in
 * the server's table of built-in functions, by functions that ask the storage manager and the page
 * server.
 */
#include "compute/compute.h"

#include <sys/mman.h>
#include <unistd.h>

#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_authid_d.h"
#include "catalog/pg_class.h"
#include "commands/dbcommands.h"
#include "common/relpath.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/smgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrtab.h"
#include "utils/rel.h"

static int64
fork_bytes(Relation relation, ForkNumber fork)
{
	SMgrRelation smgr;

	if (!RELKIND_HAS_STORAGE(relation->rd_rel->relkind))
		return 0;
	smgr = RelationGetSmgr(relation);
	return smgrexists(smgr, fork) ? (int64) smgrnblocks(smgr, fork) * BLCKSZ : 0;
}

static int64
all_forks_bytes(Relation relation)
{
	int64		bytes = 0;

	for (ForkNumber fork = 0; fork <= MAX_FORKNUM; fork++)
		bytes += fork_bytes(relation, fork);
	return bytes;
}

static int64
indexes_bytes(Relation relation)
{
	int64		bytes = 0;
	List	   *indexes;
	ListCell   *cell;

	if (!relation->rd_rel->relhasindex)
		return 0;
	indexes = RelationGetIndexList(relation);
	foreach(cell, indexes)
	{
		Relation	index = relation_open(lfirst_oid(cell), AccessShareLock);

		bytes += all_forks_bytes(index);
		relation_close(index, AccessShareLock);
	}
	list_free(indexes);
	return bytes;
}

/* With TOAST, without indexes of the table itself. */
static int64
table_bytes(Relation relation)
{
	int64		bytes = all_forks_bytes(relation);

	if (OidIsValid(relation->rd_rel->reltoastrelid))
	{
		Relation	toast = relation_open(relation->rd_rel->reltoastrelid, AccessShareLock);

		bytes += all_forks_bytes(toast) + indexes_bytes(toast);
		relation_close(toast, AccessShareLock);
	}
	return bytes;
}

static int64
total_bytes(Relation relation)
{
	return table_bytes(relation) + indexes_bytes(relation);
}

static Datum
size_of(FunctionCallInfo fcinfo, int64 (*measure) (Relation relation))
{
	Relation	relation = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	int64		bytes;

	/* Dropped in between: PostgreSQL answers NULL so that queries over pg_class go on. */
	if (relation == NULL)
		PG_RETURN_NULL();
	bytes = measure(relation);
	relation_close(relation, AccessShareLock);
	PG_RETURN_INT64(bytes);
}

static Datum
relation_size(PG_FUNCTION_ARGS)
{
	ForkNumber	fork = forkname_to_number(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	Relation	relation = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	int64		bytes;

	if (relation == NULL)
		PG_RETURN_NULL();
	bytes = fork_bytes(relation, fork);
	relation_close(relation, AccessShareLock);
	PG_RETURN_INT64(bytes);
}

static Datum
table_size(PG_FUNCTION_ARGS)
{
	return size_of(fcinfo, table_bytes);
}

static Datum
indexes_size(PG_FUNCTION_ARGS)
{
	return size_of(fcinfo, indexes_bytes);
}

static Datum
total_relation_size(PG_FUNCTION_ARGS)
{
	return size_of(fcinfo, total_bytes);
}

/* What the page server holds of a database: a moment behind, and without unlogged tables. */
static int64
database_bytes(Oid database)
{
	AclResult	allowed = pg_database_aclcheck(database, GetUserId(), ACL_CONNECT);

	if (allowed != ACLCHECK_OK && !has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		aclcheck_error(allowed, OBJECT_DATABASE, get_database_name(database));
	return client_get_database_size(database);
}

static Datum
database_size_oid(PG_FUNCTION_ARGS)
{
	char	   *name = get_database_name(PG_GETARG_OID(0));

	if (name == NULL)
		PG_RETURN_NULL();
	PG_RETURN_INT64(database_bytes(PG_GETARG_OID(0)));
}

static Datum
database_size_name(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(database_bytes(get_database_oid(NameStr(*PG_GETARG_NAME(0)), false)));
}

static Datum
tablespace_size(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the size of a tablespace is not known on a compute without disks"),
			 errhint("Ask for the sizes of databases, with pg_database_size.")));
}

static const struct
{
	const char *name;
	PGFunction	function;
}			replacements[] = {
	{"pg_relation_size", relation_size},
	{"pg_table_size", table_size},
	{"pg_indexes_size", indexes_size},
	{"pg_total_relation_size", total_relation_size},
	{"pg_database_size_oid", database_size_oid},
	{"pg_database_size_name", database_size_name},
	{"pg_tablespace_size_oid", tablespace_size},
	{"pg_tablespace_size_name", tablespace_size},
};

/* The table is constant, and made read-only by the loader: its pages are opened for the moment. */
static bool
protect(int protection)
{
	uintptr_t	page_bytes = (uintptr_t) sysconf(_SC_PAGESIZE);
	uintptr_t	start = (uintptr_t) fmgr_builtins & ~(page_bytes - 1);
	uintptr_t	end = TYPEALIGN(page_bytes, (uintptr_t) (fmgr_builtins + fmgr_nbuiltins));

	return mprotect((void *) start, end - start, protection) == 0;
}

void
sizes_install(void)
{
	size_t		replaced = 0;

	/*
	 * The last page may hold variables too, so it stays writable; forbidding that again would be
	 * a guess about the program's layout.
	 */
	if (!protect(PROT_READ | PROT_WRITE))
		ereport(FATAL, (errmsg("the table of built-in functions cannot be made writable: %m")));
	for (int i = 0; i < fmgr_nbuiltins; i++)
	{
		FmgrBuiltin *builtin = unconstify(FmgrBuiltin *, &fmgr_builtins[i]);

		for (size_t j = 0; j < lengthof(replacements); j++)
		{
			if (strcmp(builtin->funcName, replacements[j].name) != 0)
				continue;
			builtin->func = replacements[j].function;
			replaced++;
		}
	}
	if (replaced != lengthof(replacements))
		ereport(FATAL, (errmsg("the server lacks functions that measure relations")));
}
