import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseTenantId } from "../../src/core/ids.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { err, ok } from "../../src/core/result.ts";
import { PageClient, ServerError } from "../support/page-client.ts";
import { MISSING, TENANT, TIMELINE, pageServiceOfTest } from "../support/page-service.ts";
import { converse, message, outline, query, startupPacket } from "../support/raw-link.ts";

const { start, service, forget } = pageServiceOfTest();

const connect = (): Promise<PageClient> => PageClient.connect({ port: service().port });
const lsn = Lsn.of(0x16b3748);

describe("simple queries", () => {
  test("login, set, lease and the row of a lease", async () => {
    await start({ lease: (at) => (at === lsn ? 1_700_000_000_123.9 : undefined) });
    const client = await connect();
    expect(Object.fromEntries(client.parameters)).toEqual({
      client_encoding: "UTF8",
      integer_datetimes: "on",
      server_version: "14.1",
    });
    expect(await client.query("SET datestyle TO 'ISO'")).toEqual({
      columns: [],
      rows: [],
      tag: "SELECT 1",
    });
    expect(await client.query(`lease lsn ${TENANT} ${TIMELINE} 0/16B3748`)).toEqual({
      columns: ["valid_until"],
      rows: [["1700000000123"]],
      tag: "SELECT 1",
    });
    expect(await client.lease(TENANT, TIMELINE, Lsn.of(8))).toBeUndefined();
    expect(await client.lease(`${TENANT}-0001`, TIMELINE, lsn)).toBe(1_700_000_000_123);
    await client.close();
  });

  test("errors leave the connection usable", async () => {
    await start();
    const client = await connect();
    const refused = [
      ["hello", "cannot parse query: hello"],
      ["select 1", "unsupported command select in select 1"],
      [`pagestream_v3 ${TENANT} short`, "Failed to parse timeline id from short: not a timeline"],
      [`basebackup ${TENANT} ${MISSING}`, "not found"],
      [`fullbackup ${MISSING} ${TIMELINE}`, "not found"],
      [`lease lsn ${TENANT} ${MISSING} 0/10`, "not found"],
      [`lease lsn ${TENANT}-0102 ${TIMELINE} 0/10`, "not found"],
    ] as const;
    for (const [text, error] of refused) {
      const thrown = await client.query(text).catch((e: unknown) => e);
      expect(thrown).toBeInstanceOf(ServerError);
      expect(thrown).toMatchObject({ code: "XX000", message: expect.stringContaining(error) });
    }
    expect((await client.query("set x to y")).tag).toBe("SELECT 1");
    await client.close();
  });

  test("who may use one tenant is refused another, and the connection stays usable", async () => {
    const tenant = parseTenantId(TENANT);
    await start({
      authenticate: () => ({
        kind: "ask-password",
        check: async (token) =>
          token === "t"
            ? ok({ scope: "tenant", tenant, timeline: undefined })
            : err("JWT authentication error"),
      }),
      lease: () => 1,
    });
    const { port } = service();
    const refused = new ServerError("XX000", "JWT authentication error");
    await expect(PageClient.connect({ port, password: "wrong" })).rejects.toEqual(refused);
    const client = await PageClient.connect({ port, password: "t" });
    await expect(client.lease(MISSING, TIMELINE, lsn)).rejects.toEqual(refused);
    await expect(client.pagestream(MISSING, TIMELINE)).rejects.toEqual(refused);
    expect(await client.lease(TENANT, TIMELINE, lsn)).toBe(1);
    await client.close();
  });

  test("queries sent ahead are answered one after the other", async () => {
    await start({ lease: () => 5 });
    const lease = query(`lease lsn ${TENANT} ${TIMELINE} 0/10`);
    const all = [startupPacket(), lease, query("set x"), query("nonsense"), lease, message("X")];
    const heard = await converse(service().port, [Buffer.concat(all)]);
    const error = "E:XX000:cannot parse query: nonsense Z";
    expect(outline(heard)).toBe(`R S S S Z T D C Z C Z ${error} T D C Z`);
  });
});

