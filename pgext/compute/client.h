/*
 * Inside the client of the page server: messages.c knows bytes, connection.c one connection,
 * page_client.c what is under way on it.
 */
#ifndef PAGESERVER_CLIENT_H
#define PAGESERVER_CLIENT_H

#include "compute/compute.h"
#include "include/wire.h"
#include "utils/timestamp.h"

typedef struct Request
{
	uint8		tag;
	PageKey		key;
	XLogRecPtr	since;			/* no older version will do */
	uint8		bytes[PAGESTREAM_REQUEST_BYTES_MAX];
	int			length;
} Request;

typedef struct Answer
{
	bool		exists;
	BlockNumber blocks;
	int64		bytes;			/* of a database */
	char	   *page;			/* BLCKSZ of room, for a page */
	char	   *error;			/* palloc'd, in the current context; NULL: what is above holds */
} Answer;

/* ---- bytes (messages.c) ---- */

extern void message_encode(Request *request, uint64 id);
/*
 * NULL, or why the bytes cannot be the request's answer. An answer repeats the request: what does not
 * fit belongs to another, and is never used.
 */
extern const char *message_decode(const Request *request, const uint8 *bytes, int length,
								  Answer *answer);
/* An error that goes away by itself: the page server stops, loads, or waits for our WAL. */
extern bool message_is_transient(const char *error);
/* Another compute writes the timeline now. */
extern bool message_is_of_replaced(const char *error);

/* ---- the connection (connection.c) ---- */

/* Whether there is one: it may be broken, which the next call says. */
extern bool connection_open(void);
/* One attempt. False: connection_problem() says why. */
extern bool connection_start(TimestampTz deadline);
extern void connection_drop(void);
extern bool connection_put(const uint8 *bytes, int length);
/* Sends what was put; without `wait`, as much as can be sent now. */
extern bool connection_flush(bool wait);
/* No end to waiting, but an interrupt. */
#define NO_DEADLINE PG_INT64_MAX
/* Waits for the next message; palloc'd. NULL: the connection has ended, or it is past the deadline. */
extern uint8 *connection_get(int *length, TimestampTz deadline);
/* palloc'd. */
extern char *connection_problem(void);
/* Sleeps a moment; serves interrupts. */
extern void connection_pause(void);

#endif							/* PAGESERVER_CLIENT_H */
