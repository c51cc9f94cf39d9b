// Record bodies that a short workload does not make PostgreSQL write, versions other than 15, and
// the law that no reader reads past a body. Everything else: postgres.test.ts.

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Arena } from "../../../src/core/arena.ts";
import { Lsn } from "../../../src/core/lsn.ts";
import type { WalRecord } from "../../../src/core/wal-record.ts";
import { ByteWriter } from "../../../src/protocol/bytes.ts";
import { type PgVersion, WalCorrupt } from "../../../src/protocol/wal/format.ts";
import { VM_CLEAR, visibilityCleared, visibilitySet } from "../../../src/protocol/wal/heap.ts";
import { emptyWalRecord } from "../../../src/protocol/wal/record.ts";
import { HEAP, HEAP2, RM, XACT } from "../../../src/protocol/wal/rmgr.ts";
import {
  readClogTruncate,
  readMultixactCreate,
  readMultixactTruncate,
  readSlruZeroPage,
} from "../../../src/protocol/wal/slru.ts";
import {
  readDbase,
  readRelmapUpdate,
  readSmgrCreate,
  readSmgrTruncate,
} from "../../../src/protocol/wal/storage.ts";
import {
  isPlainXactEnd,
  readXactEnd,
  readXactPrepare,
  xactTime,
} from "../../../src/protocol/wal/xact.ts";
import {
  readBackupEnd,
  readCheckpointRecord,
  readEndOfRecovery,
  readFpwChange,
  readLogicalMessage,
  readNextOid,
  readParameterChange,
  readReplOrigin,
  readRestorePoint,
  readRunningXacts,
} from "../../../src/protocol/wal/xlog.ts";

/** A record with this body, at the very end of its memory: reading past it would throw a RangeError. */
function recordOf(main: Uint8Array, rmid = 0, info = 0): WalRecord {
  const arena = new Arena();
  arena.reserve(8192);
  const { chunk } = arena;
  const record = emptyWalRecord(chunk);
  record.mainStart = chunk.bytes.length - main.length;
  record.mainLength = main.length;
  record.startLsn = Lsn.parse("0/1000028");
  record.rmid = rmid;
  record.info = info;
  chunk.bytes.set(main, record.mainStart);
  return record;
}

const w = (): ByteWriter => new ByteWriter();

