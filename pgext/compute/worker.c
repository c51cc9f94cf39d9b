/*
 * Background workers of this library, which the postmaster finds by its path.
 */
#include "compute/compute.h"

#include <dlfcn.h>

#include "miscadmin.h"
#include "postmaster/bgworker.h"

void
worker_register(const char *name, const char *function, int restart_seconds)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = restart_seconds,
	};
	Dl_info		library;

	if (dladdr(&worker_register, &library) == 0 ||
		strlen(library.dli_fname) >= sizeof(worker.bgw_library_name))
		ereport(FATAL,
				(errmsg("the path of the page server's library is longer than %d bytes",
						BGW_MAXLEN - 1),
				 errhint("The page server's data directory should have a shorter path.")));
	strlcpy(worker.bgw_library_name, library.dli_fname, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_name, name, sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, name, sizeof(worker.bgw_type));
	strlcpy(worker.bgw_function_name, function, sizeof(worker.bgw_function_name));
	RegisterBackgroundWorker(&worker);
}
