// Taking in WAL against stock PostgreSQL's crash recovery of the same WAL, measured in turns, and
// the memory that it takes.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import type { Base, Crashed } from "./corpus.ts";
import { measureRecovery } from "./recovery.ts";
import { type Result, figure, goal } from "./result.ts";
import { type Stores, TIMELINE } from "./stores.ts";
import { median } from "./wait.ts";

const SAMPLE_MS = 20;
const MB = 1e6;

interface Round {
  readonly oursSeconds: number;
  readonly postgresSeconds: number;
  /** Peak resident memory, bytes. */
  readonly memory: number;
}

export interface IngestFigures {
  readonly rounds: readonly Round[];
  readonly records: number;
  readonly bytes: number;
}

/** Measures `rounds` times both. `store` has the imported base. */
export async function measureIngest(
  stores: Stores,
  store: string,
  base: Base,
  crashed: Crashed,
  rounds: number,
): Promise<IngestFigures> {
  const done: Round[] = [];
  let records = 0;
  const { startLsn: start } = base;
  const { endLsn: end, dataDir: from } = crashed;
  for (let i = 0; i < rounds; i++) {
    const server = await stores.serve(store);
    try {
      if (i === 0) records = await server.process.ask({ do: "count", from, start, end });
      // As before a recovery: what others wrote must not be paid by our fsyncs.
      execFileSync("sync");
      const watched = watchMemory(server.process.pid);
      const ingest = { do: "ingest", timeline: TIMELINE, from, end } as const;
      const oursSeconds = await server.process.ask(ingest).finally(() => watched.stop());
      const memory = watched.peak();
      await server.end();
      done.push({ oursSeconds, memory, postgresSeconds: await measureRecovery(from) });
    } finally {
      await server.end();
    }
  }
  return { rounds: done, records, bytes: end - start };
}

/** Looks at a process's resident memory, mapped files included, again and again. */
function watchMemory(pid: number): { readonly peak: () => number; readonly stop: () => void } {
  let peak = 0;
  const look = (): void => {
    const status = fs.readFileSync(`/proc/${pid}/status`, "utf8");
    const kib = /^VmRSS:\s+(\d+) kB/m.exec(status)?.[1];
    peak = Math.max(peak, Number(kib) * 1024);
  };
  look();
  const timer = setInterval(look, SAMPLE_MS);
  return { peak: () => peak, stop: () => clearInterval(timer) };
}

/** Median of the rounds' ratios: ours to PostgreSQL's speed. */
const ratio = (figures: IngestFigures): number =>
  median(figures.rounds.map((round) => round.postgresSeconds / round.oursSeconds));

const ours = (figures: IngestFigures): number =>
  median(figures.rounds.map((round) => round.oursSeconds));

const postgres = (figures: IngestFigures): number =>
  median(figures.rounds.map((round) => round.postgresSeconds));

/** Records a second, without images. */
export const recordResults = (figures: IngestFigures): readonly Result[] => [
  figure("ingest, full_page_writes off", figures.records / ours(figures) / 1000, "k records/s"),
  figure("  PostgreSQL's recovery", figures.records / postgres(figures) / 1000, "k records/s"),
  goal("  ratio", ratio(figures), "", ">=", 1.5),
];

/** Bytes a second, mostly images; and memory. */
export const imageResults = (figures: IngestFigures): readonly Result[] => [
  figure("ingest, full_page_writes on", figures.bytes / ours(figures) / MB, "MB/s"),
  figure("  PostgreSQL's recovery", figures.bytes / postgres(figures) / MB, "MB/s"),
  goal("  ratio", ratio(figures), "", ">=", 0.5),
];

export function memoryResults(figures: IngestFigures): readonly Result[] {
  const peak = Math.max(...figures.rounds.map((round) => round.memory));
  const gb = (figures.bytes / 1e9).toFixed(2);
  return [goal(`resident memory while ingesting ${gb} GB`, peak / MB, "MB", "<=", 1000)];
}
