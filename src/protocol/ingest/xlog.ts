// XLOG and STANDBY records: counters of the checkpoint, settings in pg_control (xlog_redo of xlog.c,
// standby_redo of standby.c).

import { assert } from "../../core/assert.ts";
import { KIND } from "../../core/key.ts";
import type { WalRecord } from "../../core/wal-record.ts";
import { buildControlFile, readControlFile } from "../control-file.ts";
import { INFO_RMGR_MASK } from "../wal/format.ts";
import { STANDBY, XLOG } from "../wal/rmgr.ts";
import {
  readCheckpointRecord,
  readEndOfRecovery,
  readFpwChange,
  readNextOid,
  readParameterChange,
  readRunningXacts,
} from "../wal/xlog.ts";
import { precedes } from "./checkpoint-state.ts";
import { type IngestContext, UnsupportedWal } from "./context.ts";

const TWO_32 = 4_294_967_296;

export function onXlog(context: IngestContext, record: WalRecord): void {
  const { checkpoint, version } = context;
  switch (record.info & INFO_RMGR_MASK) {
    case XLOG.CHECKPOINT_SHUTDOWN: {
      const shutdown = readCheckpointRecord(record, version);
      checkTimeline(context, record, shutdown.tli);
      checkpoint.takeShutdown(shutdown, oldestPrepared(context, shutdown.nextXid % TWO_32));
      return;
    }
    case XLOG.CHECKPOINT_ONLINE: {
      const online = readCheckpointRecord(record, version);
      checkTimeline(context, record, online.tli);
      checkpoint.takeOnline(online);
      return;
    }
    case XLOG.NEXTOID:
      checkpoint.set("nextOid", readNextOid(record));
      return;
    case XLOG.FPW_CHANGE:
      checkpoint.set("fullPageWrites", readFpwChange(record));
      return;
    case XLOG.PARAMETER_CHANGE:
      return changeParameters(context, record);
    case XLOG.END_OF_RECOVERY:
      return checkTimeline(context, record, readEndOfRecovery(record).tli);
    default:
      // SWITCH, NOOP, RESTORE_POINT, BACKUP_END, OVERWRITE_CONTRECORD: nothing. FPI: its pages.
      return;
  }
}

function checkTimeline(context: IngestContext, record: WalRecord, tli: number): void {
  const { checkpoint } = context;
  if (tli === checkpoint.tli) return;
  throw new UnsupportedWal(
    record,
    `the server was promoted from timeline ${checkpoint.tli} to ${tli}; following a promotion is ` +
      `not supported yet: take a new base backup of it`,
  );
}

/** After a shutdown only prepared transactions run. */
function oldestPrepared(context: IngestContext, nextXid: number): number {
  const { groups } = context.sink;
  let oldest = nextXid;
  context.meta.list(KIND.TWO_PHASE, undefined, undefined, (group) => {
    const xid = groups.group(group).c;
    if (precedes(xid, oldest)) oldest = xid;
  });
  return oldest;
}

/** Settings that a standby must know are kept in pg_control. */
function changeParameters(context: IngestContext, record: WalRecord): void {
  const { sink, version } = context;
  const group = sink.groups.id(KIND.CONTROL, 0, 0, 0, 0);
  const stored = context.meta.value(group, 0);
  assert(stored !== undefined, "a timeline has a pg_control");
  const control = { ...readControlFile(stored, version), ...readParameterChange(record) };
  sink.putValue(group, 0, record.endLsn, buildControlFile(control, version));
}

export function onStandby(context: IngestContext, record: WalRecord): void {
  if ((record.info & INFO_RMGR_MASK) !== STANDBY.RUNNING_XACTS) return;
  const { nextXid, oldestRunningXid } = readRunningXacts(record);
  context.checkpoint.sawXid((nextXid - 1) >>> 0);
  context.checkpoint.set("oldestActiveXid", oldestRunningXid);
}
