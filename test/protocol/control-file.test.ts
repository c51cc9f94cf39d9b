import fs from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

import { MalformedInput } from "../../src/core/assert.ts";
import { Lsn } from "../../src/core/lsn.ts";
import {
  CONTROL_FILE_BYTES,
  DB_STATE,
  buildCheckPoint,
  buildControlFile,
  readCheckPoint,
  readControlFile,
} from "../../src/protocol/control-file.ts";
import { type TestPostgres, runPg, startPostgres } from "../support/postgres.ts";

let pg: TestPostgres;
let bytes: Uint8Array;

beforeAll(async () => {
  pg = await startPostgres({ start: false, initdbArgs: ["--data-checksums"] });
  bytes = fs.readFileSync(path.join(pg.dataDir, "global/pg_control"));
});
afterAll(() => pg.cleanup());

test("what is read is what pg_controldata prints", async () => {
  const control = readControlFile(bytes, 15);
  const c = control.checkPointCopy;
  const text = await runPg("pg_controldata", [pg.dataDir]);
  const lines = text.matchAll(/^(.+?): *(.*)$/gm);
  const printed = new Map([...lines].map(([, name, value]) => [name, value]));
  const states = { [DB_STATE.SHUTDOWNED]: "shut down" } as Record<number, string>;
  const wanted: Record<string, unknown> = {
    "pg_control version number": control.controlVersion,
    "Catalog version number": control.catalogVersion,
    "Database system identifier": control.systemId,
    "Database cluster state": states[control.state],
    "Latest checkpoint location": Lsn.format(control.checkPoint),
    "Latest checkpoint's REDO location": Lsn.format(c.redo),
    "Latest checkpoint's TimeLineID": c.tli,
    "Latest checkpoint's PrevTimeLineID": c.previousTli,
    "Latest checkpoint's full_page_writes": c.fullPageWrites ? "on" : "off",
    "Latest checkpoint's NextXID": `0:${c.nextXid}`,
    "Latest checkpoint's NextOID": c.nextOid,
    "Latest checkpoint's NextMultiXactId": c.nextMulti,
    "Latest checkpoint's NextMultiOffset": c.nextMultiOffset,
    "Latest checkpoint's oldestXID": c.oldestXid,
    "Latest checkpoint's oldestXID's DB": c.oldestXidDb,
    "Latest checkpoint's oldestActiveXID": c.oldestActiveXid,
    "Latest checkpoint's oldestMultiXid": c.oldestMulti,
    "Latest checkpoint's oldestMulti's DB": c.oldestMultiDb,
    "Latest checkpoint's oldestCommitTsXid": c.oldestCommitTsXid,
    "Latest checkpoint's newestCommitTsXid": c.newestCommitTsXid,
    "Fake LSN counter for unlogged rels": Lsn.format(control.unloggedLsn),
    "Minimum recovery ending location": Lsn.format(control.minRecoveryPoint),
    "Min recovery ending loc's timeline": control.minRecoveryPointTli,
    "Backup start location": Lsn.format(control.backupStartPoint),
    "Backup end location": Lsn.format(control.backupEndPoint),
    "End-of-backup record required": control.backupEndRequired ? "yes" : "no",
    "wal_level setting": ["minimal", "replica", "logical"][control.walLevel],
    "wal_log_hints setting": control.walLogHints ? "on" : "off",
    "max_connections setting": control.maxConnections,
    "max_worker_processes setting": control.maxWorkerProcesses,
    "max_wal_senders setting": control.maxWalSenders,
    "max_prepared_xacts setting": control.maxPreparedXacts,
    "max_locks_per_xact setting": control.maxLocksPerXact,
    "track_commit_timestamp setting": control.trackCommitTimestamp ? "on" : "off",
    "Maximum data alignment": control.maxAlign,
    "Database block size": control.blockBytes,
    "Blocks per segment of large relation": control.segmentBlocks,
    "WAL block size": control.walPageBytes,
    "Bytes per WAL segment": control.walSegmentBytes,
    "Maximum length of identifiers": control.nameBytes,
    "Maximum columns in an index": control.indexKeysMax,
    "Maximum size of a TOAST chunk": control.toastChunkBytes,
    "Size of a large-object chunk": control.largeObjectBytes,
    "Float8 argument passing": control.float8ByValue ? "by value" : "by reference",
    "Data page checksum version": control.checksumVersion,
    "Mock authentication nonce": Buffer.from(control.nonce).toString("hex"),
  };
  for (const [name, value] of Object.entries(wanted)) {
    expect(printed.get(name), name).toBe(String(value));
  }
  expect(control.floatFormat).toBe(1234567);
  expect(Math.abs(control.time - Date.now() / 1000)).toBeLessThan(3600);
});

test("built again it is the same file, byte for byte", () => {
  expect(bytes.length).toBe(CONTROL_FILE_BYTES);
  const again = buildControlFile(readControlFile(bytes, 15), 15);
  expect(Buffer.compare(again, bytes)).toBe(0);
});

test("another checkpoint position is a file that PostgreSQL's tools accept", async () => {
  const control = readControlFile(bytes, 15);
  const redo = Lsn.parse("12/AABBCC08");
  const moved = {
    ...control,
    checkPoint: redo,
    checkPointCopy: { ...control.checkPointCopy, redo, nextXid: 3 * 2 ** 32 + 77 },
  };
  fs.writeFileSync(path.join(pg.dataDir, "global/pg_control"), buildControlFile(moved, 15));
  const text = await runPg("pg_controldata", [pg.dataDir]);
  expect(text).toContain("12/AABBCC08");
  expect(text).toMatch(/NextXID: +3:77/);
  expect(text).not.toContain("WARNING");
});

test("refusals name what is wrong", () => {
  expect(() => readControlFile(bytes.subarray(0, 200), 15)).toThrow(/200 bytes are too few/);
  expect(() => readControlFile(bytes, 17)).toThrow(/format version 1300, PostgreSQL 17 has 1700/);
  for (const at of [0, 100, 287, 289]) {
    const bad = Uint8Array.from(bytes);
    bad[at]! ^= 4;
    expect(() => readControlFile(bad, 15)).toThrow(/CRC/);
  }
  expect(() => readCheckPoint(new Uint8Array(87), 15)).toThrow(MalformedInput);
  expect(() => readCheckPoint(new Uint8Array(88).fill(0xff), 15)).toThrow(/epoch/);
});

test("17 keeps wal_level in the checkpoint", () => {
  const c = { ...readControlFile(bytes, 15).checkPointCopy, walLevel: 2 };
  expect(readCheckPoint(buildCheckPoint(c, 17), 17)).toEqual(c);
  expect(readCheckPoint(buildCheckPoint(c, 15), 15)).toEqual({ ...c, walLevel: 0 });
});
