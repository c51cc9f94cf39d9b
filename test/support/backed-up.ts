// A timeline whose layers of pages are files of their own and in object storage, for tests of what
// becomes of them there and here.

import fs from "node:fs";
import { readManifest } from "../../src/actors/backup-turn.ts";
import type { Lsn } from "../../src/core/lsn.ts";
import type { ObjectStorage } from "../../src/core/object-storage.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import { RM, XLOG } from "../../src/protocol/wal/rmgr.ts";
import type { RecordSpec } from "../../src/protocol/wal/writer.ts";
import { layersPath, timelinePath } from "../../src/store/data-dir.ts";
import { noise } from "../io/objects/conformance.ts";
import { until } from "./replication.ts";
import type { TimelineTest } from "./timeline-test.ts";
import { MAIN, REL, TENANT, type TestReceiver, type TimelineWorld } from "./timeline-world.ts";

/** So many pages of bytes that cannot be compressed, and merging gives them a file of their own. */
export const PAGES_OF_A_FILE = 700;

export const uploadedOf = (world: TimelineWorld, id = MAIN): Lsn =>
  world.tenant.timelines.get(id)!.facts.positions.uploaded;

/** Page `block`, last byte block + 1, and for the rest bytes that cannot be compressed. */
export function noisyPage(block: number): RecordSpec {
  const { all } = noise(PAGE_BYTES, block + 1);
  all[PAGE_BYTES - 1] = block + 1;
  return { rmid: RM.XLOG, info: XLOG.FPI, blocks: [{ ...REL, block, image: { bytes: all } }] };
}

/** Backed up: `pages` pages in one layer of pages and one of the rest, and 5 more in WAL. */
export async function backedUp(
  t: TimelineTest,
  storage: ObjectStorage,
  pages = 5,
): Promise<{ readonly receiver: TestReceiver; readonly sealed: Lsn }> {
  await t.reopen({ storage });
  for (let block = 0; block < pages; block++) t.wal.add(noisyPage(block));
  const receiver = await t.takeIn();
  await t.seal();
  await t.world.ask((reply) => ({ kind: "compact", reply }));
  const sealed = t.wal.end;
  t.addPages(5, 100);
  receiver.sendFrom(t.wal, sealed);
  await receiver.untilDurable(t.wal.end);
  await until("uploaded", () => uploadedOf(t.world) >= t.wal.end);
  return { receiver, sealed };
}

/** Waits until the manifest names a layer of nothing but pages, and nothing is left to be deleted. */
export const untilPagesAreNamed = (storage: ObjectStorage): Promise<unknown> =>
  until("layers are named", async () => {
    const { manifest } = await readManifest(storage, TENANT, MAIN);
    return manifest!.layers.some(({ kinds }) => kinds === 1) && manifest!.garbage.length === 0;
  });

/** The layer of nothing but pages. */
export const pageLayer = (world: TimelineWorld) =>
  world.main.store!.map.layers.find(({ entry }) => entry.kinds === 1)!;

export const sealedFiles = (world: TimelineWorld): readonly string[] =>
  fs
    .readdirSync(layersPath(timelinePath(world.shared.dataDir, TENANT, MAIN)))
    .filter((name) => name.endsWith(".layer"));

/** Backed up: 20 pages in a layer and 2 of them again in WAL, all of it named by the manifest. */
export async function uploadedWhole(
  t: TimelineTest,
  storage: ObjectStorage,
  seed = 1,
): Promise<void> {
  t.addPages(20, seed);
  const receiver = await t.takeIn();
  await t.seal();
  const sealed = t.wal.end;
  t.addPages(2, seed + 32);
  receiver.sendFrom(t.wal, sealed);
  await receiver.untilDurable(t.wal.end);
  await until("all is uploaded", async () => {
    const { manifest } = await readManifest(storage, TENANT, MAIN);
    const named = (manifest?.timeline.sealedLsn ?? 0) >= sealed && manifest!.garbage.length === 0;
    return named && uploadedOf(t.world) >= t.wal.end;
  });
}
