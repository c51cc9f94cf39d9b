import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  WAL_ATTACH_MS_MAX,
  WAL_IN_FLIGHT_BYTES,
  WAL_RETRY_MS_MAX,
  WAL_RETRY_MS_MIN,
  WAL_SILENCE_MS_MAX,
  WAL_STATUS_MS,
  WAL_UNTAKEN_MS_MAX,
} from "../../src/core/limits.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { err, ok } from "../../src/core/result.ts";
import { wakeAfterMs } from "../../src/core/wal-receiver.ts";
import { Driver, IDENTITY, POINT, START, at, kinds } from "./receiver-driver.ts";
import {
  type ReceiverEffect,
  type ReceiverEvent,
  reportOf,
  streamFrom,
} from "../../src/core/wal-receiver-state.ts";

describe("reaching a source", () => {
  test("connect, attach, stream where the timeline says, report", () => {
    const d = new Driver();
    expect(d.send({ kind: "connect-now" })).toEqual([{ do: "connect", connection: 1 }]);
    expect(d.connected()).toEqual([{ do: "attach" }]);
    expect(d.attached()).toEqual([{ do: "stream", lsn: START, tli: 1 }]);
    expect(kinds(d.send({ kind: "started", connection: 1 }))).toEqual(["report"]);
    expect(d.phase).toBe("streaming");
  });

  test.each([
    ["another cluster", { ...POINT, systemId: "78" }, /identifier is 77, this timeline's is 78/],
    ["another timeline id", { ...POINT, tli: 2 }, /timeline 1, this timeline follows 2/],
  ])("%s is refused for good", (_what, start, why) => {
    const d = new Driver();
    d.send({ kind: "connect-now" });
    d.connected();
    expect(d.attached(ok(start))).toEqual([{ do: "close" }]);
    expect(d.state.phase).toMatchObject({ kind: "refused", reason: expect.stringMatching(why) });
    expect(wakeAfterMs(d.state, d.nowMs)).toBe(undefined);
    expect(d.send({ kind: "connect-now" })).toMatchObject([{ do: "connect" }]);
  });

  test("a server that is behind us, a timeline that refuses or is silent: tried again", () => {
    const d = new Driver();
    d.send({ kind: "connect-now" });
    d.connected();
    d.attached(ok({ ...POINT, lsn: Lsn.parse("1/8") }));
    expect(d.state.lastError).toMatch(/WAL ends at 1\/0, before 1\/8/);
    expect(d.phase).toBe("backing-off");
    d.send({ kind: "connect-now" });
    d.connected();
    d.send({ kind: "attached", connection: d.connection, start: err("loading") });
    expect(d.state.lastError).toBe("the timeline: loading");
    d.send({ kind: "connect-now" });
    d.connected();
    expect(d.tickAfter(WAL_ATTACH_MS_MAX - 1)).toEqual([]);
    expect(kinds(d.tickAfter(1))).toEqual(["close"]);
    expect(d.phase).toBe("backing-off");
  });

  test("a position behind a page header is asked for at the page's start", () => {
    expect(streamFrom(Lsn.of(0x3000028))).toBe(0x3000000);
    expect(streamFrom(Lsn.of(0x3002018))).toBe(0x3002000);
    expect(streamFrom(Lsn.of(0x3000018))).toBe(0x3000018);
    expect(streamFrom(Lsn.of(0x3002028))).toBe(0x3002028);
    const d = new Driver();
    d.send({ kind: "connect-now" });
    // The server has exactly the page before.
    const identity = { ...IDENTITY, xlogpos: Lsn.of(0x3002000) };
    d.send({ kind: "connected", connection: 1, identity });
    const lsn = Lsn.of(0x3002018);
    expect(d.attached(ok({ ...POINT, lsn }))).toEqual([
      { do: "stream", lsn: Lsn.of(0x3002000), tli: 1 },
    ]);
    d.send({ kind: "started", connection: 1 });
    const wal = { kind: "wal", connection: 1, at: Lsn.of(0x3002000), end: identity.xlogpos };
    expect(d.send({ ...wal, bytes: 24 } as ReceiverEvent)).toEqual([]);
    expect(d.send({ ...wal, bytes: 100 } as ReceiverEvent)).toEqual([
      { do: "deliver", at: lsn, skip: 24 },
    ]);
  });

  test("back-off doubles up to its limit, half of it by chance; WAL resets it", () => {
    const d = new Driver();
    d.stream();
    for (let n = 0; n < 10; n++) {
      d.chance = n % 2 === 0 ? 0 : 0.999_999;
      d.lost();
      const full = Math.min(WAL_RETRY_MS_MAX, WAL_RETRY_MS_MIN * 2 ** n);
      const wait = wakeAfterMs(d.state, d.nowMs)!;
      expect(wait).toBeCloseTo(n % 2 === 0 ? full / 2 : full, 0);
      expect(d.tickAfter(wait - 0.1)).toEqual([]);
      expect(kinds(d.tickAfter(0.1))).toEqual(["connect"]);
    }
    d.connected();
    d.attached();
    d.send({ kind: "started", connection: d.connection });
    d.wal(0, 1);
    expect(d.state).toMatchObject({ failures: 0, lastError: undefined });
  });

  test("what an abandoned connection still says is ignored", () => {
    const d = new Driver().stream();
    const connection = d.connection;
    d.lost();
    const before = d.state;
    const end = at(10);
    const late: ReceiverEvent[] = [
      { kind: "wal", connection, at: at(0), bytes: 10, end },
      { kind: "keepalive", connection, end, replyRequested: true },
      { kind: "ended", connection, end: { kind: "lost", message: "again" } },
      { kind: "started", connection },
      { kind: "attached", connection, start: ok(POINT) },
    ];
    for (const event of late) expect(d.send(event)).toEqual([]);
    expect(d.state).toBe(before);
  });
});

describe("how a stream ends", () => {
  test.each([
    [
      {
        kind: "server-error",
        code: "58P01",
        message: "requested WAL segment 0 has already been removed",
      },
      /follow the server anew/,
    ],
    [{ kind: "timeline-switch", nextTli: 2, at: START }, /timeline 2 at 0\/3000100/],
    [{ kind: "server-error", code: "55000", message: "logical" }, /name another slot/],
  ] as const)("%o cannot be mended by trying again", (end, why) => {
    const d = new Driver().stream();
    expect(d.send({ kind: "ended", connection: d.connection, end })).toEqual([{ do: "close" }]);
    expect(d.state.phase).toMatchObject({ kind: "refused", reason: expect.stringMatching(why) });
  });

  test.each([
    { kind: "finished", message: "ending streaming to Some(x)" },
    { kind: "lost", message: "cut" },
    { kind: "malformed", message: "what" },
    { kind: "server-error", code: "57P01", message: "terminated by administrator" },
    { kind: "server-error", code: "55006", message: "slot is active" },
  ] as const)("%o is tried again", (end) => {
    const d = new Driver().stream();
    d.send({ kind: "ended", connection: d.connection, end });
    expect(d.phase).toBe("backing-off");
    expect(d.state.lastError).toContain(end.message);
  });

  test("the timeline refuses WAL: its word decides", () => {
    const refuse = (retry: boolean): string => {
      const d = new Driver().stream();
      expect(d.send({ kind: "wal-refused", reason: "bad CRC", retry })).toEqual([{ do: "close" }]);
      return d.phase;
    };
    expect([refuse(true), refuse(false)]).toEqual(["backing-off", "refused"]);
  });

  test("a gap in the WAL closes the connection", () => {
    const d = new Driver().stream();
    d.wal(0, 100);
    expect(kinds(d.wal(101, 5))).toEqual(["close"]);
    expect(d.state.lastError).toMatch(/1 bytes after/);
  });
});

describe("reports", () => {
  test("a durable advance is reported at once, and mere receiving is not", () => {
    const d = new Driver().stream();
    d.progress(0);
    d.wal(0, 100);
    expect(d.progress(100, 100, 0)).toEqual([]);
    expect(d.progress(100, 100, 100)).toEqual([
      {
        do: "report",
        ask: false,
        positions: { write: at(100), flush: at(100), apply: at(100) },
      },
    ]);
    expect(d.progress(100)).toEqual([]);
  });

  test("visible after durable is reported too: remote_apply waits for it", () => {
    const d = new Driver().stream();
    d.progress(100, 0, 100);
    expect(kinds(d.progress(100, 50, 100))).toEqual(["report"]);
  });

  test("a source that keeps what is not uploaded hears that as flush, and write goes on", () => {
    const d = new Driver().stream();
    d.wal(0, 1000);
    expect(d.backedUp(1000, 400)).toEqual([
      { do: "report", ask: false, positions: { write: at(1000), flush: at(400), apply: at(400) } },
    ]);
    expect(d.backedUp(1000, 400)).toEqual([]);
    expect(kinds(d.backedUp(1000, 1000))).toEqual(["report"]);
  });

  test("a source that stops and waits for flush hears what is durable after a while; others do not", () => {
    const d = new Driver().stream();
    d.wal(0, 1000);
    d.backedUp(1000, 400);
    // Idle, with a short wal_sender_timeout: it asks often, but not in one go.
    for (let i = 0; i < 100; i++, d.nowMs += 500) expect(d.asked()).toBe(at(400));
    for (let i = 0; i < 1_000; i++, d.nowMs += 10) expect(d.asked()).toBe(at(400));
    expect(d.asked()).toBe(at(1000));
    // What comes meanwhile is told as it is durable.
    expect(d.backedUp(1000, 500)).toMatchObject([{ positions: { flush: at(1000) } }]);
    d.lost();
    d.tickAfter(WAL_RETRY_MS_MAX);
    d.connected();
    d.attached();
    d.send({ kind: "started", connection: d.connection });
    expect(d.asked()).toBe(at(500));
  });

  test("WAL in between: it is not stopping", () => {
    const d = new Driver().stream();
    d.backedUp(0, 0);
    for (let i = 0; i < 2_000; i++, d.nowMs += 10) {
      if (i % 500 === 0) d.wal(i, 500);
      d.backedUp(i, 0);
      expect(d.asked()).toBe(at(0));
    }
  });

  test("flush is what is durable, apply never above it", () => {
    const position = fc.nat({ max: 1000 }).map(Lsn.of);
    fc.assert(
      fc.property(position, position, position, (received, visible, durable) => {
        const report = reportOf({ received, visible, durable });
        expect(report.flush).toBe(durable);
        expect(report.apply).toBeLessThanOrEqual(durable);
        expect(report.apply).toBeLessThanOrEqual(visible);
        expect(report.write).toBeGreaterThanOrEqual(durable);
      }),
    );
  });

  test("a keepalive that asks is answered at once, one that does not is not", () => {
    const d = new Driver().stream();
    const keepalive = { kind: "keepalive", connection: d.connection, end: at(9) } as const;
    expect(d.send({ ...keepalive, replyRequested: false })).toEqual([]);
    expect(kinds(d.send({ ...keepalive, replyRequested: true }))).toEqual(["report"]);
  });

  test("after a reconnect the positions known before are reported first", () => {
    const d = new Driver().stream();
    d.progress(100);
    d.lost();
    d.send({ kind: "connect-now" });
    d.connected();
    d.attached();
    expect(d.send({ kind: "started", connection: d.connection })).toMatchObject([
      { do: "report", positions: { flush: at(100) } },
    ]);
  });

  test("an idle stream reports every interval, asks at half the silence, ends at all of it", () => {
    const d = new Driver().stream();
    const seen: string[] = [];
    for (let turn = 0; turn < 100 && d.phase === "streaming"; turn++) {
      const wait = wakeAfterMs(d.state, d.nowMs)!;
      expect(wait).toBeGreaterThan(0);
      for (const effect of d.tickAfter(wait)) {
        seen.push(`${d.nowMs} ${effect.do}${effect.do === "report" && effect.ask ? " ask" : ""}`);
      }
    }
    const reports = [1, 2, 3, 4, 5].map((n) => n * WAL_STATUS_MS);
    const half = WAL_SILENCE_MS_MAX / 2;
    expect(seen).toEqual([
      ...reports.map((ms) => `${ms} report${ms === half ? " ask" : ""}`),
      `${WAL_SILENCE_MS_MAX} close`,
    ]);
    expect(d.state.lastError).toMatch(/silent/);
  });
});

describe("the timeline's pace", () => {
  test("too much in flight pauses, half of it taken in resumes; a paused source is not silent", () => {
    const d = new Driver().stream();
    expect(kinds(d.wal(0, WAL_IN_FLIGHT_BYTES))).toEqual(["deliver"]);
    expect(kinds(d.wal(WAL_IN_FLIGHT_BYTES, 1))).toEqual(["deliver", "pause"]);
    d.progress(1, 0, 0);
    expect(kinds(d.tickAfter(WAL_UNTAKEN_MS_MAX - 1))).toEqual(["report"]);
    expect(kinds(d.progress(WAL_IN_FLIGHT_BYTES / 2, 0, 0))).toEqual([]);
    expect(kinds(d.progress(WAL_IN_FLIGHT_BYTES / 2 + 1, 0, 0))).toEqual(["resume"]);
    expect(wakeAfterMs(d.state, d.nowMs)).toBeGreaterThan(0);
  });

  test("a timeline that takes in nothing has lost it: stream again", () => {
    const d = new Driver().stream();
    d.wal(0, 10);
    d.progress(10);
    d.tickAfter(WAL_UNTAKEN_MS_MAX / 2 - 1); // all taken in: nothing is awaited
    d.wal(10, 10);
    d.send({ kind: "keepalive", connection: d.connection, end: at(20), replyRequested: false });
    expect(kinds(d.tickAfter(WAL_UNTAKEN_MS_MAX - 1))).not.toContain("close");
    expect(kinds(d.tickAfter(1))).toEqual(["close"]);
  });

  test("whatever happens: deliveries gapless from the start, in flight bounded, reports honest", () => {
    const chunk = 256 * 1024;
    const event = fc.oneof(
      fc.record({ kind: fc.constant("wal"), bytes: fc.integer({ min: 1, max: chunk }) }),
      fc.record({ kind: fc.constant("taken"), part: fc.double({ min: 0, max: 1, noNaN: true }) }),
      fc.record({ kind: fc.constant("synced"), part: fc.double({ min: 0, max: 1, noNaN: true }) }),
      fc.record({ kind: fc.constant("tick"), ms: fc.integer({ min: 1, max: 5_000 }) }),
      fc.record({ kind: fc.constant("lost") }),
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 300 }), (events) => {
        const d = new Driver();
        let sent = 0; // by the server on this connection
        let handed = 0; // to the timeline
        let taken = 0;
        let durable = 0;
        let paused = false;
        const absorb = (effects: readonly ReceiverEffect[], wal?: { at: number; end: number }) => {
          for (const effect of effects) {
            if (effect.do === "deliver") {
              expect(effect.at).toBe(at(handed));
              expect(wal!.at + effect.skip).toBe(handed);
              handed = wal!.end;
            } else if (effect.do === "pause" || effect.do === "resume") {
              paused = effect.do === "pause";
            } else if (effect.do === "report" && effect.positions.flush > 0) {
              expect(effect.positions.flush).toBeLessThanOrEqual(at(durable));
              expect(effect.positions.apply).toBeLessThanOrEqual(effect.positions.flush);
            }
          }
          expect(handed - taken).toBeLessThanOrEqual(WAL_IN_FLIGHT_BYTES + chunk);
          if (!paused) expect(handed - taken).toBeLessThanOrEqual(WAL_IN_FLIGHT_BYTES);
        };
        const connect = (): void => {
          d.send({ kind: "connect-now" });
          d.connected();
          handed = taken; // the timeline starts where it has everything
          sent = taken;
          paused = false;
          d.attached(ok({ ...POINT, lsn: at(taken) }));
          absorb(d.send({ kind: "started", connection: d.connection }));
        };
        connect();
        for (const e of events) {
          if (d.phase !== "streaming") connect();
          if (e.kind === "wal" && "bytes" in e && !paused) {
            const from = sent;
            sent += e.bytes;
            absorb(d.wal(from, e.bytes), { at: from, end: sent });
          } else if ("part" in e) {
            if (e.kind === "taken") taken += Math.floor((handed - taken) * e.part);
            else durable += Math.floor((taken - durable) * e.part);
            absorb(d.progress(taken, taken, durable));
          } else if ("ms" in e) {
            absorb(d.tickAfter(e.ms));
          } else if (e.kind === "lost") {
            d.lost();
          }
        }
      }),
    );
  });
});
