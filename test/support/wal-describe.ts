// What our readers make of a record's body, in pg_waldump's words, so that the two can be compared.

import { Lsn } from "../../src/core/lsn.ts";
import type { WalRecord } from "../../src/core/wal-record.ts";
import type { RelNode } from "../../src/protocol/wal/payload.ts";
import { INFO_RMGR_MASK } from "../../src/protocol/wal/format.ts";
import { VM_CLEAR, visibilityCleared, visibilitySet } from "../../src/protocol/wal/heap.ts";
import {
  CLOG,
  HEAP,
  HEAP2,
  MULTIXACT,
  OPERATION_MASK,
  RM,
  SMGR,
  STANDBY,
  XACT,
  XLOG,
} from "../../src/protocol/wal/rmgr.ts";
import {
  readClogTruncate,
  readMultixactCreate,
  readMultixactTruncate,
  readSlruZeroPage,
} from "../../src/protocol/wal/slru.ts";
import {
  readDbase,
  readRelmapUpdate,
  readSmgrCreate,
  readSmgrTruncate,
} from "../../src/protocol/wal/storage.ts";
import {
  isPlainXactEnd,
  isXactEnd,
  readXactEnd,
  readXactPrepare,
  xactTime,
} from "../../src/protocol/wal/xact.ts";
import {
  readBackupEnd,
  readCheckpointRecord,
  readFpwChange,
  readLogicalMessage,
  readNextOid,
  readParameterChange,
  readReplOrigin,
  readRestorePoint,
  readRunningXacts,
} from "../../src/protocol/wal/xlog.ts";

const PG_EPOCH_MS = Date.UTC(2000, 0, 1);
const FORK_SUFFIX = ["", "_fsm", "_vm", "_init"];
const STATUS = ["keysh", "sh", "fornokeyupd", "forupd", "nokeyupd", "upd"];
const LEVELS = ["minimal", "replica", "logical"];

function time(us: number): string {
  const date = new Date(PG_EPOCH_MS + Math.floor(us / 1000)).toISOString();
  const micros = String(us % 1_000_000).padStart(6, "0");
  return `${date.slice(0, 10)} ${date.slice(11, 19)}.${micros} UTC`;
}

const relPath = ({ spc, db, rel }: RelNode, fork = 0): string =>
  (spc === 1664 ? `global/${rel}` : `base/${db}/${rel}`) + FORK_SUFFIX[fork];
const list = (label: string, items: readonly (string | number)[]): string[] =>
  items.length === 0 ? [] : [`; ${label}: ${items.join(" ")}`];
const rels = (label: string, items: readonly RelNode[]): string[] =>
  list(
    label,
    items.map((r) => relPath(r)),
  );
const onOff = (v: boolean): string => (v ? "on" : "off");

