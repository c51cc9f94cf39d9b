// Where a run keeps its files: in memory, or in files of LMDB on a scratch directory. Both through the
// faults.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { Catalog, openCatalogFile } from "../../src/store/catalog.ts";
import { removeTimelineFiles } from "../../src/store/data-dir.ts";
import type { LayerFiles } from "../../src/store/layer-files.ts";
import { OpenFiles } from "../../src/store/sealed-file.ts";
import { type Faults, faultyDb, faultyFiles } from "./faults.ts";
import { MemoryDisk } from "./memory-disk.ts";
import type { Random } from "./random.ts";

export type DiskKind = "memory" | "lmdb";

/** Of one life of the process. */
export interface Mounted {
  readonly catalog: Catalog;
  readonly files: LayerFiles;
}

export interface SimDisk {
  mount(): Mounted;
  /** The life ends; with what a crash leaves. */
  unmount(mounted: Mounted): Promise<void>;
  /** Names of files in a directory of layers. */
  names(directory: string): readonly string[];
  pathOf(timeline: string): string;
  removeTimeline(timeline: string): void;
  end(): void;
}

export function openDisk(kind: DiskKind, faults: Faults, random: Random): SimDisk {
  return kind === "memory" ? memoryDisk(faults, random) : lmdbDisk(faults);
}

function memoryDisk(faults: Faults, random: Random): SimDisk {
  const disk = new MemoryDisk();
  const pathOf = (timeline: string): string => `/sim/${timeline}`;
  return {
    mount: () => ({
      catalog: new Catalog("/sim/catalog", faultyDb(disk.catalog, faults)),
      files: faultyFiles(disk, faults),
    }),
    unmount: () => Promise.resolve(disk.crash(random)),
    names: (directory) => disk.names(directory),
    pathOf,
    removeTimeline: (timeline) => disk.removeAll(`${pathOf(timeline)}/layers`),
    end: () => {},
  };
}

function lmdbDisk(faults: Faults): SimDisk {
  const root = fs.existsSync("/dev/shm") ? "/dev/shm" : os.tmpdir();
  const directory = fs.mkdtempSync(path.join(root, "pageserver-sim-"));
  const pathOf = (timeline: string): string => `${directory}/timelines/${timeline}`;
  let open = new OpenFiles(4);
  return {
    mount: () => {
      open = new OpenFiles(4);
      const file = `${directory}/catalog`;
      return {
        catalog: new Catalog(file, faultyDb(openCatalogFile(file), faults)),
        files: faultyFiles(open, faults),
      };
    },
    unmount: async ({ catalog }) => {
      open.closeAll();
      await catalog.close();
    },
    names: (layers) => fs.readdirSync(layers).filter((name) => !name.endsWith("-lock")),
    pathOf,
    removeTimeline: (timeline) => removeTimelineFiles(pathOf(timeline)),
    end: () => fs.rmSync(directory, { recursive: true, force: true }),
  };
}
