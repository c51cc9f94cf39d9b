// Asks a page server again and again how far each timeline is uploaded, and remembers what it said: the
// last answer and, by chance, a few before. What was said before the machine is lost is what it promised.

import { setTimeout as sleep } from "node:timers/promises";
import { LSN_INVALID, Lsn } from "../../src/core/lsn.ts";
import { ServerUnreachable } from "../../src/http/client.ts";
import type { Random } from "./random.ts";
import type { ServerUnderTest } from "./server.ts";

const POLL_MS = 30;
const SAMPLE_MAX = 8;

export interface Promised {
  readonly last: Lsn;
  /** Other LSNs that were called uploaded, at most SAMPLE_MAX, in no order. */
  readonly sample: readonly Lsn[];
}

interface Seen {
  last: Lsn;
  sample: Lsn[];
  count: number;
}

export class UploadedWatch {
  private readonly server: ServerUnderTest;
  private readonly random: Random;
  private readonly seen = new Map<string, Seen>();
  private readonly loop: Promise<void>;
  private stopping = false;

  constructor(server: ServerUnderTest, random: Random) {
    this.server = server;
    this.random = random;
    this.loop = this.watch();
  }

  /** What was promised of a timeline, by name; undefined: nothing. */
  of(timeline: string): Promised | undefined {
    return this.seen.get(timeline);
  }

  /** Resolves when nothing is asked any more. */
  async stop(): Promise<void> {
    this.stopping = true;
    await this.loop;
  }

  private async watch(): Promise<void> {
    while (!this.stopping) {
      try {
        for (const { name, positions } of await this.server.client.timelines()) {
          this.note(name, Lsn.parse(positions.uploaded));
        }
      } catch (error) {
        if (!(error instanceof ServerUnreachable)) throw error;
      }
      await sleep(POLL_MS);
    }
  }

  private note(name: string, lsn: Lsn): void {
    const known = this.seen.get(name);
    if (lsn === LSN_INVALID || lsn === known?.last) return;
    if (known === undefined) {
      this.seen.set(name, { last: lsn, sample: [], count: 0 });
      return;
    }
    // Each of those before the last one is kept with the same chance.
    const place = known.count < SAMPLE_MAX ? known.count : this.random.between(0, known.count + 1);
    if (place < SAMPLE_MAX) known.sample[place] = known.last;
    known.count++;
    known.last = lsn;
  }
}
