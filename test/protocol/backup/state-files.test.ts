import { describe, expect, test } from "vitest";
import { Lsn } from "../../../src/core/lsn.ts";
import { SLRU_CLOG, SLRU_MEMBERS, SLRU_OFFSETS } from "../../../src/core/page.ts";
import { slruTails } from "../../../src/protocol/backup/slru-tails.ts";
import {
  formatOrigins,
  parseOrigins,
  withCrc,
  withoutCrc,
} from "../../../src/protocol/backup/state-files.ts";

describe("state files", () => {
  test("replication origins and back", () => {
    const origins = [
      { id: 1, lsn: Lsn.parse("0/16B3748") },
      { id: 65_535, lsn: Lsn.parse("AB/CDEF0123") },
    ];
    const file = formatOrigins(origins);
    expect(file.length).toBe(4 + 2 * 16 + 4);
    expect(parseOrigins(file)).toEqual(origins);
    expect(parseOrigins(formatOrigins([]))).toEqual([]);
  });

  test("a changed byte is noticed", () => {
    const file = withCrc(new TextEncoder().encode("a prepared transaction"));
    expect(withoutCrc(file, "x")).toEqual(file.subarray(0, -4));
    for (let i = 0; i < file.length; i++) {
      const damaged = file.slice();
      damaged[i]! ^= 0x10;
      expect(() => withoutCrc(damaged, "x")).toThrow("checksum");
    }
    expect(() => withoutCrc(file.subarray(0, 3), "x")).toThrow("only 3 bytes");
  });
});

describe("SLRU pages that must exist", () => {
  test("the pages of the next transaction, multixact and member", () => {
    const tails = slruTails({
      nextXid: 2 ** 32 + 32_768 * 40 + 1,
      nextMulti: 2048 * 3 + 5,
      nextMultiOffset: 1636 * 2 + 4,
    });
    expect(tails).toEqual([
      { slru: SLRU_CLOG, page: 40 },
      { slru: SLRU_MEMBERS, page: 2 },
      { slru: SLRU_OFFSETS, page: 3 },
    ]);
  });

  test("at a page's first entry there need not be one", () => {
    expect(slruTails({ nextXid: 32_768, nextMulti: 2048, nextMultiOffset: 1636 })).toEqual([]);
  });
});
