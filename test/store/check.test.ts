import fs from "node:fs";
import { open } from "lmdb";
import { expect, test } from "vitest";
import { KIND } from "../../src/core/key.ts";
import { LSN_INVALID, type Lsn, WAL_SEGMENT_BYTES } from "../../src/core/lsn.ts";
import type { LayerEntry } from "../../src/store/catalog-entries.ts";
import { type CheckResult, checkStore } from "../../src/store/check.ts";
import { walPath } from "../../src/store/data-dir.ts";
import { FILTER_KEY, sealed } from "../../src/store/layer-header.ts";
import { LayerFilter } from "../../src/store/layer-filter.ts";
import { rollKey } from "../../src/store/layer-roll.ts";
import { sumFile } from "../../src/store/layer-writer.ts";
import { OpenFiles } from "../../src/store/sealed-file.ts";
import type { TimelineStore } from "../../src/store/timeline-store.ts";
import { segmentName } from "../../src/store/wal-files.ts";
import { inScratch } from "./scratch.ts";
import { StoreFixture, seal, timelineEntry, timelineId } from "./store-fixture.ts";

const pages = (store: TimelineStore): number => store.sink.groups.id(KIND.PAGE, 1663, 5, 16384, 0);

/** Images of some blocks in a first layer, changes in a second one, a branch with a third. */
async function goodStore(fixture: StoreFixture): Promise<void> {
  const main = fixture.create(0);
  for (let block = 0; block < 300; block++) main.sink.putZeroPage(pages(main), block, 100);
  main.freeze(100 as Lsn, LSN_INVALID);
  await seal(main);
  // Block 7 gets several runs.
  for (let i = 0; i < 40; i++) {
    main.sink.putOp(pages(main), 7, 200 + i * 8, new Uint8Array(900));
  }
  main.sink.putOp(pages(main), 9, 600, new Uint8Array(3));
  const size = main.sink.groups.id(KIND.REL_SIZE, 1663, 5, 16384, 0);
  main.sink.putValue(size, 0, 600, Uint8Array.of(3, 0, 0, 0));
  main.freeze(600 as Lsn, 560 as Lsn, 3 * 8_192);
  await seal(main);
  const branch = fixture.create(1, { n: 0, lsn: 300 as Lsn });
  branch.sink.putOp(pages(branch), 7, 400, new Uint8Array(3));
  const other = branch.sink.groups.id(KIND.REL_SIZE, 1663, 5, 16385, 0);
  branch.sink.putValue(other, 0, 400, Uint8Array.of(2, 0, 0, 0));
  // Of the ancestor's relation it knows nothing: that came after the branch point.
  branch.freeze(400 as Lsn, 350 as Lsn, 2 * 8_192);
  await seal(branch);
}

async function check(fixture: StoreFixture): Promise<CheckResult> {
  const files = new OpenFiles();
  const result = await checkStore({
    catalog: fixture.catalog,
    files,
    directoryOf: ({ id }) => fixture.timelineDirectory(parseInt(id, 16)),
    turn: () => Promise.resolve(),
  });
  files.closeAll();
  return result;
}

/** Breaks a good store and says which invariants the walker finds broken. */
function finds(
  name: string,
  invariants: readonly string[],
  damage: (fixture: StoreFixture) => void | Promise<void>,
): void {
  test(`${name}: ${invariants.join(", ")}`, () =>
    inScratch(async (directory) => {
      const fixture = new StoreFixture(directory);
      await goodStore(fixture);
      await fixture.reopen();
      await damage(fixture);
      const { problems } = await check(fixture);
      const found = new Set(problems.map((problem) => problem.split(":")[0]));
      expect([...found].sort(), problems.join("\n")).toEqual([...invariants].sort());
      await fixture.close();
    }));
}

const newest = (fixture: StoreFixture): LayerEntry => fixture.catalog.layers(timelineId(0))[0]!;
const pathOf = (fixture: StoreFixture, { file }: LayerEntry): string =>
  `${fixture.timelineDirectory(0)}/layers/${file}`;

