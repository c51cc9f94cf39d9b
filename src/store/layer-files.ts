// What the store asks of the place where sealed layers lie. Files of LMDB (sealed-file.ts) are one such
// place; the simulator has another, in memory, that is a hundred times faster and can be made to fail.

import type { Group } from "../core/key.ts";
import type { LayerFacts, OnOpenChain } from "./check-layer.ts";
import type { WrittenFile } from "./layer-writer.ts";
import type { CheckReport, Layer } from "./object-store.ts";
import type { VersionKey } from "./run.ts";
import type { FileFacts } from "./sealed-file.ts";
import type { Version } from "../core/version.ts";

/** A sealed layer as it is read. */
export interface StoredLayer extends Layer {
  readonly path: string;
  /** How often its file was needed, counted up. */
  readonly reads: number;
  /** Why the layer is in quarantine: it was found damaged. Reads that need what is damaged fail, and name it. */
  readonly damage: string | undefined;
  /** Another thread has found it damaged. */
  distrust(reason: string): void;
  /** Up to `limit` keys in key order, from the first behind `after` on. Throws StoreCorrupt. */
  keysAfter(after: VersionKey | undefined, limit: number): readonly VersionKey[];
  /** `check` in bounded steps: the function answers false when it was the last. */
  beginCheck(report: CheckReport, onOpenChain: OnOpenChain): () => boolean;
}

/** A layer that is being written: see LayerWriter. */
export interface LayerSink {
  readonly path: string;
  /** Runs written so far: what a turn is measured in. */
  readonly runs: number;
  turn(write: () => void): void;
  begin(group: Group, block: number): void;
  add(version: Version): void;
  end(): void;
  finish(): Promise<WrittenFile>;
  abandon(): Promise<void>;
}

export interface LayerFiles {
  /** Makes a directory of layers, and removes everything there but the files of these names. Throws StoreFull, StoreFailed. */
  prepare(directory: string, keep: readonly string[]): void;
  /** Begins a file: see LayerWriter. */
  create(
    path: string,
    timeline: string,
    keysMax: number,
    sourceBytes: number,
    keyBytes: number,
  ): LayerSink;
  /** Gives a finished file its name; durable when the promise is kept. Throws StoreFull, StoreFailed. */
  publish(from: string, to: string): Promise<void>;
  /** Removes a file, if it exists. Resolves when its space is free. */
  remove(path: string): Promise<void>;
  /** Removes what merges with this number or higher ones have left: none of them was entered. See MergeOrder. */
  removeMerges(directory: string, number: number): void;
  /** Takes a file away that object storage has, too: from now on it is not here. Resolves when its space is free. */
  evict(path: string): Promise<void>;
  layer(path: string, facts: LayerFacts): StoredLayer;
  isVerified(path: string): boolean;
  /** Compares a file with its checksum. Throws StoreCorrupt. */
  verify(path: string, facts: FileFacts): Promise<void>;
  /** This process has just written the file and read it back. */
  trust(path: string): void;
  /** Closes a file that is to be removed. */
  close(path: string): void;
  closeAll(): void;
}
