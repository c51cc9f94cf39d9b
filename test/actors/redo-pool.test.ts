// The pool with real redo processes that are killed, stopped, poisoned and cannot be started.

import { afterEach, describe, expect, test } from "vitest";

import { type RedoPoolDeps, type RedoPoolMsg, spawnRedoPool } from "../../src/actors/redo-pool.ts";
import {
  type ActorRef,
  type ActorSystem,
  type CrashReport,
  ask,
  startSystem,
} from "../../src/actors/runtime.ts";
import { RedoRecords, type RedoRequest, type RedoResult } from "../../src/core/redo-request.ts";
import type { RestartPolicy } from "../../src/core/restart-budget.ts";
import {
  REL,
  changeRecord,
  initRecord,
  markedRequest,
  markersOf,
  poisonRecord,
  redoRequest,
} from "../support/redo-requests.ts";
import { type RedoOpener, redoOpener } from "../support/redo.ts";

const PATIENT: RestartPolicy = { crashesMax: 20, windowMs: 60_000, backOffMs: 1, backOffMsMax: 10 };
const ASK_MS = 30_000;

interface Pool {
  readonly ref: ActorRef<RedoPoolMsg>;
  readonly system: ActorSystem;
  readonly crashes: CrashReport[];
  readonly lines: string[];
  redo(requests: readonly RedoRequest[]): Promise<readonly RedoResult[]>;
}

const systems: ActorSystem[] = [];
afterEach(() => {
  for (const system of systems.splice(0)) system.stop();
});

function startPool(opener: RedoOpener, deps: Partial<RedoPoolDeps> = {}): Pool {
  const crashes: CrashReport[] = [];
  const lines: string[] = [];
  const system = startSystem(`redo-${systems.length}-${performance.now()}`, (c) => crashes.push(c));
  systems.push(system);
  const ref = spawnRedoPool(system.root, {
    processes: 2,
    open: opener.open,
    restart: PATIENT,
    workerRestart: PATIENT,
    onLine: (_, line) => lines.push(line),
    ...deps,
  });
  const redo = async (requests: readonly RedoRequest[]): Promise<readonly RedoResult[]> => {
    const results = await ask<RedoPoolMsg, readonly RedoResult[]>(
      ref,
      (reply) => ({ kind: "redo", requests, reply }),
      ASK_MS,
    );
    if (results === "timed-out") throw new Error("the pool did not answer");
    return results;
  };
  return { ref, system, crashes, lines, redo };
}

