import net from "node:net";
import { describe, expect, test } from "vitest";
import { parseTenantId } from "../../src/core/ids.ts";
import { REQUESTS_IN_FLIGHT_MAX, UNSENT_BYTES_MAX } from "../../src/core/limits.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import { ok } from "../../src/core/result.ts";
import type { Authenticate } from "../../src/protocol/pg-handshake.ts";
import { memoryPage } from "../support/memory-timeline.ts";
import { PageClient, RequestError, ServerError } from "../support/page-client.ts";
import { MISSING, TENANT, TIMELINE, pageServiceOfTest, until } from "../support/page-service.ts";
import { message } from "../support/raw-link.ts";

const rel = { spc: 1663, db: 5, rel: 16384, fork: 0 };
const AT = { lsn: Lsn.of(0x5000), notModifiedSince: Lsn.of(0x4000) };

const { start, service } = pageServiceOfTest();

async function open(version: 2 | 3 = 3, timeline = TIMELINE) {
  const client = await PageClient.connect({ port: service().port });
  return { client, stream: await client.pagestream(TENANT, timeline, version) };
}

/** Without a printed difference: that of two pages takes minutes. */
function expectBytes(got: Uint8Array, want: Uint8Array): void {
  expect(Buffer.compare(got, want), "bytes differ").toBe(0);
}

const untilGone = (): Promise<void> =>
  until(() =>
    service()
      .system.tree()
      .every((node) => !node.path.includes("connection-")),
  );

