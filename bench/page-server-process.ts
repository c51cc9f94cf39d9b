// The process of a benchmark's page server: does what its parent asks, one thing after the other,
// and answers each with a value or an error. Ends with its parent.

import { randomBytes } from "node:crypto";
import fs from "node:fs";
import type { TimelineHandle } from "../src/actors/directory.ts";
import { ask } from "../src/actors/runtime.ts";
import type { TenantMsg } from "../src/actors/tenant.ts";
import type { AdminError } from "../src/core/admin-error.ts";
import { Arena } from "../src/core/arena.ts";
import { type TimelineId, parseTimelineId } from "../src/core/ids.ts";
import { type Lsn, WAL_SEGMENT_BYTES } from "../src/core/lsn.ts";
import type { Result } from "../src/core/result.ts";
import { meters } from "../src/io/meters.ts";
import { WalDecoder } from "../src/protocol/wal/decoder.ts";
import { segmentPath } from "./corpus.ts";
import { Counting } from "./counting.ts";
import { feedWal } from "./feed.ts";
import { type BenchServer, startBenchServer } from "./page-server.ts";

export type ServerCommand =
  | { readonly do: "start"; readonly dataDir: string }
  | { readonly do: "import"; readonly timeline: TimelineId; readonly from: string }
  /** Takes in the WAL of a data directory and seals it; gives the seconds that took. */
  | {
      readonly do: "ingest";
      readonly timeline: TimelineId;
      readonly from: string;
      readonly end: Lsn;
    }
  /** Records in the WAL of a data directory from `start` on; not part of any measurement. */
  | { readonly do: "count"; readonly from: string; readonly start: Lsn; readonly end: Lsn }
  /** Waits until a timeline of the store is loaded. */
  | { readonly do: "await"; readonly timeline: TimelineId }
  /** Waits until all timelines of all tenants are loaded. */
  | { readonly do: "await-all" }
  /** Lets everything that is due happen, and gives memory back. */
  | { readonly do: "idle" }
  /** Loads a timeline that sleeps; gives the milliseconds that took, 0 when none does. */
  | { readonly do: "wake" }
  /** Waits until no merge of its layers is due. */
  | { readonly do: "settle"; readonly timeline: TimelineId }
  /** Merges all of its layers. */
  | { readonly do: "compact"; readonly timeline: TimelineId }
  /** Bytes of its layers' files, and of its relations. */
  | { readonly do: "sealed-bytes" | "logical-bytes"; readonly timeline: TimelineId }
  /** Branches a timeline, at its end if no LSN is given; gives the milliseconds until the answer. */
  | {
      readonly do: "branch";
      readonly timeline: TimelineId;
      readonly name: string;
      readonly lsn?: Lsn;
    }
  /** Lets go of all history that nothing holds, and merges all layers; gives the seconds. */
  | { readonly do: "collect"; readonly timeline: TimelineId }
  /** Merges all of its layers, without waiting for the end; "merging" says 1 until then, and 0 after it. */
  | { readonly do: "compacting" | "merging"; readonly timeline: TimelineId }
  /** What 99 of 100 page reads since the process began did not exceed. */
  | { readonly do: "layers-p99" | "records-p99" }
  /** Part of the processor time since it was asked last that went into counting page reads. */
  | { readonly do: "counting" }
  | { readonly do: "stop" };

const BRANCH_MS_MAX = 60_000;
const IDLE_MS = 3_000;

let server: BenchServer | undefined;
const counting = new Counting();

function running(): BenchServer {
  if (server === undefined) throw new Error("the page server is not started");
  return server;
}

async function perform(command: ServerCommand): Promise<number> {
  switch (command.do) {
    case "start":
      server = await startBenchServer(command.dataDir);
      return server.port;
    case "import":
      await running().importCluster(command.timeline, command.from);
      return 0;
    case "ingest":
      return ingest(command.timeline, command.from, command.end);
    case "await":
      await running().loaded(command.timeline);
      return 0;
    case "counting":
      return counting.part();
    case "await-all":
      await running().allLoaded();
      return 0;
    case "idle":
      return idle();
    case "wake":
      return running().wakeOne();
    case "settle":
      await running().settle(command.timeline);
      return 0;
    case "compact":
      await running().compact(command.timeline);
      return 0;
    case "sealed-bytes":
      return running().bytes(command.timeline).sealed;
    case "logical-bytes":
      return running().bytes(command.timeline).logical;
    case "branch":
      return branch(command.timeline, command.name, command.lsn);
    case "collect":
      return running().collect(command.timeline);
    case "compacting":
      void running().compact(command.timeline).catch(endWith);
      return 0;
    case "merging":
      return running().timeline(command.timeline).merge?.().merging === true ? 1 : 0;
    case "layers-p99":
      return meters.readLayers.percentile(99) ?? -1;
    case "records-p99":
      return meters.readRecords.percentile(99) ?? -1;
    case "count":
      return countRecords(command.from, command.start, command.end);
    case "stop":
      await running().stop();
      return 0;
  }
}

async function idle(): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  globalThis.gc?.();
  return 0;
}

async function ingest(timeline: TimelineId, from: string, end: Lsn): Promise<number> {
  const { ref } = running().timeline(timeline);
  const started = performance.now();
  await feedWal(ref, from, end);
  await running().seal(timeline);
  return (performance.now() - started) / 1000;
}

/** What nobody waits for has failed. */
function endWith(error: unknown): void {
  throw error;
}

async function branch(ancestor: TimelineId, name: string, asked?: Lsn): Promise<number> {
  const { tenant } = running();
  const lsn = asked ?? running().timeline(ancestor).facts.positions.durable;
  const id = parseTimelineId(randomBytes(16).toString("hex"));
  const request = { id, name, ancestor, lsn };
  const started = performance.now();
  const made = await ask<TenantMsg, Result<TimelineHandle, AdminError>>(
    tenant.ref,
    (reply) => ({ kind: "branch", request, reply }),
    BRANCH_MS_MAX,
  );
  const ms = performance.now() - started;
  if (made === "timed-out") throw new Error("branching does not end");
  if (!made.ok) throw new Error(JSON.stringify(made.error));
  await running().loaded(id);
  return ms;
}

function countRecords(from: string, start: Lsn, end: Lsn): number {
  let records = 0;
  const decoder = new WalDecoder({
    version: 15,
    start,
    arena: new Arena(),
    onRecord: () => void records++,
  });
  for (let at: number = start; at < end;) {
    const segmentEnd = at - (at % WAL_SEGMENT_BYTES) + WAL_SEGMENT_BYTES;
    const file = fs.readFileSync(segmentPath(from, at as Lsn));
    const offset = at % WAL_SEGMENT_BYTES;
    decoder.feed(file.subarray(offset, offset + Math.min(segmentEnd, end) - at));
    at = segmentEnd;
  }
  return records;
}

let queue = Promise.resolve();
process.on("message", (command: ServerCommand) => {
  queue = queue
    .then(() => perform(command))
    .then(
      (value) => void process.send?.({ value }),
      (error: unknown) => {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        process.send?.({ error: text });
      },
    );
});
process.on("disconnect", () => process.exit(0));
