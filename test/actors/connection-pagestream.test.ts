import { describe, expect, test } from "vitest";
import { LSN_MAX, Lsn } from "../../src/core/lsn.ts";
import type { LookupError } from "../../src/actors/page-stream.ts";
import { memoryPage, memorySlru } from "../support/memory-timeline.ts";
import { PageClient, RequestError, ServerError } from "../support/page-client.ts";
import { TENANT, TIMELINE, pageServiceOfTest, until } from "../support/page-service.ts";
import { message } from "../support/raw-link.ts";

const rel = { spc: 1663, db: 5, rel: 16384, fork: 0 };
const AT = { lsn: Lsn.of(0x5000), notModifiedSince: Lsn.of(0x4000) };

const { start, service, forget } = pageServiceOfTest();

async function open(version: 2 | 3 = 3, timeline = TIMELINE) {
  const client = await PageClient.connect({ port: service().port });
  return { client, stream: await client.pagestream(TENANT, timeline, version) };
}

/** Without a printed difference: that of two pages takes minutes. */
function expectBytes(got: Uint8Array, want: Uint8Array): void {
  expect(Buffer.compare(got, want), "bytes differ").toBe(0);
}

describe.each([2, 3] as const)("pagestream_v%i", (version) => {
  test("every request is answered", async () => {
    await start();
    const { client, stream } = await open(version);
    const all = await Promise.all([
      stream.getPage(rel, 7, AT),
      stream.exists(rel, AT),
      stream.exists({ ...rel, rel: 3 }, AT),
      stream.nblocks(rel, AT),
      stream.slru(1, 2, AT),
      stream.dbSize(5, AT),
      stream.getPage(rel, 8),
    ]);
    const [first, ...rest] = all;
    const latest = rest.pop() as Uint8Array;
    expectBytes(first, memoryPage(rel, 7, AT.lsn));
    expectBytes(rest[3] as Uint8Array, memorySlru(1, 2));
    expectBytes(latest, memoryPage(rel, 8, LSN_MAX));
    expect([rest[0], rest[1], rest[2], rest[4]]).toEqual([
      true,
      false,
      16384,
      5 * 8192 * 1_000_003,
    ]);
    await client.close();
    expect(service().lines).toEqual([]);
  });

  test("answers keep the order of requests when batches are answered in any order", async () => {
    const waiting: (() => void)[] = [];
    await start({ when: (_requests, answer) => void waiting.push(answer) });
    const { client, stream } = await open(version);
    const seen: number[] = [];
    const asked: Promise<unknown>[] = [];
    for (let block = 0; block < 40; block++) {
      const page = stream.getPage(rel, block, AT).then((bytes) => {
        seen.push(block);
        expectBytes(bytes, memoryPage(rel, block, AT.lsn));
      });
      asked.push(page);
      if (block % 4 === 3) await until(() => waiting.length === (block + 1) / 4);
    }
    for (const i of [3, 1, 9, 0, 2, 8, 4, 7, 5, 6]) {
      waiting[i]!();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(asked);
    expect(seen).toEqual([...seen.keys()]);
    await client.close();
  });

  test("an error is the answer to its request alone", async () => {
    await start({
      refuse: (request) =>
        request.kind === "get-page" && request.block % 3 === 0
          ? { kind: "relation-missing", rel: request.rel, at: request.lsn }
          : undefined,
    });
    const { client, stream } = await open(version);
    const results = await Promise.allSettled(
      [...Array(9).keys()].map((block) => stream.getPage(rel, block, AT)),
    );
    results.forEach((result, block) => {
      if (block % 3 !== 0) {
        expect(result).toMatchObject({ status: "fulfilled" });
        return;
      }
      const reason = new RequestError(
        "Read error: relation 1663/5/16384.0 does not exist at 0/5000",
      );
      expect(result).toEqual({ status: "rejected", reason });
    });
    await client.close();
  });

  test("LSN rules are applied between good requests, and the stream goes on", async () => {
    await start();
    const { client, stream } = await open(version);
    const results = await Promise.allSettled([
      stream.getPage(rel, 1, AT),
      stream.getPage(rel, 2, { lsn: Lsn.of(0x10), notModifiedSince: Lsn.of(0x20) }),
      stream.getPage(rel, 3, { lsn: Lsn.of(0), notModifiedSince: Lsn.of(0) }),
      stream.slru(9, 0, AT),
      stream.getPage(rel, 4, AT),
    ]);
    expect(results.map((r) => (r.status === "fulfilled" ? "page" : String(r.reason)))).toEqual([
      "page",
      "Error: Bad request: invalid request with request LSN 0/10 and not_modified_since 0/20",
      "Error: Bad request: invalid LSN(0) in request",
      "Error: Bad request: invalid SLRU kind 9",
      "page",
    ]);
    await client.close();
  });

  test("a timeline that is not there is said with every request; it may come later", async () => {
    let missing: LookupError | undefined = { kind: "not-found", message: `timeline ${TIMELINE}` };
    await start({ lookup: () => missing });
    const { client, stream } = await open(version);
    const results = await Promise.allSettled([stream.getPage(rel, 1, AT), stream.nblocks(rel, AT)]);
    for (const result of results) {
      expect(result).toMatchObject({ reason: new RequestError(`Not found: timeline ${TIMELINE}`) });
    }
    missing = undefined;
    expect(await stream.nblocks(rel, AT)).toBe(16384);
    await client.close();
  });

  test("an undecodable request ends the stream behind earlier answers; commands follow", async () => {
    await start();
    const { client, stream } = await open(version);
    const [good, bad, after] = await Promise.allSettled([
      stream.getPage(rel, 1, AT),
      stream.raw(Buffer.from([77, 1, 2, 3])),
      new Promise((resolve) => client.socket.once("data", resolve)),
    ]);
    expect(good).toMatchObject({ status: "fulfilled" });
    expect(bad).toMatchObject({
      reason: new ServerError("XX000", "unknown pagestream request: 77"),
    });
    expect(after.status).toBe("fulfilled");
    await until(() => service().lines.length > 0);
    expect(service().lines).toMatchObject([
      {
        level: 50,
        msg: "pagestream ended: unknown pagestream request: 77",
        tenant: TENANT,
        timeline: TIMELINE,
      },
    ]);
    const again = await client.pagestream(TENANT, TIMELINE, version);
    expect(await again.nblocks(rel, AT)).toBe(16384);
    await client.close();
  });
});

const untilGone = (): Promise<void> =>
  until(() =>
    service()
      .system.tree()
      .every((node) => !node.path.includes("connection-")),
  );

describe("the ends of a pagestream", () => {
  test.each([
    ["c", "copy-done"],
    ["f", "copy-fail"],
    ["Q", "query"],
    ["S", "sync"],
    ["!", "unknown"],
  ])("message %s is an error in it, and commands may follow", async (type, name) => {
    await start();
    const { client, stream } = await open();
    const first = stream.getPage(rel, 1, AT);
    await new Promise((resolve) => setImmediate(resolve));
    const second = stream.raw(Buffer.alloc(0)).catch((error: unknown) => error);
    client.socket.write(message(type, "x\0"));
    expect(await first).toHaveLength(8192);
    expect(await second).toBeInstanceOf(ServerError);
    void name;
    await client.close();
  });

  test("goodbye and a half-closed socket: what was asked before is answered", async () => {
    for (const ending of [message("X"), Buffer.alloc(0)]) {
      const late: (() => void)[] = [];
      await start({ when: (_n, answer) => void late.push(answer) });
      const { client, stream } = await open();
      const page = stream.getPage(rel, 1, AT);
      await until(() => late.length === 1);
      client.socket.end(ending);
      await new Promise((resolve) => setTimeout(resolve, 50));
      late[0]!();
      expect(await page).toHaveLength(8192);
      await client.closed;
      await service().stop();
    }
    forget();
  });

  test("not active: the client is told to reconnect", async () => {
    await start({ lookup: () => ({ kind: "not-active", message: "loading" }) });
    const { client, stream } = await open();
    await expect(stream.getPage(rel, 1, AT)).rejects.toEqual(new ServerError("08006", "reconnect"));
    await client.closed;
    await untilGone();
    expect(await service().count()).toBe(0);
  });

  test("shutting down, said by the directory, the timeline or the tree: 57P01", async () => {
    const shutdown = new ServerError("57P01", "shutdown");
    await start({ lookup: () => ({ kind: "shutting-down", message: "" }) });
    await expect((await open()).stream.getPage(rel, 1, AT)).rejects.toEqual(shutdown);
    await service().stop();

    await start({ refuse: () => ({ kind: "shutting-down" }) });
    await expect((await open()).stream.getPage(rel, 1, AT)).rejects.toEqual(shutdown);
    await service().stop();

    await start({ when: () => undefined });
    const { client, stream } = await open();
    const page = stream.getPage(rel, 1, AT);
    await until(() => stream.inFlight === 1);
    const stopped = service().stop();
    forget();
    await expect(page).rejects.toEqual(shutdown);
    await client.closed;
    await stopped;
  });

  test("a timeline that never answers: reconnect, at the deadline", async () => {
    await start({ when: () => undefined, deadlines: { answerMs: 100, watchMs: 20 } });
    const { client, stream } = await open();
    await expect(stream.getPage(rel, 1, AT)).rejects.toEqual(new ServerError("08006", "reconnect"));
    await client.closed;
    expect(service().lines).toMatchObject([{ level: 50, msg: expect.stringContaining("100 ms") }]);
  });

  test("an answer that comes after the link is gone, and one that comes twice, do nothing", async () => {
    const late: (() => void)[] = [];
    await start({ when: (_n, answer) => void late.push(answer) });
    const gone = await open();
    void gone.stream.getPage(rel, 1, AT).catch(() => undefined);
    await until(() => late.length === 1);
    gone.client.socket.destroy();
    late[0]!();
    await untilGone();
    late[0]!();

    const twice = await open();
    const page = twice.stream.getPage(rel, 2, AT);
    await until(() => late.length === 2);
    late[1]!();
    late[1]!();
    expectBytes(await page, memoryPage(rel, 2, AT.lsn));
    const next = twice.stream.getPage(rel, 3, AT);
    await until(() => late.length === 3);
    late[1]!();
    late[2]!();
    expectBytes(await next, memoryPage(rel, 3, AT.lsn));
    await twice.client.close();
    expect(service().lines).toEqual([]);
  });
});
