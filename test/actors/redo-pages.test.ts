// The whole of WAL redo against the truth: a stock PostgreSQL writes WAL of every kind, and every
// main-fork page that this WAL names is rebuilt and compared with the server's own file after a
// clean shutdown, byte by byte under the masks of what may differ.

import { execFileSync } from "node:child_process";
import path from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { type RedoPoolMsg, spawnRedoPool } from "../../src/actors/redo-pool.ts";
import { type ActorSystem, ask, startSystem } from "../../src/actors/runtime.ts";
import { formatRel } from "../../src/core/page.ts";
import type { RedoResult } from "../../src/core/redo-request.ts";
import { type PageKind, firstDifference, maskedPage, pageKind } from "../support/masks.ts";
import {
  type PageHistory,
  checkpointLsn,
  collectHistories,
  readPage,
} from "../support/page-histories.ts";
import { type TestPostgres, postgresTempDir, startPostgres } from "../support/postgres.ts";
import { redoOpener } from "../support/redo.ts";
import { phases, setup } from "../verify/workload.ts";

/** These are run again with full-page writes on; the first round is without. */
const WITH_IMAGES = /^insert|HOT|^VACUUM$|multixacts|index page|file copy|copied/;
const BATCH = 64;

interface Rebuilt {
  readonly history: PageHistory;
  readonly truth: Uint8Array;
  readonly result: RedoResult;
}

let postgres: TestPostgres;
let system: ActorSystem;
let rebuilt: readonly Rebuilt[];
let recordsTotal: number;

async function writeWal(): Promise<string> {
  const settings = {
    full_page_writes: "off",
    max_prepared_transactions: "20",
    wal_keep_size: "2GB",
    // FPI_FOR_HINT without image would move a page's LSN and nothing else.
    wal_log_hints: "off",
  };
  postgres = await startPostgres({ settings });
  await postgres.sql(setup().sql);
  await postgres.stop();
  const base = path.join(postgresTempDir(), "base");
  execFileSync("cp", ["-a", postgres.dataDir, base]);
  await postgres.start();
  for (const phase of phases(0)) await postgres.sql(phase.sql, phase.db);
  await postgres.sql(
    "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf(); CHECKPOINT;",
  );
  for (const phase of phases(1).filter((p) => WITH_IMAGES.test(p.name))) {
    await postgres.sql(phase.sql, phase.db);
  }
  await postgres.stop();
  return base;
}

async function rebuild(histories: readonly PageHistory[]): Promise<readonly RedoResult[]> {
  const opener = await redoOpener();
  const policy = { crashesMax: 3, windowMs: 60_000, backOffMs: 10, backOffMsMax: 100 };
  system = startSystem("redo-pages", () => {});
  const pool = spawnRedoPool(system.root, {
    processes: 2,
    open: opener.open,
    restart: policy,
    workerRestart: policy,
    onLine: () => {},
  });
  const batches: Promise<readonly RedoResult[] | "timed-out">[] = [];
  for (let i = 0; i < histories.length; i += BATCH) {
    const requests = histories.slice(i, i + BATCH).map((history) => history.request);
    batches.push(
      ask<RedoPoolMsg, readonly RedoResult[]>(
        pool,
        (reply) => ({ kind: "redo", requests, reply }),
        60_000,
      ),
    );
  }
  const answers = await Promise.all(batches);
  return answers.flatMap((answer) => (answer === "timed-out" ? [] : answer));
}

beforeAll(async () => {
  const base = await writeWal();
  const { dataDir } = postgres;
  const collected = collectHistories(dataDir, base, await checkpointLsn(base));
  recordsTotal = collected.records;
  const found = collected.histories.flatMap((history) => {
    const truth = readPage(dataDir, history.rel, history.block);
    return truth === undefined ? [] : [{ history, truth }];
  });
  const results = await rebuild(found.map(({ history }) => history));
  expect(results.length).toBe(found.length);
  rebuilt = found.map((one, i) => ({ ...one, result: results[i]! }));
  execFileSync("rm", ["-rf", path.dirname(base)]);
}, 120_000);

afterAll(async () => {
  system?.stop();
  await postgres?.cleanup();
});

const describePage = ({ history }: Rebuilt): string =>
  `${formatRel(history.rel)} block ${history.block}`;

/** pd_lsn; the high word comes first. */
function pageLsn(page: Uint8Array): number {
  const view = new DataView(page.buffer, page.byteOffset);
  return view.getUint32(0, true) * 2 ** 32 + view.getUint32(4, true);
}

describe("every page that WAL names", () => {
  test("is rebuilt", () => {
    const failed = rebuilt.flatMap((one) =>
      one.result.ok ? [] : [`${describePage(one)}: ${one.result.reason}`],
    );
    expect(failed).toEqual([]);
  });

  test("equals the server's own, byte for byte under the masks", () => {
    const different = rebuilt.flatMap((one) => {
      if (!one.result.ok) return [];
      const { block } = one.history;
      const at = firstDifference(maskedPage(one.result.page, block), maskedPage(one.truth, block));
      return at < 0 ? [] : [`${describePage(one)}, ${pageKind(one.truth)}: differs at byte ${at}`];
    });
    expect(different).toEqual([]);
  });

  test("has the server's own LSN, or that of a record which set its all-visible flag", () => {
    // Without logged hint bits the server does not stamp a heap page for that record; redo does,
    // always (wal_log_hints of the template). Sorted GiST builds write LSN 1 and log another.
    const different = rebuilt.filter(({ result, truth }) => {
      if (!result.ok || pageKind(truth) === "gist") return false;
      const [ours, theirs] = [pageLsn(result.page), pageLsn(truth)];
      return pageKind(truth) === "heap" ? ours < theirs : ours !== theirs;
    });
    expect(different.map(describePage)).toEqual([]);
  });
});

test("the workload was worth it: all kinds of pages, by records and by images, copies too", () => {
  const kinds = new Map<PageKind, number>();
  let records = 0;
  let retagged = 0;
  for (const { history, truth } of rebuilt) {
    const count = history.request.steps.reduce((sum, step) => sum + step.records.count, 0);
    records += count;
    if (history.request.steps.length > 1) retagged++;
    if (count > 0) kinds.set(pageKind(truth), (kinds.get(pageKind(truth)) ?? 0) + 1);
  }
  const all = ["btree", "brin", "generic", "gin", "gist", "hash", "heap", "sequence", "spgist"];
  expect([...kinds.keys()].filter((kind) => kind !== "new").sort()).toEqual(all.sort());
  expect(recordsTotal).toBeGreaterThan(50_000);
  expect(records).toBeGreaterThan(20_000);
  expect(retagged).toBeGreaterThan(0);
});
