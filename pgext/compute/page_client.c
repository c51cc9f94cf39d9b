/*
 * The client of the page server: pagestream v3 (docs/wire-protocol.md) over libpq, one connection
 * for each process, opened when it first needs a page. All requests are reads, so whatever was
 * under way when a connection broke is asked again on the next one. Every wait can be cancelled.
 */
#include "compute/compute.h"

#include "libpq-fe.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bswap.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#define RETRY_MS 100
#define WAIT_MS 1000

#define TAG_EXISTS 0
#define TAG_NBLOCKS 1
#define TAG_GETPAGE 2
#define TAG_DBSIZE 3
#define ANSWER_TAG_EXISTS 100
#define ANSWER_TAG_NBLOCKS 101
#define ANSWER_TAG_GETPAGE 102
#define ANSWER_TAG_ERROR 103
#define ANSWER_TAG_DBSIZE 104

/* tag, request id, request_lsn, not_modified_since, relation, block */
#define PREFIX_BYTES (1 + 8 + 8 + 8)
#define RELATION_BYTES (4 + 4 + 4 + 1)
#define REQUEST_BYTES_MAX (PREFIX_BYTES + RELATION_BYTES + 4)
#define REQUESTS_MAX 2

typedef struct Request
{
	uint8		tag;
	RelFileNode node;
	ForkNumber	fork;
	BlockNumber block;			/* of GetPage */
	char		bytes[REQUEST_BYTES_MAX];
	int			length;
} Request;

typedef struct Answer
{
	char	   *error;			/* palloc'd; NULL: what follows holds */
	bool		exists;
	BlockNumber blocks;
	int64		bytes;			/* of a database */
	char	   *page;			/* where the caller wants it */
} Answer;

static PGconn *connection;
/* Requests have been sent whose answers were not read: the connection is of no more use. */
static bool unfinished;
static uint64 last_request_id;

static void
disconnect(void)
{
	if (connection != NULL)
		PQfinish(connection);
	connection = NULL;
	unfinished = false;
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

/* One attempt. On false the reason is in the connection, if there is one. */
static bool
try_connect(TimestampTz deadline)
{
	/* A connection string under the name of a database is taken apart; what follows it wins. */
	const char *const keywords[] = {"dbname", page_server_token == NULL ? NULL : "password", NULL};
	const char *const values[] = {setting_connection, page_server_token, NULL};

	connection = PQconnectStartParams(keywords, values, 1);
	return connection != NULL && PQstatus(connection) != CONNECTION_BAD &&
		finish_connecting(deadline) && start_stream(deadline);
}

static void
sleep_before_retry(void)
{
	int			happened = WaitLatch(MyLatch,
									 WL_EXIT_ON_PM_DEATH | WL_LATCH_SET | WL_TIMEOUT,
									 RETRY_MS, PG_WAIT_EXTENSION);

	if (happened & WL_LATCH_SET)
		ResetLatch(MyLatch);
	serve_interrupts();
}

static char *
connection_problem(void)
{
	const char *said = connection == NULL ? "out of memory" : PQerrorMessage(connection);
	char	   *problem = pstrdup(said[0] == '\0' ? "it closed the connection" : said);

	for (char *end = problem + strlen(problem); end > problem && end[-1] == '\n';)
		*--end = '\0';
	return problem;
}

static char *
put_bytes(char *at, const void *bytes, size_t length)
{
	memcpy(at, bytes, length);
	return at + length;
}

static char *
put_uint32(char *at, uint32 value)
{
	uint32		wire = pg_hton32(value);

	return put_bytes(at, &wire, sizeof(wire));
}

static char *
put_uint64(char *at, uint64 value)
{
	uint64		wire = pg_hton64(value);

	return put_bytes(at, &wire, sizeof(wire));
}

static uint32
get_uint32(const char *at)
{
	uint32		wire;

	memcpy(&wire, at, sizeof(wire));
	return pg_ntoh32(wire);
}

static uint64
get_uint64(const char *at)
{
	uint64		wire;

	memcpy(&wire, at, sizeof(wire));
	return pg_ntoh64(wire);
}

/*
 * Any page asked for has not changed since the start (those that have are in the page store), so
 * the latest version is the right one as soon as the page server has all WAL up to the start.
 */
static void
encode(Request *request)
{
	char	   *at = request->bytes;

	*at++ = (char) request->tag;
	at = put_uint64(at, ++last_request_id);
	at = put_uint64(at, PG_UINT64_MAX);
	at = put_uint64(at, start_lsn);
	if (request->tag == TAG_DBSIZE)
		at = put_uint32(at, request->node.dbNode);
	else
	{
		at = put_uint32(at, request->node.spcNode);
		at = put_uint32(at, request->node.dbNode);
		at = put_uint32(at, request->node.relNode);
		*at++ = (char) request->fork;
		if (request->tag == TAG_GETPAGE)
			at = put_uint32(at, request->block);
	}
	request->length = (int) (at - request->bytes);
}

static bool
send_all(Request *requests, int count)
{
	int			left;

	for (int i = 0; i < count; i++)
	{
		encode(&requests[i]);
		if (PQputCopyData(connection, requests[i].bytes, requests[i].length) != 1)
			return false;
	}
	while ((left = PQflush(connection)) == 1)
	{
		wait_for(WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE);
		if (!PQconsumeInput(connection))
			return false;
	}
	return left == 0;
}

static void
bad_answer(const char *what)
{
	disconnect();
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("the page server's answer cannot be right: %s", what)));
}