/** Texts that must occur in pg_waldump's "rmgr kind description", in this order; undefined: not read by us. */
export function describeRecord(record: WalRecord): readonly string[] | undefined {
  const info = record.info & INFO_RMGR_MASK;
  switch (record.rmid) {
    case RM.XLOG:
      return describeXlog(record, info);
    case RM.XACT:
      return describeXact(record);
    case RM.SMGR:
      if (info === SMGR.CREATE) {
        const create = readSmgrCreate(record);
        return [`Storage CREATE ${relPath(create, create.fork)}`];
      } else {
        const { blocks, flags, ...rel } = readSmgrTruncate(record);
        return [`Storage TRUNCATE ${relPath(rel)} to ${blocks} blocks flags ${flags}`];
      }
    case RM.CLOG: {
      if (info === CLOG.ZEROPAGE) return [`CLOG ZEROPAGE page ${readSlruZeroPage(record, 15)}`];
      const { page, oldestXid } = readClogTruncate(record, 15);
      return [`CLOG TRUNCATE page ${page}; oldestXact ${oldestXid}`];
    }
    case RM.DBASE:
      return [describeDbase(record)];
    case RM.MULTIXACT:
      return [describeMultixact(record, info)];
    case RM.RELMAP: {
      const { db, spc, map } = readRelmapUpdate(record);
      return [`RelMap UPDATE database ${db} tablespace ${spc} size ${map.length}`];
    }
    case RM.STANDBY:
      return info === STANDBY.RUNNING_XACTS ? [describeRunning(record)] : undefined;
    case RM.HEAP:
    case RM.HEAP2:
      return describeHeap(record);
    case RM.REPLORIGIN: {
      const origin = readReplOrigin(record);
      if (origin.kind === "drop") return [`ReplicationOrigin DROP drop ${origin.id}`];
      const { id, remoteLsn, force } = origin;
      return [`SET set ${id}; lsn ${Lsn.format(remoteLsn)}; force: ${force ? 1 : 0}`];
    }
    case RM.LOGICALMSG: {
      const { transactional, prefix, message } = readLogicalMessage(record);
      const kind = transactional ? "transactional" : "non-transactional";
      const bytes = [...message].map((b) => b.toString(16).toUpperCase().padStart(2, "0"));
      const payload = `payload (${message.length} bytes):`;
      return [`LogicalMessage MESSAGE ${kind}, prefix "${prefix}"; ${payload}`, bytes.join(" ")];
    }
    default:
      return undefined;
  }
}

function describeXlog(record: WalRecord, info: number): string[] | undefined {
  switch (info) {
    case XLOG.CHECKPOINT_SHUTDOWN:
    case XLOG.CHECKPOINT_ONLINE: {
      const c = readCheckpointRecord(record, 15);
      const epoch = Math.floor(c.nextXid / 2 ** 32);
      return [
        `redo ${Lsn.format(c.redo)}; tli ${c.tli}; prev tli ${c.previousTli}; ` +
          `fpw ${c.fullPageWrites}; xid ${epoch}:${c.nextXid % 2 ** 32}; oid ${c.nextOid}; ` +
          `multi ${c.nextMulti}; offset ${c.nextMultiOffset}; ` +
          `oldest xid ${c.oldestXid} in DB ${c.oldestXidDb}; ` +
          `oldest multi ${c.oldestMulti} in DB ${c.oldestMultiDb}; ` +
          `oldest/newest commit timestamp xid: ${c.oldestCommitTsXid}/${c.newestCommitTsXid}; ` +
          `oldest running xid ${c.oldestActiveXid}; `,
      ];
    }
    case XLOG.NEXTOID:
      return [`XLOG NEXTOID ${readNextOid(record)}`];
    case XLOG.BACKUP_END:
      return [`XLOG BACKUP_END ${Lsn.format(readBackupEnd(record))}`];
    case XLOG.RESTORE_POINT:
      return [`XLOG RESTORE_POINT ${readRestorePoint(record).name}`];
    case XLOG.FPW_CHANGE:
      return [`XLOG FPW_CHANGE ${readFpwChange(record)}`];
    case XLOG.PARAMETER_CHANGE: {
      const p = readParameterChange(record);
      return [
        `max_connections=${p.maxConnections} max_worker_processes=${p.maxWorkerProcesses} ` +
          `max_wal_senders=${p.maxWalSenders} max_prepared_xacts=${p.maxPreparedXacts} ` +
          `max_locks_per_xact=${p.maxLocksPerXact} wal_level=${LEVELS[p.walLevel]} ` +
          `wal_log_hints=${onOff(p.walLogHints)} ` +
          `track_commit_timestamp=${onOff(p.trackCommitTimestamp)}`,
      ];
    }
    default:
      return undefined;
  }
}

