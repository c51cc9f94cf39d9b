// The decoder and the readers of record bodies against PostgreSQL itself: a cluster does a bit of
// everything, and what we read of its WAL must be, record for record, what pg_waldump prints.

import fs from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { Arena } from "../../../src/core/arena.ts";
import { Lsn, WAL_SEGMENT_BYTES } from "../../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../../src/core/page.ts";
import { VERSION_FLAG } from "../../../src/core/version.ts";
import type { WalRecord } from "../../../src/core/wal-record.ts";
import {
  isNewPage,
  isPageHeaderSane,
  readPageHeader,
  setPageChecksum,
  stampPageLsn,
} from "../../../src/protocol/page-header.ts";
import { WalDecoder } from "../../../src/protocol/wal/decoder.ts";
import { VM_CLEAR, visibilityCleared } from "../../../src/protocol/wal/heap.ts";
import { restoreImage } from "../../../src/protocol/wal/image.ts";
import { segmentFileName, segmentOf } from "../../../src/protocol/wal/segment.ts";
import { type TestPostgres, runPg, startPostgres } from "../../support/postgres.ts";
import { REQUIRED_KINDS, WORKLOAD, afterRestart } from "../../support/wal-workload.ts";
import { describeRecord } from "../../support/wal-describe.ts";

interface DumpedRecord {
  readonly rmgr: string;
  readonly total: number;
  readonly xid: number;
  readonly lsn: string;
  readonly prev: string;
  readonly kind: string;
  readonly desc: string;
  readonly blocks: string[];
}

const LINE =
  /^rmgr: (\S+) +len \(rec\/tot\): +\d+\/ *(\d+), tx: +(\d+), lsn: (\S+), prev (\S+), desc: (\S+) ?(.*)$/;

const lsnText = (text: string): string => Lsn.format(Lsn.parse(text));

function parseDump(text: string): DumpedRecord[] {
  const records: DumpedRecord[] = [];
  for (const line of text.split("\n")) {
    const match = LINE.exec(line);
    if (match !== null) {
      const [, rmgr, total, xid, lsn, prev, kind, desc] = match as unknown as string[];
      records.push({
        rmgr: rmgr!,
        total: Number(total),
        xid: Number(xid),
        lsn: lsnText(lsn!),
        prev: lsnText(prev!),
        kind: kind!,
        desc: desc!.trimEnd(),
        blocks: [],
      });
    } else if (line.startsWith("\t")) records.at(-1)!.blocks.push(line.trim());
  }
  return records;
}

const FORKS = ["main", "fsm", "vm", "init"];
const METHODS: Readonly<Record<number, string>> = {
  [VERSION_FLAG.PGLZ]: "pglz",
  [VERSION_FLAG.LZ4]: "lz4",
  [VERSION_FLAG.ZSTD]: "zstd",
};

/** Block references as pg_waldump -b prints them. */
function describeBlocks(record: WalRecord): string[] {
  return record.blocks.slice(0, record.blockCount).map((b) => {
    const rel = `rel ${b.spc}/${b.db}/${b.rel} fork ${FORKS[b.fork]} blk ${b.block}`;
    if (!b.hasImage) return `blkref #${b.id}: ${rel}`;
    const verify = b.applyImage ? "" : " for WAL verification";
    const hole = `hole: offset: ${b.holeOffset}, length: ${b.holeLength}`;
    const method = METHODS[b.compression];
    const saved = PAGE_BYTES - b.holeLength - b.imageLength;
    const compressed =
      method === undefined ? "" : `, compression saved: ${saved}, method: ${method}`;
    return `blkref #${b.id}: ${rel} (FPW${verify}); ${hole}${compressed}`;
  });
}

/** The bits of a heap record's flags that are about the visibility map, appended to its description. */
function lowFlags(kind: string, desc: string): string {
  const flags = parseInt(/flags 0x([0-9A-F]{2})/.exec(desc)?.[1] ?? "0", 16);
  return `low flags ${flags & (kind.includes("UPDATE") ? 3 : 1)}`;
}

let pg: TestPostgres;
let wal: Uint8Array;
let dump: DumpedRecord[];
let start: Lsn;
/** Index file path, relative to the data directory, by wal_compression. */
let indexes: Readonly<Record<string, string>>;

beforeAll(async () => {
  pg = await startPostgres({
    initdbArgs: ["--data-checksums"],
    wal: "logical",
    settings: {
      max_prepared_transactions: "5",
      autovacuum: "off",
      wal_keep_size: "1GB",
      checkpoint_timeout: "1h",
    },
  });
  start = Lsn.parse(await pg.sql("select pg_current_wal_lsn()"));
  for (const [db, text] of WORKLOAD) await pg.sql(text, db);
  await pg.pgbench(["-i", "-q", "-s", "1"]);
  await pg.pgbench(["-c", "4", "-t", "50"]);
  indexes = JSON.parse(
    await pg.sql(
      "select json_object_agg(relname, pg_relation_filepath(oid)) from pg_class where relname like 'images_%'",
    ),
  ) as Record<string, string>;
  await pg.stop();
  fs.appendFileSync(path.join(pg.dataDir, "postgresql.conf"), "max_connections = 41\n");
  await pg.start();
  await pg.sql(afterRestart);
  await pg.stop();

  const control = await runPg("pg_controldata", [pg.dataDir]);
  const last = Lsn.parse(/Latest checkpoint location: +(\S+)/.exec(control)![1]!);
  const first = segmentOf(start);
  const count = segmentOf(last) - first + 1;
  const files = Array.from({ length: count }, (_, i) =>
    fs.readFileSync(path.join(pg.dataDir, "pg_wal", segmentFileName(1, first + i))),
  );
  wal = Buffer.concat(files).subarray(start - first * WAL_SEGMENT_BYTES);
  const where = ["-p", path.join(pg.dataDir, "pg_wal"), "-s", Lsn.format(start), "-b"];
  dump = parseDump(await runPg("pg_waldump", [...where, "-e", Lsn.format(Lsn.of(last + 120))]));
});

