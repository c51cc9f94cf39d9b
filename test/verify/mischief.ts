// What is done to a followed timeline while its page server is killed: layers sealed and merged, history let
// go, branches made at random moments and deleted, all as fast as it goes. Keeps account of which branches
// there must be. What is asked when the server dies may have happened or not.

import { setTimeout as sleep } from "node:timers/promises";
import { Lsn } from "../../src/core/lsn.ts";
import { ApiError, ServerUnreachable } from "../../src/http/client.ts";
import type { Random } from "./random.ts";
import type { ServerUnderTest } from "./server.ts";

/** "unknown": the server died before it had answered. */
type Known = "there" | "gone" | "unknown";

export interface Branch {
  readonly name: string;
  readonly lsn: Lsn;
  known: Known;
}

/** WAL that stays readable when history is let go, bytes, at most. */
const HORIZON_BYTES_MAX = 4 * 1024 * 1024;
const MOMENTS_MAX = 30;
const PAUSE_MS = 120;

export class Mischief {
  readonly branches = new Map<string, Branch>();
  /** What was done, by name; and what was refused. */
  readonly done: Record<string, number> = {};
  /** Answers that are neither success nor a refusal. */
  readonly failures: string[] = [];
  private server: ServerUnderTest;
  private readonly timeline: string;
  private readonly now: () => Promise<Lsn>;
  private readonly random: Random;
  private readonly branchesMax: number;
  private moments: Lsn[] = [];
  private made = 0;
  private loops: readonly Promise<void>[] = [];
  private stopping = false;

  /** `now`: where the primary's WAL ends. */
  constructor(
    server: ServerUnderTest,
    timeline: string,
    now: () => Promise<Lsn>,
    random: Random,
    branchesMax: number,
  ) {
    this.server = server;
    this.timeline = timeline;
    this.now = now;
    this.random = random;
    this.branchesMax = branchesMax;
  }

  /** `server`: another one that has the timeline now. */
  begin(server = this.server): void {
    this.server = server;
    this.stopping = false;
    this.loops = [this.loop(() => this.keep()), this.loop(() => this.branchOrDelete())];
  }

  /** Resolves when nothing is asked any more. */
  async stop(): Promise<void> {
    this.stopping = true;
    await Promise.all(this.loops);
  }

  /**
   * Compares the account with what there is after a restart; sentences about what is wrong. `lasts`: what
   * was acknowledged of this branch had to last.
   */
  settle(
    names: readonly string[],
    lasts: (branch: Branch) => boolean = () => true,
  ): readonly string[] {
    const there = new Set(names);
    const wrong: string[] = [];
    for (const branch of this.branches.values()) {
      const isThere = there.has(branch.name);
      const must = lasts(branch);
      if (must && branch.known === "there" && !isThere)
        wrong.push(`branch "${branch.name}" is lost`);
      if (must && branch.known === "gone" && isThere) wrong.push(`branch "${branch.name}" is back`);
      branch.known = isThere ? "there" : "gone";
    }
    for (const name of names) {
      if (name !== this.timeline && !this.branches.has(name)) wrong.push(`nobody made "${name}"`);
    }
    return wrong;
  }

  private async loop(act: () => Promise<void>): Promise<void> {
    while (!this.stopping) {
      await act();
      await sleep(this.random.between(0, PAUSE_MS));
    }
  }

  /** Does it; false when the server is gone. */
  private async ask(
    what: string,
    doing: () => Promise<unknown>,
  ): Promise<"done" | "refused" | "gone"> {
    try {
      await doing();
      this.count(what);
      return "done";
    } catch (error) {
      if (error instanceof ServerUnreachable) return "gone";
      if (!(error instanceof ApiError)) throw error;
      // 503: the timeline is being loaded.
      if (error.status >= 500 && error.status !== 503)
        this.failures.push(`${what}: ${error.message}`);
      this.count(`${what} refused`);
      return "refused";
    }
  }

  private count(what: string): void {
    this.done[what] = (this.done[what] ?? 0) + 1;
  }

  private async keep(): Promise<void> {
    const { client } = this.server;
    const kind = this.random.next();
    const target = this.random.chance(0.7)
      ? this.timeline
      : (this.oneThere()?.name ?? this.timeline);
    if (kind < 0.5) await this.ask("seal", () => client.checkpoint(target));
    else if (kind < 0.75) await this.ask("compact", () => client.compact(target));
    else {
      const horizon = this.random.between(0, HORIZON_BYTES_MAX);
      await this.ask("gc", () => client.gc(target, { gc_horizon: horizon, window_ms: 0 }));
    }
  }

  private async branchOrDelete(): Promise<void> {
    const { random } = this;
    this.moments.push(await this.now());
    if (this.moments.length > MOMENTS_MAX) this.moments.shift();
    const there = [...this.branches.values()].filter(({ known }) => known === "there");
    if (there.length >= this.branchesMax || (there.length > 0 && random.chance(0.4))) {
      return this.delete(there[random.between(0, there.length)]!);
    }
    const lsn = this.moments[random.between(0, this.moments.length)]!;
    await this.branch(lsn);
  }

  private async branch(lsn: Lsn): Promise<void> {
    const name = `b${++this.made}`;
    const request = {
      ...{ name, ancestor_name: this.timeline },
      ancestor_start_lsn: Lsn.format(lsn),
    };
    const branch: Branch = { name, lsn, known: "unknown" };
    this.branches.set(name, branch);
    const outcome = await this.ask("branch", () => this.server.client.createTimeline(request));
    if (outcome === "refused") this.branches.delete(name);
    if (outcome === "done") branch.known = "there";
  }

  private async delete(branch: Branch): Promise<void> {
    branch.known = "unknown";
    const { client } = this.server;
    const outcome = await this.ask("delete", () => client.deleteTimeline(branch.name, false));
    if (outcome === "done") branch.known = "gone";
  }

  private oneThere(): Branch | undefined {
    const there = [...this.branches.values()].filter(({ known }) => known === "there");
    return there.length === 0 ? undefined : there[this.random.between(0, there.length)];
  }
}
