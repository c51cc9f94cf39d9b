// The receiver actor between a real primary and a timeline that only keeps bytes: what arrives is
// compared with the primary's WAL files.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  type ActorRef,
  type ActorSystem,
  ask,
  spawn,
  startSystem,
} from "../../src/actors/runtime.ts";
import type { TimelineMsg, WalProgressMsg } from "../../src/actors/timeline-messages.ts";
import {
  type WalReceiverMsg,
  type WalReceiverOptions,
  type WalReceiverStatus,
  walReceiver,
} from "../../src/actors/wal-receiver.ts";
import { WAL_IN_FLIGHT_BYTES, WAL_STATUS_MS } from "../../src/core/limits.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { err, ok } from "../../src/core/result.ts";
import { systemClock } from "../../src/io/clock.ts";
import type { TestPostgres } from "../support/postgres.ts";
import { plain, startTlsPostgres, until, walBytes } from "../support/replication.ts";

const NEVER = { crashesMax: 0, windowMs: 60_000, backOffMs: 0, backOffMsMax: 0 };
const THRICE = { crashesMax: 3, windowMs: 60_000, backOffMs: 20, backOffMsMax: 20 };

/** A timeline that takes in all WAL it is given, or holds back when told to. */
interface Kept {
  start: Lsn;
  next: Lsn;
  parts: Uint8Array[];
  systemId: string;
  tli: number;
  attached: number;
  /** Takes bytes but says nothing of them. */
  mute: boolean;
  refuse: string | undefined;
  receiver: ActorRef<WalProgressMsg> | undefined;
  crashNext: boolean;
}

let pg: TestPostgres;
let system: ActorSystem;
let systems = 0;
let systemId: string;
const crashes: string[] = [];

beforeAll(async () => {
  pg = await startTlsPostgres({ wal_sender_timeout: "5s", wal_level: "logical" });
  systemId = await pg.sql("SELECT system_identifier FROM pg_control_system()");
  await pg.pgbench(["-i", "-q", "-s", "1"]);
});
afterAll(() => pg?.cleanup());
afterEach(async () => {
  system.stop();
  await until(
    "the receiver's connection to be gone",
    async () => (await pg.sql("SELECT count(*) FROM pg_stat_replication")) === "0",
  );
  await pg.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
});

const flushLsn = async (): Promise<Lsn> =>
  Lsn.parse(await pg.sql("SELECT pg_current_wal_flush_lsn()"));

function tellProgress(kept: Kept): void {
  const at = kept.next;
  const positions = { received: at, visible: at, durable: at, uploaded: Lsn.of(0) };
  kept.receiver?.tell({ kind: "progress", positions });
}

async function follow(overrides: Partial<WalReceiverOptions> = {}, from?: Lsn) {
  system = startSystem(`receiver${systems++}`, (report) => crashes.push(String(report.error)));
  const start = from ?? (await flushLsn());
  const kept: Kept = {
    start,
    next: start,
    parts: [],
    systemId,
    tli: 1,
    attached: 0,
    mute: false,
    refuse: undefined,
    receiver: undefined,
    crashNext: false,
  };
  const timeline = spawn<Kept, TimelineMsg>(system.root, {
    name: "timeline",
    restart: NEVER,
    init: () => kept,
    handle: (state, msg) => {
      if (msg.kind === "wal-attach") {
        state.attached++;
        state.receiver = msg.receiver;
        const { next: lsn, tli } = state;
        msg.reply.answer(
          state.refuse === undefined
            ? ok({ lsn, tli, systemId: state.systemId })
            : err(state.refuse),
        );
        tellProgress(state);
      } else if (msg.kind === "wal") {
        expect(msg.at).toBe(state.next);
        state.next = Lsn.of(msg.at + msg.bytes.length);
        state.parts.push(msg.bytes);
        if (!state.mute) tellProgress(state);
      }
      return state;
    },
  });
  const changes: WalReceiverStatus[] = [];
  const receiver = spawn(
    system.root,
    walReceiver({
      name: "wal-receiver",
      restart: NEVER,
      conninfo: plain(pg),
      slot: undefined,
      source: "postgres",
      applicationName: "page_server",
      timeline,
      clock: systemClock,
      onChange: (status) => changes.push(status),
      ...overrides,
    }),
  );
  const status = async (): Promise<WalReceiverStatus> => {
    const answer = await ask<WalReceiverMsg, WalReceiverStatus>(
      receiver,
      (reply) => ({ kind: "describe", reply }),
      2_000,
    );
    if (answer === "timed-out") throw new Error("the receiver does not answer");
    return answer;
  };
  const phase = (connection: WalReceiverStatus["connection"]): Promise<WalReceiverStatus> =>
    until(`the receiver to be ${connection}`, async () => {
      const now = await status();
      return now.connection === connection ? now : undefined;
    });
  /** All WAL that the primary has flushed by now has been taken in, and equals its files. */
  const caughtUp = async (): Promise<void> => {
    const end = await flushLsn();
    await until("all WAL", () => kept.next >= end);
    const expected = walBytes(pg, kept.start, kept.next);
    expect(Buffer.compare(Buffer.concat(kept.parts), expected)).toBe(0);
  };
  return { kept, receiver, status, phase, caughtUp, changes };
}