afterAll(() => pg.cleanup());

function decode(onRecord: (record: WalRecord) => void, piece = 131_072): WalDecoder {
  const decoder = new WalDecoder({
    version: 15,
    start,
    arena: new Arena(),
    onRecord,
    atEnd: "stop",
  });
  for (let at = 0; at < wal.length && !decoder.ended; at += piece) {
    decoder.feed(wal, at, Math.min(wal.length, at + piece));
  }
  return decoder;
}

describe("against pg_waldump", () => {
  test.each([131_072, 8192, 1009])("every record, in pieces of %i bytes", (piece) => {
    const seen: unknown[] = [];
    const decoder = decode((r) => {
      const lsns = { lsn: Lsn.format(Lsn.of(r.startLsn)), prev: Lsn.format(Lsn.of(r.prevLsn)) };
      seen.push({ total: r.length, xid: r.xid, ...lsns, blocks: describeBlocks(r) });
    }, piece);
    expect(decoder.ended).toBe(true);
    const wanted = dump.map(({ total, xid, lsn, prev, blocks }) => ({
      total,
      xid,
      lsn,
      prev,
      blocks,
    }));
    expect(seen.length).toBeGreaterThan(5000);
    expect(seen).toEqual(wanted);
  });

  test("the workload has every kind of record that is read", () => {
    const kinds = new Set(dump.map((r) => `${r.rmgr} ${r.kind.replace("+INIT", "")}`));
    expect(REQUIRED_KINDS.filter((kind) => !kinds.has(kind))).toEqual([]);
  });

  test("the body of every record that is read", () => {
    const wrong: unknown[] = [];
    let checked = 0;
    let cleared = 0;
    let i = 0;
    decode((record) => {
      cleared |= visibilityCleared(record);
      const { rmgr, kind, desc, lsn } = dump[i++]!;
      const parts = describeRecord(record);
      if (parts === undefined) return;
      checked++;
      let rest = `${rmgr} ${kind} ${desc} ${lowFlags(kind, desc)}`;
      for (const part of parts) {
        const at = rest.indexOf(part);
        if (at < 0) wrong.push({ lsn, missing: part, of: `${rmgr} ${kind} ${desc}`.slice(0, 500) });
        rest = rest.slice(Math.max(at, 0) + (at < 0 ? 0 : part.length));
      }
    });
    expect(wrong).toEqual([]);
    expect(checked).toBeGreaterThan(1000);
    expect(cleared).toBe(VM_CLEAR.FIRST | VM_CLEAR.LAST | VM_CLEAR.FIRST_FROZEN);
  });
});

describe("page images", () => {
  test("every image gives a page that PostgreSQL would accept", () => {
    const methods = new Map<number, number>();
    const page = new Uint8Array(PAGE_BYTES);
    decode((r) => {
      for (const b of r.blocks.slice(0, r.blockCount)) {
        if (!b.hasImage) continue;
        const { compression, holeOffset, holeLength, imageStart, imageLength } = b;
        const { bytes } = r.chunk;
        restoreImage(compression, holeOffset, holeLength, bytes, imageStart, imageLength, page, 0);
        expect(isNewPage(page) || isPageHeaderSane(page)).toBe(true);
        methods.set(compression, (methods.get(compression) ?? 0) + 1);
      }
    });
    for (const method of [0, VERSION_FLAG.PGLZ, VERSION_FLAG.LZ4, VERSION_FLAG.ZSTD]) {
      expect(methods.get(method), `images of method ${method}`).toBeGreaterThan(10);
    }
  });

  test.each(["off", "pglz", "lz4", "zstd"])(
    "images of a new index are its file, LSN included, with our checksums (wal_compression=%s)",
    (method) => {
      const relative = indexes[`images_${method}`]!;
      const rel = Number(path.basename(relative));
      const file = fs.readFileSync(path.join(pg.dataDir, relative));
      const restored = new Uint8Array(file.length);
      const covered = new Set<number>();
      decode((r) => {
        for (const b of r.blocks.slice(0, r.blockCount)) {
          if (b.rel !== rel || !b.applyImage) continue;
          const at = b.block * PAGE_BYTES;
          const { bytes } = r.chunk;
          const flags = b.compression | VERSION_FLAG.STAMP_LSN;
          const { holeOffset, holeLength, imageStart, imageLength } = b;
          restoreImage(flags, holeOffset, holeLength, bytes, imageStart, imageLength, restored, at);
          stampPageLsn(restored, at, Lsn.of(r.endLsn));
          covered.add(b.block);
        }
      });
      expect(file.length / PAGE_BYTES).toBeGreaterThan(10);
      expect(covered.size).toBe(file.length / PAGE_BYTES);
      for (let at = 0; at < file.length; at += PAGE_BYTES) {
        const checksummed = file.slice(at, at + PAGE_BYTES);
        setPageChecksum(checksummed, 0, at / PAGE_BYTES);
        expect(Buffer.compare(checksummed, file.subarray(at, at + PAGE_BYTES))).toBe(0);
        // What lies between pd_lower and pd_upper is not logged: a deleted line pointer may remain.
        const { lower, upper } = readPageHeader(file, at);
        file.fill(0, at + lower, at + upper);
        setPageChecksum(file, at, 0);
        setPageChecksum(restored, at, 0);
      }
      expect(Buffer.compare(restored, file)).toBe(0);
    },
  );
});
