import fs from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";

import { MalformedInput } from "../../../src/core/assert.ts";
import { Lsn, WAL_PAGE_BYTES, WAL_SEGMENT_BYTES } from "../../../src/core/lsn.ts";
import { walFormat } from "../../../src/protocol/wal/format.ts";
import {
  parseSegmentFileName,
  segmentFileName,
  segmentOf,
  segmentStart,
  segmentsWithRecord,
} from "../../../src/protocol/wal/segment.ts";
import { buildRecord, layOutRecord } from "../../../src/protocol/wal/writer.ts";
import { giveToPostgres, postgresTempDir, runPg } from "../../support/postgres.ts";
import { decodeAll } from "../../support/wal-builder.ts";

const identity = { format: walFormat(15), tli: 3, systemId: 7_654_321n };
const previous = Lsn.parse("3/FF");

describe("names", () => {
  test("are PostgreSQL's", () => {
    const segment = segmentOf(Lsn.parse("16/B374D848"));
    expect(segmentFileName(1, segment)).toBe("0000000100000016000000B3");
    expect(segmentStart(segment)).toBe(Lsn.parse("16/B3000000"));
  });

  test("say what they were made from", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 32 - 1 }), fc.nat(2 ** 29), (tli, segment) => {
        expect(parseSegmentFileName(segmentFileName(tli, segment))).toEqual({ tli, segment });
      }),
    );
  });

  test("other files of pg_wal are not segments; impossible numbers are refused", () => {
    for (const name of ["00000002.history", "0000000100000016000000B3.partial", "archive_status"]) {
      expect(parseSegmentFileName(name)).toBeUndefined();
    }
    expect(() => parseSegmentFileName("000000010000001600000100")).toThrow(MalformedInput);
    expect(() => parseSegmentFileName("000000000000001600000001")).toThrow(MalformedInput);
  });
});

describe("a segment with one record", () => {
  const dirs: string[] = [];
  afterAll(() => {
    for (const dir of dirs) fs.rmSync(dir, { recursive: true, force: true });
  });

  const places: readonly (readonly [where: string, at: number, files: number])[] = [
    ["in the middle of a page", 0x5_0000_2148, 1],
    ["in the first page", 0x5_0000_0148, 1],
    ["right behind a page header", 0x5_0000_2018, 1],
    ["at a page's start", 0x5_0000_4000, 1],
    ["at a segment's start", 0x5_0000_0000, 1],
    ["across a page end", 0x5_0000_4000 - 40, 1],
    ["with 8 bytes left on its page", 0x5_0000_4000 - 8, 1],
    ["across a segment end", 0x5_0100_0000 - 64, 2],
  ];

  test.each(places)("%s is read by our decoder and by pg_waldump", async (_where, at, count) => {
    const record = buildRecord(
      { rmid: 0, info: 0x20, main: new Uint8Array(88).fill(7) },
      previous,
      identity.format,
    );
    const { files, start, end } = segmentsWithRecord(record, Lsn.of(at), identity);
    expect(files.map((f) => f.bytes.length)).toEqual(new Array(count).fill(WAL_SEGMENT_BYTES));
    const whole = Buffer.concat(files.map((f) => f.bytes));
    const result = decodeAll(
      { version: 15, start: Lsn.of(at), tli: 3, systemId: 7_654_321n, atEnd: "stop" },
      whole.subarray(at % WAL_SEGMENT_BYTES, (at % WAL_SEGMENT_BYTES) + 3 * WAL_PAGE_BYTES),
    );
    expect(result.records).toMatchObject([
      {
        startLsn: start,
        endLsn: end,
        prevLsn: previous,
        bytes: Buffer.from(record).toString("hex"),
      },
    ]);

    const dir = postgresTempDir();
    dirs.push(dir);
    for (const file of files) fs.writeFileSync(path.join(dir, file.name), file.bytes);
    giveToPostgres(dir);
    const args = ["-p", dir, "-t", "3", "-s", Lsn.format(start), "-n", "1"];
    const printed = await runPg("pg_waldump", args);
    expect(printed).toMatch(
      /rmgr: XLOG +len \(rec\/tot\): +114\/ +114, .*prev 3\/000000FF, desc: NOOP/,
    );
    const [high, low] = Lsn.format(start).split("/");
    expect(printed).toContain(`lsn: ${high}/${low!.padStart(8, "0")}`);
  });

  test("records laid out one behind another are one stream", () => {
    const sizes = fc.array(fc.nat(20_000), { minLength: 1, maxLength: 6 });
    const offsets = fc.nat(WAL_PAGE_BYTES / 8 - 1).map((n) => n * 8);
    fc.assert(
      fc.property(sizes, offsets, (lengths, offset) => {
        const begin = Lsn.of(0x5_00ff_a000 + Math.max(offset, 24));
        let at = begin;
        let prev = previous;
        const parts = lengths.map((length) => {
          const record = buildRecord(
            { rmid: 10, info: 0, main: new Uint8Array(length) },
            prev,
            identity.format,
          );
          const laid = layOutRecord(record, at, identity);
          prev = laid.start;
          at = laid.end;
          return laid;
        });
        const { error, records } = decodeAll(
          { version: 15, start: begin },
          Buffer.concat(parts.map((p) => p.bytes)),
        );
        expect(error).toBeUndefined();
        expect(records.map((r) => [r.startLsn, r.endLsn])).toEqual(
          parts.map((p) => [p.start, p.end]),
        );
      }),
      { numRuns: 50 },
    );
  });
});
