// The book of long work: follow a primary, start a compute, merge layers, check a store. Whoever does the work reports
// steps; whoever asks gets a snapshot, at once or when the job ends. In memory only: a job that was
// running when the program died is over, and what it left behind is cleaned up by the next one.

import { randomUUID } from "node:crypto";
import type { DrillInfo, RotatedKeys, ScrubInfo } from "../protocol/api-backup.ts";
import type { CheckReport } from "../protocol/api-status.ts";
import type { ComputeInfo, Job, JobStep } from "../protocol/api-work.ts";
import type { TimelineInfo } from "../protocol/api.ts";

/** Ended jobs that stay in the book, so that a client that was slow to ask still learns the outcome. */
export const ENDED_JOBS_MAX = 200;

export interface JobResult {
  readonly timeline?: TimelineInfo;
  readonly compute?: ComputeInfo;
  readonly scrub?: ScrubInfo;
  readonly drill?: DrillInfo;
  readonly keys?: RotatedKeys;
  readonly check?: CheckReport;
  readonly deleted?: readonly string[];
}

/** The worker's side of one job. Calls after the end are ignored. */
export interface JobReporter {
  readonly id: string;
  /** Given when somebody cancels the job; the worker then gives up and calls `failed`. */
  readonly signal: AbortSignal;
  /** From now on it cannot be cancelled: it is nearly done, or half done would be worse. */
  pastCancelling(): void;
  /** Begins a step; the one before it is done. */
  step(name: string, detail?: string): void;
  /** Progress of the current step. `total` undefined: not known. */
  progress(bytesDone: number, bytesTotal: number | undefined): void;
  /** A word on the current step. */
  detail(text: string): void;
  done(result: JobResult): void;
  /** The current step and the job have failed. The sentence names the remedy and no password. */
  failed(error: string): void;
}

/** Somebody asked for the end of a job. */
export class JobCancelled extends Error {
  override readonly name = "JobCancelled";
  constructor() {
    super("cancelled on request");
  }
}

interface Step {
  readonly name: string;
  state: JobStep["state"];
  readonly startedMs: number;
  endedMs: number | undefined;
  bytesDone: number | undefined;
  bytesTotal: number | undefined;
  detail: string | undefined;
}

interface Entry {
  readonly id: string;
  readonly kind: Job["kind"];
  readonly target: string;
  readonly startedMs: number;
  endedMs: number | undefined;
  state: Job["state"];
  readonly steps: Step[];
  error: string | undefined;
  result: JobResult | undefined;
  readonly waiters: Set<() => void>;
  readonly abort: AbortController;
  cancellable: boolean;
}

/** All jobs of the program. `now` in Unix ms. */
export class JobBook {
  private readonly entries = new Map<string, Entry>();
  private readonly now: () => number;

  constructor(now: () => number) {
    this.now = now;
  }

  /** A running job of this kind and target, if there is one. */
  running(kind: Job["kind"], target: string): Job | undefined {
    for (const entry of this.entries.values()) {
      if (entry.state === "running" && entry.kind === kind && entry.target === target) {
        return this.snapshot(entry);
      }
    }
    return undefined;
  }

  start(kind: Job["kind"], target: string): JobReporter {
    const entry: Entry = {
      id: randomUUID(),
      kind,
      target,
      startedMs: this.now(),
      endedMs: undefined,
      state: "running",
      steps: [],
      error: undefined,
      result: undefined,
      waiters: new Set(),
      abort: new AbortController(),
      cancellable: true,
    };
    this.entries.set(entry.id, entry);
    return this.reporter(entry);
  }

  list(): readonly Job[] {
    return [...this.entries.values()].map((entry) => this.snapshot(entry));
  }

  get(id: string): Job | undefined {
    const entry = this.entries.get(id);
    return entry === undefined ? undefined : this.snapshot(entry);
  }

  /** The job when it has ended, at the latest after `waitMs`; undefined: no such job. */
  async wait(id: string, waitMs: number): Promise<Job | undefined> {
    const entry = this.entries.get(id);
    if (entry === undefined) return undefined;
    if (entry.state === "running" && waitMs > 0) await waitFor(entry.waiters, waitMs);
    return this.snapshot(entry);
  }

