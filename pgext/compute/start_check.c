/*
 * Before the server starts: does the page server serve this timeline to us? Asked by the postmaster, so
 * that what is wrong ends the start with its reason instead of every query.
 */
#include "compute/client.h"

#include <poll.h>
#include <time.h>

#include "catalog/pg_database.h"
#include "catalog/pg_tablespace_d.h"
#include "libpq-fe.h"

/* The page server, which starts us, must be there. */
#define CHECK_SECONDS 10
#define WAIT_MS 1000

/* Waits without a latch, as the postmaster has none. */
static bool
answered_before(PGconn *connection, int seconds, char **bytes, int *length)
{
	time_t		deadline = time(NULL) + seconds;

	while ((*length = PQgetCopyData(connection, bytes, 1)) == 0)
	{
		struct pollfd socket = {.fd = PQsocket(connection), .events = POLLIN};

		if (time(NULL) > deadline || (poll(&socket, 1, WAIT_MS) < 0 && errno != EINTR) ||
			!PQconsumeInput(connection))
			return false;
	}
	return *length > 0;
}

/* The answer to a request; NULL: the connection says why not. */
static uint8 *
ask_once(PGconn *connection, const Request *request, int seconds, int *length)
{
	char		command[128];
	PGresult   *result;
	ExecStatusType status;
	char	   *bytes;
	uint8	   *copy;

	snprintf(command, sizeof(command), "pagestream_v3 %s %s", setting_tenant, setting_timeline);
	if (PQstatus(connection) != CONNECTION_OK)
		return NULL;
	result = PQexec(connection, command);
	status = PQresultStatus(result);
	PQclear(result);
	if (status != PGRES_COPY_BOTH ||
		PQputCopyData(connection, (const char *) request->bytes, request->length) != 1 ||
		PQflush(connection) != 0 || !answered_before(connection, seconds, &bytes, length))
		return NULL;
	copy = palloc(*length);
	memcpy(copy, bytes, *length);
	PQfreemem(bytes);
	return copy;
}

static PGconn *
connect_once(void)
{
	char		timeout[16];
	const char *const keywords[] = {
		"dbname", "options", "connect_timeout",
		page_server_token == NULL ? NULL : "password", NULL
	};
	const char *const values[] = {
		setting_connection, connection_options(), timeout, page_server_token, NULL
	};

	snprintf(timeout, sizeof(timeout), "%d", CHECK_SECONDS);
	return PQconnectdbParams(keywords, values, 1);
}

static void
refuse_start(const char *problem)
{
	ereport(FATAL,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("the page server does not serve timeline %s of tenant %s: %s",
					setting_timeline, setting_tenant, problem),
			 errhint("Is it running at \"%s\", and are the ids and the token right?",
					 setting_connection)));
}

void
client_check(void)
{
	/* pg_database: whether it is there is of no interest, whether there is an answer is. */
	Request		request = {
		.tag = PAGESTREAM_EXISTS,
		.key = {.node = {.spcNode = GLOBALTABLESPACE_OID, .relNode = DatabaseRelationId}},
		.since = start_lsn,
	};
	Answer		answer = {0};
	PGconn	   *connection = connect_once();
	const char *problem;
	uint8	   *bytes;
	int			length;

	message_encode(&request, 1);
	bytes = ask_once(connection, &request, CHECK_SECONDS, &length);
	if (bytes == NULL)
		refuse_start(PQerrorMessage(connection));
	problem = message_decode(&request, bytes, length, &answer);
	if (problem != NULL || answer.error != NULL)
		refuse_start(problem != NULL ? problem : answer.error);
	pfree(bytes);
	PQfinish(connection);
}
