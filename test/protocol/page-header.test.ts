// Against PostgreSQL's own pages and checksums: wal/postgres.test.ts.

import fc from "fast-check";
import { expect, test } from "vitest";

import { LSN_INVALID, Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import {
  initPage,
  isNewPage,
  isPageHeaderSane,
  pageChecksum,
  pageLsn,
  readPageHeader,
  setPageChecksum,
  setPageLsn,
  stampPageLsn,
} from "../../src/protocol/page-header.ts";

const at = 16;
const blank = (): Uint8Array => new Uint8Array(PAGE_BYTES + 32).fill(0xee);

test("an initialised page has an empty middle and its special space", () => {
  const page = blank();
  initPage(page, at, 13);
  expect(readPageHeader(page, at)).toEqual({
    lsn: 0,
    checksum: 0,
    flags: 0,
    lower: 24,
    upper: 8176,
    special: 8176,
    pageSize: 8192,
    layoutVersion: 4,
    pruneXid: 0,
  });
  expect(isPageHeaderSane(page, at)).toBe(true);
  expect(isNewPage(page, at)).toBe(false);
  expect([page[at - 1], page[at + PAGE_BYTES]]).toEqual([0xee, 0xee]);
});

test("the LSN is stored high word first, and comes back", () => {
  const page = blank();
  setPageLsn(page, at, Lsn.parse("1/20304"));
  expect([...page.subarray(at, at + 8)]).toEqual([1, 0, 0, 0, 4, 3, 2, 0]);
  fc.assert(
    fc.property(fc.nat(2 ** 21 - 1), fc.nat(2 ** 32 - 1), (high, low) => {
      const lsn = Lsn.fromParts(high, low);
      setPageLsn(page, at, lsn);
      expect(pageLsn(page, at)).toBe(lsn);
    }),
  );
});

test("a new page gets neither LSN nor checksum", () => {
  const page = new Uint8Array(PAGE_BYTES);
  expect(isNewPage(page)).toBe(true);
  stampPageLsn(page, 0, Lsn.parse("1/1"));
  setPageChecksum(page, 0, 5);
  expect(page.every((b) => b === 0)).toBe(true);
  expect(pageLsn(page)).toBe(LSN_INVALID);
});

test("the checksum depends on every byte but its own, and on the block", () => {
  const page = new Uint8Array(PAGE_BYTES);
  initPage(page, 0, 0);
  const sum = pageChecksum(page, 0, 7);
  setPageChecksum(page, 0, 7);
  expect(readPageHeader(page).checksum).toBe(sum);
  expect(pageChecksum(page, 0, 7)).toBe(sum);
  expect(pageChecksum(page, 0, 8)).not.toBe(sum);
  fc.assert(
    fc.property(fc.nat(PAGE_BYTES - 1), fc.integer({ min: 1, max: 255 }), (where, change) => {
      const other = Uint8Array.from(page);
      other[where]! ^= change;
      const same = where === 8 || where === 9;
      expect(pageChecksum(other, 0, 7) === sum).toBe(same);
    }),
    { seed: 1 }, // 16 bits collide once in 65,535 times
  );
});
