// Sizes of relation forks and SLRU segments, in blocks, as of the last record: what decides whether a
// record extends. Looked up for every block reference, so kept in an array indexed by the id of the
// *page* group; loaded from the store on first touch.

import { assert } from "../../core/assert.ts";
import type { ChangeSink, MetadataView } from "../../core/change.ts";
import { KIND } from "../../core/key.ts";

/** Of a relation fork or segment that does not exist. */
export const MISSING = -1;
const UNKNOWN = -2;
const GROUPS_AT_FIRST = 64;

export class Sizes {
  /** By how many blocks all relation forks together have grown since ingest began. */
  growth = 0;
  private readonly meta: MetadataView;
  private known = new Float64Array(GROUPS_AT_FIRST).fill(UNKNOWN);
  private readonly value = new Uint8Array(4);
  private readonly view = new DataView(this.value.buffer);

  constructor(meta: MetadataView) {
    this.meta = meta;
  }

  /** Blocks of what `pageGroup` (of KIND PAGE or SLRU_PAGE) stands for, or MISSING. */
  get(sink: ChangeSink, pageGroup: number): number {
    const known = pageGroup < this.known.length ? this.known[pageGroup]! : UNKNOWN;
    return known === UNKNOWN ? this.load(sink, pageGroup) : known;
  }

  /** Sets the size from `lsn` on. */
  set(sink: ChangeSink, pageGroup: number, blocks: number, lsn: number): void {
    this.grow(sink, pageGroup, blocks);
    this.remember(pageGroup, blocks);
    this.view.setUint32(0, blocks, true);
    sink.putValue(this.sizeGroup(sink, pageGroup), 0, lsn, this.value);
  }

  /** Ends it at `lsn`. */
  drop(sink: ChangeSink, pageGroup: number, lsn: number): void {
    this.grow(sink, pageGroup, 0);
    this.remember(pageGroup, MISSING);
    sink.putTombstone(this.sizeGroup(sink, pageGroup), 0, lsn);
  }

  private grow(sink: ChangeSink, pageGroup: number, blocks: number): void {
    if (sink.groups.group(pageGroup).kind !== KIND.PAGE) return;
    this.growth += blocks - Math.max(this.get(sink, pageGroup), 0);
  }

  private load(sink: ChangeSink, pageGroup: number): number {
    const value = this.meta.value(this.sizeGroup(sink, pageGroup), 0);
    const blocks = value === undefined ? MISSING : decodeSize(value);
    this.remember(pageGroup, blocks);
    return blocks;
  }

  private remember(pageGroup: number, blocks: number): void {
    if (pageGroup >= this.known.length) {
      const larger = new Float64Array(Math.max(pageGroup + 1, this.known.length * 2)).fill(UNKNOWN);
      larger.set(this.known);
      this.known = larger;
    }
    this.known[pageGroup] = blocks;
  }

  private sizeGroup(sink: ChangeSink, pageGroup: number): number {
    const { kind, a, b, c, d } = sink.groups.group(pageGroup);
    assert(kind === KIND.PAGE || kind === KIND.SLRU_PAGE, `group of kind ${kind} has no size`);
    return sink.groups.id(kind === KIND.PAGE ? KIND.REL_SIZE : KIND.SLRU_SIZE, a, b, c, d);
  }
}

/** A REL_SIZE or SLRU_SIZE value. */
export function decodeSize(value: Uint8Array): number {
  assert(value.length === 4, `size value of ${value.length} bytes`);
  return new DataView(value.buffer, value.byteOffset).getUint32(0, true);
}
