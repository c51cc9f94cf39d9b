/*
 * WAL redo: what the files of this library know of one another.
 */
#ifndef PAGESERVER_WALREDO_H
#define PAGESERVER_WALREDO_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "storage/block.h"
#include "storage/buf.h"
#include "storage/relfilenode.h"

#include "include/wire.h"

/* io.c: buffered pipe. Input is read in large pieces; answers are written when input runs dry. */
extern void io_start(uint32 server_version, uint32 wal_magic);
extern bool io_next(RedoMessage *message);	/* false at the end of input */
extern uint8 *io_page_slot(void);	/* memory for the next answered page */
extern void io_page_done(void);
extern bool io_flush(void);		/* false if the peer is gone */

/* smgr.c: the storage manager in memory. One block is real, every other is "already applied". */
typedef struct Target
{
	RelFileNode node;
	ForkNumber	fork;
	BlockNumber block;
	bool		has_page;		/* `page` is the block's contents on "disk" */
	char	   *page;			/* WIRE_PAGE_BYTES */
} Target;

extern Target target;
extern void redo_smgr_install(void);
extern bool is_target(RelFileNode node, ForkNumber fork, BlockNumber block);

/* apply.c: pages and records. */
extern void apply_start(void);
extern void apply_begin(const RedoTag *tag, const uint8 *base_page);
extern void apply_record(XLogRecPtr end_lsn, const uint8 *bytes, uint32 length);
extern void apply_retag(const RedoTag *tag);
extern void apply_get(const RedoTag *tag, uint8 *out);

/* sandbox.c: the process gives up what it does not need. */
extern void sandbox_enter_early(void);	/* before anything is allocated */
extern void sandbox_close(void);	/* after the last file was opened */

#endif							/* PAGESERVER_WALREDO_H */
