// How far replay of each replication origin has come at the remote side (replorigin_redo of origin.c). A
// value is the u64 remote LSN, little-endian; a dropped origin ends.

import { MalformedInput } from "../../core/assert.ts";
import { KIND } from "../../core/key.ts";
import { LSN_INVALID, Lsn } from "../../core/lsn.ts";
import type { WalRecord } from "../../core/wal-record.ts";
import { readReplOrigin } from "../wal/xlog.ts";
import type { IngestContext } from "./context.ts";

const ORIGIN_BYTES = 8;

export function onOrigin(context: IngestContext, record: WalRecord): void {
  const change = readReplOrigin(record);
  const group = originGroup(context, change.id);
  if (change.kind === "set") {
    advanceOrigin(context, record, change.id, change.remoteLsn, change.force ? "any" : "forward");
  } else if (context.meta.value(group, 0) !== undefined) {
    context.sink.putTombstone(group, 0, record.endLsn);
  }
}

/** replorigin_advance: an origin goes back only when told to. */
export function advanceOrigin(
  context: IngestContext,
  record: WalRecord,
  id: number,
  remote: Lsn,
  direction: "forward" | "any",
): void {
  if (remote === LSN_INVALID) return;
  const group = originGroup(context, id);
  const stored = context.meta.value(group, 0);
  if (direction === "forward" && stored !== undefined && decodeOrigin(stored) >= remote) return;
  const value = new Uint8Array(ORIGIN_BYTES);
  const view = new DataView(value.buffer);
  view.setUint32(0, Lsn.low(remote), true);
  view.setUint32(4, Lsn.high(remote), true);
  context.sink.putValue(group, 0, record.endLsn, value);
}

/** The remote LSN of an ORIGIN value. Throws MalformedInput. */
export function decodeOrigin(value: Uint8Array): Lsn {
  if (value.length !== ORIGIN_BYTES) {
    throw new MalformedInput(`replication origin: ${value.length} bytes, not ${ORIGIN_BYTES}`);
  }
  const view = new DataView(value.buffer, value.byteOffset);
  return Lsn.fromParts(view.getUint32(4, true), view.getUint32(0, true));
}

const originGroup = (context: IngestContext, id: number): number =>
  context.sink.groups.id(KIND.ORIGIN, 0, 0, id, 0);
