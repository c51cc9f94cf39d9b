// PostgreSQL's words for where a page lives (relfilenode.h, buf_internals.h of PostgreSQL 15).

/** BLCKSZ: bytes of a page. */
export const PAGE_BYTES = 8192;
/** RELSEG_SIZE: blocks of one relation segment file (1 GiB). */
export const RELSEG_BLOCKS = 131_072;

export const FORK_MAIN = 0;
export const FORK_FSM = 1;
export const FORK_VM = 2;
export const FORK_INIT = 3;

/** pg_default and pg_global tablespaces (pg_tablespace.dat). */
export const SPC_DEFAULT = 1663;
export const SPC_GLOBAL = 1664;

/** A relation fork: tablespace, database, relfilenode, fork number. */
export interface RelTag {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
}

/** SLRU kinds, numbered as in pagestream: 0 clog, 1 multixact members, 2 multixact offsets. */
export const SLRU_CLOG = 0;
export const SLRU_MEMBERS = 1;
export const SLRU_OFFSETS = 2;
/** SLRU_PAGES_PER_SEGMENT. */
export const SLRU_SEGMENT_BLOCKS = 32;

export const formatRel = (r: RelTag): string => `${r.spc}/${r.db}/${r.rel}.${r.fork}`;
