/*
 * Finding and replacing the server's storage manager table.
 *
 * smgrsw[] in smgr.c is static const and has no hook. It is found by its contents: fifteen
 * pointers in a known order, in the main program's own writable (relocated) data. Anything but
 * exactly one match is refused.
 *
 * The compiler may have folded slots whose value is known (Debian's 15: init, shutdown, open and
 * immedsync are called directly). A replacement must not depend on those four being called, and
 * must leave the originals harmless.
 */
#ifndef PAGESERVER_SMGR_TABLE_H
#define PAGESERVER_SMGR_TABLE_H

#include "postgres.h"
#include "storage/smgr.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 160000
#error "the storage manager table is known for PostgreSQL 15 only"
#endif

/* f_smgr of smgr.c, PostgreSQL 15, since truncate got its old_blocks argument (15.11). */
typedef struct SmgrTable
{
	void		(*init) (void);
	void		(*shutdown) (void);
	void		(*open) (SMgrRelation reln);
	void		(*close) (SMgrRelation reln, ForkNumber fork);
	void		(*create) (SMgrRelation reln, ForkNumber fork, bool is_redo);
	bool		(*exists) (SMgrRelation reln, ForkNumber fork);
	void		(*unlink) (RelFileNodeBackend node, ForkNumber fork, bool is_redo);
	void		(*extend) (SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page,
						   bool skip_fsync);
	bool		(*prefetch) (SMgrRelation reln, ForkNumber fork, BlockNumber block);
	void		(*read) (SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page);
	void		(*write) (SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page,
						  bool skip_fsync);
	void		(*writeback) (SMgrRelation reln, ForkNumber fork, BlockNumber block,
							  BlockNumber count);
	BlockNumber (*nblocks) (SMgrRelation reln, ForkNumber fork);
	void		(*truncate) (SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks,
							 BlockNumber blocks);
	void		(*immedsync) (SMgrRelation reln, ForkNumber fork);
} SmgrTable;

/* The server's table as it was: md.c's functions, for those who want to call them. */
extern SmgrTable smgr_table_original;

/* Replaces the table; NULL, or why not (then nothing has been changed). */
extern const char *smgr_table_replace(const SmgrTable *ours);

#endif							/* PAGESERVER_SMGR_TABLE_H */
