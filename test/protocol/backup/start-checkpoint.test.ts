// The synthesised checkpoint at every interesting position of L, read back by the WAL decoder.

import { describe, expect, test } from "vitest";
import { Arena } from "../../../src/core/arena.ts";
import { Lsn, WAL_PAGE_BYTES, WAL_SEGMENT_BYTES } from "../../../src/core/lsn.ts";
import {
  type StartPoint,
  checkpointEnd,
  segmentsWith,
  startPoint,
} from "../../../src/protocol/backup/start-checkpoint.ts";
import {
  type CheckPoint,
  DB_STATE,
  readCheckPoint,
  readControlFile,
} from "../../../src/protocol/control-file.ts";
import { WalDecoder } from "../../../src/protocol/wal/decoder.ts";
import { walFormat } from "../../../src/protocol/wal/format.ts";
import { CHECKPOINT, CONTROL } from "../../support/control.ts";

const start = (lsn: number, tli = 1): StartPoint =>
  startPoint({
    version: 15,
    lsn: Lsn.of(lsn),
    prevLsn: Lsn.of(lsn - 56),
    tli,
    control: CONTROL,
    checkpoint: CHECKPOINT,
    timeS: 1_700_000_000,
  });

/** The files as one stretch of WAL from the first segment's start. */
function walOf(point: StartPoint): { readonly from: Lsn; readonly bytes: Uint8Array } {
  const bytes = new Uint8Array(point.segments.length * WAL_SEGMENT_BYTES);
  point.segments.forEach((segment, i) => {
    for (const [offset, part] of segment.parts) bytes.set(part, i * WAL_SEGMENT_BYTES + offset);
  });
  return { from: point.segments[0]!.start, bytes };
}

interface Found {
  readonly startLsn: number;
  readonly endLsn: number;
  readonly prevLsn: number;
  readonly checkpoint: CheckPoint;
}

function decode(point: StartPoint, lsn: number, tli: number): Found {
  const { from, bytes } = walOf(point);
  const found: Found[] = [];
  const decoder = new WalDecoder({
    version: 15,
    start: Lsn.of(lsn),
    arena: new Arena(),
    systemId: CONTROL.systemId,
    tli,
    atEnd: "stop",
    onRecord: (r) => {
      expect([r.rmid, r.info, r.xid, r.length]).toEqual([0, 0, 0, 114]);
      const main = r.chunk.bytes.slice(r.mainStart, r.mainStart + r.mainLength);
      const { startLsn, endLsn, prevLsn } = r;
      found.push({ startLsn, endLsn, prevLsn, checkpoint: readCheckPoint(main, 15) });
    },
  });
  decoder.feed(bytes, lsn - from);
  expect(found.length).toBe(1);
  return found[0]!;
}

const PAGE = 3 * WAL_SEGMENT_BYTES + 5 * WAL_PAGE_BYTES;
const SEGMENT = 4 * WAL_SEGMENT_BYTES;
const beforeEnd = (end: number): number[] => Array.from({ length: 17 }, (_, i) => end - 8 * i);

describe("the checkpoint a compute starts from", () => {
  test.each([PAGE + 4000, PAGE + 24, ...beforeEnd(PAGE), ...beforeEnd(SEGMENT), SEGMENT + 40])(
    "L = %d",
    (lsn) => {
      const point = start(lsn, 3);
      const found = decode(point, lsn, 3);
      expect(found.startLsn).toBe(Lsn.normalize(Lsn.of(lsn)));
      expect(found.startLsn).toBe(point.lsn);
      expect(found.endLsn).toBe(checkpointEnd(point.lsn));
      expect(found.prevLsn).toBe(lsn - 56);
      expect(found.checkpoint).toEqual({
        ...CHECKPOINT,
        redo: point.lsn,
        tli: 3,
        previousTli: 3,
        time: 1_700_000_000,
        oldestCommitTsXid: 0,
        newestCommitTsXid: 0,
        oldestActiveXid: 0,
      });
      expect(point.checkpoint).toEqual(found.checkpoint);
      // A second file exactly when the record crosses the segment's end.
      const crosses = lsn < SEGMENT && lsn + 114 > SEGMENT;
      expect(point.segments.length).toBe(crosses ? 2 : 1);
    },
  );

  test("pg_control points at it, says shut down, and keeps the rest", () => {
    const point = start(PAGE + 4000);
    const control = readControlFile(point.control, 15);
    expect(control).toEqual({
      ...CONTROL,
      state: DB_STATE.SHUTDOWNED,
      time: 1_700_000_000,
      checkPoint: PAGE + 4000,
      checkPointCopy: point.checkpoint,
      minRecoveryPoint: 0,
      minRecoveryPointTli: 0,
      backupStartPoint: 0,
      backupEndPoint: 0,
      backupEndRequired: false,
    });
  });

  test("no record is put into a page header", () => {
    const identity = { format: walFormat(15), tli: 1, systemId: CONTROL.systemId };
    for (const lsn of [PAGE, PAGE + 16, SEGMENT, SEGMENT + 32, PAGE + 4001]) {
      expect(() => segmentsWith(new Uint8Array(114), Lsn.of(lsn), identity)).toThrow("can start");
    }
  });
});