function putLayer(fixture: StoreFixture, entry: LayerEntry): void {
  fixture.catalog.change((change) => change.putLayer(entry));
}

/** Changes a layer's file as LMDB would, and makes the catalog believe it. */
async function editFile(
  fixture: StoreFixture,
  edit: (db: ReturnType<typeof open<Buffer, Buffer>>, keys: readonly Buffer[]) => void,
): Promise<void> {
  const entry = newest(fixture);
  const path = pathOf(fixture, entry);
  const db = open<Buffer, Buffer>({
    path,
    noSubdir: true,
    keyEncoding: "binary",
    encoding: "binary",
    overlappingSync: false,
  });
  edit(db, [...db.getKeys({})]);
  await db.close();
  putLayer(fixture, { ...entry, ...(await sumFile(path)) });
}

test("a good store is clean, and all of it was walked", () =>
  inScratch(async (directory) => {
    const fixture = new StoreFixture(directory);
    await goodStore(fixture);
    expect(await check(fixture)).toEqual({
      timelines: 2,
      layers: 3,
      versions: 300 + 40 + 2 + 2,
      walSegments: 0,
      remote: 0,
      problems: [],
    });
    await fixture.close();
  }));

finds("a logical size that is not the sum of the sizes", ["I14"], ({ catalog }) => {
  const entry = catalog.timeline(timelineId(0))!;
  catalog.change((change) => change.putTimeline({ ...entry, sealedLogicalSize: 8_192 }));
});

finds("a snapshot where no record begins", ["I15"], ({ catalog }) => {
  const snapshot = { timeline: timelineId(0), createdAtMs: 0 };
  catalog.change((change) => {
    change.putSnapshot({ ...snapshot, name: "good", lsn: 600 as Lsn });
    change.putSnapshot({ ...snapshot, name: "bad", lsn: 601 as Lsn });
  });
});

finds("a file that was changed", ["I4"], (fixture) => {
  const fd = fs.openSync(pathOf(fixture, newest(fixture)), "r+");
  fs.writeSync(fd, Uint8Array.of(1, 2, 3), 0, 3, 9_000);
  fs.closeSync(fd);
});

finds("a file that is missing", ["I4"], (fixture) => {
  fs.rmSync(pathOf(fixture, newest(fixture)));
});

finds("a value that was changed", ["I4", "I5"], (fixture) =>
  editFile(fixture, (db, keys) => {
    const value = Buffer.from(db.getBinary(keys[0]!)!);
    value[value.length - 1]! ^= 1;
    db.putSync(keys[0]!, value);
  }),
);

finds("an older run that is gone", ["I5"], (fixture) =>
  editFile(fixture, (db, keys) => void db.removeSync(keys.find(({ length }) => length === 26)!)),
);

finds("a newest run that is gone", ["I14", "I5", "I6"], (fixture) =>
  editFile(
    fixture,
    (db, keys) => void db.removeSync(keys.findLast(({ length }) => length === 18)!),
  ),
);

finds("a filter that denies", ["I14", "I6"], (fixture) =>
  editFile(fixture, (db) => db.putSync(FILTER_KEY, sealed(LayerFilter.forKeys(3).bytes()))),
);

finds("a key that is not on the roll", ["I6"], (fixture) =>
  editFile(fixture, (db) => db.putSync(rollKey(0), sealed(new Uint8Array(0)))),
);

finds("a catalog entry that promises too little", ["I7"], (fixture) => {
  putLayer(fixture, { ...newest(fixture), firstLsn: 300 as Lsn });
});

finds("a layer beyond the sealed position", ["I14", "I7"], (fixture) => {
  const entry = fixture.catalog.timeline(timelineId(0))!;
  const earlier = { sealedLsn: 500 as Lsn, sealedPrev: LSN_INVALID };
  fixture.catalog.change((change) => change.putTimeline({ ...entry, ...earlier }));
});

