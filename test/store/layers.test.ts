import fs from "node:fs";
import { expect, test } from "vitest";
import { BlockPool } from "../../src/core/arena.ts";
import { GroupTable, KIND } from "../../src/core/key.ts";
import { ARENA_CHUNK_BYTES, RUN_TRUST_MS } from "../../src/core/limits.ts";
import { LSN_MAX, type Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import { LayerWriter } from "../../src/store/layer-writer.ts";
import { LmdbLayer } from "../../src/store/lmdb-layer.ts";
import { MemoryLayer } from "../../src/store/memory-layer.ts";
import { OpenFiles } from "../../src/store/sealed-file.ts";
import { type WithLayer, layerSuite } from "./conformance.ts";
import { type Put, apply } from "./histories.ts";
import { inScratch } from "./scratch.ts";

function memoryLayer(puts: readonly Put[]): MemoryLayer {
  const layer = new MemoryLayer(new GroupTable());
  apply(layer, puts);
  return layer;
}

const sealedLayer = (
  puts: readonly Put[],
  directory: string,
  files: OpenFiles,
  keyBytes?: number,
): Promise<LmdbLayer> => sealedFrom(memoryLayer(puts), directory, files, keyBytes);

/** Writes a layer whole and reads it from its file. */
async function sealedFrom(
  memory: MemoryLayer,
  directory: string,
  files: OpenFiles,
  keyBytes = 100,
): Promise<LmdbLayer> {
  const path = `${directory}/test.layer`;
  const writer = new LayerWriter(path, "test", memory.keyCount, memory.bytes, keyBytes);
  const cursor = memory.cursor();
  writer.turn(() => {
    while (cursor.next()) {
      writer.begin(cursor.group, cursor.block);
      cursor.visit(LSN_MAX, (version) => {
        writer.add(version);
        return true;
      });
      writer.end();
    }
  });
  const { header, bytes, crc } = await writer.finish();
  return new LmdbLayer(path, { ...header, bytes, crc }, files);
}

const withMemory: WithLayer = async (puts, use) => {
  await use(memoryLayer(puts));
};

const withLmdb =
  (keyBytes: number): WithLayer =>
  (puts, use) =>
    inScratch(async (directory) => {
      if (puts.length === 0) return; // an empty layer is never sealed
      const files = new OpenFiles();
      try {
        await use(await sealedLayer(puts, directory, files, keyBytes));
      } finally {
        files.closeAll();
      }
    });

layerSuite("memory layer", withMemory, 20);
layerSuite("LMDB layer", withLmdb(100), 15);
layerSuite("LMDB layer of long values", withLmdb(8_000), 15);

const GROUP = { kind: KIND.PAGE, a: 1, b: 2, c: 3, d: 0 } as const;

test("a frozen layer takes no changes, an open one none that go back in time", () => {
  const layer = new MemoryLayer(new GroupTable());
  const id = layer.groups.id(KIND.PAGE, 1, 2, 3, 0);
  layer.putZeroPage(id, 0, 100);
  expect(() => layer.putZeroPage(id, 0, 99)).toThrow("I2");
  layer.freeze();
  expect(() => layer.putZeroPage(id, 0, 101)).toThrow("I3");
});

test("an operation does not overwrite the record that is assembled but not committed", () => {
  const layer = new MemoryLayer(new GroupTable());
  const id = layer.groups.id(KIND.PAGE, 1, 2, 3, 0);
  layer.arena.reserve(4);
  const { chunk, used } = layer.arena;
  chunk.bytes.set([1, 2, 3, 4], used);
  layer.putOp(id, 0, 100, Uint8Array.of(9, 9, 9, 9));
  expect([...chunk.bytes.subarray(used, used + 4)]).toEqual([1, 2, 3, 4]);
});

test("a record that was begun in the former layer's arena is read from there", () => {
  const groups = new GroupTable();
  const former = new MemoryLayer(groups);
  const layer = new MemoryLayer(groups);
  const id = groups.id(KIND.PAGE, 1, 2, 3, 0);
  layer.arena.reserve(3);
  layer.arena.chunk.bytes.set([7, 7, 7], layer.arena.used);
  former.arena.reserve(3);
  const { chunk, used } = former.arena;
  chunk.bytes.set([1, 2, 3], used);
  const before = layer.bytes;
  layer.putRecord(id, 0, 100, 0, chunk, used, 3);
  expect(layer.bytes - before).toBeGreaterThanOrEqual(chunk.bytes.length);
  layer.visit(GROUP, 0, LSN_MAX, 0 as Lsn, ({ bytes, start, length }) => {
    expect([...bytes.subarray(start, start + length)]).toEqual([1, 2, 3]);
    return true;
  });
});

test("a layer that was sealed gives its memory to the next, but not what a newer one holds of it", () => {
  const groups = new GroupTable();
  const pool = new BlockPool(64 * ARENA_CHUNK_BYTES);
  const former = new MemoryLayer(groups, pool);
  const layer = new MemoryLayer(groups, pool);
  const id = groups.id(KIND.PAGE, 1, 2, 3, 0);
  former.arena.reserve(3);
  const begun = former.arena.chunk;
  begun.bytes.set([1, 2, 3], former.arena.used);
  layer.putRecord(id, 0, 100, 0, begun, former.arena.used, 3);
  former.arena.commit(3);
  former.arena.reserve(ARENA_CHUNK_BYTES);
  former.putZeroPage(id, 1, 90);
  former.freeze();
  expect(layer.holds(begun)).toBe(true);
  former.release((chunk) => layer.holds(chunk));
  // Its other chunk, and its page of entries.
  expect(pool.idleBytes).toBe(2 * ARENA_CHUNK_BYTES);
  expect(() => former.visitId(id, 1, LSN_MAX, 0 as Lsn, () => true)).toThrow(/released/);
  for (const block of [pool.take(), pool.take()]) new Uint8Array(block).fill(0xee);
  layer.visit(GROUP, 0, LSN_MAX, 0 as Lsn, ({ bytes, start, length }) => {
    expect([...bytes.subarray(start, start + length)]).toEqual([1, 2, 3]);
    return true;
  });
});

test("reading keys that no one has put leaves the group table as it was", () => {
  const layer = new MemoryLayer(new GroupTable());
  layer.visit(GROUP, 0, LSN_MAX, 0 as Lsn, () => true);
  expect(layer.groups.size).toBe(0);
});

test("the past of a busy key is found by one seek, whatever LSN is asked for", () =>
  inScratch(async (directory) => {
    const files = new OpenFiles();
    const puts = Array.from({ length: 400 }, (_, i): Put => {
      const bytes = new Uint8Array(500).fill(i & 255);
      return {
        group: GROUP,
        block: 5,
        type: 2,
        flags: 0,
        lsn: (1_000 + i * 16) as Lsn,
        hole: 0,
        bytes,
      };
    });
    const layer = await sealedLayer(puts, directory, files);
    for (let at = 990; at < 1_000 + 401 * 16; at += 8) {
      let newest = 0;
      layer.visit(GROUP, 5, at as Lsn, 0 as Lsn, (version) => {
        newest = version.lsn;
        return false;
      });
      expect(newest).toBe(puts.findLast(({ lsn }) => lsn <= at)?.lsn ?? 0);
    }
    files.closeAll();
  }));

test("more files than may be open are closed and opened again", () =>
  inScratch(async (directory) => {
    const files = new OpenFiles(2);
    const layers: LmdbLayer[] = [];
    for (let i = 0; i < 5; i++) {
      const bytes = Uint8Array.of(i);
      const put: Put = {
        group: GROUP,
        block: 5,
        type: 2,
        flags: 0,
        lsn: 16 as Lsn,
        hole: 0,
        bytes,
      };
      const own = `${directory}/${i}`;
      (await import("node:fs")).mkdirSync(own);
      layers.push(await sealedLayer([put], own, files));
    }
    for (let round = 0; round < 3; round++) {
      layers.forEach((layer, i) =>
        layer.visit(GROUP, 5, LSN_MAX, 0 as Lsn, ({ bytes, start }) => {
          expect(bytes[start]).toBe(i);
          return true;
        }),
      );
    }
    files.closeAll();
  }));

test("a run that was compared with its checksum is compared again when that is a while ago", () =>
  inScratch(async (directory) => {
    let now = 0;
    const files = new OpenFiles(2, () => now);
    const payload = new Uint8Array(100).fill(0xa7);
    const memory = new MemoryLayer(new GroupTable());
    const id = memory.groups.id(GROUP.kind, GROUP.a, GROUP.b, GROUP.c, GROUP.d);
    for (let block = 0; block < 5; block++) memory.putOp(id, block, 100, payload);
    const layer = await sealedFrom(memory, directory, files);
    const read = (block: number): number => {
      let found = -1;
      for (let i = 0; i < 70; i++) {
        layer.visit(GROUP, block, LSN_MAX, 0 as Lsn, ({ bytes, start }) => {
          found = bytes[start]!;
          return false;
        });
      }
      return found;
    };
    expect(read(0)).toBe(0xa7);
    // Damage that nobody told of, in every value.
    const handle = fs.openSync(layer.path, "r+");
    const bytes = fs.readFileSync(layer.path);
    for (let at = bytes.indexOf(payload); at >= 0; at = bytes.indexOf(payload, at + 1)) {
      fs.writeSync(handle, Uint8Array.of(0xa6), 0, 1, at);
    }
    fs.closeSync(handle);
    expect(read(0)).toBe(0xa6); // trusted still
    expect(() => read(1)).toThrow("does not match its checksum");
    now = RUN_TRUST_MS;
    expect(() => read(0)).toThrow("does not match its checksum");
    files.closeAll();
  }));

test("pages that do not compress take little more than their size", () =>
  inScratch(async (directory) => {
    const memory = new MemoryLayer(new GroupTable());
    const id = memory.groups.id(GROUP.kind, GROUP.a, GROUP.b, GROUP.c, GROUP.d);
    const pages = 500;
    for (let block = 0; block < pages; block++) {
      memory.arena.reserve(PAGE_BYTES);
      const { chunk, used } = memory.arena;
      crypto.getRandomValues(chunk.bytes.subarray(used, used + PAGE_BYTES));
      memory.arena.commit(PAGE_BYTES);
      memory.putImage(id, block, 100, 0, chunk, used, PAGE_BYTES, 0, 0);
    }
    const files = new OpenFiles();
    const layer = await sealedFrom(memory, directory, files, memory.bytes / memory.keyCount);
    expect(fs.statSync(layer.path).size / (pages * PAGE_BYTES)).toBeLessThan(1.1);
    layer.check((invariant, where, found) => expect([invariant, where, found]).toEqual([]));
    files.closeAll();
  }));
