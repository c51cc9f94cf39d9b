/*
 * The library's beginning: settings, checks, shared memory. Whatever would make pages wrong later
 * (a missing setting, a directory that is started again) ends the start with its reason.
 */
#include "compute/client.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "catalog/pg_tablespace_d.h"
#include "common/file_perm.h"
#include "common/relpath.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/reinit.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"

/* The server looks these up; everything else stays hidden, so that no name meets one of its own. */
#pragma GCC visibility push(default)
PG_MODULE_MAGIC;
extern void _PG_init(void);
#pragma GCC visibility pop

#define STARTED_FILE "pageserver.started"

char	   *setting_connection;
char	   *setting_tenant;
char	   *setting_timeline;
char	   *setting_wal_receiver;
int			setting_page_store_mb;
int			setting_relations_max;
int			setting_reconnect_seconds;
int			setting_read_ahead;
int			setting_max_lag_mb;
static char *setting_stat;
char	   *page_server_token;
static char *setting_start_lsn;

XLogRecPtr	start_lsn;
LWLock	   *relations_lock;
LWLock	   *store_lock;

static shmem_request_hook_type previous_request;
static shmem_startup_hook_type previous_startup;

static void
define_text(const char *name, const char *what, char **value)
{
	DefineCustomStringVariable(name, what, NULL, value, "", PGC_POSTMASTER, GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);
}

