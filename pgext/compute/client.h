/*
 * Inside the client of the page server: messages.c knows bytes, connection.c one connection, ring.c what
 * is under way on it, page_client.c what is wanted, and how patiently.
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
	const uint8 *page;			/* in the message */
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
/* The moment asked for is not kept any more. */
extern bool message_is_of_collected(const char *error);

/* ---- the connection (connection.c) ---- */

/* Before fork: what every connection says of us. FATAL when the setting cannot be read. */
extern void connection_prepare(void);
/* For libpq, as "options". */
extern const char *connection_options(void);
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
/* Waits for the next message; to be freed by connection_free. NULL: the connection has ended, or it is past the deadline. */
extern uint8 *connection_get(int *length, TimestampTz deadline);
extern void connection_free(uint8 *message);
/* palloc'd. */
extern char *connection_problem(void);
/* Sleeps a moment; serves interrupts. */
extern void connection_pause(void);

/* ---- what is under way (ring.c) ---- */

/* Pages of memory a process may take for what it asked: 4 MB. */
#define RING 512

typedef enum PlaceState
{
	PLACE_FREE,
	PLACE_SENT,					/* its answer is under way */
	PLACE_UNWANTED,				/* so is this one's, but nobody wants it */
	PLACE_ANSWERED,
} PlaceState;

typedef struct Place
{
	PlaceState	state;
	bool		ahead;			/* asked before it was needed */
	uint16		next;			/* in its chain (ring.c) */
	Request		request;
	Answer		answer;
	uint8	   *bytes;			/* the message of the answer; NULL: there is none, or it was taken */
} Place;

/* By its number; those asked last have ring_asked() - 1 and less. */
extern Place *ring_place(uint64 number);
extern uint64 ring_asked(void);
extern int	ring_under_way(void);
/* Puts a request on its way; the ring has a place for it. False: the connection has ended. */
extern bool ring_ask(const Request *request, bool ahead);
/* Reads the answer of the first place that waits for one. False: the connection has ended. */
extern bool ring_receive(void);
/* The connection is gone: nothing under way will be answered. Answers that are here stay good. */
extern void ring_lose(void);
/* A page that was asked for, if what comes is new enough. */
extern Place *ring_find(const PageKey *key, XLogRecPtr since);
/* Its answer is not needed any more. */
extern void ring_forget(Place *at);

#endif							/* PAGESERVER_CLIENT_H */
