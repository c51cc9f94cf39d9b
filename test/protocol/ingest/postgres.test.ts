// Ingest against PostgreSQL itself: from the files of a fresh initdb and the WAL of a server that did a
// bit of everything, everything that is kept natively must become what the server has in its files
// after a clean shutdown.

import fs from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { decodeDbCopy } from "../../../src/core/db-copy.ts";
import { type Group, KIND } from "../../../src/core/key.ts";
import { Lsn, WAL_SEGMENT_BYTES } from "../../../src/core/lsn.ts";
import {
  type CheckPoint,
  buildCheckPoint,
  readCheckPoint,
  readControlFile,
} from "../../../src/protocol/control-file.ts";
import { WalIngest } from "../../../src/protocol/ingest/ingest.ts";
import { pageLsn } from "../../../src/protocol/page-header.ts";
import { WalDecoder } from "../../../src/protocol/wal/decoder.ts";
import {
  parseSegmentFileName,
  segmentFileName,
  segmentOf,
} from "../../../src/protocol/wal/segment.ts";
import { type TestPostgres, startPostgres } from "../../support/postgres.ts";
import { WORKLOAD } from "../../support/wal-workload.ts";
import { ModelStore, at } from "./model.ts";

const FORKS: Readonly<Record<string, number>> = { "": 0, _fsm: 1, _vm: 2, _init: 3 };
const SLRU_DIRS = ["pg_xact", "pg_multixact/members", "pg_multixact/offsets"] as const;

interface RelFile {
  readonly group: Group;
  readonly bytes: Buffer;
  readonly unlogged: boolean;
}

const databases = (dir: string): readonly string[] =>
  fs.readdirSync(path.join(dir, "base")).filter((entry) => /^\d+$/.test(entry));

/** Relation files of a data directory, whole relations of one segment each. */
function relationFiles(dir: string): readonly RelFile[] {
  const places = [
    { sub: "global", spc: 1664, db: 0 },
    ...fs
      .readdirSync(path.join(dir, "base"))
      .map((n) => ({ sub: `base/${n}`, spc: 1663, db: Number(n) })),
  ];
  return places.flatMap(({ sub, spc, db }) => {
    const names = fs.readdirSync(path.join(dir, sub));
    return names.flatMap((name) => {
      const match = /^(\d+)(|_fsm|_vm|_init)$/.exec(name);
      if (match === null) return [];
      const [, rel, fork] = match;
      const group = { kind: KIND.PAGE, a: spc, b: db, c: Number(rel), d: FORKS[fork!]! };
      const unlogged = fork !== "_init" && names.includes(`${rel}_init`);
      return [{ group, bytes: fs.readFileSync(path.join(dir, sub, name)), unlogged }];
    });
  });
}

function slruFiles(dir: string): readonly { readonly group: Group; readonly bytes: Buffer }[] {
  return SLRU_DIRS.flatMap((sub, slru) =>
    fs.readdirSync(path.join(dir, sub)).map((name) => ({
      group: at.slru(slru, parseInt(name, 16)),
      bytes: fs.readFileSync(path.join(dir, sub, name)),
    })),
  );
}

const sizeOf = (g: Group): Group => ({
  ...g,
  kind: g.kind === KIND.PAGE ? KIND.REL_SIZE : KIND.SLRU_SIZE,
});

/** Puts files into the store as an import does, but only the pages this test looks at. */
function importFiles(store: ModelStore, dir: string, lsn: Lsn): void {
  const files = [...relationFiles(dir), ...slruFiles(dir)];
  for (const { group, bytes } of files) {
    const id = (g: Group): number => store.groups.id(g.kind, g.a, g.b, g.c, g.d);
    const blocks = bytes.length / 8192;
    const size = Buffer.alloc(4);
    size.writeUInt32LE(blocks);
    store.putValue(id(sizeOf(group)), 0, lsn, size);
    for (let block = 0; block < blocks; block++) {
      const { arena } = store;
      arena.reserve(8192);
      const { chunk, used } = arena;
      chunk.bytes.set(bytes.subarray(block * 8192, (block + 1) * 8192), used);
      arena.commit(8192);
      store.putImage(id(group), block, lsn, 0, chunk, used, 8192, 0, 0);
    }
  }
}

