// Where the branch tree's bars lie along the LSN axis. Pure: timelines in, rows and positions out.
//
//   main    ===|====|=========>          a row a timeline; its bar begins where it left its ancestor
//              |    +--- b ==>           children stand under their parent, the youngest branch first:
//              +-- a =====>              so no line from parent to child crosses another's bar

import { Lsn } from "../core/lsn.ts";
import type { PinInfo } from "../protocol/api-retention.ts";
import type { TimelineInfo } from "../protocol/api.ts";

export interface Row {
  readonly timeline: TimelineInfo;
  /** 0 is the family's root. */
  readonly depth: number;
  /** The ancestor's row, if it is in the family. */
  readonly parent: number | undefined;
  /** Bytes of WAL: where it begins, what is readable, fsynced, and what its source has. */
  readonly from: number;
  readonly cutoff: number;
  readonly durable: number;
  readonly visible: number;
  readonly source: number;
  /** Snapshots, and moments below the cutoff that are kept for somebody other than a branch. */
  readonly pins: readonly { readonly lsn: number; readonly what: string }[];
}

/** A root and all that descend from it: they share one LSN axis. */
export interface Family {
  readonly rows: readonly Row[];
  /** The axis; `max` is above `min`. */
  readonly min: number;
  readonly max: number;
}

/** What rows need to know of what is kept. */
export interface Kept {
  readonly cutoff_lsn: string;
  readonly pins: readonly PinInfo[];
  readonly snapshots: readonly { readonly lsn: string; readonly name: string }[];
}

type Retention = ReadonlyMap<string, Kept>;

export function families(
  timelines: readonly TimelineInfo[],
  retention: Retention = new Map(),
): readonly Family[] {
  const known = new Set(timelines.map((one) => one.timeline_id));
  const children = new Map<string, TimelineInfo[]>();
  const roots: TimelineInfo[] = [];
  for (const one of timelines) {
    const above = one.ancestor_timeline_id;
    if (above === undefined || !known.has(above)) roots.push(one);
    else children.set(above, [...(children.get(above) ?? []), one]);
  }
  return roots.map((root) => {
    const rows: Row[] = [];
    const add = (timeline: TimelineInfo, depth: number, parent: number | undefined): void => {
      const index = rows.length;
      rows.push(rowOf(timeline, depth, parent, retention.get(timeline.timeline_id)));
      const under = [...(children.get(timeline.timeline_id) ?? [])].sort(
        (a, b) => branchLsn(b) - branchLsn(a),
      );
      for (const child of under) add(child, depth + 1, index);
    };
    add(root, 0, undefined);
    return { rows, ...extent(rows) };
  });
}

const branchLsn = (timeline: TimelineInfo): number =>
  Lsn.parse(timeline.ancestor_lsn ?? timeline.initdb_lsn);

function rowOf(
  timeline: TimelineInfo,
  depth: number,
  parent: number | undefined,
  kept: Kept | undefined,
): Row {
  const from = branchLsn(timeline);
  const visible = Math.max(from, Lsn.parse(timeline.positions.visible));
  const received = Lsn.parse(timeline.positions.received);
  const held = (kept?.pins ?? []).filter(({ reason }) => reason === "lease" || reason === "reader");
  const pins = [
    ...held.map((pin) => ({ lsn: pin.lsn, what: pinWords(pin) })),
    ...(kept?.snapshots ?? []).map(({ lsn, name }) => ({ lsn, what: `snapshot ${name}` })),
  ];
  return {
    ...{ timeline, depth, parent, from, visible },
    cutoff: Math.max(from, Lsn.parse(kept?.cutoff_lsn ?? timeline.min_readable_lsn)),
    durable: Math.max(from, Lsn.parse(timeline.positions.durable)),
    source: Math.max(visible, received + (timeline.source.lag_bytes ?? 0)),
    pins: pins.map(({ lsn, what }) => ({ lsn: Lsn.parse(lsn), what })),
  };
}

/** For whom a moment is kept. */
export function pinWords(pin: PinInfo): string {
  switch (pin.reason) {
    case "branch":
      return `branch ${pin.timeline_name ?? pin.timeline_id ?? "?"}`;
    case "lease":
      return `lease of ${pin.owner ?? "?"}`;
    case "snapshot":
      return `snapshot ${pin.snapshot ?? "?"}`;
    case "reader":
      return "a backup being read";
  }
}

/** From what is kept to what is known to exist; a family that has no length yet gets one. */
function extent(rows: readonly Row[]): { readonly min: number; readonly max: number } {
  const lows = rows.flatMap((row) => [
    row.depth === 0 ? row.cutoff : row.from,
    ...row.pins.map((pin) => pin.lsn),
  ]);
  const min = Math.min(...lows);
  const max = Math.max(...rows.map((row) => row.source));
  return { min, max: Math.max(max, min + 1) };
}

/** Round LSNs for an axis: at most `most` of them within the range, a power of two apart. */
export function ticks(min: number, max: number, most: number): readonly number[] {
  let step = 1;
  while ((max - min) / step > most) step *= 2;
  const found: number[] = [];
  for (let at = Math.ceil(min / step) * step; at <= max; at += step) found.push(at);
  return found;
}