/* An answer repeats the request: what does not fit is another request's, and never used. */
static void
decode(const Request *request, const char *bytes, int length, Answer *answer)
{
	uint8		tag = (uint8) bytes[0];
	const char *payload = bytes + request->length;
	int			payload_length = length - request->length;

	if (length < PREFIX_BYTES || memcmp(bytes + 1, request->bytes + 1, PREFIX_BYTES - 1) != 0)
		bad_answer("it belongs to another request");
	if (tag == ANSWER_TAG_ERROR)
	{
		answer->error = pnstrdup(bytes + PREFIX_BYTES, length - PREFIX_BYTES);
		return;
	}
	if (payload_length < 0 ||
		memcmp(bytes + 1, request->bytes + 1, request->length - 1) != 0)
		bad_answer("it is about another block");
	if (request->tag == TAG_EXISTS && tag == ANSWER_TAG_EXISTS && payload_length == 1)
		answer->exists = payload[0] != 0;
	else if (request->tag == TAG_NBLOCKS && tag == ANSWER_TAG_NBLOCKS && payload_length == 4)
		answer->blocks = get_uint32(payload);
	else if (request->tag == TAG_GETPAGE && tag == ANSWER_TAG_GETPAGE && payload_length == BLCKSZ)
		memcpy(answer->page, payload, BLCKSZ);
	else if (request->tag == TAG_DBSIZE && tag == ANSWER_TAG_DBSIZE && payload_length == 8)
		answer->bytes = (int64) get_uint64(payload);
	else
		bad_answer("it has another type or length");
}

static bool
receive(const Request *request, Answer *answer)
{
	char	   *copy;
	int			length;
	char	   *bytes;

	while ((length = PQgetCopyData(connection, &bytes, 1)) == 0)
	{
		wait_for(WL_SOCKET_READABLE);
		if (!PQconsumeInput(connection))
			return false;
	}
	if (length < 0)
	{
		/* The stream has ended: its result says why. */
		PQclear(PQgetResult(connection));
		return false;
	}
	/* Checked in memory that an ERROR gives back. */
	copy = palloc(length);
	memcpy(copy, bytes, length);
	PQfreemem(bytes);
	decode(request, copy, length, answer);
	pfree(copy);
	return true;
}

static bool
try_exchange(Request *requests, int count, Answer *answers)
{
	unfinished = true;
	if (!send_all(requests, count))
		return false;
	for (int i = 0; i < count; i++)
	{
		if (!receive(&requests[i], &answers[i]))
			return false;
	}
	unfinished = false;
	return true;
}

static TimestampTz
reconnect_deadline(void)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									   setting_reconnect_seconds * INT64CONST(1000));
}

/* Asks until there are answers. Says once that it has to wait, and once that it need not any more. */
static void
exchange(Request *requests, int count, Answer *answers)
{
	TimestampTz deadline = 0;

	/* An ERROR in the midst of an exchange has left answers on the way. */
	if (unfinished)
		disconnect();
	while (!((connection != NULL || try_connect(reconnect_deadline())) &&
			 try_exchange(requests, count, answers)))
	{
		char	   *problem = connection_problem();

		disconnect();
		if (deadline == 0)
		{
			deadline = reconnect_deadline();
			ereport(LOG, (errmsg("waiting for the page server: %s", problem)));
		}
		else if (GetCurrentTimestamp() > deadline)
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("the page server cannot be reached: %s", problem),
					 errhint("Is it running? pageserver.reconnect_timeout says how long to wait "
							 "for it (%d s).", setting_reconnect_seconds)));
		else
			sleep_before_retry();
		pfree(problem);
	}
	if (deadline != 0)
		ereport(LOG, (errmsg("the page server answers again")));
	/* Whoever waits on the latch above us shall look again: we may have taken their signal. */
	SetLatch(MyLatch);
}

static void
fail(const char *what, RelFileNode node, ForkNumber fork, const char *error)
{
	ereport(ERROR,
			(errcode(ERRCODE_IO_ERROR),
			 errmsg("could not read %s of relation %u/%u/%u, fork %d, from the page server: %s",
					what, node.spcNode, node.dbNode, node.relNode, fork, error)));
}

void
client_get_page(RelFileNode node, ForkNumber fork, BlockNumber block, char *page)
{
	Request		request = {.tag = TAG_GETPAGE, .node = node, .fork = fork, .block = block};
	Answer		answer = {.page = page};
	char		what[32];

	exchange(&request, 1, &answer);
	snprintf(what, sizeof(what), "block %u", block);
	if (answer.error != NULL)
		fail(what, node, fork, answer.error);
}

bool
client_get_size(RelFileNode node, ForkNumber fork, BlockNumber *blocks)
{
	Request		requests[REQUESTS_MAX] = {
		{.tag = TAG_EXISTS, .node = node, .fork = fork},
		{.tag = TAG_NBLOCKS, .node = node, .fork = fork},
	};
	Answer		answers[REQUESTS_MAX] = {0};

	exchange(requests, REQUESTS_MAX, answers);
	if (answers[0].error != NULL)
		fail("the size", node, fork, answers[0].error);
	/* Of a relation that is not there the size is an error: that is expected. */
	if (answers[0].exists && answers[1].error != NULL)
		fail("the size", node, fork, answers[1].error);
	*blocks = answers[0].exists ? answers[1].blocks : 0;
	return answers[0].exists;
}

int64
client_get_database_size(Oid database)
{
	Request		request = {.tag = TAG_DBSIZE, .node = {.dbNode = database}};
	Answer		answer = {0};

	exchange(&request, 1, &answer);
	if (answer.error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("could not read the size of database %u from the page server: %s",
						database, answer.error)));
	return answer.bytes;
}