let pg: TestPostgres;
let store: ModelStore;
let ingest: WalIngest;
let beforeShutdown: CheckPoint;
let finalControl: ReturnType<typeof readControlFile>;

/** Made by logging every page: PostgreSQL logs maps with their bits left out, as if they were a hole. */
let loggedDb: number;

const readControl = (dir: string): ReturnType<typeof readControlFile> =>
  readControlFile(fs.readFileSync(path.join(dir, "global/pg_control")), 15);

beforeAll(async () => {
  pg = await startPostgres({
    start: false,
    wal: "replica",
    settings: {
      max_prepared_transactions: "5",
      wal_keep_size: "2GB",
      checkpoint_timeout: "1h",
      autovacuum: "off",
    },
  });
  const first = readControl(pg.dataDir);
  store = new ModelStore();
  importFiles(store, pg.dataDir, first.checkPoint);
  const put = (g: Group, bytes: Uint8Array): void =>
    store.putValue(store.groups.id(g.kind, g.a, g.b, g.c, g.d), 0, first.checkPoint, bytes);
  put(at.checkpoint, buildCheckPoint(first.checkPointCopy, 15));
  put(at.control, fs.readFileSync(path.join(pg.dataDir, "global/pg_control")));
  for (const db of databases(pg.dataDir)) {
    put(
      at.relmap(Number(db)),
      fs.readFileSync(path.join(pg.dataDir, "base", db, "pg_filenode.map")),
    );
  }
  put(at.relmap(0, 1664), fs.readFileSync(path.join(pg.dataDir, "global/pg_filenode.map")));

  await pg.start();
  await runWorkload();
  await pg.stop();
  finalControl = readControl(pg.dataDir);
  ingestWal(first.checkPoint);
}, 180_000);

afterAll(() => pg.cleanup());

async function runWorkload(): Promise<void> {
  for (const [db, text] of WORKLOAD) await pg.sql(text, db);
  await pg.pgbench(["-i", "-q", "-s", "1"]);
  await pg.pgbench(["-c", "4", "-t", "100"]);
  await pg.sql(`
    create table shared (id int primary key, v int);
    insert into shared select i, 0 from generate_series(1, 5000) i;
    create unlogged table ephemeral as select i from generate_series(1, 100) i;
    create temp table temporary as select i from generate_series(1, 100) i;
    create table hashed (i int); create index on hashed using hash (i);
    insert into hashed select i from generate_series(1, 20000) i;
    create table boxes (b box); create index on boxes using gist (b);
    insert into boxes select box(point(i, i), point(i + 1, i + 1)) from generate_series(1, 5000) i;
    vacuum freeze pgbench_accounts; vacuum pgbench_accounts, hashed, boxes;
    delete from pgbench_accounts where aid > 50000; vacuum pgbench_accounts;
    update pgbench_accounts set abalance = 1 where aid % 777 = 0;
  `);
  await pg.sql("create database copied2 template postgres strategy file_copy");
  await pg.sql(
    "vacuum hashed; delete from hashed where i % 50 = 0; create table new (i int)",
    "copied2",
  );
  await pg.sql("update hashed set i = i + 1 where i % 7 = 0; drop table boxes", "copied2");
  await pg.sql("create database logged2 template template0 strategy wal_log");
  await pg.sql("create table t as select i from generate_series(1, 1000) i; vacuum t", "logged2");
  loggedDb = Number(await pg.sql("select oid from pg_database where datname = 'logged2'"));
  await pg.sql(`
    begin; select count(*) from (select * from shared for key share) s;
    prepare transaction 'still open';
  `);
  // One multixact a row, each with a subtransaction of its own: several pages of offsets and members.
  await pg.sql(`do $$ begin for i in 1..5000 loop
      begin perform 1 from shared where id = i for key share;
      exception when others then raise; end;
    end loop; end $$;`);
}

