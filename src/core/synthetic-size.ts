// The synthetic size of a branch tree, in Neon's sense: the fewest bytes from which everything that is
// kept of the tree could be had, if a state were stored either as a whole or as the WAL since another
// one. What branches share counts once; how our layers are packed does not count at all. Pure.
//
// The tree's nodes are moments. Each is had in the cheapest of three ways:
//
//   snapshot   all relations as they were then: their logical size
//   wal        from the moment before it, if that one is had: the bytes of WAL between the two
//   skipped    not at all, if nobody reads it; then what follows cannot build on it
//
//   cost(m, had before) = min( size(m)           + Σ cost(child, yes)
//                              lsn(m) - lsn(p)   + Σ cost(child, yes)     if had before
//                                                  Σ cost(child, no) )    if nobody reads m
//
// Between the cutoff and the end every moment can be read: there, only WAL will do.

import { assert } from "./assert.ts";
import type { Family, OwnPins, RetainedTimeline } from "./gc.ts";
import type { TimelineId } from "./ids.ts";
import { LSN_INVALID, type Lsn } from "./lsn.ts";

/** A moment of a tree. */
export interface SizePoint {
  readonly timeline: TimelineId;
  readonly lsn: Lsn;
  /** Index of the moment before it, which is smaller than its own; undefined: there is none. */
  readonly parent: number | undefined;
  /** point: somebody reads it. range: somebody reads every moment since the one before. none: only what follows may build on it. */
  readonly needed: "none" | "point" | "range";
}

/** `sizeOf`: logical size at a moment; asked of moments that are no range only. */
export function syntheticSize(
  points: readonly SizePoint[],
  sizeOf: (point: SizePoint) => number,
): number {
  // Of the children of a point, added up: their cost with it, and without it.
  const withIt = new Float64Array(points.length);
  const without = new Float64Array(points.length);
  let total = 0;
  for (let i = points.length - 1; i >= 0; i--) {
    const point = points[i]!;
    const { parent, needed, lsn } = point;
    assert(parent === undefined || parent < i, "a moment comes after the one before it");
    const wal = parent === undefined ? Infinity : lsn - points[parent]!.lsn + withIt[i]!;
    const snapshot = needed === "range" ? Infinity : sizeOf(point) + withIt[i]!;
    const skipped = needed === "none" ? without[i]! : Infinity;
    const alone = Math.min(snapshot, skipped);
    if (parent === undefined) {
      total += alone;
      continue;
    }
    withIt[parent] = withIt[parent]! + Math.min(wal, alone);
    without[parent] = without[parent]! + alone;
  }
  return total;
}

export interface SizedTimeline extends RetainedTimeline {
  /** End of its last record. */
  readonly end: Lsn;
}

/** The moments of the tree that `root` begins, parents before children. */
export function sizePoints(
  family: Family<SizedTimeline>,
  root: TimelineId,
  ownPins: OwnPins,
): readonly SizePoint[] {
  const ids = [...family.descendants(root)].reverse();
  // Where pins and branch points lie: below its own branch point a branch is its ancestor.
  const marks = new Map<TimelineId, Map<Lsn, SizePoint["needed"]>>(
    ids.map((id) => [id, new Map()]),
  );
  const mark = (id: TimelineId, lsn: Lsn, needed: SizePoint["needed"]): void => {
    const own = marks.get(ownerOf(family, id, lsn))!;
    if (needed === "point" || !own.has(lsn)) own.set(lsn, needed);
  };
  for (const id of ids) {
    const { ancestor } = family.byId.get(id)!;
    if (ancestor !== undefined && id !== root) mark(ancestor.id, ancestor.lsn, "none");
    for (const { lsn } of ownPins(id)) mark(id, lsn, "point");
    // What can be read from there on is a range; that the range can begin, is a point.
    mark(id, family.cutoff(id), "point");
  }
  const points: SizePoint[] = [];
  const at = new Map<string, number>();
  for (const id of ids) {
    const { ancestor, end } = family.byId.get(id)!;
    const cutoff = family.cutoff(id);
    const branched = ancestor !== undefined && id !== root;
    const owner = branched ? ownerOf(family, ancestor.id, ancestor.lsn) : undefined;
    let parent = owner === undefined ? undefined : at.get(`${owner} ${ancestor!.lsn}`);
    const add = (lsn: Lsn, needed: SizePoint["needed"]): void => {
      const range = lsn > cutoff && parent !== undefined ? "range" : needed;
      parent = points.push({ timeline: id, lsn, parent, needed: range }) - 1;
      at.set(`${id} ${lsn}`, parent);
    };
    const own = [...marks.get(id)!].sort(([x], [y]) => x - y);
    for (const [lsn, needed] of own) add(lsn, needed);
    // A branch made at the end begins where the next record would: a few bytes behind it.
    if ((own.at(-1)?.[0] ?? LSN_INVALID) < end) add(end, "point");
  }
  return points;
}

/** The timeline whose own history an LSN of a timeline lies in. */
function ownerOf(family: Family<SizedTimeline>, id: TimelineId, lsn: Lsn): TimelineId {
  for (let each = family.byId.get(id); each !== undefined;) {
    const { ancestor } = each;
    if (ancestor === undefined || lsn > ancestor.lsn) return each.id;
    each = family.byId.get(ancestor.id);
  }
  return id;
}

/** The eldest ancestor. */
export function rootOf(family: Family, id: TimelineId): TimelineId {
  const ancestor = family.byId.get(id)?.ancestor;
  return ancestor === undefined ? id : rootOf(family, ancestor.id);
}

/** WAL of its own that a timeline keeps readable, bytes: its history. */
export const historyBytes = (timeline: SizedTimeline, cutoff: Lsn): number =>
  Math.max(timeline.end - Math.max(cutoff, timeline.ancestor?.lsn ?? LSN_INVALID), 0);
