// What verify:full-disk does to one timeline, with the disk full from some write on, or one sync failing.
// What must hold: a step that cannot be kept is refused and says "no space left"; pages are read all the while;
// what goes on by itself (WAL, seals, merges) is an alarm of `status` until there is room; then the same process
// does the step, and all others; nothing that was read, or acknowledged, differs afterwards, nor after a
// restart. A failed sync stops the process, and the next one recovers.

import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { checkTenant } from "../../src/app/check.ts";
import { alarmsOf } from "../../src/app/status.ts";
import { parseTimelineId } from "../../src/core/ids.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { LocalStorage } from "../../src/io/objects/local.ts";
import { layersPath, timelinePath } from "../../src/store/data-dir.ts";
import {
  BASE,
  MAIN,
  TENANT,
  TestReceiver,
  TimelineWorld,
  newWal,
  pageImage,
} from "../support/timeline-world.ts";

/** The process would have ended here. */
class Stopped extends Error {}

/** What fills page 0: what was durable, and what was on its way. */
export interface Fills {
  readonly durable: number;
  readonly coming: number;
}

export interface DiskCounts {
  /** After so many more writes, or syncs, it fails. */
  arm(at: number): void;
  /** It works. */
  free(): void;
  readonly failures: number;
  /** Outlives the process. */
  fills: Fills;
}

/** over: nothing failed, the scenario has fewer writes than that. unnoticed: something failed and nobody was refused anything. */
export type Outcome =
  | { readonly kind: "over" }
  | { readonly kind: "refusals" | "stops" | "unnoticed"; readonly at: number }
  | { readonly kind: "wrong"; readonly at: number; readonly what: string };

/** Time goes faster, so that what is tried again is soon. */
const FASTER = 20;
const TICK_MS = 50;
const PAGES = 20;
const BRANCH = parseTimelineId("c".repeat(32));
/** When something is wrong already, ms. */
const CLOSE_MS_MAX = 5_000;
/** For what goes on by itself, ms. */
const RESUME_MS_MAX = 60_000;
const NO_SPACE = /no space left/;

/** Why a step was refused; undefined: it is done. */
type Refusal = string | undefined;
interface Step {
  readonly name: string;
  readonly attempt: () => Promise<Refusal>;
  /** It goes on by itself: until then `status` says so. Of all else only who asked hears. */
  readonly alarms: boolean;
}

export async function scenario(
  directory: string,
  backedUp: boolean,
  disk: DiskCounts,
  at: number,
): Promise<Outcome> {
  const run = new Scenario(directory, backedUp, disk);
  await run.begin();
  disk.arm(at);
  try {
    for (const step of run.steps) await run.perform(step);
    const { failures } = disk;
    disk.free();
    await run.end();
    if (failures === 0 && run.failures === 0) return { kind: "over" };
    return { kind: run.refusals > 0 ? "refusals" : "unnoticed", at };
  } catch (error) {
    disk.free();
    if (error instanceof Stopped) return { kind: "stops", at };
    await Promise.race([run.close().catch(() => undefined), sleep(CLOSE_MS_MAX)]);
    return { kind: "wrong", at, what: `${String(error)} ${run.describe()}` };
  }
}

/** Opens what a process left that died; gives what is wrong with it. */
export async function recovered(directory: string, fills: Fills): Promise<string | undefined> {
  const world = new TimelineWorld(path.join(directory, "data"));
  try {
    await world.loaded();
    const problems = await problemsOf(world);
    if (problems !== undefined || fills.durable === 0) return problems;
    const fill = await world.fill(0);
    return fill === fills.durable || fill === fills.coming ? undefined : `page 0 has ${fill}`;
  } finally {
    await world.close();
  }
}

async function problemsOf(world: TimelineWorld): Promise<string | undefined> {
  const { phase } = world.main.facts;
  if (phase.kind !== "active") return `it is ${JSON.stringify(phase)}`;
  const found = await checkTenant(world.shared, world.tenant);
  if (!found.ok) return JSON.stringify(found.error);
  if (found.value.problems.length > 0) return found.value.problems.join("; ");
  const names = fs.readdirSync(layersPath(timelinePath(world.shared.dataDir, TENANT, MAIN)));
  const known = new Set(world.tenant.catalog.layers(MAIN).map(({ file }) => file));
  const orphans = names.filter((name) => !name.endsWith("-lock") && !known.has(name));
  return orphans.length === 0 ? undefined : `orphans: ${orphans.join(" ")}`;
}

