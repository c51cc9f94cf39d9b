import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { ServeBackup } from "../../src/actors/backup-copy.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { err, ok } from "../../src/core/result.ts";
import { PageClient, ServerError } from "../support/page-client.ts";
import {
  TENANT,
  TIMELINE,
  emptySource,
  type PageServiceOptions,
  pageServiceOfTest,
} from "../support/page-service.ts";

const { start, service } = pageServiceOfTest();

const connect = (): Promise<PageClient> => PageClient.connect({ port: service().port });
const lsn = Lsn.of(0x16b3748);
const source = ok(emptySource(lsn, Lsn.of(0x16b3700)));

describe("backups", () => {
  const chunks = [Buffer.alloc(3, 1), Buffer.alloc(0), Buffer.alloc(200_000, 2), Buffer.alloc(512)];
  // The memory of a chunk is used again for the next, as a source may do.
  const serveBackup: ServeBackup = async function* () {
    const memory = Buffer.alloc(200_000);
    for (const chunk of chunks) {
      memory.fill(0xee);
      chunk.copy(memory);
      await Promise.resolve();
      yield memory.subarray(0, chunk.length);
    }
  };
  const tar = Buffer.concat(chunks);

  test("basebackup, plain and gzipped, and fullbackup: options are handed on", async () => {
    const asked: unknown[] = [];
    const lsns: unknown[] = [];
    await start({
      backupSource: (at) => (lsns.push(at), source),
      serveBackup: (from, kind, options) => {
        asked.push([from.lsn, kind, options]);
        return serveBackup(from, kind, options);
      },
    });
    const client = await connect();
    const plain = await client.basebackup(TENANT, TIMELINE);
    expect(plain.equals(tar)).toBe(true);
    const zipped = await client.basebackup(TENANT, TIMELINE, { lsn, gzip: true, replica: true });
    expect(zipped.length).toBeLessThan(2000);
    expect(gunzipSync(zipped).equals(tar)).toBe(true);
    const full = await client.fullbackup(TENANT, TIMELINE, { lsn, prevLsn: Lsn.of(0x16b3700) });
    expect(full.equals(tar)).toBe(true);
    expect(lsns).toEqual([undefined, lsn, lsn]);
    expect(asked).toEqual([
      [lsn, "basebackup", { replica: false, prevLsn: undefined }],
      [lsn, "basebackup", { replica: true, prevLsn: undefined }],
      [lsn, "fullbackup", { replica: false, prevLsn: 0x16b3700 }],
    ]);
    expect((await client.query("set x")).tag).toBe("SELECT 1");
    await client.close();
  });

  test("refusals: no source, an LSN too old, another previous LSN than the known one", async () => {
    let answer: ReturnType<NonNullable<PageServiceOptions["backupSource"]>> = source;
    await start({ backupSource: () => answer, serveBackup });
    const client = await connect();
    await expect(
      client.fullbackup(TENANT, TIMELINE, { lsn, prevLsn: Lsn.of(8) }),
    ).rejects.toMatchObject({ code: "XX000", message: expect.stringContaining("0/16B3700") });
    answer = err({ kind: "lsn-collected", asked: lsn, cutoff: Lsn.of(2 ** 33) });
    await expect(client.basebackup(TENANT, TIMELINE, { lsn })).rejects.toMatchObject({
      message: expect.stringMatching(/^invalid basebackup lsn: .*gc cutoff 2\/0/),
    });
    answer = err({ kind: "shutting-down" });
    await expect(client.basebackup(TENANT, TIMELINE)).rejects.toEqual(
      new ServerError("57P01", "shutdown"),
    );
    await client.closed;
  });

  test.each([false, true])(
    "a source that fails: error behind what was sent (gzip %s)",
    async (gzip) => {
      await start({
        backupSource: () => source,
        serveBackup: async function* () {
          yield Buffer.alloc(100_000, 7);
          await Promise.resolve();
          throw new Error("layer 7 is gone");
        },
      });
      const client = await connect();
      const failed = new ServerError("XX000", "layer 7 is gone");
      await expect(client.basebackup(TENANT, TIMELINE, { gzip })).rejects.toEqual(failed);
      expect(service().lines).toMatchObject([
        { level: 50, msg: "basebackup failed", tenant: TENANT },
      ]);
      expect((await client.query("set x")).tag).toBe("SELECT 1");
      await client.close();
    },
  );

  test.each([false, true])("a client that leaves ends the source (gzip %s)", async (gzip) => {
    let ended = false;
    await start({
      backupSource: () => source,
      serveBackup: async function* () {
        try {
          for (;;) {
            await new Promise((resolve) => setImmediate(resolve));
            yield Buffer.from(Array.from({ length: 5000 }, () => Math.random() * 256));
          }
        } finally {
          ended = true;
        }
      },
    });
    const client = await connect();
    const command = `basebackup ${TENANT} ${TIMELINE}${gzip ? " --gzip" : ""}`;
    const left = client.copyOut(command, () => client.socket.destroy()).catch(() => "left");
    expect(await left).toBe("left");
    await expect.poll(() => ended).toBe(true);
    expect(service().lines).toEqual([]);
  });

  test("a slow reader holds the source back", async () => {
    let made = 0;
    await start({
      backupSource: () => source,
      serveBackup: async function* () {
        const chunk = Buffer.alloc(64 * 1024);
        for (; made < 2000; made++) {
          await Promise.resolve();
          yield chunk;
        }
      },
    });
    const client = await connect();
    let bytes = 0;
    const done = client.copyOut(`fullbackup ${TENANT} ${TIMELINE}`, (chunk) => {
      if (bytes === 0) client.socket.pause();
      bytes += chunk.length;
    });
    let before = -1;
    while (before !== made) {
      before = made;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    // 125 MiB in all; the kernel's buffers hold some MiB of it.
    expect(made).toBeLessThan(400);
    client.socket.resume();
    await done;
    expect(bytes).toBe(2000 * 64 * 1024);
    await client.close();
  });

  test("a source that never comes, or stops in the middle: reconnect, at the deadline", async () => {
    const deadlines = { answerMs: 100, watchMs: 20 };
    const never: ServeBackup = async function* () {
      yield Buffer.alloc(10);
      await new Promise(() => undefined);
    };
    await start({ deadlines, backupSource: () => source, serveBackup: never });
    const client = await connect();
    await expect(client.basebackup(TENANT, TIMELINE)).rejects.toEqual(
      new ServerError("08006", "reconnect"),
    );
    await client.closed;
  });
});
