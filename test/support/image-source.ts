// A ChangeSink that remembers only the newest image or value of each key, and the BackupSource of
// what it holds: enough to carry a data directory through import and base backup without a store.

import { Arena } from "../../src/core/arena.ts";
import type { ArenaChunk } from "../../src/core/arena.ts";
import type { BackupSource } from "../../src/core/backup-source.ts";
import type { ChangeSink } from "../../src/core/change.ts";
import { GroupTable, KIND, type Kind } from "../../src/core/key.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES, type RelTag } from "../../src/core/page.ts";

interface Image {
  readonly bytes: Uint8Array;
  readonly holeOffset: number;
  readonly holeLength: number;
}

const ZERO: Image = { bytes: new Uint8Array(0), holeOffset: 0, holeLength: PAGE_BYTES };

const u32 = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);

export class ImageSink implements ChangeSink {
  readonly groups = new GroupTable();
  readonly arena = new Arena();
  readonly images = new Map<number, Map<number, Image>>();
  readonly values = new Map<number, Uint8Array>();

  putImage(
    group: number,
    block: number,
    _lsn: number,
    flags: number,
    chunk: ArenaChunk,
    start: number,
    length: number,
    holeOffset: number,
    holeLength: number,
  ): void {
    if (flags !== 0) throw new Error("an imported image has no flags");
    const bytes = chunk.bytes.subarray(start, start + length);
    this.image(group, block, { bytes, holeOffset, holeLength });
  }

  putZeroPage(group: number, block: number): void {
    this.image(group, block, ZERO);
  }

  putValue(group: number, _block: number, _lsn: number, value: Uint8Array): void {
    this.values.set(group, value.slice());
  }

  putRecord(): void {
    throw new Error("an import has no records");
  }
  putOp(): void {
    throw new Error("an import has no operations");
  }
  putTombstone(): void {
    throw new Error("an import has no tombstones");
  }

  private image(group: number, block: number, image: Image): void {
    let blocks = this.images.get(group);
    if (blocks === undefined) this.images.set(group, (blocks = new Map()));
    blocks.set(block, image);
  }

  /** The page as it was before its hole was removed; undefined when nothing was put. */
  page(group: number, block: number): Uint8Array | undefined {
    const image = this.images.get(group)?.get(block);
    if (image === undefined) return undefined;
    const page = new Uint8Array(PAGE_BYTES);
    page.set(image.bytes.subarray(0, image.holeOffset));
    page.set(image.bytes.subarray(image.holeOffset), image.holeOffset + image.holeLength);
    return page;
  }

  value(kind: Kind, a = 0, b = 0, c = 0, d = 0): Uint8Array | undefined {
    return this.values.get(this.groups.id(kind, a, b, c, d));
  }

  /** Values of one kind with their groups. */
  list(kind: Kind): { a: number; b: number; c: number; d: number; value: Uint8Array }[] {
    return [...this.values]
      .map(([id, value]) => ({ ...this.groups.group(id), value }))
      .filter((entry) => entry.kind === kind)
      .sort((x, y) => x.a - y.a || x.b - y.b || x.c - y.c || x.d - y.d);
  }
}

/** What the sink holds, as of `lsn`: any position at or behind the import's base. */
export function imageSource(
  sink: ImageSink,
  at: { readonly lsn: Lsn; readonly prevLsn: Lsn; readonly tli: number },
): BackupSource {
  const read = (group: number, from: number, count: number): Uint8Array => {
    const pages = new Uint8Array(count * PAGE_BYTES);
    for (let i = 0; i < count; i++) {
      const page = sink.page(group, from + i);
      if (page === undefined) throw new Error(`no version of block ${from + i}`);
      pages.set(page, i * PAGE_BYTES);
    }
    return pages;
  };
  const need = (kind: Kind): Uint8Array => {
    const value = sink.value(kind);
    if (value === undefined) throw new Error(`no value of kind ${kind}`);
    return value;
  };
  return {
    ...at,
    pgVersion: 15,
    databases: async () =>
      sink.list(KIND.RELMAP).map(({ a, b, value }) => ({ spc: a, db: b, relmap: value })),
    relations: async (spc, db) =>
      sink
        .list(KIND.REL_SIZE)
        .filter((r) => r.a === spc && r.b === db)
        .map((r) => ({ rel: r.c, fork: r.d, blocks: u32(r.value) })),
    pages: async (rel: RelTag, from, count) =>
      read(sink.groups.id(KIND.PAGE, rel.spc, rel.db, rel.rel, rel.fork), from, count),
    slruSegments: async (slru) =>
      sink
        .list(KIND.SLRU_SIZE)
        .filter((s) => s.a === slru)
        .map((s) => s.c),
    slruSegment: async (slru, segment) => {
      const size = sink.value(KIND.SLRU_SIZE, slru, 0, segment);
      if (size === undefined) throw new Error(`no segment ${segment} of SLRU ${slru}`);
      return read(sink.groups.id(KIND.SLRU_PAGE, slru, 0, segment, 0), 0, u32(size));
    },
    twoPhase: async () =>
      sink.list(KIND.TWO_PHASE).map(({ c, value }) => ({ xid: c, body: value })),
    origins: async () =>
      sink.list(KIND.ORIGIN).map(({ c, value }) => {
        const view = new DataView(value.buffer, value.byteOffset);
        return { id: c, lsn: Lsn.fromParts(view.getUint32(4, true), view.getUint32(0, true)) };
      }),
    control: async () => need(KIND.CONTROL),
    checkpoint: async () => need(KIND.CHECKPOINT),
  };
}
