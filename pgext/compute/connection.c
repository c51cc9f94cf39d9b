/*
 * One connection to the page server for each process, through libpq, opened when it first needs a
 * page. Every wait can be cancelled; an ERROR leaves the connection as it is, with answers under way
 * that page_client.c knows of.
 */
#include "compute/client.h"

#include "access/xlog.h"
#include "libpq-fe.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#define RETRY_MS 100
#define WAIT_MS 1000

static PGconn *connection;
static bool streaming;			/* false: an attempt to connect did not get to its end */

static char *options;

/*
 * The page server has written into the setting which compute this is to be; we add which cluster our own
 * pg_control is of. It answers no other's.
 */
void
connection_prepare(void)
{
	char	   *problem = NULL;
	const char *given = "";
	PQconninfoOption *parsed = PQconninfoParse(setting_connection, &problem);

	if (parsed == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("pageserver.connection cannot be read: %s",
						problem == NULL ? "out of memory" : problem),
				 errhint("A compute is booted by the page server, which writes its settings.")));
	for (PQconninfoOption *option = parsed; option->keyword != NULL; option++)
	{
		if (strcmp(option->keyword, "options") == 0 && option->val != NULL)
			given = option->val;
	}
	options = MemoryContextStrdup(TopMemoryContext,
								  psprintf("%s -c pageserver.system_id=" UINT64_FORMAT, given,
										   GetSystemIdentifier()));
	PQconninfoFree(parsed);
}

const char *
connection_options(void)
{
	return options;
}

bool
connection_open(void)
{
	return streaming;
}

void
connection_drop(void)
{
	if (connection != NULL)
		PQfinish(connection);
	connection = NULL;
	streaming = false;
}

/*
 * Interrupts are served where PostgreSQL allows it. Where it holds them off, because the caller
 * has a lock, an ERROR is still allowed and lets the lock go: a wait for the network must not be
 * beyond the reach of a cancel.
 */
static void
serve_interrupts(void)
{
	if (CritSectionCount > 0)
		return;
	if (InterruptHoldoffCount == 0)
		CHECK_FOR_INTERRUPTS();
	else if (ProcDiePending || QueryCancelPending)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceled while waiting for the page server")));
}

/* Waits until the connection may have something to do, for a second at most. */
static void
wait_for(int events)
{
	int			happened;

	happened = WaitLatchOrSocket(MyLatch,
								 WL_EXIT_ON_PM_DEATH | WL_LATCH_SET | WL_TIMEOUT | events,
								 PQsocket(connection), WAIT_MS, PG_WAIT_EXTENSION);
	if (happened & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		serve_interrupts();
	}
}

void
connection_pause(void)
{
	int			happened = WaitLatch(MyLatch,
									 WL_EXIT_ON_PM_DEATH | WL_LATCH_SET | WL_TIMEOUT,
									 RETRY_MS, PG_WAIT_EXTENSION);

	if (happened & WL_LATCH_SET)
		ResetLatch(MyLatch);
	serve_interrupts();
}

static bool
finish_connecting(TimestampTz deadline)
{
	for (;;)
	{
		PostgresPollingStatusType state = PQconnectPoll(connection);

		if (state == PGRES_POLLING_OK)
			return true;
		if (state == PGRES_POLLING_FAILED || GetCurrentTimestamp() > deadline)
			return false;
		wait_for(state == PGRES_POLLING_READING ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE);
	}
}

static bool
start_stream(TimestampTz deadline)
{
	char		command[128];
	PGresult   *result;
	bool		started;

	snprintf(command, sizeof(command), "pagestream_v3 %s %s", setting_tenant, setting_timeline);
	if (!PQsendQuery(connection, command))
		return false;
	while (PQisBusy(connection))
	{
		if (GetCurrentTimestamp() > deadline)
			return false;
		wait_for(WL_SOCKET_READABLE);
		if (!PQconsumeInput(connection))
			return false;
	}
	result = PQgetResult(connection);
	started = PQresultStatus(result) == PGRES_COPY_BOTH;
	PQclear(result);
	return started && PQsetnonblocking(connection, 1) == 0;
}

bool
connection_start(TimestampTz deadline)
{
	/* A connection string under the name of a database is taken apart; what follows it wins. */
	const char *const keywords[] = {
		"dbname", "options", page_server_token == NULL ? NULL : "password", NULL
	};
	const char *const values[] = {setting_connection, options, page_server_token, NULL};

	connection_drop();
	connection = PQconnectStartParams(keywords, values, 1);
	streaming = connection != NULL && PQstatus(connection) != CONNECTION_BAD &&
		finish_connecting(deadline) && start_stream(deadline);
	return streaming;
}

char *
connection_problem(void)
{
	const char *said = connection == NULL ? "out of memory" : PQerrorMessage(connection);
	char	   *problem = pstrdup(said[0] == '\0' ? "it closed the connection" : said);

	for (char *end = problem + strlen(problem); end > problem && end[-1] == '\n';)
		*--end = '\0';
	return problem;
}

bool
connection_put(const uint8 *bytes, int length)
{
	return PQputCopyData(connection, (const char *) bytes, length) == 1;
}

bool
connection_flush(bool wait)
{
	int			left;

	while ((left = PQflush(connection)) == 1 && wait)
	{
		wait_for(WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE);
		if (!PQconsumeInput(connection))
			return false;
	}
	return left >= 0;
}

uint8 *
connection_get(int *length, TimestampTz deadline)
{
	char	   *bytes;

	while ((*length = PQgetCopyData(connection, &bytes, 1)) == 0)
	{
		/* What a sequential reader asked ahead is mostly there: a wait would cost more than a look. */
		if (!PQconsumeInput(connection))
			return NULL;
		*length = PQgetCopyData(connection, &bytes, 1);
		if (*length != 0)
			break;
		if (deadline != NO_DEADLINE && GetCurrentTimestamp() > deadline)
			return NULL;
		/* What was put without waiting may still have to go. */
		wait_for(PQflush(connection) == 1 ? WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE :
				 WL_SOCKET_READABLE);
	}
	if (*length < 0)
	{
		/* The stream has ended: its result says why. */
		PQclear(PQgetResult(connection));
		return NULL;
	}
	return (uint8 *) bytes;
}

void
connection_free(uint8 *message)
{
	PQfreemem(message);
}
