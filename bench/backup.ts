// A backup: how it keeps pace with pgbench, what it stores for it, how soon a lost machine's pages are read
// again on an empty one, and how fast everything comes back, against plain parallel reads of the same objects.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { listAll } from "../src/core/object-storage.ts";
import type { TimelineInfo } from "../src/protocol/api.ts";
import { Lsn } from "../src/core/lsn.ts";
import { rgwMissing } from "../test/support/rgw.ts";
import { type BackupPlace, openPlace } from "../test/verify/backup-place.ts";
import { PageServerProgram, pgbench } from "./program.ts";
import { type Result, figure, goal } from "./result.ts";
import { type Stores, TIMELINE } from "./stores.ts";
import { TENANT } from "./tenant.ts";

const POLL_MS = 100;
const READERS = 8;
const MB = 1e6;
/** pg_database: it is in every cluster. */
const PAGE = { rel: "global/1262", block: 0 };

interface Stored {
  readonly names: readonly string[];
  readonly bytes: number;
}

export async function measureBackup(
  stores: Stores,
  store: string,
  seconds: number,
): Promise<readonly Result[]> {
  const place = await openPlace(rgwMissing() === undefined ? "s3" : "local");
  try {
    return [
      ...(await measureUpload(stores.copy(store), place, seconds)),
      ...(await measureAttach(place)),
      ...(await measureRestore(place)),
    ];
  } finally {
    await place.end();
  }
}

async function measureUpload(
  dataDir: string,
  place: BackupPlace,
  seconds: number,
): Promise<readonly Result[]> {
  const program = new PageServerProgram(dataDir, place.environment);
  try {
    const begun = performance.now();
    await program.start();
    await untilUploaded(program);
    const first = await stored(place);
    const mbps = first.bytes / MB / ((performance.now() - begun) / 1000);
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
      figure("first upload of a store", mbps, "MB/s"),
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

async function measureAttach(place: BackupPlace): Promise<readonly Result[]> {
  const dataDir = emptyDir();
  const program = new PageServerProgram(dataDir, place.environment);
  try {
    await program.launch();
    const begun = performance.now();
    await program.attach("when-read");
    await program.page(PAGE);
    const seconds = (performance.now() - begun) / 1000;
    return [
      goal("attach on an empty machine, until a page is read", seconds, "s", "<=", 2),
      goal("  on its disk then", onDisk(dataDir) / MB, "MB", "<=", 64),
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

/** Bytes that files take up on the disk. */
function onDisk(directory: string): number {
  return fs
    .readdirSync(directory, { recursive: true, encoding: "utf8" })
    .map((name) => fs.statSync(path.join(directory, name)))
    .reduce((sum, stat) => sum + (stat.isFile() ? stat.blocks * 512 : 0), 0);
}
