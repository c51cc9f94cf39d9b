// Databases and relation maps. A database exists when it has a relation map. Sources: dbase_redo of
// dbcommands.c, relmap_redo of relmapper.c.

import { unreachable } from "../../core/assert.ts";
import { encodeDbCopy } from "../../core/db-copy.ts";
import { KIND } from "../../core/key.ts";
import { Lsn } from "../../core/lsn.ts";
import type { WalRecord } from "../../core/wal-record.ts";
import { INFO_RMGR_MASK, WalCorrupt } from "../wal/format.ts";
import { RELMAP } from "../wal/rmgr.ts";
import { readDbase, readRelmapUpdate } from "../wal/storage.ts";
import type { IngestContext } from "./context.ts";
import { decodeSize } from "./sizes.ts";

export function onDatabase(context: IngestContext, record: WalRecord): void {
  const change = readDbase(record, context.version);
  const { db } = change;
  switch (change.kind) {
    case "create-file-copy": {
      const source = { spc: change.sourceSpc, db: change.sourceDb };
      return copyDatabase(context, record, { spc: change.spc, db }, source);
    }
    case "create-wal-log":
      return; // makes a directory; a relation map and page images follow
    case "drop":
      for (const spc of change.spcs) dropDatabase(context, record, { spc, db });
      return;
    default:
      return unreachable(change);
  }
}

interface Directory {
  readonly spc: number;
  readonly db: number;
}

/** What is there is dropped, then the source's files appear: sizes at once, pages when they are read (core/db-copy.ts). */
function copyDatabase(
  context: IngestContext,
  record: WalRecord,
  target: Directory,
  source: Directory,
): void {
  const { sink, meta, sizes } = context;
  const { groups } = sink;
  dropDatabase(context, record, target);
  const copies: { readonly rel: number; readonly fork: number; readonly blocks: number }[] = [];
  meta.list(KIND.REL_SIZE, source.spc, source.db, (group, _block, value) => {
    const { c, d } = groups.group(group);
    copies.push({ rel: c, fork: d, blocks: decodeSize(value) });
  });
  for (const { rel, fork, blocks } of copies) {
    const group = context.pageGroup(target.spc, target.db, rel, fork);
    sizes.set(sink, group, blocks, record.endLsn);
  }
  const relmap = meta.value(groups.id(KIND.RELMAP, source.spc, source.db, 0, 0), 0);
  if (relmap !== undefined) {
    const group = groups.id(KIND.RELMAP, target.spc, target.db, 0, 0);
    sink.putValue(group, 0, record.endLsn, relmap);
  }
  const copy = { srcSpc: source.spc, srcDb: source.db, lsn: Lsn.of(record.endLsn) };
  const group = groups.id(KIND.DB_COPY, target.spc, target.db, 0, 0);
  sink.putValue(group, 0, record.endLsn, encodeDbCopy(copy));
}

/** Ends everything of a database in one tablespace. */
function dropDatabase(context: IngestContext, record: WalRecord, { spc, db }: Directory): void {
  const { sink, meta } = context;
  const { groups } = sink;
  const doomed: number[] = [];
  meta.list(KIND.REL_SIZE, spc, db, (group) => {
    const { c, d } = groups.group(group);
    doomed.push(groups.id(KIND.PAGE, spc, db, c, d));
  });
  for (const group of doomed) context.sizes.drop(sink, group, record.endLsn);
  for (const kind of [KIND.RELMAP, KIND.DB_COPY] as const) {
    const group = groups.id(kind, spc, db, 0, 0);
    if (meta.value(group, 0) !== undefined) sink.putTombstone(group, 0, record.endLsn);
  }
}

/** A whole new relation map. The shared one belongs to database 0. */
export function onRelmap(context: IngestContext, record: WalRecord): void {
  if ((record.info & INFO_RMGR_MASK) !== RELMAP.UPDATE) {
    throw new WalCorrupt(record.startLsn, "relation map record of unknown kind");
  }
  const { spc, db, map } = readRelmapUpdate(record);
  const { sink } = context;
  sink.putValue(sink.groups.id(KIND.RELMAP, spc, db, 0, 0), 0, record.endLsn, map);
}
