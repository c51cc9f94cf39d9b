// At start-up PostgreSQL clears the SLRU pages behind the next transaction, multixact and member
// (TrimCLOG, TrimMultiXact) and stops if such a page does not exist. Here is which must exist.

import { PAGE_BYTES, SLRU_CLOG, SLRU_MEMBERS, SLRU_OFFSETS } from "../../core/page.ts";

/** CLOG_XACTS_PER_PAGE: two bits a transaction. */
const XACTS_PER_PAGE = PAGE_BYTES * 4;
/** MULTIXACT_OFFSETS_PER_PAGE: four bytes a multixact. */
const OFFSETS_PER_PAGE = PAGE_BYTES / 4;
/** MULTIXACT_MEMBERS_PER_PAGE: groups of four members take 20 bytes, 409 groups a page. */
const MEMBERS_PER_PAGE = Math.floor(PAGE_BYTES / 20) * 4;

const TWO_32 = 4_294_967_296;

export interface SlruTail {
  readonly slru: number;
  /** Page number within the SLRU (not within a segment). */
  readonly page: number;
}

/** Pages that must exist, zeros at least, for a server that starts with these next ids. */
export function slruTails(next: {
  /** With its epoch, which the SLRU does not have. */
  readonly nextXid: number;
  readonly nextMulti: number;
  readonly nextMultiOffset: number;
}): readonly SlruTail[] {
  const tails: SlruTail[] = [];
  // At a page's first entry the server makes the page itself, when the id is given out.
  const need = (slru: number, id: number, perPage: number): void => {
    if (id % perPage !== 0) tails.push({ slru, page: Math.floor(id / perPage) });
  };
  need(SLRU_CLOG, next.nextXid % TWO_32, XACTS_PER_PAGE);
  need(SLRU_MEMBERS, next.nextMultiOffset, MEMBERS_PER_PAGE);
  need(SLRU_OFFSETS, next.nextMulti, OFFSETS_PER_PAGE);
  return tails;
}
