import { describe, expect, test } from "vitest";

import { Lsn } from "../../../src/core/lsn.ts";
import { VERSION_FLAG } from "../../../src/core/version.ts";
import { UnsupportedWal } from "../../../src/protocol/ingest/context.ts";
import { pageLsn } from "../../../src/protocol/page-header.ts";
import { HEAP, HEAP2, RM, XLOG } from "../../../src/protocol/wal/rmgr.ts";
import type { BlockSpec, RecordSpec } from "../../../src/protocol/wal/writer.ts";
import { Harness, at, main } from "./model.ts";

const ref = (rel: number, block: number, more: Partial<BlockSpec> = {}): BlockSpec => ({
  spc: 1663,
  db: 5,
  rel,
  block,
  ...more,
});

/** An initialised page that can be told from others. */
function page(fill: number): Uint8Array {
  const bytes = new Uint8Array(8192).fill(fill, 24);
  new DataView(bytes.buffer).setUint16(14, 8192, true);
  return bytes;
}

const fpi = (...blocks: readonly BlockSpec[]): RecordSpec => ({
  rmid: RM.XLOG,
  info: XLOG.FPI,
  blocks,
});
const insert = (block: BlockSpec, flags = 0): RecordSpec => ({
  rmid: RM.HEAP,
  info: block.willInit === true ? 0x80 : HEAP.INSERT,
  xid: 701,
  blocks: [block],
  main: Uint8Array.of(1, 0, flags),
});

describe("extension", () => {
  test("a record past the end creates the relation, zero pages in the gap and under itself", () => {
    const h = new Harness();
    const end = h.add(insert(ref(9, 2)));
    expect(h.store.size(at.relSize(9))).toBe(3);
    expect(h.store.size(at.relSize(9), Lsn.of(end - 1))).toBeUndefined();
    expect([0, 1, 2].map((b) => h.store.types(at.page(9), b))).toEqual([
      ["ZERO"],
      ["ZERO"],
      ["ZERO", "RECORD"],
    ]);
  });

  test("images and initialising records need no zero page under them", () => {
    const h = new Harness();
    h.add(insert(ref(9, 0, { willInit: true })), fpi(ref(9, 1, { image: { bytes: page(1) } })));
    expect(h.store.types(at.page(9), 0)).toEqual(["RECORD init"]);
    expect(h.store.types(at.page(9), 1)).toEqual(["IMAGE"]);
    expect(h.store.size(at.relSize(9))).toBe(2);
  });

  test("a gap larger than the bound is refused with a sentence", () => {
    const h = new Harness();
    expect(() => h.add(insert(ref(9, 0xffff_fff0)))).toThrow(UnsupportedWal);
  });

  test("blocks that exist only get the record", () => {
    const h = new Harness();
    h.add(insert(ref(9, 1)), insert(ref(9, 0)), insert(ref(9, 1)));
    expect(h.store.types(at.page(9), 0)).toEqual(["ZERO", "RECORD"]);
    expect(h.store.types(at.page(9), 1)).toEqual(["ZERO", "RECORD", "RECORD"]);
    expect(h.store.types(at.relSize(9))).toEqual(["VALUE"]);
  });
});