describe("extended protocol", () => {
  const parse = (text: string): Buffer => message("P", `\0${text}\0\0\0`);
  const bind = message("B", Buffer.alloc(8));
  const describePortal = message("D", "P\0");
  const execute = message("E", "\0\0\0\0\0");
  const sync = message("S");
  const say = (...sent: Buffer[]): Promise<Buffer> =>
    converse(service().port, [startupPacket(), ...sent, message("X")]);

  test("a lease by parse, bind, describe, execute, sync", async () => {
    await start({ lease: () => 5 });
    const text = `lease lsn ${TENANT} ${TIMELINE} 0/10`;
    const closing = message("C", "S\0");
    const heard = await say(
      parse(text),
      bind,
      describePortal,
      execute,
      closing,
      message("H"),
      sync,
    );
    expect(outline(heard)).toBe("R S S S Z 1 2 t n T D C 3 Z");
  });

  test("after an error all is ignored up to sync", async () => {
    await start();
    const heard = await say(
      parse("nonsense"),
      bind,
      execute,
      bind,
      query("set x"),
      sync,
      query("set x"),
    );
    expect(outline(heard)).toBe("R S S S Z 1 2 E:XX000:cannot parse query: nonsense Z C Z");
  });

  test.each([
    ["a named statement", message("P", "name\0set x\0\0\0"), "only the unnamed statement"],
    ["a named portal", message("B", "name\0\0\0\0\0\0\0\0"), "only the unnamed portal"],
    ["parameters", message("B", "\0\0\0\0\0\u0001\0\0\0\u0001x\0\0"), "take no parameters"],
    ["nothing parsed", execute, "there is no statement"],
  ])("%s is refused", async (_name, sent, error) => {
    await start();
    expect(outline(await say(sent, sync))).toMatch(
      new RegExp(`^R S S S Z E:XX000:.*${error}.* Z$`),
    );
  });
});

