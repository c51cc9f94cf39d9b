// One connection over a link that is played by hand: moments that a real socket gives only sometimes.

import { afterEach, beforeEach, expect, test } from "vitest";
import { DEADLINES, spawnConnection } from "../../src/actors/connection.ts";
import { type ActorSystem, startSystem } from "../../src/actors/runtime.ts";
import { FairShare } from "../../src/core/fair-share.ts";
import { LinkCounts } from "../../src/core/link-counts.ts";
import { SlabPool } from "../../src/core/slab-pool.ts";
import type { Link, LinkHandlers } from "../../src/io/listener.ts";
import { createLog } from "../../src/io/log.ts";
import { trust } from "../../src/protocol/pg-handshake.ts";
import { spawnMemoryTimeline } from "../support/memory-timeline.ts";
import { TENANT, TIMELINE } from "../support/page-service.ts";
import { outline, query, startupPacket } from "../support/raw-link.ts";

class HandLink implements Link {
  readonly peer = "by hand";
  readonly done: string[] = [];
  handlers!: LinkHandlers;
  readonly written: Buffer[] = [];
  failWrites = false;
  start(handlers: LinkHandlers): void {
    this.handlers = handlers;
  }
  write(pieces: readonly Uint8Array[], sent: (error: Error | undefined) => void): void {
    if (this.failWrites) throw new Error("write refused");
    this.written.push(...pieces.map((piece) => Buffer.from(piece)));
    setImmediate(() => sent(undefined));
  }
  secure = (): void => void this.done.push("secure");
  pause = (): void => void this.done.push("pause");
  resume = (): void => void this.done.push("resume");
  end = (): void => void this.done.push("end");
  endSoon = (): void => void this.done.push("end-soon");
  destroy = (): void => void this.done.push("destroy");
}

let system: ActorSystem;
let gone: boolean;
let answerLease: (() => void)[];
beforeEach(() => {
  gone = false;
  answerLease = [];
  system = startSystem("by-hand", () => undefined);
});
afterEach(() => system.stop());

function connect(lines: string[] = []): HandLink {
  const link = new HandLink();
  const timeline = spawnMemoryTimeline(system.root, "timeline", { lease: () => 5 });
  const held: typeof timeline = {
    ...timeline,
    tell: (msg) => void answerLease.push(() => timeline.tell(msg)),
  };
  const deps = {
    resolve: () => held,
    serveBackup: async function* () {},
    authenticate: trust,
    log: createLog({ level: "info", to: { write: (line) => lines.push(line) }, pretty: false }),
    slabs: new SlabPool(0),
    links: new LinkCounts(1),
    fair: new FairShare(() => 0),
    deadlines: DEADLINES,
  };
  spawnConnection(system.root, "connection", link, deps, () => (gone = true));
  return link;
}

const lease = query(`lease lsn ${TENANT} ${TIMELINE} 0/10`);
const heard = (link: HandLink): string => outline(Buffer.concat(link.written));

test("an end of input while a command runs: the command is answered, then all is closed", async () => {
  const link = connect();
  link.handlers.onBytes(Buffer.concat([startupPacket(), lease, lease]));
  expect(link.done.at(-1)).toBe("pause");
  link.handlers.onEnd();
  expect(link.done).not.toContain("end");
  for (const count of [1, 2]) {
    await expect.poll(() => answerLease.length).toBe(count);
    answerLease[count - 1]!();
  }
  await expect.poll(() => link.done.includes("end")).toBe(true);
  expect(heard(link)).toBe("R S S S Z T D C Z T D C Z");
  link.handlers.onClosed(undefined);
  await expect.poll(() => gone).toBe(true);
});

test("a link that is cut while a command runs: its late answer is dropped", async () => {
  const link = connect();
  link.handlers.onBytes(Buffer.concat([startupPacket(), lease]));
  link.handlers.onClosed(new Error("ECONNRESET"));
  await expect.poll(() => gone).toBe(true);
  const before = link.written.length;
  answerLease[0]!();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(link.written.length - before).toBeLessThanOrEqual(0);
});

test("an error of our own, even while closing, cuts this link and reaches nobody", () => {
  const lines: string[] = [];
  const link = connect(lines);
  link.failWrites = true;
  expect(() => link.handlers.onBytes(startupPacket())).not.toThrow();
  expect(link.done).toContain("destroy");
  expect(lines.join("")).toContain("internal error");
});