describe("block references", () => {
  test("an image is restored with the record's end as its LSN, whatever the record", () => {
    const h = new Harness();
    const first = { ...insert(ref(9, 0, { image: { bytes: page(7) } })), info: HEAP.INSERT };
    const end = h.add(first);
    const found = h.store.page(at.page(9), 0);
    expect(pageLsn(found)).toBe(end);
    expect(found.subarray(24)).toEqual(page(7).subarray(24));
  });

  test("the image of a page that was never initialised keeps its LSN of zero", () => {
    const h = new Harness();
    h.add(fpi(ref(9, 0, { image: { bytes: new Uint8Array(8192) } })));
    expect(h.store.page(at.page(9), 0)).toEqual(new Uint8Array(8192));
  });

  test("a kept record survives later puts of the same record and the next record", () => {
    const h = new Harness();
    h.add(insert(ref(9, 0, { data: Uint8Array.of(1, 2, 3) })));
    const built = h.wal.records.at(-1)!;
    h.add({ rmid: RM.XLOG, info: XLOG.NEXTOID, main: main(99) }, insert(ref(9, 0)));
    const outcome = h.store.read(at.page(9), 0, built.endLsn);
    expect(outcome).toMatchObject({ kind: "redo", base: new Uint8Array(8192) });
    if (outcome.kind !== "redo") return;
    const steps = outcome.steps.map((records) => [...records]);
    expect(steps).toEqual([[{ lsn: built.endLsn, bytes: built.bytes }]]);
  });

  test("an image for consistency checks is no image: the record is stored", () => {
    const h = new Harness();
    h.add(insert(ref(9, 0, { image: { bytes: page(7), apply: false } })));
    expect(h.store.types(at.page(9), 0)).toEqual(["ZERO", "RECORD"]);
  });

  test("GiST and hash records whose redo changes restored pages are stored whole, initialising", () => {
    const image = { bytes: page(7) };
    const cases = [
      [RM.GIST, 0x00, "RECORD init"],
      [RM.GIST, 0x30, "RECORD init"],
      [RM.GIST, 0x10, "IMAGE"],
      [RM.HASH, 0x40, "RECORD init"],
      [RM.HASH, 0x60, "RECORD init"],
      [RM.HASH, 0x20, "IMAGE"],
      [RM.BTREE, 0x00, "IMAGE"],
      [200, 0x00, "RECORD init"],
    ] as const;
    for (const [rmid, info, type] of cases) {
      const h = new Harness();
      h.add({ rmid, info, blocks: [ref(9, 0, { image })] });
      expect([rmid, info, h.store.types(at.page(9), 0)]).toEqual([rmid, info, [type]]);
    }
  });

  test("a hint without image does nothing, not even extend; an image record without image is corrupt", () => {
    const h = new Harness();
    const used = h.store.arena.used;
    h.add({ rmid: RM.XLOG, info: XLOG.FPI_FOR_HINT, blocks: [ref(9, 3)] });
    expect(h.store.size(at.relSize(9))).toBeUndefined();
    expect(h.store.arena.used).toBe(used);
    expect(() => h.add({ rmid: RM.XLOG, info: XLOG.FPI, blocks: [ref(9, 3)] })).toThrow(/no image/);
  });

  test("records without anything to store do not use up the arena", () => {
    const h = new Harness();
    const used = h.store.arena.used;
    h.add({ rmid: RM.XLOG, info: XLOG.NOOP, main: new Uint8Array(100) });
    h.add({ rmid: RM.LOGICALMSG, info: 0, main: new Uint8Array(100) });
    expect(h.store.arena.used).toBe(used);
    h.add(insert(ref(9, 0)));
    expect(h.store.arena.used).toBe(used + ((h.wal.records.at(-1)!.bytes.length + 7) & ~7));
  });
});

const VM = 2;
/** Bits of heap block 0..n-1. */
const bits = (h: Harness, heapBlocks: readonly number[], rel = 9): readonly number[] => {
  return heapBlocks.map((b) => {
    const map = h.store.page(at.page(rel, VM), Math.floor(b / 32_672));
    const i = b % 32_672;
    return (map[24 + (i >> 2)]! >> ((i & 3) * 2)) & 3;
  });
};
const visible = (heap: number, flags: number): RecordSpec => ({
  rmid: RM.HEAP2,
  info: HEAP2.VISIBLE,
  blocks: [ref(9, Math.floor(heap / 32_672), { fork: VM }), ref(9, heap)],
  main: Uint8Array.of(0, 0, 0, 0, flags),
});

