// Which layer files leave the local disk: those that have not been read for long, and, above a mark of
// disk usage, as many of the least recently read as it takes to get below a lower one. Only layers that
// object storage has come here at all (I18). A tenant keeps its floor, the layers it read last.

import { EVICT_LAYERS_PER_PASS } from "../limits.ts";

/** percent: of the file system, whoever fills it. bytes: of all layer files. */
export interface DiskMark {
  readonly of: "percent" | "bytes";
  readonly value: number;
}

const UNITS: Readonly<Record<string, number>> = {
  ...{ k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 },
};

/** "256MB" -> 268435456; units are powers of 1024. Undefined: it is no size. */
export function parseSize(text: string): number | undefined {
  const found = /^(\d{1,15}) ?(?:([kmgt])i?b?|b)?$/i.exec(text);
  if (found === null) return undefined;
  return Number(found[1]) * (UNITS[found[2]?.toLowerCase() ?? ""] ?? 1);
}

/** "85%", or a size. Undefined: it is neither. */
export function parseMark(text: string): DiskMark | undefined {
  const percent = /^(\d{1,2}(?:\.\d{1,9})?)%$/.exec(text);
  if (percent !== null) return { of: "percent", value: Number(percent[1]) };
  const value = parseSize(text);
  return value === undefined ? undefined : { of: "bytes", value };
}

export interface EvictionPolicy {
  /** Undefined: whatever the disk's usage. */
  readonly marks: { readonly high: DiskMark; readonly low: DiskMark } | undefined;
  /** A layer that was not read for so long goes, ms; undefined: none does. */
  readonly ageMs: number | undefined;
  /** Bytes of layers that each tenant keeps. */
  readonly floorBytes: number;
}

/** Bytes of the file system where the data is. */
export interface DiskUsage {
  readonly usedBytes: number;
  readonly totalBytes: number;
}

export interface EvictableLayer {
  readonly bytes: number;
  /** Steady ms. */
  readonly readAtMs: number;
}

export interface TenantLayers<L extends EvictableLayer> {
  /** All layer files that are here. */
  readonly localBytes: number;
  readonly evictable: readonly L[];
}

export interface EvictionPlan<L> {
  /** Least recently read first. */
  readonly evict: readonly L[];
  /** The high mark was passed, and the low one is not reached yet: for the next plan. */
  readonly draining: boolean;
  /** What is above the low mark and stays, because no more may go. */
  readonly shortBytes: number;
}

/** `draining`: of the last plan. */
export function planEviction<L extends EvictableLayer>(
  policy: EvictionPolicy,
  facts: {
    readonly nowMs: number;
    readonly disk: DiskUsage;
    readonly tenants: readonly TenantLayers<L>[];
    readonly draining: boolean;
  },
): EvictionPlan<L> {
  const { tenants, nowMs, disk } = facts;
  const localBytes = tenants.reduce((sum, tenant) => sum + tenant.localBytes, 0);
  const above = ({ of, value }: DiskMark): number =>
    of === "bytes" ? localBytes - value : disk.usedBytes - (disk.totalBytes * value) / 100;
  const { marks, ageMs, floorBytes } = policy;
  const isOver =
    marks !== undefined && (above(marks.high) > 0 || (facts.draining && above(marks.low) > 0));
  let excess = isOver ? above(marks.low) : 0;
  const candidates = tenants.flatMap(({ localBytes: bytes, evictable }) => {
    const room = { bytes: bytes - floorBytes };
    return evictable.map((layer) => ({ layer, room }));
  });
  candidates.sort((x, y) => x.layer.readAtMs - y.layer.readAtMs);
  const evict: L[] = [];
  let left = false;
  for (const { layer, room } of candidates) {
    const aged = ageMs !== undefined && nowMs - layer.readAtMs >= ageMs;
    if (!aged && excess <= 0) break;
    if (evict.length >= EVICT_LAYERS_PER_PASS) {
      left = true;
      break;
    }
    // What was read later stays, too: the floor is made of what was read last.
    if (layer.bytes > room.bytes) room.bytes = 0;
    if (room.bytes === 0) continue;
    room.bytes -= layer.bytes;
    excess -= layer.bytes;
    evict.push(layer);
  }
  return { evict, draining: isOver, shortBytes: left ? 0 : Math.max(0, excess) };
}