finds("layers in the wrong order", ["I7", "I11"], (fixture) => {
  putLayer(fixture, { ...newest(fixture), sequence: 0 });
});

finds("versions of the wrong type", ["I10", "I11"], async (fixture) => {
  const store = fixture.store(0);
  store.sink.putValue(pages(store), 1, 700, Uint8Array.of(1));
  store.sink.putOp(store.sink.groups.id(KIND.REL_SIZE, 1, 1, 1, 0), 0, 700, Uint8Array.of(1));
  store.freeze(700 as Lsn, LSN_INVALID);
  await seal(store);
});

finds("a change of a page that does not exist", ["I11"], async (fixture) => {
  const store = fixture.store(0);
  store.sink.putOp(pages(store), 5_000, 700, Uint8Array.of(1, 2, 3));
  store.freeze(700 as Lsn, LSN_INVALID);
  await seal(store);
});

finds("an ancestor that is gone", ["I11", "I12"], (fixture) => {
  fixture.catalog.change((change) => change.removeTimeline(timelineId(0)));
});

finds("ancestors in a circle", ["I12"], (fixture) => {
  fixture.catalog.change((change) => {
    for (const [n, other] of [
      [2, 3],
      [3, 2],
    ] as const) {
      const ancestor = { id: timelineId(other), lsn: 8 as Lsn };
      change.putTimeline(timelineEntry(n, { ancestor, sealedLsn: 8 as Lsn }));
    }
  });
});

/** A segment whose pages are what PostgreSQL writes, as far as the walker looks. */
function segment(number: number): Buffer {
  const bytes = Buffer.alloc(WAL_SEGMENT_BYTES);
  for (let page = 0; page < WAL_SEGMENT_BYTES / 2; page += 8192) {
    bytes.writeUInt16LE(0xd110, page);
    bytes.writeBigUInt64LE(BigInt(number * WAL_SEGMENT_BYTES + page), page + 8);
  }
  return bytes;
}

function writeWal(
  fixture: StoreFixture,
  ...segments: readonly (readonly [number, Buffer])[]
): void {
  const directory = walPath(fixture.timelineDirectory(0));
  fs.mkdirSync(directory, { recursive: true });
  for (const [number, bytes] of segments) {
    fs.writeFileSync(`${directory}/${segmentName(1, number)}`, bytes);
  }
}

finds("WAL as it should be", [], (fixture) => {
  writeWal(fixture, [0, segment(0)], [1, segment(1)]);
});

finds("WAL with a hole", ["I8"], (fixture) => {
  writeWal(fixture, [0, segment(0)], [2, segment(2)]);
});

finds("WAL that begins too late", ["I8"], (fixture) => {
  writeWal(fixture, [1, segment(1)]);
});

test("WAL that is let go while the walker walks was sealed before", () =>
  inScratch(async (directory) => {
    const fixture = new StoreFixture(directory);
    await goodStore(fixture);
    writeWal(fixture, [0, segment(0)], [1, segment(1)]);
    const { catalog } = fixture;
    const { problems } = await checkStore({
      catalog,
      files: fixture.files,
      directoryOf: ({ id }) => fixture.timelineDirectory(parseInt(id, 16)),
      turn: () => {
        const entry = catalog.timeline(timelineId(0))!;
        const sealedLsn = (WAL_SEGMENT_BYTES + 600) as Lsn;
        catalog.change((change) => change.putTimeline({ ...entry, sealedLsn }));
        fs.rmSync(`${walPath(fixture.timelineDirectory(0))}/${segmentName(1, 0)}`, { force: true });
        return Promise.resolve();
      },
    });
    expect(problems).toEqual([]);
    await fixture.close();
  }));

finds("a WAL page at the wrong place", ["I8"], (fixture) => {
  writeWal(fixture, [0, segment(1)]);
});

finds("a WAL segment that was cut", ["I8"], (fixture) => {
  writeWal(fixture, [0, segment(0).subarray(0, 8_000_000)]);
});
