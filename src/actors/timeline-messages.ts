// What a timeline actor can be told. Kept apart from the actor so that others import types only.

import type { ReadError } from "../core/errors.ts";
import type { Lsn } from "../core/lsn.ts";
import type { PageAnswer, PageBatch } from "../core/page-batch.ts";
import type { Result } from "../core/result.ts";
import type { BackupSource } from "../core/backup-source.ts";
import type { ActorRef, Reply } from "./runtime.ts";
import type { HoldMsg } from "./timeline-holds.ts";
import type { Evicted } from "./timeline-residence.ts";

/** Positions of a timeline, always by these names (ARCHITECTURE.md). */
export interface Positions {
  readonly received: Lsn;
  readonly visible: Lsn;
  readonly durable: Lsn;
  readonly uploaded: Lsn;
}

/**
 * `flushed`: what upstream hears as flush, where that is not `durable`: it keeps WAL from there on.
 * `applied`: what upstream hears as applied, where that is not `visible`: with a backup it is `uploaded`.
 */
export interface ToldPositions extends Positions {
  readonly flushed?: Lsn | undefined;
  readonly applied?: Lsn | undefined;
}

/** What a WAL receiver hears from its timeline. */
export type WalProgressMsg =
  /** Bytes up to `received` were taken in; those up to `durable` are fsynced: report them upstream. */
  | { readonly kind: "progress"; readonly positions: ToldPositions }
  /** The timeline refuses this WAL (wrong start, corrupt record, broken); the connection must close. `retry` false: do not reconnect. */
  | { readonly kind: "wal-refused"; readonly reason: string; readonly retry: boolean };

export type TimelineMsg =
  /** Page-service requests of one socket read. Answered in the order of the requests, when all are known. */
  | {
      readonly kind: "read";
      readonly batch: PageBatch;
      /** Of the compute that asks; undefined: no compute of ours. */
      readonly generation?: number | undefined;
      /** The asker knows of nothing later: its requests are read here at the latest, and wait for no more. */
      readonly at?: Lsn | undefined;
      /** Of the cluster that the asker says it is of; undefined: it says nothing of it. */
      readonly systemId?: string | undefined;
      readonly reply: Reply<readonly PageAnswer[]>;
      /** Layers were fetched for it; how long it may go on so, steady ms. */
      readonly fetchUntilMs?: number;
    }
  /** A consistent source for basebackup/fullbackup at `lsn` (waits for it), or at the last record. */
  | {
      readonly kind: "backup-source";
      readonly lsn: Lsn | undefined;
      readonly reply: Reply<Result<BackupSource, ReadError>>;
    }
  /** Leases and snapshots. */
  | HoldMsg
  /** A WAL receiver announces itself; the answer says where streaming must start. Any earlier receiver is told to close. A `progress` follows at once: upstream, a commit may be waiting for what is durable already. */
  | {
      readonly kind: "wal-attach";
      readonly receiver: ActorRef<WalProgressMsg>;
      readonly reply: Reply<Result<WalStart, string>>;
    }
  /** Where WAL comes from has changed in the catalog: connect there, or nowhere. */
  | { readonly kind: "source-changed" }
  /** Seal the open layer now; answered when everything taken in before is in sealed layers. */
  | { readonly kind: "seal-now"; readonly reply: Reply<Result<undefined, string>> }
  /** Merges all sealed layers into one tier; answered when that has happened. */
  | { readonly kind: "compact"; readonly reply: Reply<Result<undefined, string>> }
  /** Those who asked for it wait no more: the merge under way for them is given up. */
  | { readonly kind: "compact-stop" }
  /** Moves the cutoff, by the tenant's policy where none is given; answers where it is, undefined if it cannot tell. */
  | {
      readonly kind: "collect";
      readonly windowMs: number | undefined;
      readonly walBytes: number | undefined;
      readonly reply: Reply<Lsn | undefined>;
    }
  /** A scrub wants these objects deleted, that no manifest names; answers those that are gone. */
  | {
      readonly kind: "purge-objects";
      readonly names: readonly string[];
      readonly reply: Reply<Result<ReadonlySet<string>, string>>;
    }
  /** Nothing but to be awake; answered when loading has ended, well or not. */
  | { readonly kind: "wake"; readonly reply?: Reply<undefined> }
  /** These layer files may leave the disk: whichever still may, does; answered when their space is free. */
  | {
      readonly kind: "evict";
      readonly files: readonly string[];
      readonly reply: Reply<Evicted>;
    }
  /** From the scheduler. */
  | { readonly kind: "tick" }
  /** Stops for good; answered when files are closed. */
  | { readonly kind: "stop"; readonly reply: Reply<undefined> }
  /** WAL bytes that start at `at`. `bytes` may be kept. */
  | {
      readonly kind: "wal";
      readonly receiver: ActorRef<WalProgressMsg>;
      readonly at: Lsn;
      readonly bytes: Uint8Array;
    };

export interface WalStart {
  /** Where START_REPLICATION must begin: the end of the last whole record, past a page header if there. */
  readonly lsn: Lsn;
  readonly tli: number;
  /** pg_control's system identifier, decimal; checked against IDENTIFY_SYSTEM. */
  readonly systemId: string;
}
