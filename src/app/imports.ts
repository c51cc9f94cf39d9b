// Timelines under construction in this process: no two of one name or id, and none that goes on when
// the program stops. What a crash of the process leaves is removed when its tenant is opened again.

import type { TenantId, TimelineId } from "../core/ids.ts";

/** A timeline of that name or id is being made. */
export class ImportRunning extends Error {
  override readonly name = "ImportRunning";
}

/** The program stops, so the timeline is not made. */
export class ImportStopped extends Error {
  override readonly name = "ImportStopped";
  constructor() {
    super("the page server stops; ask again when it runs");
  }
}

export class Imports {
  private readonly running = new Map<string, Promise<unknown>>();
  private readonly abort = new AbortController();

  /**
   * Makes a timeline. `work` throws when the signal is given, or soon after: by the program's end or by
   * `cancel`. Throws ImportRunning, ImportStopped.
   */
  async run<T>(
    tenant: TenantId,
    timeline: { readonly id: TimelineId; readonly name: string },
    work: (signal: AbortSignal) => Promise<T>,
    cancel?: AbortSignal,
  ): Promise<T> {
    const stop = this.abort.signal;
    if (stop.aborted) throw new ImportStopped();
    const signal = cancel === undefined ? stop : AbortSignal.any([stop, cancel]);
    const keys = [`${tenant} id ${timeline.id}`, `${tenant} name ${timeline.name}`];
    if (keys.some((key) => this.running.has(key))) {
      throw new ImportRunning(`timeline "${timeline.name}" (${timeline.id}) is being made already`);
    }
    const made = work(signal);
    for (const key of keys) this.running.set(key, made);
    try {
      return await made;
    } finally {
      for (const key of keys) this.running.delete(key);
    }
  }

  /** True while a timeline of the tenant is being made. */
  runIn(tenant: TenantId): boolean {
    return [...this.running.keys()].some((key) => key.startsWith(`${tenant} `));
  }

  /** Tells all to give up; resolves when they have. */
  async stop(): Promise<void> {
    this.abort.abort(new ImportStopped());
    await Promise.allSettled(this.running.values());
  }
}
