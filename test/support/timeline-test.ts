// A timeline live for each test of a file: a new world, WAL that begins where it does, and what tests
// do with both again and again.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { readErrorText } from "../../src/core/errors.ts";
import type { Lsn } from "../../src/core/lsn.ts";
import type { PageAnswer } from "../../src/core/page-batch.ts";
import type { Result } from "../../src/core/result.ts";
import { layersPath, timelinePath, walPath } from "../../src/store/data-dir.ts";
import {
  BASE,
  MAIN,
  TENANT,
  TestReceiver,
  TimelineWorld,
  type WorldOptions,
  newWal,
  pageImage,
} from "./timeline-world.ts";
import type { WalBuilder } from "./wal-builder.ts";

export class TimelineTest {
  dataDir!: string;
  world!: TimelineWorld;
  wal!: WalBuilder;

  /** Records that write pages 0, 1, 2 … with fills from `seed` on. */
  addPages(count: number, seed = 1): void {
    for (let i = 0; i < count; i++) this.wal.add(pageImage(i, seed + i));
  }

  async attached(at: Lsn = BASE): Promise<TestReceiver> {
    const receiver = new TestReceiver(this.world);
    await receiver.attachAt(at);
    return receiver;
  }

  /** Streams what `wal` has from `at` on, and waits until it is durable. */
  async takeIn(at: Lsn = BASE): Promise<TestReceiver> {
    const receiver = await this.attached(at);
    receiver.sendFrom(this.wal, at);
    await receiver.untilDurable(this.wal.end);
    return receiver;
  }

  /** As a restart of the program. */
  async reopen(options?: WorldOptions): Promise<void> {
    await this.world.close();
    this.world = new TimelineWorld(this.dataDir, options);
    await this.world.loaded();
  }

  seal(): Promise<Result<undefined, string>> {
    return this.world.ask((reply) => ({ kind: "seal-now", reply }));
  }

  /** Makes a branch and waits for it. */
  async branchAt(lsn: Lsn): Promise<typeof MAIN> {
    const id = "c".repeat(32) as typeof MAIN;
    const made = await new Promise<Result<unknown, unknown>>((answer) =>
      this.world.tenant.ref.tell({
        kind: "branch",
        request: { id, name: "branch", ancestor: MAIN, lsn },
        reply: { answer },
      }),
    );
    expect(made).toMatchObject({ ok: true });
    await this.world.loaded(id);
    return id;
  }

  get walDirectory(): string {
    return walPath(timelinePath(this.dataDir, TENANT, MAIN));
  }

  layersOf(id = MAIN): string {
    return layersPath(timelinePath(this.dataDir, TENANT, id));
  }
}

/** A timeline for each test of the file. */
export function timelineTest(): TimelineTest {
  const t = new TimelineTest();
  beforeEach(async () => {
    t.dataDir = fs.mkdtempSync(path.join(os.tmpdir(), "timeline-test-"));
    t.world = await TimelineWorld.create(t.dataDir);
    t.wal = newWal();
  });
  afterEach(async () => {
    await t.world.close();
    fs.rmSync(t.dataDir, { recursive: true, force: true });
  });
  return t;
}

/** The sentence of an error, or what was answered instead. */
export const errorOf = (answers: readonly PageAnswer[], i = 0): string => {
  const answer = answers[i];
  return answer?.kind === "error" ? readErrorText(answer.error) : `${answer?.kind}`;
};