  /** Tells a running job to give up. Undefined: no such job; "too-late": it cannot any more. */
  cancel(id: string): Job | "too-late" | undefined {
    const entry = this.entries.get(id);
    if (entry === undefined) return undefined;
    if (entry.state !== "running") return this.snapshot(entry);
    if (!entry.cancellable) return "too-late";
    entry.abort.abort(new JobCancelled());
    return this.snapshot(entry);
  }

  private reporter(entry: Entry): JobReporter {
    const current = (): Step | undefined =>
      entry.state === "running" ? entry.steps.at(-1) : undefined;
    return {
      id: entry.id,
      signal: entry.abort.signal,
      pastCancelling: () => void (entry.cancellable = false),
      step: (name, detail) => {
        if (entry.state === "running") this.beginStep(entry, name, detail);
      },
      progress: (bytesDone, bytesTotal) => {
        const step = current();
        if (step === undefined) return;
        step.bytesDone = bytesDone;
        step.bytesTotal = bytesTotal;
      },
      detail: (text) => {
        const step = current();
        if (step !== undefined) step.detail = text;
      },
      done: (result) => {
        if (entry.state !== "running") return;
        entry.result = result;
        this.end(entry, "done");
      },
      failed: (error) => {
        if (entry.state !== "running") return;
        const { aborted } = entry.abort.signal;
        entry.error = aborted ? new JobCancelled().message : error;
        this.end(entry, aborted ? "cancelled" : "failed");
      },
    };
  }

  private beginStep(entry: Entry, name: string, detail: string | undefined): void {
    this.endStep(entry, "done");
    entry.steps.push({
      name,
      state: "running",
      startedMs: this.now(),
      endedMs: undefined,
      bytesDone: undefined,
      bytesTotal: undefined,
      detail,
    });
  }

  private endStep(entry: Entry, state: "done" | "failed"): void {
    const step = entry.steps.at(-1);
    if (step === undefined || step.state !== "running") return;
    step.state = state;
    step.endedMs = this.now();
  }

  private end(entry: Entry, state: Exclude<Job["state"], "running">): void {
    this.endStep(entry, state === "done" ? "done" : "failed");
    entry.state = state;
    entry.endedMs = this.now();
    for (const wake of entry.waiters) wake();
    entry.waiters.clear();
    this.forgetOldest();
  }

  private forgetOldest(): void {
    const ended = [...this.entries.values()].filter((entry) => entry.state !== "running");
    for (const entry of ended.slice(0, Math.max(0, ended.length - ENDED_JOBS_MAX))) {
      this.entries.delete(entry.id);
    }
  }

  private snapshot(entry: Entry): Job {
    return {
      id: entry.id,
      kind: entry.kind,
      target: entry.target,
      state: entry.state,
      started_at: new Date(entry.startedMs).toISOString(),
      ms: (entry.endedMs ?? this.now()) - entry.startedMs,
      steps: entry.steps.map((step) => this.stepInfo(step)),
      ...(entry.error !== undefined && { error: entry.error }),
      ...(entry.result !== undefined && { result: entry.result }),
    };
  }

  private stepInfo(step: Step): JobStep {
    return {
      name: step.name,
      state: step.state,
      ms: (step.endedMs ?? this.now()) - step.startedMs,
      ...(step.bytesDone !== undefined && { bytes_done: step.bytesDone }),
      ...(step.bytesTotal !== undefined && { bytes_total: step.bytesTotal }),
      ...(step.detail !== undefined && { detail: step.detail }),
    };
  }
}

function waitFor(waiters: Set<() => void>, waitMs: number): Promise<void> {
  return new Promise((resolve) => {
    const wake = (): void => {
      clearTimeout(timer);
      waiters.delete(wake);
      resolve();
    };
    const timer = setTimeout(wake, waitMs);
    waiters.add(wake);
  });
}