class Scenario {
  world!: TimelineWorld;
  refusals = 0;
  failures = 0;
  private step = "";
  private ticker: NodeJS.Timeout | undefined;
  private readonly directory: string;
  private readonly backedUp: boolean;
  private readonly disk: DiskCounts;
  private readonly wal = newWal();
  private receiver: TestReceiver | undefined;
  private sent: Lsn = BASE;
  /** What fills page 0; the others follow. */
  private seed = 0;
  /** As soon as that has been taken in; it need not be durable yet. */
  private coming = 0;

  constructor(directory: string, backedUp: boolean, disk: DiskCounts) {
    this.directory = directory;
    this.backedUp = backedUp;
    this.disk = disk;
  }

  async close(): Promise<void> {
    clearInterval(this.ticker);
    await this.world.close();
  }

  /** What else is known when something is wrong. */
  describe(): string {
    const { fatal, crashes, lines } = this.world;
    const said = lines.slice(-6).map(({ msg, reason }) => `${msg} ${reason ?? ""}`);
    return JSON.stringify({
      step: this.step,
      fatal: fatal.map(({ message }) => message),
      crashes: crashes.map(({ error }) => String(error)),
      said,
    });
  }

  private get options() {
    const storage = new LocalStorage(path.join(this.directory, "objects"));
    const clock = { steadyMs: () => performance.now() * FASTER };
    return this.backedUp ? { clock, storage } : { clock };
  }

  async begin(): Promise<void> {
    fs.mkdirSync(this.directory, { recursive: true });
    this.disk.fills = { durable: 0, coming: 0 };
    this.world = await TimelineWorld.create(path.join(this.directory, "data"), this.options);
    this.ticker = setInterval(() => this.world.tenant?.ref.tell({ kind: "tick" }), TICK_MS);
  }

  get steps(): readonly Step[] {
    const window = { windowMs: 0, walBytes: 0 };
    return [
      this.takeIn(1),
      this.seal,
      this.takeIn(41),
      this.seal,
      this.tenantStep("branch", (reply) => ({
        kind: "branch",
        request: { id: BRANCH, name: "branch", ancestor: MAIN, lsn: this.sent },
        reply,
      })),
      this.ask("snapshot", (reply) => ({ kind: "snapshot", name: "s", lsn: this.sent, reply })),
      this.takeIn(81),
      this.seal,
      this.ask("lease", (reply) => ({ kind: "lease", lsn: this.sent, reply })),
      this.ask("collect", (reply) => ({ kind: "collect", ...window, reply })),
      this.compact,
      this.takeIn(121),
      this.ask("delete the snapshot", (reply) => ({ kind: "delete-snapshot", name: "s", reply })),
      this.tenantStep("delete the branch", (reply) => ({
        ...{ kind: "remove", timeline: BRANCH, recursive: false, reply },
      })),
      this.seal,
      this.compact,
      ...(this.backedUp ? [this.uploaded] : []),
    ];
  }

  async perform({ name, attempt, alarms }: Step): Promise<void> {
    const { disk } = this;
    this.step = name;
    const refused = await attempt();
    if (this.world.fatal.length > 0) this.stop(name);
    if (refused !== undefined && alarms) this.assertAlarm(name);
    await this.readsAnswer(name).catch((error: unknown) => {
      // It stopped meanwhile.
      if (this.world.fatal.length === 0) throw error;
    });
    if (this.world.fatal.length > 0) this.stop(name);
    if (refused !== undefined) {
      if (disk.failures === 0)
        throw new Error(`${name} is refused, and nothing failed: ${refused}`);
      if (!NO_SPACE.test(refused)) throw new Error(`${name} is refused otherwise: ${refused}`);
      this.refusals++;
    }
    if (disk.failures > 0) {
      this.failures += disk.failures;
      disk.free();
    }
    if (refused !== undefined) await this.untilDone(name, attempt);
    if (this.world.crashes.length > 0) {
      throw new Error(`${name}: an actor crashed: ${String(this.world.crashes[0]!.error)}`);
    }
  }

  private assertAlarm(name: string): void {
    const alarms = alarmsOf(this.world.shared.directory);
    if (alarms.some((alarm) => NO_SPACE.test(alarm))) return;
    throw new Error(`${name} is refused, and no alarm says why: ${JSON.stringify(alarms)}`);
  }

  /** The process stops; another one takes its place, and looks at what is there. */
  private stop(name: string): never {
    const [why] = this.world.fatal;
    // Of a disk that is only full, where LMDB itself wants to be opened anew.
    if (this.backedUp && !/catalog failed/.test(why!.message)) {
      throw new Error(`${name}: a full disk stops the process: ${why!.message}`);
    }
    throw new Stopped();
  }