function ingestWal(start: Lsn): void {
  ingest = new WalIngest({ version: 15, sink: store, meta: store, last: start, prev: Lsn.of(0) });
  const decoder = new WalDecoder({
    version: 15,
    start,
    arena: store.arena,
    atEnd: "stop",
    onRecord: (record) => {
      if (record.startLsn === finalControl.checkPoint)
        beforeShutdown = readCheckPoint(ingest.checkpoint(), 15);
      ingest.ingest(record);
      // Layers are frozen all the time, and ingest starts anew.
      if (record.startLsn % 65_536 < 200) freeze();
    },
  });
  const freeze = (): void => {
    ingest.beforeFreeze();
    const { lastLsn: last, prevLsn: prev } = ingest;
    ingest = new WalIngest({ version: 15, sink: store, meta: store, last, prev });
  };
  const wal = path.join(pg.dataDir, "pg_wal");
  const segments = fs.readdirSync(wal).filter((n) => parseSegmentFileName(n) !== undefined);
  for (let segment = segmentOf(start); !decoder.ended; segment++) {
    const name = segmentFileName(1, segment);
    expect(segments).toContain(name);
    const skip = segment === segmentOf(start) ? start % WAL_SEGMENT_BYTES : 0;
    decoder.feed(fs.readFileSync(path.join(wal, name)).subarray(skip));
  }
}

/** A native page at the end, through copies of databases. */
function readPage(group: Group, block: number): Uint8Array {
  const copy = store.read({ ...at.dbCopy(group.b), a: group.a }, 0);
  if (copy.kind !== "value") return store.page(group, block);
  const { srcDb, lsn } = decodeDbCopy(copy.value);
  const own = store.versionsOf(group, block).filter((v) => v.lsn > lsn);
  const source = store.versionsOf({ ...group, b: srcDb }, block).filter((v) => v.lsn <= lsn);
  const joined = new ModelStore();
  joined.versions.set(`${group.kind}/${group.a}/${group.b}/${group.c}/${group.d}/${block}`, [
    ...source,
    ...own,
  ]);
  return joined.page(group, block);
}

const name = (g: Group): string => `${g.a}/${g.b}/${g.c}.${g.d}`;

