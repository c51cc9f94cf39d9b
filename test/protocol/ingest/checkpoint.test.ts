// Checkpoint records: counters, parameters, promotions.

import { describe, expect, test } from "vitest";

import { LSN_MAX, Lsn } from "../../../src/core/lsn.ts";
import {
  CHECKPOINT_BYTES,
  type ControlFile,
  buildCheckPoint,
  buildControlFile,
  readControlFile,
} from "../../../src/protocol/control-file.ts";
import { UnsupportedWal } from "../../../src/protocol/ingest/context.ts";
import { RM, XLOG } from "../../../src/protocol/wal/rmgr.ts";
import type { RecordSpec } from "../../../src/protocol/wal/writer.ts";
import { FIRST_CHECKPOINT, Harness, at, main, plainEnd } from "./model.ts";

describe("checkpoint", () => {
  const checkpointRecord = (
    info: number,
    fields: Partial<typeof FIRST_CHECKPOINT>,
  ): RecordSpec => ({
    rmid: RM.XLOG,
    info,
    main: buildCheckPoint({ ...FIRST_CHECKPOINT, ...fields }, 15),
  });

  test("counters come from their records, and from shutdown checkpoints exactly", () => {
    const h = new Harness();
    h.add({ rmid: RM.XLOG, info: XLOG.NEXTOID, main: main(24_576) });
    h.add({ rmid: RM.XLOG, info: XLOG.FPW_CHANGE, main: Uint8Array.of(0) });
    expect(h.checkpoint()).toMatchObject({ nextOid: 24_576, fullPageWrites: false });
    h.add(plainEnd(0, 750));
    h.add(
      checkpointRecord(XLOG.CHECKPOINT_SHUTDOWN, { nextXid: 760, nextOid: 20_000, nextMulti: 9 }),
    );
    const next = { nextXid: 760, nextOid: 20_000, nextMulti: 9, oldestActiveXid: 760 };
    expect(h.checkpoint()).toMatchObject(next);
    // Only the oldest multixact may be ahead of the record, after a truncation.
    h.add({ rmid: RM.MULTIXACT, info: 0x30, main: main(5, 1, 8, 0, 0) });
    h.add(checkpointRecord(XLOG.CHECKPOINT_SHUTDOWN, { nextXid: 760, oldestMulti: 2 }));
    expect(h.checkpoint()).toMatchObject({ oldestMulti: 8, oldestMultiDb: 5 });
  });

  test("an online checkpoint raises, never lowers, and leaves nextOid alone", () => {
    const h = new Harness({ nextXid: 5_000, nextMulti: 50, oldestXid: 300, nextOid: 7 });
    const redo = Lsn.of(0x1000_0050);
    h.add(
      checkpointRecord(XLOG.CHECKPOINT_ONLINE, { redo, nextXid: 4_000, nextMulti: 40, time: 77 }),
    );
    const kept = { nextXid: 5_000, nextMulti: 50, oldestXid: 300, nextOid: 7 };
    expect(h.checkpoint()).toMatchObject({ ...kept, time: 77, redo });
    h.add(
      checkpointRecord(XLOG.CHECKPOINT_ONLINE, { nextXid: 6_000, oldestXid: 400, oldestXidDb: 5 }),
    );
    expect(h.checkpoint()).toMatchObject({ nextXid: 6_000, oldestXid: 400, oldestXidDb: 5 });
  });

  test("after a shutdown the oldest active transaction is a prepared one", () => {
    const h = new Harness();
    h.store.putValue(h.id(at.twoPhase(650)), 0, h.wal.end, new Uint8Array(80));
    h.add(checkpointRecord(XLOG.CHECKPOINT_SHUTDOWN, { nextXid: 760 }));
    expect(h.checkpoint().oldestActiveXid).toBe(650);
  });

  test("a promotion is refused with a sentence", () => {
    const records = [
      { rmid: RM.XLOG, info: XLOG.END_OF_RECOVERY, main: main(0, 0, 2, 1) },
      checkpointRecord(XLOG.CHECKPOINT_SHUTDOWN, { tli: 2 }),
    ];
    for (const spec of records) {
      const h = new Harness();
      expect(() => h.add(spec)).toThrow(UnsupportedWal);
      expect(() => new Harness().add(spec)).toThrow(/promoted from timeline 1 to 2/);
    }
    new Harness().add({ rmid: RM.XLOG, info: XLOG.END_OF_RECOVERY, main: main(0, 0, 1, 1) });
  });

  test("changed parameters are written to pg_control", () => {
    const h = new Harness();
    const control: ControlFile = {
      ...({} as ControlFile),
      systemId: 5n,
      controlVersion: 1300,
      catalogVersion: 202209061,
      state: 6,
      time: 1,
      checkPoint: Lsn.of(40),
      checkPointCopy: FIRST_CHECKPOINT,
      nonce: new Uint8Array(32),
      maxAlign: 8,
    };
    const bytes = buildControlFile(control, 15);
    h.store.putValue(h.id(at.control), 0, h.wal.end, bytes);
    const change = main(200, 9, 11, 3, 128, 2, Uint8Array.of(1, 1, 0, 0));
    h.add({ rmid: RM.XLOG, info: XLOG.PARAMETER_CHANGE, main: change });
    const outcome = h.store.read(at.control, 0, LSN_MAX);
    if (outcome.kind !== "value") throw new Error(outcome.kind);
    expect(readControlFile(outcome.value, 15)).toEqual({
      ...readControlFile(bytes, 15),
      maxConnections: 200,
      maxWorkerProcesses: 9,
      maxWalSenders: 11,
      maxPreparedXacts: 3,
      maxLocksPerXact: 128,
      walLevel: 2,
      walLogHints: true,
      trackCommitTimestamp: true,
    });
  });

  test("a checkpoint struct of wrong length is refused", () => {
    const spec = { rmid: RM.XLOG, info: 0, main: new Uint8Array(CHECKPOINT_BYTES - 1) };
    expect(() => new Harness().add(spec)).toThrow(/checkpoint/i);
  });
});
