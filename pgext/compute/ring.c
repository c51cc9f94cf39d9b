/*
 * What is under way on the connection. Requests are pipelined: a ring holds them in the order of their
 * answers, and pages that were asked ahead stay in it until they are wanted or their place is. A query
 * that is cancelled leaves its request in the ring; its answer is read, and dropped, later.
 */
#include "compute/client.h"

#include "utils/memutils.h"

static Place *ring;
/* Places are numbered from the connection's beginning on; [answered, asked) are under way. */
static uint64 asked;
static uint64 answered;
static uint64 last_request_id;

/*
 * Pages by their key. A place is in the chain of its last request, answered, taken or not, until it is
 * used again. Numbers of places, and one more: 0 ends a chain.
 */
static uint16 chains[RING];

Place *
ring_place(uint64 number)
{
	return &ring[number % RING];
}

uint64
ring_asked(void)
{
	return asked;
}

int
ring_under_way(void)
{
	return (int) (asked - answered);
}

/* The next blocks of a relation are in the next chains. */
static uint16 *
chain_of(const PageKey *key)
{
	return &chains[(key->block + key->node.relNode + (uint32) key->fork) % RING];
}

static void
chain_add(Place *at)
{
	uint16	   *chain = chain_of(&at->request.key);

	at->next = *chain;
	*chain = (uint16) (at - ring + 1);
}

static void
chain_remove(Place *at)
{
	uint16	   *link = chain_of(&at->request.key);

	while (*link != 0 && &ring[*link - 1] != at)
		link = &ring[*link - 1].next;
	if (*link != 0)
		*link = at->next;
}

void
ring_forget(Place *at)
{
	if (at->answer.error != NULL)
		pfree(at->answer.error);
	if (at->bytes != NULL)
		connection_free(at->bytes);
	at->answer.error = NULL;
	at->bytes = NULL;
	at->state = PLACE_FREE;
}

void
ring_lose(void)
{
	connection_drop();
	for (; answered < asked; answered++)
		ring_place(answered)->state = PLACE_FREE;
}

static void
bad_answer(const char *what)
{
	ring_lose();
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("the page server's answer cannot be right: %s", what),
			 errhint("Is it a page server of the same version?")));
}

bool
ring_receive(void)
{
	Place	   *first = ring_place(answered);
	int			length;
	const char *problem;
	MemoryContext before;

	first->bytes = connection_get(&length, NO_DEADLINE);
	if (first->bytes == NULL)
		return false;
	before = MemoryContextSwitchTo(TopMemoryContext);
	problem = message_decode(&first->request, first->bytes, length, &first->answer);
	MemoryContextSwitchTo(before);
	if (problem != NULL)
		bad_answer(problem);
	answered++;
	if (first->state == PLACE_SENT)
		first->state = PLACE_ANSWERED;
	else
		ring_forget(first);
	return true;
}

bool
ring_ask(const Request *request, bool ahead)
{
	Place	   *at;

	if (ring == NULL)
		ring = MemoryContextAllocZero(TopMemoryContext, RING * sizeof(Place));
	at = ring_place(asked);
	ring_forget(at);
	chain_remove(at);
	at->request = *request;
	at->ahead = ahead;
	chain_add(at);
	message_encode(&at->request, ++last_request_id);
	if (!connection_put(at->request.bytes, at->request.length))
		return false;
	at->state = PLACE_SENT;
	asked++;
	return true;
}

Place *
ring_find(const PageKey *key, XLogRecPtr since)
{
	if (ring == NULL)
		return NULL;
	for (uint16 link = *chain_of(key); link != 0; link = ring[link - 1].next)
	{
		Place	   *at = &ring[link - 1];

		if ((at->state != PLACE_SENT && at->state != PLACE_ANSWERED) ||
			at->request.tag != PAGESTREAM_GETPAGE ||
			memcmp(&at->request.key, key, sizeof(PageKey)) != 0)
			continue;
		if (at->request.since >= since)
			return at;
		/* The page has left this server since, newer than this. */
		if (at->state == PLACE_SENT)
			at->state = PLACE_UNWANTED;
		else
			ring_forget(at);
	}
	return NULL;
}
