/*
 * Commands that copy or remove files of whole databases past the storage manager: refused where
 * the files are not here, followed where something must be forgotten. The same for base backups.
 */
#include "compute/compute.h"

/* GSS headers need not be installed: without them Port has the same layout (libpq-be.h). */
#undef ENABLE_GSS
#include "libpq/auth.h"

#include <sys/stat.h>

#include "catalog/objectaccess.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "nodes/parsenodes.h"
#include "replication/walsender.h"
#include "tcop/utility.h"

static ProcessUtility_hook_type previous_utility;
static object_access_hook_type previous_access;
static ClientAuthentication_hook_type previous_authentication;

static void
refuse_copy(const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s is not possible on a compute without disks", what),
			 errdetail("It copies files, and the files are on the page server."),
			 errhint("%s", hint)));
}

static void
check_create_database(const CreatedbStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "strategy") == 0 && option->arg != NULL &&
			pg_strcasecmp(defGetString(option), "file_copy") == 0)
			refuse_copy("CREATE DATABASE ... STRATEGY file_copy", "Use STRATEGY wal_log.");
	}
}

static void
check_alter_database(const AlterDatabaseStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "tablespace") == 0)
			refuse_copy("ALTER DATABASE ... SET TABLESPACE", "Move its tables one by one.");
	}
}

/*
 * The page server keeps relations of the default tablespaces only. In-place tablespaces, which need
 * a developer's setting to be made, are left to those who know what they do; and locations that no
 * server would take, to the server's own words.
 */
static void
check_create_tablespace(const CreateTableSpaceStmt *statement)
{
	struct stat location;

	if (is_absolute_path(statement->location) && stat(statement->location, &location) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("tablespaces are not possible on a compute without disks"),
				 errdetail("The page server keeps relations of the default tablespaces only.")));
}

static void
compute_utility(PlannedStmt *planned, const char *text, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
				DestReceiver *destination, QueryCompletion *completion)
{
	Oid			dropped = InvalidOid;

	if (IsA(planned->utilityStmt, DropdbStmt))
		dropped = get_database_oid(((DropdbStmt *) planned->utilityStmt)->dbname, true);
	else if (IsA(planned->utilityStmt, CreateTableSpaceStmt))
		check_create_tablespace((const CreateTableSpaceStmt *) planned->utilityStmt);
	else if (IsA(planned->utilityStmt, CreatedbStmt))
		check_create_database((const CreatedbStmt *) planned->utilityStmt);
	else if (IsA(planned->utilityStmt, AlterDatabaseStmt))
		check_alter_database((const AlterDatabaseStmt *) planned->utilityStmt);
	(previous_utility != NULL ? previous_utility : standard_ProcessUtility)
		(planned, text, read_only_tree, context, params, environment, destination, completion);
	/* Its files were removed as a whole, without a word to the storage manager. */
	if (OidIsValid(dropped))
		relation_forget_database(dropped);
}

/*
 * A new database must not see what is left of one of the same number, from before OIDs wrapped
 * around: a drop that failed at its end has removed files, but was not followed above.
 */
static void
compute_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (previous_access != NULL)
		previous_access(access, class, object, sub, arg);
	if (access == OAT_POST_CREATE && class == DatabaseRelationId)
		relation_forget_database(object);
}

/*
 * A base backup of this server would be one without relation files, and nobody would notice before
 * it is needed. BASE_BACKUP itself cannot be refused, so those who may send it are: whoever wants
 * physical replication and is not the page server.
 */
static void
compute_authentication(Port *port, int status)
{
	const char *name = port->application_name != NULL ? port->application_name : "";

	if (previous_authentication != NULL)
		previous_authentication(port, status);
	if (status == STATUS_OK && am_walsender && !am_db_walsender &&
		strcmp(name, setting_wal_receiver) != 0)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a compute without disks has no files to back up or replicate from"),
				 errhint("Ask the page server for a fullbackup of the timeline.")));
}

void
utility_install(void)
{
	previous_authentication = ClientAuthentication_hook;
	ClientAuthentication_hook = compute_authentication;
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = compute_utility;
	previous_access = object_access_hook;
	object_access_hook = compute_access;
}