  private async reopen(): Promise<void> {
    await this.world.close();
    this.receiver = undefined;
    this.world = new TimelineWorld(path.join(this.directory, "data"), this.options);
    await this.world.loaded();
  }

  private async untilDone(name: string, attempt: Step["attempt"]): Promise<void> {
    let refused: Refusal;
    for (const end = Date.now() + RESUME_MS_MAX; Date.now() < end; await sleep(10)) {
      refused = await attempt();
      if (refused === undefined) return;
    }
    throw new Error(`${name} does not go on: ${refused}`);
  }

  /** The last pages that were durable, or newer ones. */
  private async readsAnswer(name: string): Promise<void> {
    for (const block of [0, 7, PAGES - 1]) {
      if (this.seed === 0) return;
      const fill = (await this.world.fill(block)) - block;
      if (fill !== this.seed && fill !== this.coming)
        throw new Error(`${name}: page ${block} has ${fill}`);
    }
  }

  /** Everything once more, and after a restart. */
  async end(): Promise<void> {
    for (const look of ["at the end", "after a restart"]) {
      await this.readsAnswer(look);
      const problems = await problemsOf(this.world);
      if (problems !== undefined) throw new Error(`${look}: ${problems}`);
      if (look === "at the end") await this.reopen();
    }
    await this.close();
  }

  // ---- steps

  private takeIn(seed: number): Step {
    let end: Lsn | undefined;
    const attempt = async (): Promise<Refusal> => {
      if (end === undefined) {
        for (let i = 0; i < PAGES; i++) this.wal.add(pageImage(i, seed + i));
        ({ end } = this.wal);
        this.coming = seed;
        this.disk.fills = { durable: this.seed, coming: seed };
      }
      if (this.receiver === undefined) {
        this.receiver = new TestReceiver(this.world);
        const start = await this.receiver.attach();
        if (!start.ok) return start.error;
        this.receiver.sendFrom(this.wal, start.value.lsn);
      } else if (this.sent < end) this.receiver.sendFrom(this.wal, this.sent);
      this.sent = end;
      for (const until = Date.now() + RESUME_MS_MAX; Date.now() < until; await sleep(2)) {
        const { stalled, positions } = this.world.main.facts;
        if (positions.durable >= end) {
          this.seed = seed;
          this.disk.fills = { durable: seed, coming: seed };
          return undefined;
        }
        if (this.world.fatal.length > 0) return "it stops";
        // Reads may show what is not durable yet.
        if (stalled !== undefined) return stalled;
      }
      return "nothing happens";
    };
    return { name: `take in ${seed}`, attempt, alarms: true };
  }

  private get seal(): Step {
    return { ...this.ask("seal", (reply) => ({ kind: "seal-now", reply })), alarms: true };
  }

  private get compact(): Step {
    return { ...this.ask("compact", (reply) => ({ kind: "compact", reply })), alarms: true };
  }

  private get uploaded(): Step {
    const attempt = async (): Promise<Refusal> => {
      for (const until = Date.now() + RESUME_MS_MAX; Date.now() < until; await sleep(5)) {
        const { uploaded } = this.world.main.facts.positions;
        if (uploaded >= this.sent) return undefined;
        if (this.disk.failures > 0) return "no space left for the backup";
      }
      return "it is not uploaded";
    };
    return { name: "uploaded", attempt, alarms: false };
  }

  private ask(
    name: string,
    build: (reply: {
      answer(value: unknown): void;
    }) => Parameters<TimelineWorld["main"]["ref"]["tell"]>[0],
  ): Step {
    return {
      name,
      attempt: async () => refusalOf(await this.world.ask<unknown>(build, MAIN, RESUME_MS_MAX)),
      alarms: false,
    };
  }

  private tenantStep(
    name: string,
    build: (reply: {
      answer(value: unknown): void;
    }) => Parameters<TimelineWorld["tenant"]["ref"]["tell"]>[0],
  ): Step {
    const attempt = (): Promise<Refusal> =>
      new Promise((resolve) =>
        this.world.tenant.ref.tell(build({ answer: (value) => resolve(refusalOf(value)) })),
      );
    return { name, attempt, alarms: false };
  }
}

/** Of the answers there are: a Result, or an LSN, where undefined is a refusal. */
function refusalOf(answer: unknown): Refusal {
  if (typeof answer === "number") return undefined;
  if (answer === undefined) return "no space left to move the cutoff";
  const result = answer as { readonly ok: boolean; readonly error?: unknown };
  if (result.ok) return undefined;
  const { error } = result;
  const text = typeof error === "string" ? error : JSON.stringify(error);
  // Done before: the answer did not come, or the process stopped after it.
  return /exists already|not-found/.test(text) ? undefined : text;
}
