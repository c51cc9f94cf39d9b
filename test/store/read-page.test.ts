import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeDbCopy } from "../../src/core/db-copy.ts";
import { KIND } from "../../src/core/key.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../../src/core/lsn.ts";
import { writeClogSet } from "../../src/core/page-op.ts";
import { FORK_MAIN, PAGE_BYTES, type RelTag, SLRU_CLOG } from "../../src/core/page.ts";
import type { RedoRequest } from "../../src/core/redo-request.ts";
import { VERSION_FLAG } from "../../src/core/version.ts";
import { crc32c } from "../../src/protocol/crc32c.ts";
import { PageCache } from "../../src/store/page-cache.ts";
import { PageReader, isRedo } from "../../src/store/read-page.ts";
import type { TimelineStore } from "../../src/store/timeline-store.ts";
import { inScratch } from "./scratch.ts";
import { StoreFixture, seal } from "./store-fixture.ts";

const REL: RelTag = { spc: 1663, db: 5, rel: 16384, fork: FORK_MAIN };

/** Puts changes the way ingest does; LSNs are the caller's. */
class Writer {
  readonly store: TimelineStore;

  constructor(store: TimelineStore) {
    this.store = store;
  }

  size(rel: RelTag, lsn: number, blocks: number | undefined): void {
    const { sink } = this.store;
    const group = sink.groups.id(KIND.REL_SIZE, rel.spc, rel.db, rel.rel, rel.fork);
    if (blocks === undefined) sink.putTombstone(group, 0, lsn);
    else sink.putValue(group, 0, lsn, u32(blocks));
  }

  record(rel: RelTag, block: number, lsn: number, byte: number, flags = 0): void {
    const { sink } = this.store;
    const [chunk, at] = this.bytes(Uint8Array.of(byte, lsn & 255));
    sink.putRecord(this.page(rel), block, lsn, flags, chunk, at, 2);
  }

  /** A page that is all `byte` before a hole of 8000 bytes. */
  image(rel: RelTag, block: number, lsn: number, byte: number): void {
    const [chunk, at] = this.bytes(new Uint8Array(192).fill(byte));
    this.store.sink.putImage(this.page(rel), block, lsn, 0, chunk, at, 192, 192, 8000);
  }

  zero(rel: RelTag, block: number, lsn: number): void {
    this.store.sink.putZeroPage(this.page(rel), block, lsn);
  }

  dbCopy(db: number, srcDb: number, lsn: number): void {
    const { sink } = this.store;
    const copy = encodeDbCopy({ srcSpc: 1663, srcDb, lsn: lsn as Lsn });
    sink.putValue(sink.groups.id(KIND.DB_COPY, 1663, db, 0, 0), 0, lsn, copy);
  }

  private page(rel: RelTag): number {
    return this.store.sink.groups.id(KIND.PAGE, rel.spc, rel.db, rel.rel, rel.fork);
  }