describe("visibility map", () => {
  test("VISIBLE sets bits on the map and is stored for the heap page", () => {
    const h = new Harness();
    const end = h.add(visible(2, 3));
    expect(bits(h, [1, 2, 3])).toEqual([0, 3, 0]);
    expect(pageLsn(h.store.page(at.page(9, VM), 0))).toBe(end);
    expect(h.store.types(at.page(9, VM), 0)).toEqual(["ZERO", "OP"]);
    expect(h.store.types(at.page(9), 2)).toEqual(["ZERO", "RECORD"]);
    expect(h.store.size(at.relSize(9, VM))).toBe(1);
  });

  test("a map page's image replaces it, also in VISIBLE", () => {
    const h = new Harness();
    const image = page(0);
    image[24] = 1;
    const record = visible(0, 1);
    const [map, heap] = record.blocks!;
    h.add({ ...record, blocks: [{ ...map!, image: { bytes: image } }, heap!] });
    expect(h.store.types(at.page(9, VM), 0)).toEqual(["IMAGE"]);
    expect(bits(h, [0])).toEqual([1]);
  });

  const flag = (where: number, value: number): Uint8Array => {
    const bytes = new Uint8Array(Math.max(where + 1, 14));
    bytes[where] = value;
    return bytes;
  };
  const clears: readonly (readonly [string, RecordSpec, readonly number[]])[] = [
    ["INSERT", { rmid: RM.HEAP, info: 0x00, main: flag(2, 1), blocks: [ref(9, 1)] }, [3, 0, 3]],
    [
      "init INSERT",
      { rmid: RM.HEAP, info: 0x80, main: flag(2, 1), blocks: [ref(9, 1)] },
      [3, 0, 3],
    ],
    ["DELETE", { rmid: RM.HEAP, info: 0x10, main: flag(7, 1), blocks: [ref(9, 1)] }, [3, 0, 3]],
    [
      "UPDATE, old",
      { rmid: RM.HEAP, info: 0x20, main: flag(7, 1), blocks: [ref(9, 1), ref(9, 2)] },
      [3, 3, 0],
    ],
    [
      "UPDATE, new",
      { rmid: RM.HEAP, info: 0x20, main: flag(7, 2), blocks: [ref(9, 1), ref(9, 2)] },
      [3, 0, 3],
    ],
    [
      "UPDATE, both",
      { rmid: RM.HEAP, info: 0x20, main: flag(7, 3), blocks: [ref(9, 1), ref(9, 2)] },
      [3, 0, 0],
    ],
    ["HOT_UPDATE", { rmid: RM.HEAP, info: 0x40, main: flag(7, 1), blocks: [ref(9, 0)] }, [0, 3, 3]],
    ["LOCK", { rmid: RM.HEAP, info: 0x60, main: flag(7, 1), blocks: [ref(9, 1)] }, [3, 1, 3]],
    [
      "MULTI_INSERT",
      { rmid: RM.HEAP2, info: 0x50, main: flag(0, 1), blocks: [ref(9, 1)] },
      [3, 0, 3],
    ],
    [
      "LOCK_UPDATED",
      { rmid: RM.HEAP2, info: 0x60, main: flag(7, 1), blocks: [ref(9, 1)] },
      [3, 1, 3],
    ],
    [
      "INSERT without flag",
      { rmid: RM.HEAP, info: 0, main: flag(2, 8), blocks: [ref(9, 1)] },
      [3, 3, 3],
    ],
  ];
  test.each(clears)("%s clears what its flags say", (_name, spec, left) => {
    const h = new Harness();
    h.add(visible(0, 3), visible(1, 3), visible(2, 3));
    const set = h.add(visible(3, 3));
    h.add(spec);
    expect(bits(h, [0, 1, 2])).toEqual(left);
    // Clearing leaves the page's LSN alone.
    expect(pageLsn(h.store.page(at.page(9, VM), 0))).toBe(set);
  });

  test("nothing is cleared where there is no map page", () => {
    const h = new Harness();
    h.add(insert(ref(9, 0), 1));
    expect(h.store.size(at.relSize(9, VM))).toBeUndefined();
    h.add(visible(0, 3), insert(ref(9, 32_672), 1));
    expect(h.store.types(at.page(9, VM), 1)).toEqual([]);
  });

  test("maps change by images only, otherwise the WAL is refused", () => {
    const h = new Harness();
    const odd = { rmid: RM.GENERIC, info: 0, blocks: [ref(9, 0, { fork: VM })] };
    expect(() => h.add(odd)).toThrow(UnsupportedWal);
    const other = new Harness();
    other.add(fpi(ref(9, 2, { fork: 1, image: { bytes: page(3) } })));
    expect(other.store.size(at.relSize(9, 1))).toBe(3);
    expect(other.store.types(at.page(9, 1), 2)).toEqual(["IMAGE"]);
  });

  test("images are kept compressed as they came", () => {
    const h = new Harness();
    const image = {
      bytes: new Uint8Array(5),
      holeOffset: 40,
      holeLength: 8000,
      compression: VERSION_FLAG.PGLZ,
    };
    h.add(fpi(ref(9, 0, { image })));
    const [version] = h.store.versionsOf(at.page(9), 0);
    const flags = VERSION_FLAG.PGLZ | VERSION_FLAG.STAMP_LSN;
    expect(version).toMatchObject({ flags, holeOffset: 40, holeLength: 8000, length: 5 });
  });
});