static void
define_settings(void)
{
	define_text("pageserver.connection", "How libpq connects to the page server.",
				&setting_connection);
	define_text("pageserver.tenant", "Tenant, 32 hex digits.", &setting_tenant);
	define_text("pageserver.timeline", "Timeline, 32 hex digits.", &setting_timeline);
	define_text("pageserver.wal_receiver", "application_name of the page server's WAL receiver.",
				&setting_wal_receiver);
	define_text("pageserver.start_lsn", "LSN of the base backup this server starts from.",
				&setting_start_lsn);
	DefineCustomIntVariable("pageserver.page_store_size",
							"Room for pages of relations that were there at the start: those that "
							"must be kept, and a cache of others.",
							NULL, &setting_page_store_mb, 1024, 1, 1024 * 1024, PGC_POSTMASTER,
							GUC_UNIT_MB | GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver.relations_max",
							"Relations, indexes included, of which sizes can be known at a time.",
							NULL, &setting_relations_max, 100000, 1000, 10000000, PGC_POSTMASTER,
							GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver.reconnect_timeout",
							"How long to wait for a page server that does not answer.",
							NULL, &setting_reconnect_seconds, 300, 1, 86400, PGC_SIGHUP,
							GUC_UNIT_S | GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver.read_ahead",
							"Pages that a sequential reader asks for ahead.",
							"0 asks for none.", &setting_read_ahead, 256, 0, 448, PGC_USERSET,
							0, NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver.max_lag",
							"How much WAL the page server may be behind before writers wait for it.",
							NULL, &setting_max_lag_mb, 1024, 1, 1024 * 1024, PGC_SIGHUP,
							GUC_UNIT_MB | GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("pageserver.stat", "What was done with pages, as JSON.", NULL,
							   &setting_stat, "", PGC_INTERNAL,
							   GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, NULL,
							   NULL, stat_show);
	MarkGUCPrefixReserved("pageserver");
}

static void
refuse(const char *problem, const char *hint)
{
	ereport(FATAL,
			(errcode(ERRCODE_CONFIG_FILE_ERROR),
			 errmsg("this server cannot be a compute of a page server: %s", problem),
			 errhint("%s", hint)));
}

static bool
is_id(const char *text)
{
	return strlen(text) == 32 && strspn(text, "0123456789abcdef") == 32;
}

static void
check_settings(void)
{
	char	   *server_version = GetConfigOptionByName("server_version_num", NULL, false);
	bool		bad_lsn = false;

	/* The storage manager's interface has changed within a major version, and no magic number says so. */
	if (atoi(server_version) != PG_VERSION_NUM)
		refuse(psprintf("its version is %s, and the library was built for " PG_VERSION,
						GetConfigOptionByName("server_version", NULL, false)),
			   "Build the library anew, with this server's headers: make -C pgext");
	if (setting_connection[0] == '\0')
		refuse("pageserver.connection is not set",
			   "A compute is booted by the page server, which writes its settings.");
	if (!is_id(setting_tenant) || !is_id(setting_timeline))
		refuse("pageserver.tenant and pageserver.timeline must be 32 hex digits each",
			   "A compute is booted by the page server, which writes its settings.");
	start_lsn = pg_lsn_in_internal(setting_start_lsn, &bad_lsn);
	if (bad_lsn || start_lsn == InvalidXLogRecPtr)
		refuse("pageserver.start_lsn is not an LSN",
			   "A compute is booted by the page server, which writes its settings.");
	if (setting_wal_receiver[0] == '\0')
		refuse("pageserver.wal_receiver is not set",
			   "A compute is booted by the page server, which writes its settings.");
	if (wal_level < WAL_LEVEL_REPLICA)
		refuse("wal_level is minimal", "Set wal_level to replica or logical.");
	if (!wal_log_hints && !DataChecksumsEnabled())
		refuse("wal_log_hints is off, so the page server would miss visibility changes",
			   "Set wal_log_hints to on.");
}

static void
request_shmem(void)
{
	if (previous_request != NULL)
		previous_request();
	RequestAddinShmemSpace(relations_shmem_size());
	RequestAddinShmemSpace(lsn_shmem_size());
	RequestAddinShmemSpace(store_shmem_size());
	RequestAddinShmemSpace(stat_shmem_size());
	RequestNamedLWLockTranche(LOCK_TRANCHE, LOCK_COUNT);
}

/*
 * The page store and what is known of relations end with the server: a directory that has run
 * before lacks them, so its pages would be wrong.
 */
static void
start_only_once(void)
{
	int			fd = open(STARTED_FILE, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC,
						  pg_file_create_mode);

	if (fd >= 0)
	{
		close(fd);
		return;
	}
	if (errno != EEXIST)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", STARTED_FILE)));
	refuse("its directory has been started before",
		   "The directory of a compute starts once. Start the compute anew: the page server has "
		   "its history.");
}

/* Unlogged relations of one directory of the base backup: those with an init fork. */
static void
find_unlogged(const char *path, Oid tablespace, Oid database)
{
	DIR		   *dir = AllocateDir(path);
	struct dirent *entry;

	while ((entry = ReadDir(dir, path)) != NULL)
	{
		int			digits;
		ForkNumber	fork;
		RelFileNode node = {.spcNode = tablespace, .dbNode = database};

		if (!parse_filename_for_nontemp_relation(entry->d_name, &digits, &fork) ||
			fork != INIT_FORKNUM)
			continue;
		node.relNode = (Oid) strtoul(entry->d_name, NULL, 10);
		relation_create_unlogged(node);
	}
	FreeDir(dir);
}

static void
find_all_unlogged(void)
{
	DIR		   *dir = AllocateDir("base");
	struct dirent *entry;

	while ((entry = ReadDir(dir, "base")) != NULL)
	{
		char		path[MAXPGPATH];

		if (strspn(entry->d_name, "0123456789") != strlen(entry->d_name))
			continue;
		snprintf(path, sizeof(path), "base/%s", entry->d_name);
		find_unlogged(path, DEFAULTTABLESPACE_OID, (Oid) strtoul(entry->d_name, NULL, 10));
	}
	FreeDir(dir);
}

static void
startup_shmem(void)
{
	LWLockPadded *locks;

	if (previous_startup != NULL)
		previous_startup();
	locks = GetNamedLWLockTranche(LOCK_TRANCHE);
	relations_lock = &locks[0].lock;
	store_lock = &locks[1].lock;
	relations_shmem_init();
	lsn_shmem_init();
	store_shmem_init();
	stat_shmem_init();
	if (IsUnderPostmaster)
		return;
	smgr_self_test();
	client_check();
	find_all_unlogged();
	start_only_once();
}

/*
 * PostgreSQL has moved its environment elsewhere to show its state in the place of the old one, which
 * /proc/self/environ still shows: proc(5), "env_start". What cannot be found there cannot be read.
 */
static void
scrub_first_environment(const char *token)
{
	unsigned long start = 0,
				end = 0;
	char	   *found;
	FILE	   *stat = AllocateFile("/proc/self/stat", "r");

	if (stat == NULL)
		return;
	/* The name of the program, in parentheses, is postgres. Fields 50 and 51 follow 48 others. */
	if (fscanf(stat, "%*d (%*[^)]) %*c") == 0)
	{
		for (int field = 4; field < 50; field++)
			(void) !fscanf(stat, " %*s");
		if (fscanf(stat, " %lu %lu", &start, &end) != 2)
			start = end = 0;
	}
	FreeFile(stat);
	if (start == 0 || end <= start)
		return;
	found = memmem((void *) start, end - start, token, strlen(token));
	if (found != NULL)
		explicit_bzero(found, strlen(token));
}

/*
 * Of a process that has the token a core dump shows which libraries it had, and none of its memory.
 * Its children inherit that.
 */
static void
keep_out_of_core_dumps(void)
{
	FILE	   *filter = AllocateFile("/proc/self/coredump_filter", "w");

	/* 0x10: ELF headers (core(5)). Where there is no such file no filter is needed. */
	if (filter == NULL)
		return;
	fputs("0x10", filter);
	FreeFile(filter);
}

/*
 * The token comes by the environment, which no setting shows, and leaves it at once: programs that
 * SQL starts, and libpq on its way to other servers, must not find it.
 */
static void
take_token(void)
{
	char	   *given = getenv("PAGESERVER_TOKEN");

	if (given == NULL || given[0] == '\0')
		return;
	keep_out_of_core_dumps();
	page_server_token = MemoryContextStrdup(TopMemoryContext, given);
	scrub_first_environment(given);
	explicit_bzero(given, strlen(given));
	unsetenv("PAGESERVER_TOKEN");
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the page server's library must be in shared_preload_libraries")));
	take_token();
	define_settings();
	if (!IsPostmasterEnvironment)
		refuse("it runs without a postmaster", "Start it with pg_ctl.");
	check_settings();
	connection_prepare();
	previous_request = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
	smgr_install();
	utility_install();
	sizes_install();
	saver_install();
	guard_install();
	lag_install();
}