  private bytes(bytes: Uint8Array): [TimelineStore["sink"]["arena"]["chunk"], number] {
    const { arena } = this.store.sink;
    arena.reserve(bytes.length);
    const { chunk, used } = arena;
    chunk.bytes.set(bytes, used);
    arena.commit(bytes.length);
    return [chunk, used];
  }
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

async function withStore(
  use: (world: {
    fixture: StoreFixture;
    write: Writer;
    reader: PageReader;
    read: (rel: RelTag, block: number, at: number) => ReturnType<PageReader["readPage"]>;
    page: Uint8Array;
  }) => void | Promise<void>,
): Promise<void> {
  await inScratch(async (directory) => {
    const fixture = new StoreFixture(directory);
    const store = fixture.create(0);
    const reader = new PageReader(store, new PageCache());
    const page = new Uint8Array(PAGE_BYTES);
    const read = (rel: RelTag, block: number, at: number): ReturnType<PageReader["readPage"]> =>
      reader.readPage(rel, block, at as Lsn, page.fill(0xee), 0);
    await use({ fixture, write: new Writer(store), reader, read, page });
    await fixture.close();
  });
}

function redoOf(read: ReturnType<PageReader["readPage"]>): RedoRequest {
  expect(read).toBeDefined();
  expect(isRedo(read!)).toBe(true);
  return read as RedoRequest;
}

/** Steps as text: whose page, which records. */
const stepsOf = ({ steps }: RedoRequest): string[] =>
  steps.map(({ rel, block, records }) => {
    const bytes = [...records].map((record) => `${record.lsn}:${record.bytes[0]}`);
    return `${rel.db}/${rel.rel} block ${block} ${bytes.join(" ")}`;
  });

test("a block past the end is zeros, a missing relation is an error, as of the LSN", () =>
  withStore(({ write, read, page }) => {
    write.image(REL, 0, 100, 7);
    write.size(REL, 100, 1);
    write.size(REL, 200, undefined);
    expect(read(REL, 1, 150)).toBeUndefined();
    expect(page.every((byte) => byte === 0)).toBe(true);
    expect(read(REL, 0, 150)).toBeUndefined();
    expect([page[0], page[191], page[192], page[8191]]).toEqual([7, 7, 0, 0]);
    expect(read(REL, 0, 99)).toEqual({ kind: "relation-missing", rel: REL, at: 99 });
    expect(read(REL, 0, 200)).toEqual({ kind: "relation-missing", rel: REL, at: 200 });
  }));

test("an image and the records after it are a redo request, a will-init record needs no base", () =>
  withStore(async ({ write, read, page, fixture }) => {
    write.size(REL, 100, 2);
    write.image(REL, 0, 100, 7);
    write.record(REL, 0, 110, 1);
    write.record(REL, 0, 120, 2);
    write.zero(REL, 1, 100);
    write.record(REL, 1, 120, 3, VERSION_FLAG.WILL_INIT);
    for (const sealed of [false, true]) {
      if (sealed) {
        fixture.store(0).freeze(120 as Lsn, LSN_INVALID);
        await seal(fixture.store(0));
      }
      const request = redoOf(read(REL, 0, 130));
      expect(stepsOf(request)).toEqual(["5/16384 block 0 110:1 120:2"]);
      expect([request.base?.length, request.base?.[0], page[0]]).toEqual([PAGE_BYTES, 7, 7]);
      expect(stepsOf(redoOf(read(REL, 0, 119)))).toEqual(["5/16384 block 0 110:1"]);
      const init = redoOf(read(REL, 1, 130));
      expect(stepsOf(init)).toEqual(["5/16384 block 1 120:3"]);
      expect(init.base).toBeUndefined();
    }
  }));

test("records without a page to begin with, or a page that has no version, are corrupt", () =>
  withStore(({ write, read }) => {
    write.size(REL, 100, 2);
    write.record(REL, 0, 110, 1);
    expect(read(REL, 0, 130)).toMatchObject({ kind: "corrupt" });
    expect(read(REL, 1, 130)).toMatchObject({ kind: "corrupt" });
  }));

test("a rebuilt page is kept until a newer version comes, and serves no LSN before its own", () =>
  withStore(({ write, read, reader, page }) => {
    write.size(REL, 100, 1);
    write.image(REL, 0, 100, 7);
    write.record(REL, 0, 110, 1);
    const request = redoOf(read(REL, 0, LSN_MAX));
    reader.remember(REL, 0, request, new Uint8Array(PAGE_BYTES).fill(42));
    expect(read(REL, 0, 110)).toBeUndefined();
    expect(page[8000]).toBe(42);
    write.size({ ...REL, rel: 9 }, 500, 1);
    expect(read(REL, 0, LSN_MAX)).toBeUndefined();
    expect(page[8000]).toBe(42);
    expect(read(REL, 0, 109)).toBeUndefined();
    expect(page[0]).toBe(7);
    write.record(REL, 0, 510, 2);
    expect(stepsOf(redoOf(read(REL, 0, LSN_MAX)))).toEqual(["5/16384 block 0 110:1 510:2"]);
    expect(read(REL, 0, 509)).toBeUndefined();
    expect(page[8000]).toBe(42);
  }));

test("a page of a copied database is the source's as of the copy, then its own", () =>
  withStore(({ write, read, reader, page }) => {
    const copied = (db: number): RelTag => ({ ...REL, db });
    // A former database 6 with the same relation must not show through.
    for (const block of [0, 1, 2]) write.image(copied(6), block, 150, 66);
    write.size(copied(6), 150, 3);
    write.size(copied(6), 195, undefined);
    write.size(REL, 100, 3);
    for (const block of [0, 1, 2]) write.image(REL, block, 100, 10 + block);
    write.record(REL, 1, 110, 1);
    write.dbCopy(6, 5, 200);
    write.size(copied(6), 200, 3);
    write.record(REL, 0, 210, 99);
    write.record(copied(6), 1, 220, 2);
    write.dbCopy(7, 6, 300);
    write.size(copied(7), 300, 3);
    write.record(copied(7), 1, 310, 3);
    write.image(copied(7), 2, 310, 77);

    expect(read(copied(6), 0, 400)).toBeUndefined();
    expect(page[0]).toBe(10);
    expect(stepsOf(redoOf(read(copied(6), 1, 400)))).toEqual([
      "5/16384 block 1 110:1",
      "6/16384 block 1 220:2",
    ]);
    const through = redoOf(read(copied(7), 1, 400));
    expect(stepsOf(through)).toEqual([
      "5/16384 block 1 110:1",
      "6/16384 block 1 220:2",
      "7/16384 block 1 310:3",
    ]);
    expect(through.base?.[0]).toBe(11);
    expect(stepsOf(redoOf(read(copied(7), 1, 305)))).toHaveLength(2);
    expect(read(copied(7), 2, 400)).toBeUndefined();
    expect(page[0]).toBe(77);
    // What was rebuilt of the copy is no answer about the former database of that number.
    const early = redoOf(read(copied(6), 1, 215));
    expect(stepsOf(early)).toEqual(["5/16384 block 1 110:1"]);
    reader.remember(copied(6), 1, early, new Uint8Array(PAGE_BYTES).fill(1));
    expect(read(copied(6), 1, 160)).toBeUndefined();
    expect(page[0]).toBe(66);
    expect(read(copied(6), 1, 215)).toBeUndefined();
    expect(page[0]).toBe(1);
  }));

test("an SLRU segment is its pages with their operations applied", () =>
  withStore(({ write, reader }) => {
    const { sink } = write.store;
    const pages = sink.groups.id(KIND.SLRU_PAGE, SLRU_CLOG, 0, 3, 0);
    const sizes = sink.groups.id(KIND.SLRU_SIZE, SLRU_CLOG, 0, 3, 0);
    const op = new Uint8Array(3);
    sink.putValue(sizes, 0, 100, u32(2));
    sink.putZeroPage(pages, 0, 100);
    sink.putZeroPage(pages, 1, 100);
    writeClogSet(op, 1, 4);
    sink.putOp(pages, 1, 110, op);
    writeClogSet(op, 2, 5);
    sink.putOp(pages, 1, 120, op);
    const at = (lsn: number): number | undefined => {
      const segment = reader.readSlruSegment(SLRU_CLOG, 3, lsn as Lsn);
      if (!segment.ok) return undefined;
      expect(segment.value).toHaveLength(2 * PAGE_BYTES);
      return segment.value[PAGE_BYTES + 1];
    };
    expect([at(105), at(115), at(125)]).toEqual([0, 1, 1 | (2 << 2)]);
    expect(reader.readSlruSegment(SLRU_CLOG, 4, LSN_MAX).ok).toBe(false);
    expect(reader.relations.slruSegments(SLRU_CLOG, LSN_MAX)).toEqual([3]);
    sink.putTombstone(sizes, 0, 130);
    expect(reader.relations.slruSegments(SLRU_CLOG, LSN_MAX)).toEqual([]);
    expect(at(129)).toBeDefined();
    expect(at(130)).toBeUndefined();
  }));

test("what a database consists of, as of an LSN", () =>
  withStore(({ write, reader }) => {
    const { relations } = reader;
    const { sink } = write.store;
    write.size(REL, 100, 3);
    write.size({ ...REL, fork: 2 }, 110, 1);
    write.size({ ...REL, spc: 1664, db: 0, rel: 1260 }, 110, 5);
    write.size({ ...REL, rel: 9 }, 120, 4);
    write.size(REL, 130, undefined);
    sink.putValue(sink.groups.id(KIND.RELMAP, 1664, 0, 0, 0), 0, 100, Uint8Array.of(1));
    sink.putValue(sink.groups.id(KIND.RELMAP, 1663, 5, 0, 0), 0, 100, Uint8Array.of(2));
    sink.putTombstone(sink.groups.id(KIND.RELMAP, 1663, 5, 0, 0), 0, 140);
    expect(relations.relations(1663, 5, 125 as Lsn)).toEqual([
      { rel: 9, fork: 0, blocks: 4 },
      { rel: 16384, fork: 0, blocks: 3 },
      { rel: 16384, fork: 2, blocks: 1 },
    ]);
    expect(relations.dbSize(5, 125 as Lsn)).toBe(8 * PAGE_BYTES);
    expect(relations.dbSize(5, 130 as Lsn)).toBe(5 * PAGE_BYTES);
    expect(relations.dbSize(4, 130 as Lsn)).toBe(0);
    expect(relations.databases(139 as Lsn)).toEqual([
      { spc: 1663, db: 5, relmap: Uint8Array.of(2) },
      { spc: 1664, db: 0, relmap: Uint8Array.of(1) },
    ]);
    expect(relations.databases(140 as Lsn)).toHaveLength(1);
  }));

// Redo as a toy: what comes out depends on the base and on every record, in order.
function toyRedo({ base, steps }: RedoRequest): Uint8Array {
  const page = base === undefined ? new Uint8Array(PAGE_BYTES) : base.slice();
  for (const { bytes, lsn } of steps.flatMap(({ records }) => [...records])) {
    page[0] = (page[0]! * 31 + bytes[0]! + lsn) & 255;
    page[lsn % PAGE_BYTES]!++;
  }
  return page;
}

test("caches of sizes and pages never change an answer, whatever is read when", () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          action: fc.constantFrom(
            "size",
            "image",
            "record",
            "read",
            "read",
            "read",
            "drop",
            "seal",
          ),
          block: fc.nat(2),
          db: fc.constantFrom(5, 6),
          value: fc.integer({ min: 1, max: 200 }),
          at: fc.nat(1_000),
        }),
        { minLength: 20, maxLength: 80, size: "max" },
      ),
      (actions) =>
        withStore(async ({ fixture, write, reader }) => {
          const store = fixture.store(0);
          let lsn = 100;
          const answer = (by: PageReader, rel: RelTag, block: number, at: Lsn): unknown => {
            const page = new Uint8Array(PAGE_BYTES);
            const read = by.readPage(rel, block, at, page, 0);
            if (read === undefined) return crc32c(page);
            if (!isRedo(read)) return read;
            const redone = toyRedo(read);
            by.remember(rel, block, read, redone);
            return crc32c(redone);
          };
          for (const { action, block, db, value, at } of actions) {
            const rel = { ...REL, db };
            lsn += 8;
            if (action === "size") write.size(rel, lsn, value % 4);
            else if (action === "image") write.image(rel, block, lsn, value);
            else if (action === "record") write.record(rel, block, lsn, value);
            else if (action === "drop" && value > 150) write.size(rel, lsn, undefined);
            else if (action === "drop" && value > 100) write.dbCopy(6, 5, lsn);
            else if (action === "seal") {
              store.freeze(lsn as Lsn, LSN_INVALID);
              await seal(store);
            }
            const asked = value % 3 === 0 ? LSN_MAX : (Math.min(lsn, 100 + at) as Lsn);
            const fresh = new PageReader(store, new PageCache(20_000));
            expect(answer(reader, rel, block, asked)).toEqual(answer(fresh, rel, block, asked));
          }
        }),
    ),
    { numRuns: 20 },
  ));

test("a page that was kept is right above the newest version too, without a look into any layer, until there is a newer one", () =>
  withStore(({ write, reader, read, page }) => {
    write.size(REL, 100, 1);
    write.image(REL, 0, 100, 7);
    write.record(REL, 0, 110, 1);
    const made = redoOf(read(REL, 0, 500));
    reader.remember(REL, 0, made, new Uint8Array(PAGE_BYTES).fill(8));
    for (const at of [110, 500, 600, 550]) {
      expect(read(REL, 0, at)).toBeUndefined();
      expect(page[0]).toBe(8);
      expect(reader.last).toMatchObject({ cached: true, layers: 0 });
    }
    write.record(REL, 0, 520, 2);
    write.size(REL, 530, 2);
    expect(stepsOf(redoOf(read(REL, 0, 600)))).toEqual(["5/16384 block 0 110:1 520:2"]);
    expect(read(REL, 0, 519)).toBeUndefined();
    expect(page[0]).toBe(8);
    expect(reader.relations.relSize(REL, 600 as Lsn)).toBe(2);
    expect(reader.relations.relSize(REL, 525 as Lsn)).toBe(1);
  }));
