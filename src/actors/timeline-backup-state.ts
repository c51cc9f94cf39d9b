// The backup part of one life of a timeline, and what is shown of it.

import type { BackupFenced } from "../core/backup/fence.ts";
import type { LayerObject } from "../core/backup/manifest.ts";
import type { Lsn } from "../core/lsn.ts";
import type { Result } from "../core/result.ts";
import type { KnownManifest } from "./backup-turn.ts";
import type { Reply } from "./runtime.ts";

/** What is shown of a timeline's backup. */
export interface BackupFacts {
  /** backing-up: nothing is wrong · failing: it is tried again · fenced: for good. */
  readonly state: "backing-up" | "failing" | "fenced";
  readonly reason: string | undefined;
  readonly uploaded: Lsn;
  /** WAL that is durable here and not in object storage yet. */
  readonly lagBytes: number;
  readonly layersWaiting: number;
  /** Unix ms of the last manifest; undefined: none yet. */
  readonly writtenAtMs: number | undefined;
}

export interface Purge {
  readonly names: readonly string[];
  readonly reply: Reply<Result<ReadonlySet<string>, string>>;
  begun: boolean;
}

/** The backup part of one life of a timeline. */
export class TimelineBackup {
  known: KnownManifest | undefined;
  deleted: ReadonlySet<string> = new Set();
  /** Layers that were put and that no manifest names yet. */
  readonly put = new Map<string, LayerObject>();
  /** How many were put, ever: a turn that names some while others come must not hide those. */
  puts = 0;
  turning = false;
  uploading = false;
  dueMs = 0;
  layerDueMs = 0;
  failure: string | undefined;
  fenced: BackupFenced | undefined;
  /** What a scrub wants deleted; `begun`: a turn knows of it. */
  purge: Purge | undefined;
  /** What the last turn saw: nothing to do while it is all the same. */
  seen: readonly unknown[] = [];
}
