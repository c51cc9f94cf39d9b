// Random histories of keys, the naive truth about them, and the ways to put them into a layer.

import fc from "fast-check";
import type { ChangeSink } from "../../src/core/change.ts";
import { type Group, KIND, compareGroups } from "../../src/core/key.ts";
import type { Lsn } from "../../src/core/lsn.ts";
import { VERSION, VERSION_FLAG, type Version } from "../../src/core/version.ts";

const U32 = 0xffff_ffff;

/** Groups of all sorts: neighbours in key order, extremes of every field. */
export const GROUPS: readonly Group[] = [
  { kind: KIND.PAGE, a: 1663, b: 5, c: 16384, d: 0 },
  { kind: KIND.PAGE, a: 1663, b: 5, c: 16384, d: 1 },
  { kind: KIND.PAGE, a: 1663, b: 5, c: 16385, d: 0 },
  { kind: KIND.PAGE, a: U32, b: U32, c: U32, d: 255 },
  { kind: KIND.REL_SIZE, a: 0, b: 0, c: 0, d: 0 },
  { kind: KIND.REL_SIZE, a: 1663, b: 5, c: 16384, d: 0 },
  { kind: KIND.REL_SIZE, a: 1663, b: 6, c: 16384, d: 0 },
  { kind: KIND.REL_SIZE, a: U32, b: U32, c: U32, d: 255 },
  { kind: KIND.TWO_PHASE, a: 0, b: 0, c: 700, d: 0 },
  { kind: KIND.BOUNDARY, a: 0, b: 0, c: 1, d: 0 },
];

/** One put: what a sink is told, and what a reader must see. */
export interface Put {
  readonly group: Group;
  readonly block: number;
  readonly type: number;
  readonly flags: number;
  readonly lsn: Lsn;
  readonly hole: number;
  readonly bytes: Uint8Array;
}

const sizes = fc.oneof(
  { weight: 20, arbitrary: fc.nat(200) },
  { weight: 3, arbitrary: fc.integer({ min: 1_900, max: 4_200 }) },
  { weight: 1, arbitrary: fc.integer({ min: 8_000, max: 20_000 }) },
);

const put = fc.record({
  // Mostly one key, so that it gets a chain of several runs.
  group: fc.oneof(
    { weight: 4, arbitrary: fc.constant(GROUPS[0]!) },
    { weight: 4, arbitrary: fc.constantFrom(...GROUPS) },
  ),
  block: fc.oneof(
    { weight: 4, arbitrary: fc.constant(0) },
    { weight: 3, arbitrary: fc.constantFrom(0, 1, 2, 77, U32) },
  ),
  type: fc.constantFrom(...Object.values(VERSION)),
  flags: fc.constantFrom(0, VERSION_FLAG.WILL_INIT, VERSION_FLAG.STAMP_LSN | VERSION_FLAG.ZSTD),
  // Often the same LSN again: one record changes many keys, and one key more than once.
  step: fc.constantFrom(0, 0, 8, 40, 70_000, 5_000_000_000),
  hole: fc.constantFrom(0, 1, 8191),
  size: sizes,
  seed: fc.nat(255),
});

/** A history in LSN order that begins above `from`. */
export const history = (from: number, length: number): fc.Arbitrary<readonly Put[]> =>
  fc.array(put, { maxLength: length, size: "max" }).map((puts) => {
    let lsn = from + 8;
    return puts.map(({ step, size, seed, ...rest }) => {
      lsn += step;
      const length = rest.type === VERSION.TOMBSTONE ? 0 : size;
      const bytes = Uint8Array.from({ length }, (_, i) => (seed + i * 7) & 255);
      const plain = rest.type === VERSION.RECORD || rest.type === VERSION.IMAGE;
      const hole = rest.type === VERSION.IMAGE ? rest.hole : 0;
      return { ...rest, flags: plain ? rest.flags : 0, hole, bytes, lsn: lsn as Lsn };
    });
  });

/** Hands a history to a sink, the way ingest does. */
export function apply(sink: ChangeSink, puts: readonly Put[]): void {
  for (const { group: g, block, type, flags, lsn, hole, bytes } of puts) {
    const group = sink.groups.id(g.kind, g.a, g.b, g.c, g.d);
    if (type === VERSION.VALUE) sink.putValue(group, block, lsn, bytes);
    else if (type === VERSION.OP) sink.putOp(group, block, lsn, bytes);
    else if (type === VERSION.TOMBSTONE) sink.putTombstone(group, block, lsn);
    else {
      const { arena } = sink;
      arena.reserve(bytes.length);
      const { chunk, used } = arena;
      chunk.bytes.set(bytes, used);
      const { length } = bytes;
      if (type === VERSION.RECORD) sink.putRecord(group, block, lsn, flags, chunk, used, length);
      else sink.putImage(group, block, lsn, flags, chunk, used, length, hole, hole);
      arena.commit(length);
    }
  }
}

/** What a visitor saw, comparable with toEqual. */
export function seen(version: Version): unknown {
  const { type, flags, lsn, holeOffset, holeLength, bytes, start, length } = version;
  const payload = Buffer.from(bytes.subarray(start, start + length)).toString("base64");
  return { type, flags, lsn, holeOffset, holeLength, payload };
}

/** The truth: versions of a key with floor < LSN <= at, newest first. */
export function expected(
  puts: readonly Put[],
  group: Group,
  block: number,
  at: number,
  floor: number,
): unknown[] {
  return puts
    .filter((p) => p.block === block && compareGroups(p.group, group) === 0)
    .filter((p) => p.lsn > floor && p.lsn <= at)
    .reverse()
    .map(({ type, flags, lsn, hole, bytes }) => {
      const payload = Buffer.from(bytes).toString("base64");
      return { type, flags, lsn, holeOffset: hole, holeLength: hole, payload };
    });
}

/** Distinct keys of a history, in key order. */
export function keysOf(puts: readonly Put[]): readonly Pick<Put, "group" | "block">[] {
  const sorted = [...puts].sort(compareKeys);
  return sorted.filter((p, i) => i === 0 || compareKeys(sorted[i - 1]!, p) !== 0);
}

export const compareKeys = (
  x: Pick<Put, "group" | "block">,
  y: Pick<Put, "group" | "block">,
): number => compareGroups(x.group, y.group) || x.block - y.block;