describe("following a primary", () => {
  test("while pgbench runs and walsenders are shot: every byte once, and reported", async () => {
    const f = await follow({ slot: "ps_main" });
    await f.phase("streaming");
    const work = pg.pgbench(["-n", "-c", "4", "-T", "3"]);
    for (let n = 0; n < 3; n++) {
      await new Promise((resolve) => setTimeout(resolve, 600));
      await pg.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
    }
    await work;
    await f.phase("streaming");
    await f.caughtUp();
    expect(f.kept.attached).toBe(4);
    const now = await f.status();
    expect(now).toMatchObject({ connection: "streaming", reconnects: 3, reason: undefined });
    expect(now.conninfo).toBe(`postgres://postgres@127.0.0.1:${pg.port}/?sslmode=disable`);
    expect(Date.now() - now.streamingSinceMs!).toBeLessThan(10_000);
    expect(now.lagBytes).toBe(0);
    await until(
      "the slot to follow",
      async () =>
        (await pg.sql(
          "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'ps_main'",
        )) === Lsn.format(f.kept.next),
    );
    const reasons = f.changes.map((change) => change.reason).filter((r) => r !== undefined);
    expect(reasons.every((reason) => reason.includes("57P01"))).toBe(true);
    expect(crashes).toEqual([]);
  });

  test("a restart of the primary, clean or by crash: resumed by itself", async () => {
    const f = await follow({ slot: "ps_restart" });
    await f.phase("streaming");
    const stopBegan = performance.now();
    await pg.stop("fast");
    // A walsender waits for its standby to have everything: ours must not hold the shutdown up.
    expect(performance.now() - stopBegan).toBeLessThan(5_000);
    expect((await f.phase("backing-off")).reason).toMatch(/shuts down|closed|ECONNREFUSED/);
    await pg.start();
    await f.phase("streaming");
    await pg.sql("CREATE TABLE a AS SELECT generate_series(1, 1000)");
    await f.caughtUp();
    await pg.kill();
    await pg.start();
    f.receiver.tell({ kind: "connect-now" });
    await f.phase("streaming");
    await pg.sql("CREATE TABLE b AS SELECT generate_series(1, 1000)");
    await f.caughtUp();
  });

  test("a synchronous commit returns once we call it durable, and at once", async () => {
    const f = await follow();
    await f.phase("streaming");
    await pg.sql("ALTER SYSTEM SET synchronous_standby_names = 'page_server'");
    await pg.sql("SELECT pg_reload_conf()");
    try {
      await until(
        "to be the synchronous standby",
        async () => (await pg.sql("SELECT sync_state FROM pg_stat_replication")) === "sync",
      );
      await pg.sql("CREATE TABLE sync_t (x int)");
      const began = performance.now();
      for (const level of ["on", "remote_apply", "remote_write"]) {
        await pg.sql(
          `SET synchronous_commit = ${level};\n${"INSERT INTO sync_t VALUES (1);\n".repeat(50)}`,
        );
      }
      // 150 commits; a single one that waited for the next regular report would take longer.
      expect(performance.now() - began).toBeLessThan(WAL_STATUS_MS);

      f.kept.mute = true;
      let returned = false;
      const commit = pg.sql("INSERT INTO sync_t VALUES (2)").then(() => (returned = true));
      await until("the commit to be flushed there", async () => f.kept.next >= (await flushLsn()));
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(returned).toBe(false);
      tellProgress(f.kept);
      await commit;

      // A commit that waits while the connection is replaced is released by the first report of the
      // new one.
      const second = pg.sql("INSERT INTO sync_t VALUES (3)");
      await until("its WAL", () =>
        pg.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"),
      );
      await pg.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
      await second;
      f.kept.mute = false;
    } finally {
      tellProgress(f.kept);
      await pg.sql("SET synchronous_commit = local; ALTER SYSTEM RESET synchronous_standby_names");
      await pg.sql("SELECT pg_reload_conf()");
    }
  });

  test("a timeline that does not keep up: bounded in flight, the connection kept, nothing lost", async () => {
    const f = await follow();
    await f.phase("streaming");
    f.kept.mute = true;
    await pg.sql("CREATE TABLE c AS SELECT g, repeat('x', 500) FROM generate_series(1, 80000) g");
    const end = await flushLsn();
    expect(end - f.kept.start).toBeGreaterThan(5 * WAL_IN_FLIGHT_BYTES);
    let before = 0;
    while (f.kept.next !== before) {
      before = f.kept.next;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    // What was read in the event loop's turn in which the limit was passed may come on top.
    expect(f.kept.next - f.kept.start).toBeGreaterThan(WAL_IN_FLIGHT_BYTES);
    expect(f.kept.next - f.kept.start).toBeLessThan(2 * WAL_IN_FLIGHT_BYTES);
    expect((await f.status()).connection).toBe("streaming");
    f.kept.mute = false;
    tellProgress(f.kept);
    await f.caughtUp();
    expect(f.kept.attached).toBe(1);
  });
});

describe("what cannot be followed", () => {
  test("another cluster, another timeline id: refused, with the reason, without trying again", async () => {
    const f = await follow();
    await f.phase("streaming");
    f.kept.systemId = "1";
    await pg.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
    expect((await f.phase("refused")).reason).toMatch(
      new RegExp(`identifier is ${systemId}, this timeline's is 1: it is another database cluster`),
    );
    const attached = f.kept.attached;
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(f.kept.attached).toBe(attached);
    // Mended by an operator: told to try, it goes on.
    f.kept.systemId = systemId;
    f.kept.tli = 7;
    f.receiver.tell({ kind: "connect-now" });
    await until("the other refusal", async () =>
      /timeline 1, .* 7/.test((await f.status()).reason ?? ""),
    );
    f.kept.tli = 1;
    f.receiver.tell({ kind: "connect-now" });
    await f.phase("streaming");
    await f.caughtUp();
  });

  test("WAL that the primary no longer has: refused with a remedy", async () => {
    const start = Lsn.of(Math.ceil((await flushLsn()) / 16_777_216) * 16_777_216 - 16_777_216);
    for (let n = 0; n < 3; n++)
      await pg.sql("CREATE TABLE IF NOT EXISTS d(); SELECT pg_switch_wal()");
    await pg.sql("CHECKPOINT");
    const f = await follow({}, start);
    expect((await f.phase("refused")).reason).toMatch(
      /already been removed.*follow the server anew/,
    );
  });

  test("a slot that is logical is refused; a login that fails is tried again", async () => {
    await pg.sql("SELECT pg_create_logical_replication_slot('ps_logical', 'pgoutput')");
    const f = await follow({ slot: "ps_logical" });
    expect((await f.phase("refused")).reason).toMatch(/logical.*name another slot/);
    system.stop();
    const g = await follow({ conninfo: { ...plain(pg), user: "nobody_here" } });
    expect((await g.phase("backing-off")).reason).toMatch(/role "nobody_here" does not exist/);
  });

  test("a timeline that refuses, then does not; WAL that it refuses for good", async () => {
    const f = await follow();
    await f.phase("streaming");
    f.kept.refuse = "still loading";
    await pg.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
    await until("the refusal", async () => /still loading/.test((await f.status()).reason ?? ""));
    f.kept.refuse = undefined;
    await f.phase("streaming");
    f.kept.receiver!.tell({
      kind: "wal-refused",
      reason: "record at 0/1 has a bad CRC",
      retry: false,
    });
    expect((await f.phase("refused")).reason).toBe("the timeline: record at 0/1 has a bad CRC");
  });
});

test("a crash of the actor: restarted by its policy, and streaming goes on", async () => {
  let crash = false;
  const clock = {
    ...systemClock,
    chance: () => {
      if (!crash) return Math.random();
      crash = false;
      throw new Error("chance ran out");
    },
  };
  const f = await follow({ restart: THRICE, clock });
  await f.phase("streaming");
  crash = true;
  await pg.sql("CREATE TABLE e AS SELECT generate_series(1, 1000)");
  await until("the crash", () => crashes.includes("Error: chance ran out"));
  crashes.length = 0;
  await f.phase("streaming");
  await f.caughtUp();
  expect(f.kept.attached).toBe(2);
  await until(
    "one connection",
    async () => (await pg.sql("SELECT count(*) FROM pg_stat_replication")) === "1",
  );
});
