// A backup: how it keeps pace with pgbench, what it stores for it, how soon a lost machine's pages are read
// again on an empty one, and how fast everything comes back, against plain parallel reads of the same objects.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { listAll } from "../src/core/object-storage.ts";
import type { TimelineInfo } from "../src/protocol/api.ts";
import { Lsn } from "../src/core/lsn.ts";
import { rgwMissing } from "../test/support/rgw.ts";
import { type BackupPlace, MASTER_KEY, openPlace } from "../test/verify/backup-place.ts";
import type { Table } from "./corpus.ts";
import { PageServerProgram, pgbench } from "./program.ts";
import { type Result, figure, goal } from "./result.ts";
import { type Stores, TIMELINE } from "./stores.ts";
import { TENANT } from "./tenant.ts";

const POLL_MS = 100;
const READERS = 8;
const MB = 1e6;

interface Stored {
  readonly names: readonly string[];
  readonly bytes: number;
}

/** What is lost and attached again: a large store, and a page in the middle of its table. */
export interface Lost {
  readonly store: string;
  readonly table: Table;
}

/** `store`: of pgbench's tables. */
export async function measureBackup(
  stores: Stores,
  store: string,
  lost: Lost,
  seconds: number,
): Promise<readonly Result[]> {
  const plain = await atPlace({}, async (place) => [
    ...(await measureUpload(stores.copy(store), place, seconds)),
  ]);
  const large = await atPlace({}, async (place) => [
    await firstUpload(stores.copy(lost.store), place),
    ...(await measureAttach(place, lost.table)),
    ...(await measureRestore(place)),
  ]);
  const encrypted = await atPlace(MASTER_KEY, async (place) => [
    await firstUpload(stores.copy(store), place),
    ...(await measureRestore(place)),
  ]);
  const asEncrypted = (one: Result): Result => ({ ...one, name: `encrypted: ${one.name.trim()}` });
  return [...plain, ...large, ...encrypted.map(asEncrypted)];
}

async function atPlace(
  settings: Readonly<Record<string, string>>,
  measure: (place: BackupPlace) => Promise<readonly Result[]>,
): Promise<readonly Result[]> {
  const place = await openPlace(rgwMissing() === undefined ? "s3" : "local");
  try {
    return await measure({ ...place, environment: { ...place.environment, ...settings } });
  } finally {
    await place.end();
  }
}

async function firstUpload(dataDir: string, place: BackupPlace): Promise<Result> {
  const program = new PageServerProgram(dataDir, place.environment);
  try {
    await program.start();
    const begun = performance.now();
    await untilUploaded(program);
    const seconds = (performance.now() - begun) / 1000;
    const { bytes } = await stored(place);
    return figure(
      `first upload of ${(bytes / 1e9).toFixed(1)} GB of objects`,
      bytes / MB / seconds,
      "MB/s",
    );
  } finally {
    await program.cleanup();
  }
}

async function measureUpload(
  dataDir: string,
  place: BackupPlace,
  seconds: number,
): Promise<readonly Result[]> {
  const program = new PageServerProgram(dataDir, place.environment);
  try {
    await program.start();
    await untilUploaded(program);
    const { port } = await program.boot({});
    await untilUploaded(program);
    const before = { at: durable(await program.timeline()), ...(await stored(place)) };
    let most = 0;
    let loading = true;
    const watching = (async () => {
      while (loading) {
        most = Math.max(most, (await program.timeline()).backup?.lag_bytes ?? 0);
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    })();
    await pgbench({ port }, seconds, []);
    loading = false;
    await watching;
    const ended = performance.now();
    await untilUploaded(program);
    const drained = (performance.now() - ended) / 1000;
    const wal = durable(await program.timeline()) - before.at;
    const after = await stored(place);
    const perGb = 1e9 / wal;
    await program.halt();
    return [
      figure("WAL of pgbench that was backed up", wal / MB / seconds, "MB/s"),
      figure("  most that was not uploaded meanwhile", most / MB, "MB"),
      figure("  uploaded after the load's end", drained, "s"),
      figure("  bytes stored for a GB of WAL", ((after.bytes - before.bytes) * perGb) / MB, "MB"),
      figure("  objects", (after.names.length - before.names.length) * perGb, "/GB"),
    ];
  } finally {
    await program.cleanup();
  }
}

async function measureAttach(place: BackupPlace, table: Table): Promise<readonly Result[]> {
  const program = new PageServerProgram(emptyDir(), place.environment);
  try {
    await program.launch();
    const begun = performance.now();
    const since = (): number => (performance.now() - begun) / 1000;
    await program.attach("when-read");
    const attached = since();
    const { db, rel, blocks } = table;
    await program.page({ rel: `base/${db}/${rel}`, block: blocks >> 1 });
    const read = since();
    const { bytes } = await stored(place);
    const fetched = await program.fetchedBytes();
    return [
      figure(`attach of ${(bytes / 1e9).toFixed(1)} GB on an empty machine`, attached, "s"),
      goal("  until a page of its table is read", read, "s", "<=", 2),
      goal("  fetched by then", fetched / MB, "MB", "<=", 64),
    ];
  } finally {
    await program.cleanup();
  }
}

async function measureRestore(place: BackupPlace): Promise<readonly Result[]> {
  const program = new PageServerProgram(emptyDir(), place.environment);
  try {
    await program.launch();
    const restoring = performance.now();
    await program.attach("fetch");
    const seconds = (performance.now() - restoring) / 1000;
    const { names } = await stored(place);
    const layers = names.filter((name) => name.includes("/layers/"));
    const begun = performance.now();
    const bytes = await readAll(place, layers);
    const plain = (performance.now() - begun) / 1000;
    const restored = bytes / MB / seconds;
    return [
      figure("restore, objects' bytes", restored, "MB/s"),
      figure("  plain parallel reads of the same objects", bytes / MB / plain, "MB/s"),
      goal("  ratio", restored / (bytes / MB / plain), "", ">=", 0.7),
    ];
  } finally {
    await program.cleanup();
  }
}

async function readAll(place: BackupPlace, names: readonly string[]): Promise<number> {
  let next = 0;
  let bytes = 0;
  const reader = async (): Promise<void> => {
    while (next < names.length) {
      for await (const piece of place.storage.getStream(names[next++]!, 0)) bytes += piece.length;
    }
  };
  await Promise.all(Array.from({ length: READERS }, reader));
  return bytes;
}

async function stored({ storage }: BackupPlace): Promise<Stored> {
  const names: string[] = [];
  let sum = 0;
  for await (const { name, bytes } of listAll(storage, `tenants/${TENANT}/timelines/${TIMELINE}`)) {
    names.push(name);
    sum += bytes;
  }
  return { names, bytes: sum };
}

const durable = ({ positions }: TimelineInfo): Lsn => Lsn.parse(positions.durable);

/** All that is durable, and no layer waits. */
async function untilUploaded(program: PageServerProgram): Promise<void> {
  for (;;) {
    const { positions, backup } = await program.timeline();
    if (positions.uploaded === positions.durable && backup?.layers_waiting === 0) return;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

const emptyDir = (): string => fs.mkdtempSync(path.join(os.tmpdir(), "bench-attach-"));
