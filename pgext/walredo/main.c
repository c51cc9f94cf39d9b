/*
 * WAL redo on stock PostgreSQL: `postgres --single` with this library in
 * shared_preload_libraries. _PG_init never returns: it brings up as much of a server as redo
 * needs (shared memory, a PGPROC, buffers, resource managers), says hello, and then turns WAL
 * records into pages until its input ends.
 *
 * Any error ends the process; the page server starts another. Errors are one line on stderr.
 */
#include "walredo/walredo.h"

#include <malloc.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>

#include "access/rmgr.h"
#include "access/xlog_internal.h"
#include "access/xlogutils.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/pg_shmem.h"
#include "storage/proc.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/* The server looks these up; everything else stays hidden, so that no name meets one of its own. */
#pragma GCC visibility push(default)
PG_MODULE_MAGIC;
extern void _PG_init(void);
#pragma GCC visibility pop

static bool sandbox_wanted = true;

/*
 * One line for each message, context included. Pages already rebuilt are sent first when the
 * process is about to end: the page server then knows which request was the one that failed.
 */
static void
report(ErrorData *error)
{
	char		line[2048];
	int			length;

	if (error->elevel >= FATAL)
		io_flush();
	length = snprintf(line, sizeof(line) - 1, "%s: %s%s%s%s",
					  error->elevel >= PANIC ? "PANIC" : error->elevel >= FATAL ? "FATAL" :
					  error->elevel >= WARNING ? "WARNING" : "LOG",
					  error->message != NULL ? error->message : "no message",
					  error->detail != NULL ? "; " : "", error->detail != NULL ? error->detail : "",
					  error->context != NULL ? "; " : "");
	length = Min(length, (int) sizeof(line) - 2);
	if (error->context != NULL)
		length += snprintf(line + length, sizeof(line) - 1 - length, "%s", error->context);
	length = Min(length, (int) sizeof(line) - 2);
	for (int i = 0; i < length; i++)
		if (line[i] == '\n')
			line[i] = ' ';
	line[length++] = '\n';
	(void) !write(STDERR_FILENO, line, length);
	error->output_to_server = false;
}

/* Runs before all other exit work, which would need system calls that are no longer allowed. */
static void
exit_now(int code, Datum arg)
{
	(void) arg;
	_exit(code);
}

static int
server_version(void)
{
	return atoi(GetConfigOption("server_version_num", false, false));
}

static void
define_settings(void)
{
	DefineCustomBoolVariable("walredo.sandbox",
							 "Gives up all system calls but reading, writing and memory.",
							 "Off only for debuggers and valgrind.",
							 &sandbox_wanted, true, PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

/*
 * The System V segment only guards a data directory, which is ours alone. Marked for removal it
 * goes when its last user does; a killed process would leave it behind for ever.
 */
static void
let_segment_die_with_us(void)
{
	int			segment = shmget((key_t) UsedShmemSegID, 0, 0);

	if (segment < 0 || shmctl(segment, IPC_RMID, NULL) != 0)
		elog(FATAL, "could not mark the shared memory segment for removal: %m");
}

/* What PostgresSingleUserMain does after loading libraries, as far as redo needs it. */
static void
start_server_parts(void)
{
	InitializeMaxBackends();
	process_shmem_requests();
	InitializeShmemGUCs();
	CreateSharedMemoryAndSemaphores();
	let_segment_die_with_us();
	InitProcess();
	BaseInit();
	redo_smgr_install();
	SetProcessingMode(NormalProcessing);
	InRecovery = true;
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "walredo");
	RmgrStartup();
}

static void
serve(void)
{
	RedoMessage message;

	while (io_next(&message))
	{
		RedoTag		tag = {0};

		if (message.type != REDO_APPLY)
			tag = redo_get_tag(message.body);
		switch (message.type)
		{
			case REDO_BEGIN:
				apply_begin(&tag, NULL);
				break;
			case REDO_PUSH:
				apply_begin(&tag, message.body + REDO_TAG_BYTES);
				break;
			case REDO_APPLY:
				apply_record(wire_get_u64(message.body), message.body + REDO_LSN_BYTES,
							 message.length - REDO_LSN_BYTES);
				break;
			case REDO_RETAG:
				apply_retag(&tag);
				break;
			case REDO_GET:
				apply_get(&tag, io_page_slot());
				io_page_done();
				break;
		}
	}
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress || IsUnderPostmaster ||
		IsPostmasterEnvironment)
		ereport(FATAL, (errmsg("walredo runs only in postgres --single, from shared_preload_libraries")));

	emit_log_hook = report;
	define_settings();
	if (sandbox_wanted)
		sandbox_enter_early();
	/* Memory once taken is kept: giving it back and faulting it in again led the profile. */
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, -1);
	mallopt(M_TOP_PAD, 1024 * 1024);

	start_server_parts();
	apply_start();
	before_shmem_exit(exit_now, 0);
	io_start((uint32) server_version(), XLOG_PAGE_MAGIC);
	if (sandbox_wanted)
		sandbox_close();
	serve();
	_exit(0);
}
