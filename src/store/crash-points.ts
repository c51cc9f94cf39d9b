// Moments at which a verification kills the process: around every step by which the disk goes from one
// state to another. A function that is handed in is told the name of each moment; without one nothing is
// wrapped and nothing is called. See `npm run verify:crash`.

import type { CatalogDb } from "./catalog.ts";
import type { LayerFiles, LayerSink } from "./layer-files.ts";
import { mergeOf } from "./merge-order.ts";

/** Points of layers have "seal-" or "merge-" before them. */
const LAYER_POINTS = [
  ...(["begun", "turn", "written", "synced", "renamed", "removing", "removed"] as const),
] as const;

export const CRASH_POINTS = [
  ...LAYER_POINTS.slice(0, 5).map((point) => `seal-${point}`),
  ...LAYER_POINTS.map((point) => `merge-${point}`),
  // In a transaction of the catalog that is not committed, and behind one that is on disk.
  "catalog-editing",
  "catalog-committed",
  // A timeline is no longer in the catalog, and its files are still there; its files are gone.
  "timeline-removing",
  "timeline-removed",
  // WAL is written and not synced; it is synced and nobody knows; segments go that a layer covers.
  "wal-written",
  "wal-synced",
  "wal-removing",
  "wal-removed",
] as readonly string[];

/** Told of a moment. May end the process, may not do anything else. */
export type CrashPoint = (name: string) => void;

const whose = (path: string): string =>
  mergeOf(path.slice(path.lastIndexOf("/") + 1)) === undefined ? "seal" : "merge";

export function filesWithPoints<F extends LayerFiles>(files: F, point: CrashPoint): LayerFiles {
  return {
    prepare: (directory, keep) => files.prepare(directory, keep),
    create: (path, ...rest) => {
      const sink = files.create(path, ...rest);
      point(`${whose(path)}-begun`);
      return sinkWithPoints(sink, point);
    },
    publish: async (from, to) => {
      await files.publish(from, to);
      point(`${whose(from)}-renamed`);
    },
    // Only merging removes files, those of what it merged.
    remove: async (path) => {
      point("merge-removing");
      await files.remove(path);
      point("merge-removed");
    },
    removeMerges: (directory, number) => files.removeMerges(directory, number),
    evict: (path) => files.evict(path),
    layer: (path, facts) => files.layer(path, facts),
    isVerified: (path) => files.isVerified(path),
    verify: (path, facts) => files.verify(path, facts),
    trust: (path) => files.trust(path),
    close: (path) => files.close(path),
    closeAll: () => files.closeAll(),
  };
}

function sinkWithPoints(sink: LayerSink, point: CrashPoint): LayerSink {
  const owner = whose(sink.path);
  return {
    path: sink.path,
    get runs() {
      return sink.runs;
    },
    turn: (write) => {
      sink.turn(write);
      point(`${owner}-turn`);
    },
    begin: (group, block) => sink.begin(group, block),
    add: (version) => sink.add(version),
    end: () => sink.end(),
    finish: async () => {
      point(`${owner}-written`);
      const written = await sink.finish();
      point(`${owner}-synced`);
      return written;
    },
    abandon: () => sink.abandon(),
  };
}

export function catalogWithPoints(db: CatalogDb, point: CrashPoint): CatalogDb {
  return {
    get: (key) => db.get(key),
    getKeys: (range) => db.getKeys(range),
    putSync: (key, value) => db.putSync(key, value),
    removeSync: (key) => db.removeSync(key),
    transactionSync: (edits) => {
      db.transactionSync(() => {
        edits();
        point("catalog-editing");
      });
      point("catalog-committed");
    },
    close: () => db.close(),
  };
}