describe("malformed input ends this connection only, with one line in the log", () => {
  const page = message("d", Buffer.alloc(34));
  test.each<[string, Buffer[], string]>([
    ["garbage for a startup", [Buffer.from("GET / HTTP/1.1\r\n\r\n")], "startup packet says"],
    ["an oversized startup", [Buffer.from([0, 1, 0, 0, 0, 3, 0, 0])], "startup packet says 65536"],
    ["an oversized message", [startupPacket(), Buffer.from([81, 0, 255, 0, 0])], "says 16711680 b"],
    ["a length of 3", [startupPacket(), Buffer.from([81, 0, 0, 0, 3])], "says 3 bytes"],
    ["an unknown message", [startupPacket(), message("!")], "unexpected message of type 33"],
    ["CopyData outside a COPY", [startupPacket(), page], "unexpected message copy-data"],
    ["CopyDone outside a COPY", [startupPacket(), message("c")], "unexpected message copy-done"],
    ["CopyFail outside a COPY", [startupPacket(), message("f", "x\0")], "message copy-fail"],
    ["a query without NUL", [startupPacket(), message("Q", "set x")], "no terminating NUL"],
    ["a query that is not UTF-8", [startupPacket(), message("Q", Buffer.from([255, 0]))], "UTF-8"],
    ["an end within a message", [startupPacket(), Buffer.from([81, 0, 0])], "middle of a message"],
  ])("%s", async (_name, sent, error) => {
    await start();
    const other = await connect();
    const heard = await converse(service().port, sent, { end: true });
    expect(outline(heard)).toMatch(/(^|Z )E:08P01:[^ ].*$/);
    expect(outline(heard)).toContain(error);
    expect(service().lines).toHaveLength(1);
    expect(service().lines[0]).toMatchObject({ level: 50, msg: expect.stringContaining(error) });
    expect((await other.query("set x")).tag).toBe("SELECT 1");
    await other.close();
  });

  test("nothing said, or half a startup packet, is no error", async () => {
    await start({ deadlines: { handshakeMs: 100, watchMs: 20 } });
    expect(await converse(service().port, [], { end: true })).toHaveLength(0);
    expect(await converse(service().port, [Buffer.from([0, 0])], { end: true })).toHaveLength(0);
    expect(service().lines).toEqual([]);
    expect(await converse(service().port, [Buffer.from([0, 0])])).toHaveLength(0);
    expect(service().lines).toMatchObject([{ msg: expect.stringContaining("no login within") }]);
  });

  test("random bytes after the login never hurt anybody else", async () => {
    await start({ lease: () => 5 });
    const frames = fc.oneof(
      fc.uint8Array({ maxLength: 30 }),
      fc
        .tuple(fc.constantFrom(..."QPBDESHCdcfXp!"), fc.uint8Array({ maxLength: 40 }))
        .map(([type, body]) => message(type, body)),
      fc.constant(query(`pagestream_v3 ${TENANT} ${TIMELINE}`)),
      fc.constant(query("set x")),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(frames, { maxLength: 8 }), async (sent) => {
        await converse(service().port, [startupPacket(), ...sent, message("X")], {
          end: true,
        }).catch(() => undefined);
      }),
      { numRuns: 150 },
    );
    const client = await connect();
    expect(await client.lease(TENANT, TIMELINE, lsn)).toBe(5);
    await client.close();
    expect(service().lines.filter(({ msg }) => /internal error|crash/.test(msg))).toEqual([]);
  });

  test("a conversation cut at any byte is the same conversation", async () => {
    await start({ lease: () => 5 });
    const reqid = Buffer.from("\0\0\0\0\0\0\0\u0001", "latin1");
    const at = Buffer.from("\0\0\0\0\0\0\u0010\0\0\0\0\0\0\0\u0010\0", "latin1");
    const rel = Buffer.alloc(13, 1);
    rel[12] = 0;
    const whole = Buffer.concat([
      Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]),
      startupPacket(),
      query(`lease lsn ${TENANT} ${TIMELINE} 0/10`),
      query(`pagestream_v3 ${TENANT} ${TIMELINE}`),
      message("d", Buffer.concat([Buffer.from([2]), reqid, at, rel, Buffer.alloc(4)])),
      message("d", Buffer.concat([Buffer.from([1]), reqid, at, rel])),
      message("d", "?"),
      query("set x"),
      message("X"),
    ]);
    const want = await converse(service().port, [whole]);
    expect(outline(want)).toBe(
      "N R S S S Z T D C Z W d d E:XX000:unknown pagestream request: 63 Z C Z",
    );
    for (let cut = 1; cut < whole.length; cut++) {
      const heard = await converse(service().port, [whole.subarray(0, cut), whole.subarray(cut)]);
      expect(heard.equals(want), `cut at ${cut}`).toBe(true);
    }
    const bytes = [...whole].map((byte) => Buffer.from([byte]));
    expect((await converse(service().port, bytes)).equals(want)).toBe(true);
  });
});

test("more connections than the limit are refused with 53300; room comes back", async () => {
  await start({ connectionsMax: 2 });
  const [first, second] = [await connect(), await connect()];
  await expect(connect()).rejects.toEqual(new ServerError("53300", "more than 2 connections"));
  await first.close();
  await expect.poll(() => service().count()).toBe(1);
  const third = await connect();
  await second.close();
  await third.close();
});

test("a stop tells every client, in whatever it is doing", async () => {
  await start({ when: () => undefined });
  const idle = await connect();
  const streaming = await connect();
  await streaming.pagestream(TENANT, TIMELINE);
  const stopped = service().stop();
  await Promise.all([idle.closed, streaming.closed, stopped]);
  const shutdown = new ServerError("57P01", "shutdown");
  await expect(idle.query("set x")).rejects.toEqual(shutdown);
  forget();
});