describe("after a clean shutdown", () => {
  test("all WAL was taken in", () => {
    expect(ingest.prevLsn).toBe(finalControl.checkPoint);
  });

  test.each(SLRU_DIRS)("%s is equal byte for byte", (dir) => {
    const slru = SLRU_DIRS.indexOf(dir);
    const files = slruFiles(pg.dataDir).filter(({ group }) => group.a === slru);
    const wrong: string[] = [];
    let pages = 0;
    for (const { group, bytes } of files) {
      expect([group.c, store.size(sizeOf(group))]).toEqual([group.c, bytes.length / 8192]);
      for (let block = 0; block < bytes.length / 8192; block++, pages++) {
        const page = store.page(group, block);
        if (!bytes.subarray(block * 8192, (block + 1) * 8192).equals(page)) {
          wrong.push(`segment ${group.c} block ${block}`);
        }
      }
    }
    expect(wrong).toEqual([]);
    expect(pages).toBeGreaterThan(1);
    const segments: number[] = [];
    store.list(KIND.SLRU_SIZE, slru, 0, (id) => segments.push(store.groups.group(id).c));
    expect(segments.sort()).toEqual(files.map(({ group }) => group.c).sort());
  });

  test("exactly the relations that have files exist", () => {
    const files = relationFiles(pg.dataDir).filter((f) => !f.unlogged);
    // The server makes free space maps and empty visibility maps without telling the WAL.
    const told = (g: Group): boolean => g.d === 0 || g.d === 3;
    const want = files
      .map((f) => f.group)
      .filter(told)
      .map(name);
    const found: string[] = [];
    store.list(KIND.REL_SIZE, undefined, undefined, (id) => {
      const g = store.groups.group(id);
      if (told(g)) found.push(name(g));
    });
    expect(found.sort()).toEqual(want.sort());
    expect(want.length).toBeGreaterThan(1_000);
  });

  test("sizes are the files', but for pages that nothing was ever written to", () => {
    let longer = 0;
    for (const { group, bytes, unlogged } of relationFiles(pg.dataDir)) {
      const size = store.size(sizeOf(group));
      if (unlogged || group.d === 1 || group.d === 2) {
        // A map never has more pages than the server's, except that it may not exist there at all.
        expect(bytes.length / 8192, name(group)).toBeGreaterThanOrEqual(size ?? 0);
        continue;
      }
      expect(size, name(group)).toBeDefined();
      expect(bytes.length / 8192, name(group)).toBeGreaterThanOrEqual(size!);
      for (let at = size! * 8192; at < bytes.length; at += 8192, longer++) {
        expect(pageLsn(bytes, at), `${name(group)} past its end`).toBe(0);
      }
    }
    expect(longer).toBeLessThan(2_000);
  });

  test("visibility maps have the same bits and LSN", () => {
    let pages = 0;
    let bitsSet = 0;
    const wrong: string[] = [];
    for (const { group, bytes, unlogged } of relationFiles(pg.dataDir)) {
      if (group.d !== 2 || unlogged) continue;
      for (let block = 0; block < bytes.length / 8192; block++, pages++) {
        const file = bytes.subarray(block * 8192, (block + 1) * 8192);
        const known = block < (store.size(sizeOf(group)) ?? 0);
        const page = known ? readPage(group, block) : new Uint8Array(8192);
        const same = file.subarray(24).equals(page.subarray(24)) && pageLsn(file) === pageLsn(page);
        // Bits that are missing only cost time; one too many would give wrong answers.
        const fewer = page.subarray(24).every((byte, i) => (byte & ~file[24 + i]!) === 0);
        if (!(group.b === loggedDb ? fewer : same)) wrong.push(`${name(group)} block ${block}`);
        bitsSet += file.subarray(24).filter((b) => b !== 0).length;
      }
    }
    expect(wrong).toEqual([]);
    expect(pages).toBeGreaterThan(20);
    expect(bitsSet).toBeGreaterThan(200);
  });

  test("relation maps, and with them databases, are the server's", () => {
    const want = new Map<number, string>();
    for (const db of databases(pg.dataDir)) {
      const map = fs.readFileSync(path.join(pg.dataDir, "base", db, "pg_filenode.map"));
      want.set(Number(db), map.toString("hex"));
    }
    const found = new Map<number, string>();
    store.list(KIND.RELMAP, 1663, undefined, (id, _block, value) => {
      found.set(store.groups.group(id).b, Buffer.from(value).toString("hex"));
    });
    expect(found).toEqual(want);
    const shared = store.read(at.relmap(0, 1664), 0);
    const file = fs.readFileSync(path.join(pg.dataDir, "global/pg_filenode.map"));
    expect(shared.kind === "value" && file.equals(shared.value)).toBe(true);
  });

  test("the checkpoint is the server's, and was already before its last record", () => {
    const final = finalControl.checkPointCopy;
    const { nextXid } = beforeShutdown;
    expect(nextXid).toBeGreaterThanOrEqual(final.nextXid);
    expect(nextXid).toBeLessThanOrEqual(final.nextXid + 1_024);
    const { nextMulti, nextMultiOffset } = final;
    expect(beforeShutdown).toMatchObject({ nextMulti, nextMultiOffset });
    expect(nextMulti).toBeGreaterThan(5_000);
    // OIDs are logged ahead of their use.
    expect(beforeShutdown.nextOid).toBeGreaterThanOrEqual(final.nextOid);
    const stored = store.read(at.checkpoint, 0);
    if (stored.kind !== "value") throw new Error(stored.kind);
    // Only standbys ask for the oldest running transaction; here one is still prepared.
    const want = buildCheckPoint({ ...final, oldestActiveXid: 0 }, 15);
    const got = stored.value.slice();
    const oldest = new DataView(got.buffer).getUint32(80, true);
    got.fill(0, 80, 84);
    expect(got).toEqual(want);
    expect(store.types(at.twoPhase(oldest)).length).toBeGreaterThan(0);
  });

  test("prepared transactions are the server's files, less the checksum", () => {
    const dir = path.join(pg.dataDir, "pg_twophase");
    const want = fs.readdirSync(dir).map((file) => {
      return [
        parseInt(file, 16),
        fs.readFileSync(path.join(dir, file)).subarray(0, -4).toString("hex"),
      ];
    });
    const found: unknown[] = [];
    store.list(KIND.TWO_PHASE, undefined, undefined, (id, _block, value) => {
      found.push([store.groups.group(id).c, Buffer.from(value).toString("hex")]);
    });
    expect(found).toEqual(want);
    expect(want).toHaveLength(1);
  });
});