function describeXact(record: WalRecord): string[] | undefined {
  if (isXactEnd(record)) {
    const x = readXactEnd(record);
    if (isPlainXactEnd(record) && (x.xid !== record.xid || x.subxids.length > 0)) return ["lie"];
    const verb = x.committed ? "COMMIT" : "ABORT";
    const head = x.prepared ? `${verb}_PREPARED ${x.xid}: ` : `${verb} `;
    const at = `lsn ${Lsn.format(x.originLsn)}, at ${time(x.originTime)}`;
    const origin = x.originLsn === 0 ? [] : [`; origin: node ${record.origin}, ${at}`];
    return [
      `Transaction ${head}${time(xactTime(record))}`,
      ...rels("rels", x.relations),
      ...list("subxacts", x.subxids),
      ...origin,
    ];
  }
  if ((record.info & OPERATION_MASK) !== XACT.PREPARE) return undefined;
  const p = readXactPrepare(record, 15);
  const at = `lsn ${Lsn.format(p.originLsn)}, at ${time(p.originTime)}`;
  return [
    `Transaction PREPARE gid ${p.gid}: ${time(p.preparedAt)}`,
    ...rels("rels(commit)", p.commitRelations),
    ...rels("rels(abort)", p.abortRelations),
    ...list("subxacts", p.subxids),
    ...(record.origin === 0 ? [] : [`; origin: node ${record.origin}, ${at}`]),
  ];
}

function describeDbase(record: WalRecord): string {
  const d = readDbase(record, 15);
  switch (d.kind) {
    case "create-file-copy":
      return `CREATE_FILE_COPY copy dir ${d.sourceSpc}/${d.sourceDb} to ${d.spc}/${d.db}`;
    case "create-wal-log":
      return `CREATE_WAL_LOG create dir ${d.spc}/${d.db}`;
    case "drop":
      return `DROP dir ${d.spcs.map((spc) => `${spc}/${d.db}`).join(" ")}`;
  }
}

function describeMultixact(record: WalRecord, info: number): string {
  if (info === MULTIXACT.CREATE_ID) {
    const { multi, offset, members } = readMultixactCreate(record);
    const each = members.map((m) => `${m.xid} (${STATUS[m.status]})`).join(" ");
    return `CREATE_ID ${multi} offset ${offset} nmembers ${members.length}: ${each}`;
  }
  if (info === MULTIXACT.TRUNCATE_ID) {
    const t = readMultixactTruncate(record);
    const members = `members [${t.startMember}, ${t.endMember})`;
    return `TRUNCATE_ID offsets [${t.startOffset}, ${t.endOffset}), ${members}`;
  }
  return `${readSlruZeroPage(record, 15)}`;
}

function describeRunning(record: WalRecord): string {
  const r = readRunningXacts(record);
  const xacts = r.xids.length === 0 ? "" : `; ${r.xids.length} xacts: ${r.xids.join(" ")}`;
  const ids = `latestCompletedXid ${r.latestCompletedXid} oldestRunningXid ${r.oldestRunningXid}`;
  return `RUNNING_XACTS nextXid ${r.nextXid} ${ids}${xacts}`;
}

/** The flags byte as pg_waldump has it, recomputed from what we say of the visibility map. */
function describeHeap(record: WalRecord): string[] | undefined {
  const operation = record.info & OPERATION_MASK;
  if (record.rmid === RM.HEAP2) {
    if (operation === HEAP2.VISIBLE) {
      return [` flags 0x0${visibilitySet(record)}`];
    }
    if (operation !== HEAP2.MULTI_INSERT && operation !== HEAP2.LOCK_UPDATED) return undefined;
  } else if (
    operation !== HEAP.INSERT &&
    operation !== HEAP.DELETE &&
    operation !== HEAP.UPDATE &&
    operation !== HEAP.HOT_UPDATE &&
    operation !== HEAP.LOCK
  ) {
    return undefined;
  }
  const cleared = visibilityCleared(record);
  const isUpdate =
    record.rmid === RM.HEAP && (operation === HEAP.UPDATE || operation === HEAP.HOT_UPDATE);
  const low = isUpdate
    ? (cleared & VM_CLEAR.LAST ? 1 : 0) | (cleared & VM_CLEAR.FIRST ? 2 : 0)
    : cleared === 0
      ? 0
      : 1;
  return [`low flags ${low}`];
}
