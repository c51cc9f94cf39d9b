// What can happen to a disk at any step that touches it: the process dies before or after it, the disk is
// full, a sync fails. Wrapped around the files and the catalog of a run; each step has a name.

import type { CatalogDb } from "../../src/store/catalog.ts";
import type { LayerFiles, LayerSink } from "../../src/store/layer-files.ts";
import { StoreFailed, StoreFull } from "../../src/store/store-errors.ts";

/** The process is gone: everything in memory is to be forgotten. */
export class Crash extends Error {
  override readonly name = "Crash";
}

export class Faults {
  /** Steps from now on after which the process dies; undefined: it lives. */
  crashIn: number | undefined;
  /** Steps from now on after which the next sync fails. */
  failSyncIn: number | undefined;
  /** Nothing can be written. */
  full = false;
  /** Of the last crash. */
  lastPoint = "";
  readonly counts = { crashes: 0, full: 0, failedSyncs: 0 };

  /** A moment between two steps. */
  readonly point = (name: string): void => {
    if (this.crashIn === undefined || this.crashIn-- > 0) return;
    this.crashIn = undefined;
    this.counts.crashes++;
    this.lastPoint = name;
    throw new Crash(name);
  };

  /** Something is written. */
  write(path: string): void {
    this.point(`before a write of ${path}`);
    if (!this.full) return;
    this.counts.full++;
    throw new StoreFull(path, undefined);
  }

  sync(path: string): void {
    this.write(path);
    if (this.failSyncIn === undefined || this.failSyncIn-- > 0) return;
    this.failSyncIn = undefined;
    this.counts.failedSyncs++;
    throw new StoreFailed(path, "syncing", new Error("injected"));
  }
}

/** `files`, with faults. */
export function faultyFiles(files: LayerFiles, faults: Faults): LayerFiles {
  return {
    prepare: (directory, keep) => files.prepare(directory, keep),
    create: (path, ...rest) => {
      faults.write(path);
      return faultySink(files.create(path, ...rest), faults);
    },
    publish: async (from, to) => {
      faults.sync(to);
      await files.publish(from, to);
      faults.point(`after the renaming of ${to}`);
    },
    remove: async (path) => {
      faults.point(`before the removal of ${path}`);
      await files.remove(path);
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

function faultySink(sink: LayerSink, faults: Faults): LayerSink {
  return {
    path: sink.path,
    get runs() {
      return sink.runs;
    },
    turn: (write) => {
      faults.write(sink.path);
      sink.turn(write);
    },
    begin: (group, block) => sink.begin(group, block),
    add: (version) => sink.add(version),
    end: () => sink.end(),
    finish: async () => {
      faults.sync(sink.path);
      const written = await sink.finish();
      faults.point(`after the syncing of ${sink.path}`);
      return written;
    },
    abandon: () => sink.abandon(),
  };
}

/** `db`, with faults: a transaction that fails has not happened, one in which the process dies may have. */
export function faultyDb(db: CatalogDb, faults: Faults): CatalogDb {
  return {
    get: (key) => db.get(key),
    getKeys: (range) => db.getKeys(range),
    putSync: (key, value) => db.putSync(key, value),
    removeSync: (key) => db.removeSync(key),
    transactionSync: (edits) => {
      db.transactionSync(() => {
        edits();
        faults.sync("catalog");
      });
      faults.point("after a commit");
    },
    close: () => db.close(),
  };
}