describe("bodies", () => {
  test("page numbers are 64 bits wide from 17 on", () => {
    const zero15 = recordOf(w().u32le(7).done());
    expect(readSlruZeroPage(zero15, 15)).toBe(7);
    const zero17 = recordOf(w().u32le(7).u32le(1).done());
    expect(readSlruZeroPage(zero17, 17)).toBe(7 + 2 ** 32);
    expect(() => readSlruZeroPage(zero15, 17)).toThrow(
      "WAL at 0/1000028: SLRU zero page: need 4 bytes at 4, have 0",
    );
    const truncate15 = recordOf(w().u32le(32).u32le(1_048_600).u32le(5).done());
    const truncated = { page: 32, oldestXid: 1_048_600, oldestXidDb: 5 };
    expect(readClogTruncate(truncate15, 15)).toEqual(truncated);
    const truncate17 = recordOf(w().u32le(32).u32le(0).u32le(1_048_600).u32le(5).done());
    expect(readClogTruncate(truncate17, 17)).toEqual(truncated);
  });

  test("multixact truncate", () => {
    const record = recordOf(w().u32le(5).u32le(1).u32le(70_000).u32le(2).u32le(90_000).done());
    expect(readMultixactTruncate(record)).toEqual({
      oldestMultiDb: 5,
      startOffset: 1,
      endOffset: 70_000,
      startMember: 2,
      endMember: 90_000,
    });
  });

  test("end of recovery", () => {
    const record = recordOf(w().u32le(5).u32le(1).u32le(2).u32le(1).done());
    expect(readEndOfRecovery(record)).toEqual({ time: 5 + 2 ** 32, tli: 2, previousTli: 1 });
  });

  test("databases before 15 are always copied, and dropped by another code", () => {
    const create = w().u32le(9).u32le(1663).u32le(1).u32le(1663).done();
    const copied = { kind: "create-file-copy", db: 9, spc: 1663, sourceDb: 1, sourceSpc: 1663 };
    expect(readDbase(recordOf(create, RM.DBASE, 0), 14)).toEqual(copied);
    const drop = w().u32le(9).u32le(2).u32le(1663).u32le(20).done();
    const dropped = { kind: "drop", db: 9, spcs: [1663, 20] };
    expect(readDbase(recordOf(drop, RM.DBASE, 0x10), 14)).toEqual(dropped);
    expect(readDbase(recordOf(drop, RM.DBASE, 0x20), 15)).toEqual(dropped);
    expect(() => readDbase(recordOf(drop, RM.DBASE, 0x30), 15)).toThrow("unknown database record");
  });

  test("a prepared transaction has two counts fewer before 15", () => {
    for (const version of [14, 15] as const) {
      const out = w().u32le(0x57f94534).u32le(200).u32le(800).u32le(5).u64le(77n).u32le(10);
      out.u32le(1).u32le(1).u32le(0);
      if (version >= 15) out.zeros(8);
      out.u32le(0).u16le(0).u16le(4).u64le(0n).u64le(0n);
      out.raw(Uint8Array.from([97, 58, 98, 0, 0, 0, 0, 0]));
      out.u32le(801).zeros(4).u32le(1663).u32le(5).u32le(16_400).zeros(4);
      expect(readXactPrepare(recordOf(out.done().slice()), version)).toEqual({
        xid: 800,
        db: 5,
        preparedAt: 77,
        gid: "a:b",
        subxids: [801],
        commitRelations: [{ spc: 1663, db: 5, rel: 16_400 }],
        abortRelations: [],
        originLsn: 0,
        originTime: 0,
      });
    }
  });

  test("an origin behind a GID of odd length is read where it is", () => {
    const out = w()
      .u64le(1_000n)
      .u32le((1 << 4) | (1 << 5) | (1 << 7));
    out.u32le(901).cstring("ab").u64le(0x1_0000_0008n).u64le(555n);
    const record = recordOf(out.done().slice(), RM.XACT, 0x80 | XACT.COMMIT_PREPARED);
    expect(isPlainXactEnd(record)).toBe(false);
    expect(readXactEnd(record)).toMatchObject({
      committed: true,
      prepared: true,
      xid: 901,
      gid: "ab",
      originLsn: 2 ** 32 + 8,
      originTime: 555,
    });
  });

  test("visibility bits by operation", () => {
    const body = (length: number, flagsAt: number, flags: number): Uint8Array => {
      const bytes = new Uint8Array(length).fill(0xf0);
      bytes[flagsAt] = flags;
      return bytes;
    };
    const of = (rmid: number, info: number, main: Uint8Array): number =>
      visibilityCleared(recordOf(main, rmid, info));
    const { FIRST, LAST, FIRST_FROZEN, NOTHING } = VM_CLEAR;
    expect(of(RM.HEAP, HEAP.INSERT | 0x80, body(3, 2, 1))).toBe(FIRST);
    expect(of(RM.HEAP, HEAP.INSERT, body(3, 2, 0xfe))).toBe(NOTHING);
    expect(of(RM.HEAP, HEAP.DELETE, body(8, 7, 1))).toBe(FIRST);
    expect(of(RM.HEAP, HEAP.UPDATE, body(14, 7, 1))).toBe(LAST);
    expect(of(RM.HEAP, HEAP.HOT_UPDATE, body(14, 7, 2))).toBe(FIRST);
    expect(of(RM.HEAP, HEAP.UPDATE, body(14, 7, 3))).toBe(FIRST | LAST);
    expect(of(RM.HEAP, HEAP.LOCK, body(8, 7, 1))).toBe(FIRST_FROZEN);
    expect(of(RM.HEAP2, HEAP2.LOCK_UPDATED, body(8, 7, 1))).toBe(FIRST_FROZEN);
    expect(of(RM.HEAP2, HEAP2.MULTI_INSERT, body(6, 0, 1))).toBe(FIRST);
    expect(of(RM.HEAP2, HEAP2.PRUNE, body(8, 0, 1))).toBe(NOTHING);
    expect(of(RM.BTREE, 0, body(8, 0, 1))).toBe(NOTHING);
    expect(visibilitySet(recordOf(body(5, 4, 3)))).toBe(3);
    expect(() => of(RM.HEAP, HEAP.DELETE, body(7, 0, 1))).toThrow(WalCorrupt);
  });
});

const VERSIONS: readonly PgVersion[] = [14, 15, 17];
const READERS: readonly ((record: WalRecord, version: PgVersion) => unknown)[] = [
  readBackupEnd,
  readCheckpointRecord,
  readClogTruncate,
  readDbase,
  readEndOfRecovery,
  readFpwChange,
  readLogicalMessage,
  readMultixactCreate,
  readMultixactTruncate,
  readNextOid,
  readParameterChange,
  readRelmapUpdate,
  readReplOrigin,
  readRestorePoint,
  readRunningXacts,
  readSlruZeroPage,
  readSmgrCreate,
  readSmgrTruncate,
  readXactEnd,
  readXactPrepare,
  visibilitySet,
  xactTime,
];

test("no reader reads past a body, whatever it claims", () => {
  const bodies = fc.array(fc.oneof(fc.constantFrom(0, 1, 2, 255), fc.nat(255)), { maxLength: 120 });
  fc.assert(
    fc.property(bodies, fc.nat(255), fc.constantFrom(...READERS), (bytes, info, read) => {
      for (const version of VERSIONS) {
        try {
          read(recordOf(Uint8Array.from(bytes), RM.XACT, info), version);
        } catch (error) {
          // The CheckPoint reader is pg_control's too and knows no LSN; its epoch can be out of range.
          if (read !== readCheckpointRecord) expect(error).toBeInstanceOf(WalCorrupt);
        }
      }
    }),
    { numRuns: 400 },
  );
});