describe("bounds", () => {
  test("requests in flight stop at the limit; the rest waits and is answered", async () => {
    let inFlight = 0;
    let most = 0;
    const waiting: (() => void)[] = [];
    await start({
      when: (requests, answer) => {
        inFlight += requests;
        most = Math.max(most, inFlight);
        waiting.push(() => {
          inFlight -= requests;
          answer();
        });
      },
    });
    const { client, stream } = await open(2);
    const total = REQUESTS_IN_FLIGHT_MAX * 4;
    const asks = [...Array(total).keys()].map((block) => ({ rel, block, ...AT }));
    let got = 0;
    const done = stream.readPages(asks, total, (page, ask) => {
      expect(Buffer.from(page).readUInt32BE(24)).toBe(ask.block);
      got++;
    });
    await until(() => inFlight === REQUESTS_IN_FLIGHT_MAX);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(got).toBe(0);
    const timer = setInterval(() => waiting.splice(0, 3).forEach((answer) => answer()), 1);
    await done;
    clearInterval(timer);
    expect(got).toBe(total);
    expect(most).toBe(REQUESTS_IN_FLIGHT_MAX);
    await client.close();
  });

  test("a reader that does not read is not read from, and costs bounded memory", async () => {
    let asked = 0;
    await start({
      when: (requests, answer) => {
        asked += requests;
        answer();
      },
    });
    const { client, stream } = await open(2);
    client.socket.pause();
    const total = 20_000;
    let failed: unknown;
    const asks = [...Array(total).keys()].map((block) => ({ rel, block, ...AT }));
    const done = stream
      .readPages(asks, total, (page, ask) => {
        // A slab used again before the socket took it would show here.
        expect(Buffer.from(page).readUInt32BE(24)).toBe(ask.block);
        expect(page[PAGE_BYTES - 1]).toBe(ask.block & 0xff);
      })
      .catch((e: unknown) => (failed = e));
    let before = -1;
    while (before !== asked) {
      before = asked;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    // What the kernel's buffers took, and the two limits on top; the asked 160 MB are not made.
    const kernelBytes = 16 * 1024 * 1024;
    const limit = REQUESTS_IN_FLIGHT_MAX + (UNSENT_BYTES_MAX + kernelBytes) / 8198;
    expect(asked).toBeGreaterThan(UNSENT_BYTES_MAX / 8198);
    expect(asked).toBeLessThan(limit);
    client.socket.resume();
    await done;
    expect(failed).toBeUndefined();
    expect(asked).toBe(total);
    await client.close();
  });

  test("requests that are not taken stay with the client", async () => {
    await start({ when: () => undefined });
    const { client } = await open(2);
    const body = Buffer.alloc(34, 1);
    body[0] = 2;
    const some = Buffer.concat(Array<Buffer>(10_000).fill(message("d", body)));
    let bytesTaken = 0;
    const next = (error?: Error | null): void => {
      if (error) return;
      bytesTaken += some.length;
      client.socket.write(some, next);
    };
    client.socket.write(some, next);
    let before = -1;
    while (before !== bytesTaken && bytesTaken < 200 * 1024 * 1024) {
      before = bytesTaken;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    // The kernel's buffers, both ends', and no more.
    expect(bytesTaken).toBeLessThan(30 * 1024 * 1024);
    client.socket.destroy();
  });

  test("a reader that takes nothing for too long is closed", async () => {
    await start({ deadlines: { sendStallMs: 200, watchMs: 20 } });
    const { client, stream } = await open(2);
    client.socket.pause();
    const asks = [...Array(5000).keys()].map((block) => ({ rel, block, ...AT }));
    const done = stream.readPages(asks, 5000, () => undefined).catch((e: unknown) => e);
    await until(() => service().lines.length > 0);
    expect(service().lines).toMatchObject([
      { level: 40, msg: expect.stringMatching(/took nothing/) },
    ]);
    client.socket.resume();
    expect(await done).toBeInstanceOf(Error);
    await untilGone();
  });

  test("one slow timeline's client does not hold up another's", async () => {
    const held: (() => void)[] = [];
    let hold = true;
    await start({ when: (_n, answer) => void (hold ? held.push(answer) : answer()) });
    const slow = await open();
    const page = slow.stream.getPage(rel, 1, AT);
    await until(() => held.length === 1);
    hold = false;
    const quick = await open();
    expect(await quick.stream.getPage(rel, 2, AT)).toHaveLength(8192);
    held[0]!();
    expect(await page).toHaveLength(8192);
    await slow.client.close();
    await quick.client.close();
  });
});

test("a timeline id that nobody has", async () => {
  await start();
  const { client, stream } = await open(3, MISSING);
  await expect(stream.getPage(rel, 1, AT)).rejects.toEqual(
    new RequestError(`Not found: timeline ${MISSING}`),
  );
  await client.close();
});

test("who connects and never logs in keeps nobody out: the oldest is cut", async () => {
  await start({ loginsMax: 3 });
  const { port } = service();
  const { client, stream } = await open();
  const silent = Array.from({ length: 5 }, () => net.connect({ port, host: "127.0.0.1" }));
  const cut = silent.map((socket) => new Promise((gone) => socket.once("close", gone)));
  await Promise.all([cut[0], cut[1]]);
  expect(silent.map((socket) => socket.closed)).toEqual([true, true, false, false, false]);
  // Those who have logged in are not among them, and others still may.
  expectBytes(await stream.getPage(rel, 7, AT), memoryPage(rel, 7, AT.lsn));
  await client.close();
  await (await PageClient.connect({ port })).close();
  for (const socket of silent) socket.destroy();
});

describe("links of one tenant", () => {
  const authenticate: Authenticate = () => ({
    kind: "ask-password",
    check: async (token) =>
      ok({ scope: "tenant", tenant: parseTenantId(token), timeline: undefined }),
  });
  const refused = (max: number) =>
    new ServerError(
      "53300",
      `more than ${max} connections of tenant ${TENANT} (tenant_connections)`,
    );

  test("have a bound; another tenant's do not count, and one that goes makes room", async () => {
    await start({ tenantConnectionsMax: 2 });
    const { port } = service();
    const first = await open();
    const second = await open();
    const third = await PageClient.connect({ port });
    await expect(third.pagestream(MISSING, TIMELINE)).resolves.toBeDefined();
    const fourth = await PageClient.connect({ port });
    await expect(fourth.pagestream(TENANT, TIMELINE)).rejects.toEqual(refused(2));
    await fourth.closed;
    await expect(first.stream.nblocks(rel, AT)).resolves.toBe(16384);
    await first.client.close();
    await until(() => service().system.tree().length < 5);
    const fifth = await open();
    await expect(fifth.stream.nblocks(rel, AT)).resolves.toBe(16384);
    for (const { client } of [second, fifth]) await client.close();
    expect(service().lines.map(({ msg }) => msg)).toEqual([refused(2).message]);
  });

  test("are counted from the login on when the token names the tenant", async () => {
    await start({ tenantConnectionsMax: 1, authenticate });
    const { port } = service();
    const only = await PageClient.connect({ port, password: TENANT });
    await expect(PageClient.connect({ port, password: TENANT })).rejects.toEqual(refused(1));
    const other = await PageClient.connect({ port, password: MISSING });
    await Promise.all([only.close(), other.close()]);
  });

  test("one link that asks for one tenant after the other has one place", async () => {
    await start({ tenantConnectionsMax: 1, lease: () => 5 });
    const client = await PageClient.connect({ port: service().port });
    for (let n = 0; n < 3; n++) {
      expect(await client.lease(TENANT, TIMELINE, AT.lsn)).toBe(5);
      await expect(client.lease(MISSING, TIMELINE, AT.lsn)).rejects.toThrow("not found");
    }
    // Its place among the first tenant's is free: it was last used for another.
    const { stream } = await open();
    await expect(stream.nblocks(rel, AT)).resolves.toBe(16384);
    await client.close();
  });
});