const marks = (results: readonly RedoResult[]): readonly unknown[] =>
  results.map((r) => (r.ok ? markersOf(r.page)[1] : r.reason));

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; !condition(); i++) {
    if (i > 2_000) throw new Error("did not come to pass");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe("pages", () => {
  test("come back in the order of the requests; processes start when needed", async () => {
    const opener = await redoOpener();
    const pool = startPool(opener);
    expect(opener.opened.length).toBe(0);
    const wanted = Array.from({ length: 300 }, (_, i) => i + 1);
    expect(marks(await pool.redo(wanted.map(markedRequest)))).toEqual(wanted);
    expect(opener.opened.length).toBeGreaterThan(0);
    expect(opener.opened.length).toBeLessThanOrEqual(2);
  });

  test("are made of all their records, in order, and of their base", async () => {
    const pool = startPool(await redoOpener());
    const init = initRecord(REL, 4, 100, 0x10000);
    const first = changeRecord(REL, 4, 200, 0x10100);
    const second = changeRecord(REL, 4, 300, 0x10200);
    const [whole, base] = await pool.redo([
      redoRequest(4, init, first, second),
      redoRequest(4, init),
    ]);
    expect(whole?.ok && markersOf(whole.page)).toEqual([300, 100]);
    if (base?.ok !== true) throw new Error("no base");
    const copy = base.page.slice();
    const [later] = await pool.redo([{ ...redoRequest(4, first), base: copy }]);
    expect(later?.ok && markersOf(later.page)).toEqual([200, 100]);
  });

  test("of a copied database go on under their own name", async () => {
    const pool = startPool(await redoOpener());
    const own = { ...REL, db: 77 };
    const request: RedoRequest = {
      ...redoRequest(4),
      steps: [
        { rel: REL, block: 4, records: RedoRecords.of([initRecord(REL, 4, 100, 0x10000)]) },
        { rel: own, block: 4, records: RedoRecords.of([changeRecord(own, 4, 200, 0x10100)]) },
      ],
    };
    const [page] = await pool.redo([request]);
    expect(page?.ok && markersOf(page.page)).toEqual([200, 100]);
  });
});

describe("a request that cannot be answered", () => {
  test("fails alone, with PostgreSQL's reason, and its neighbours are answered", async () => {
    const opener = await redoOpener();
    const pool = startPool(opener);
    const requests = Array.from({ length: 40 }, (_, i) => markedRequest(i + 1));
    requests[17] = redoRequest(5, poisonRecord(REL, 5, 0x10000));
    const results = await pool.redo(requests);
    const failed = results.flatMap((r, i) => (r.ok ? [] : [i]));
    expect(failed).toEqual([17]);
    const reason = marks(results)[17];
    expect(reason).toMatch(/PANIC: seq_redo: unknown op code.*16384\.0 block 5.*0\/10000/);
    // The batch's process and the one that it was retried on.
    expect(pool.lines.filter((line) => line.includes("another takes its place")).length).toBe(2);
    expect(pool.crashes).toEqual([]);
  });

  test.each([
    [
      "needs a page that is not there",
      redoRequest(4, changeRecord(REL, 4, 1, 0x10000)),
      /no contents/,
    ],
    [
      "is for another page",
      redoRequest(4, initRecord(REL, 5, 1, 0x10000)),
      /does not name the page/,
    ],
    ["has neither base nor record", redoRequest(4), /neither a base image nor a record/],
    ["has no step", { ...redoRequest(4), steps: [] }, /no step/],
    ["has half a base", { ...redoRequest(4), base: new Uint8Array(4096) }, /4096 bytes/],
  ])("because it %s says so", async (_, request, why) => {
    const pool = startPool(await redoOpener());
    const [before, bad, behind] = await pool.redo([markedRequest(1), request, markedRequest(2)]);
    expect(before?.ok && behind?.ok).toBe(true);
    expect(bad).toMatchObject({ ok: false, reason: expect.stringMatching(why) });
  });
});

describe("a process", () => {
  test("that is killed at work is replaced, and nobody notices", async () => {
    const opener = await redoOpener();
    // The first two processes are killed when they have answered something, with more in flight.
    const victims = new Set<number>();
    const open: RedoOpener["open"] = (handlers) => {
      const number = opener.opened.length;
      const child = opener.open({
        ...handlers,
        onPages: (slab) => {
          handlers.onPages(slab);
          if (number < 2 && !victims.has(child.pid!)) process.kill(child.pid!, "SIGKILL");
          if (number < 2) victims.add(child.pid!);
        },
      });
      return child;
    };
    const pool = startPool({ ...opener, open }, { windowBytes: 16 * 8500 });
    const wanted = Array.from({ length: 2_000 }, (_, i) => i + 1);
    const batches = Array.from({ length: 20 }, (_, b) => wanted.slice(b * 100, b * 100 + 100));
    const answers = await Promise.all(batches.map((batch) => pool.redo(batch.map(markedRequest))));
    expect(answers.flatMap(marks)).toEqual(wanted);
    expect(victims.size).toBe(2);
    expect(pool.lines.filter((line) => /ended by SIGKILL/.test(line)).length).toBe(2);
  });

  test("that is killed while idle is replaced by the next request", async () => {
    const opener = await redoOpener();
    const pool = startPool(opener, { processes: 1 });
    expect(marks(await pool.redo([markedRequest(1)]))).toEqual([1]);
    process.kill(opener.opened[0]!.pid!, "SIGKILL");
    await until(() => pool.lines.some((line) => /ended by SIGKILL/.test(line)));
    expect(marks(await pool.redo([markedRequest(2)]))).toEqual([2]);
    expect(opener.opened.length).toBe(2);
  });

  test("that is stuck is killed at the deadline, and its work is done by another", async () => {
    const opener = await redoOpener({ deadlineMs: 400 });
    const pool = startPool(opener, { processes: 1 });
    await pool.redo([markedRequest(1)]);
    const { pid } = opener.opened[0]!;
    process.kill(pid!, "SIGSTOP");
    expect(marks(await pool.redo([markedRequest(2), markedRequest(3)]))).toEqual([2, 3]);
    expect(pool.lines.some((line) => line.includes("no page within 400 ms"))).toBe(true);
    await until(() => !alive(pid!));
  });

  test("that does not start fails the requests with the reason, until it does", async () => {
    let library: string | undefined = "/nonexistent/walredo.so";
    const good = await redoOpener();
    const bad = await redoOpener({ library: () => library ?? "" });
    const open: RedoOpener["open"] = (handlers) =>
      library === undefined ? good.open(handlers) : bad.open(handlers);
    const workerRestart = { ...PATIENT, crashesMax: 1 };
    const pool = startPool({ ...good, open }, { workerRestart, respawnMs: 50, processes: 1 });
    expect(marks(await pool.redo([markedRequest(1)]))[0]).toMatch(
      /no redo process can be started: .*nonexistent/,
    );
    expect(pool.crashes.map((c) => c.decision)).toEqual(["restart", "give-up"]);
    library = undefined;
    await until(() => pool.system.tree().every((node) => node.state === "running"));
    expect(marks(await pool.redo([markedRequest(1)]))).toEqual([1]);
  });

  test("ends when the pool does, and waiting requests are answered", async () => {
    const opener = await redoOpener();
    const pool = startPool(opener);
    await pool.redo([markedRequest(1)]);
    process.kill(opener.opened[0]!.pid!, "SIGSTOP");
    const waiting = pool.redo([markedRequest(2)]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    pool.ref.stop();
    expect(marks(await waiting)).toEqual(["the WAL redo pool has stopped"]);
    await until(() => opener.opened.every((p) => !alive(p.pid!)));
  });
});
