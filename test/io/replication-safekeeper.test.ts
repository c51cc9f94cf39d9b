// What a stock PostgreSQL cannot show: a Neon safekeeper's side of the conversation, and servers
// that break the protocol. The servers here speak just enough of it.

import net from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { parseTenantId, parseTimelineId } from "../../src/core/ids.ts";
import { Lsn } from "../../src/core/lsn.ts";
import type { StreamEnd } from "../../src/core/wal-receiver-failure.ts";
import { connectReplication } from "../../src/io/replication-client.ts";
import { ByteReader, ByteWriter } from "../../src/protocol/bytes.ts";
import { parseConninfo, safekeeperOptions } from "../../src/protocol/conninfo.ts";
import { Framer } from "../../src/protocol/pg-frames.ts";
import { until } from "../support/replication.ts";

const TENANT = parseTenantId("0123456789abcdef0123456789abcdef");
const TIMELINE = parseTimelineId("fedcba9876543210fedcba9876543210");
const TOKEN = "a.jwt.token";
const START = Lsn.parse("0/14EE150");

const servers: net.Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

const frame = (type: string, body: Uint8Array = new Uint8Array()): Uint8Array =>
  new ByteWriter()
    .u8(type.charCodeAt(0))
    .u32(body.length + 4)
    .raw(body)
    .done();

const READY = frame("Z", Uint8Array.of(0x49));

function row(...columns: (string | null)[]): Uint8Array {
  const writer = new ByteWriter().u16(columns.length);
  for (const text of columns) {
    if (text === null) writer.i32(-1);
    else writer.u32(text.length).text(text);
  }
  return frame("D", writer.done());
}

const errorResponse = (severity: string, code: string, message: string): Uint8Array =>
  frame(
    "E",
    new ByteWriter()
      .text("S")
      .cstring(severity)
      .text("C")
      .cstring(code)
      .text("M")
      .cstring(message)
      .u8(0)
      .done(),
  );

const wal = (at: number, bytes: Uint8Array): Uint8Array =>
  frame(
    "d",
    new ByteWriter()
      .text("w")
      .lsn(Lsn.of(at))
      .lsn(Lsn.of(at + bytes.length))
      .i64(0n)
      .raw(bytes)
      .done(),
  );

interface Heard {
  startup: Map<string, string>;
  password: string;
  queries: string[];
  copyData: Uint8Array[];
}

/** Logs in with a cleartext password, then hands every query to `answer`. */
async function serve(
  answer: (sql: string, socket: net.Socket) => void,
): Promise<{ port: number; heard: Heard }> {
  const heard: Heard = { startup: new Map(), password: "", queries: [], copyData: [] };
  const server = net.createServer((socket) => {
    const framer = new Framer((type, body) => {
      const reader = new ByteReader(body);
      switch (String.fromCharCode(type)) {
        case "p":
          heard.password = reader.cstring("password");
          socket.write(frame("R", new ByteWriter().u32(0).done()));
          socket.write(READY);
          break;
        case "Q": {
          const sql = reader.cstring("query");
          heard.queries.push(sql);
          answer(sql, socket);
          break;
        }
        case "d":
          heard.copyData.push(body);
      }
    }, 65_536);
    socket.on("error", () => {});
    socket.once("data", (startup: Buffer) => {
      const reader = new ByteReader(startup, 8);
      for (let key = reader.cstring("key"); key !== ""; key = reader.cstring("key")) {
        heard.startup.set(key, reader.cstring("value"));
      }
      socket.on("data", (chunk: Buffer) => framer.push(chunk));
      socket.write(frame("R", new ByteWriter().u32(3).done()));
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: (server.address() as net.AddressInfo).port, heard };
}

async function streamFrom(port: number) {
  const link = await connectReplication(
    {
      ...parseConninfo(`host=127.0.0.1 port=${port} user=ps password=${TOKEN} sslmode=disable`),
      options: safekeeperOptions({ tenant: TENANT, timeline: TIMELINE }),
    },
    { applicationName: "pageserver-1", timeoutMs: 5_000 },
  );
  const identity = await link.identify();
  const got = { at: [] as number[], bytes: [] as Uint8Array[], asks: 0 };
  const ends: StreamEnd[] = [];
  const stream = link.startReplication(
    { slot: undefined, lsn: START, tli: undefined },
    {
      onStart: () => {},
      onData: (at, bytes) => {
        got.at.push(at);
        got.bytes.push(bytes);
      },
      onKeepalive: (_end, replyRequested) => {
        if (replyRequested) got.asks++;
        const position = Lsn.of(START + 4);
        const report = { write: position, flush: position, apply: position };
        stream.sendStatus({ ...report, replyRequested: false }, Date.now());
      },
      onEnd: (end) => ends.push(end),
    },
  );
  return { identity, got, ends };
}

const identifySystem = [row("42", "1", Lsn.format(START), null), frame("C"), READY];

describe("a safekeeper", () => {
  test("hears which timeline is meant, streams, and its good-bye is no error", async () => {
    const { port, heard } = await serve((sql, socket) => {
      if (sql === "IDENTIFY_SYSTEM") return identifySystem.forEach((m) => socket.write(m));
      const payload = Uint8Array.of(1, 2, 3, 4);
      // In one chunk with the start, cut in the middle of a message.
      const all = Buffer.concat([
        frame("W", new Uint8Array(3)),
        wal(START, payload),
        frame(
          "d",
          new ByteWriter()
            .text("k")
            .lsn(Lsn.of(START + 4))
            .i64(0n)
            .u8(1)
            .done(),
        ),
        wal(START + 4, payload),
        errorResponse("ERROR", "00000", "ending streaming to Some(127.0.0.1) at 0/14EE158"),
      ]);
      socket.write(all.subarray(0, 50));
      setTimeout(() => socket.write(all.subarray(50)), 20);
    });
    const { identity, got, ends } = await streamFrom(port);
    expect(identity).toEqual({ systemId: "42", tli: 1, xlogpos: START });
    const end = await until("the end", () => ends[0]);
    expect(end).toEqual({ kind: "finished", message: expect.stringMatching(/^ending streaming/) });
    expect(got.at).toEqual([START, START + 4]);
    expect(got.bytes.map((b) => [...b])).toEqual([
      [1, 2, 3, 4],
      [1, 2, 3, 4],
    ]);
    expect(got.asks).toBe(1);
    expect(heard.password).toBe(TOKEN);
    expect(heard.startup.get("replication")).toBe("true");
    expect(heard.startup.get("application_name")).toBe("pageserver-1");
    expect(heard.startup.get("options")).toBe(
      `-c timeline_id=${TIMELINE} tenant_id=${TENANT} protocol={"type":"vanilla"}`,
    );
    expect(heard.queries).toEqual([
      "IDENTIFY_SYSTEM",
      `START_REPLICATION PHYSICAL ${Lsn.format(START)}`,
    ]);
    await until("the report", () => heard.copyData.length === 1);
    expect([heard.copyData[0]![0], heard.copyData[0]!.length]).toEqual(["r".charCodeAt(0), 34]);
  });

  test.each([
    [
      "an unknown replication message",
      frame("d", Uint8Array.of(0x7a)),
      "malformed",
      /unknown type 0x7a/,
    ],
    ["interpreted WAL", frame("d", Uint8Array.of(0x30, 1)), "malformed", /vanilla was asked for/],
    ["a message of 3 GB", Uint8Array.of(0x64, 0xc0, 0, 0, 0), "malformed", /says 3221225472 bytes/],
    ["a truncated WAL header", frame("d", Uint8Array.of(0x77, 0, 0)), "malformed", /wal start/],
    [
      "an error without end",
      frame("E", Uint8Array.of(0x4d, 0x61)),
      "malformed",
      /no terminating NUL/,
    ],
  ])("%s ends the stream with a name for it", async (_what, bytes, kind, why) => {
    const { port } = await serve((sql, socket) => {
      if (sql === "IDENTIFY_SYSTEM") return identifySystem.forEach((m) => socket.write(m));
      socket.write(Buffer.concat([frame("W", new Uint8Array(3)), bytes, wal(START, bytes)]));
    });
    const { ends, got } = await streamFrom(port);
    const end = await until("the end", () => ends[0]);
    expect(end).toMatchObject({ kind, message: expect.stringMatching(why) });
    expect(got.at).toEqual([]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(ends).toHaveLength(1);
  });

  test("a server that goes away, in an answer or in a stream", async () => {
    const silent = await serve((_sql, socket) => socket.destroy());
    await expect(streamFrom(silent.port)).rejects.toThrow(/closed the connection|broke/);
    const fatal = await serve((_sql, socket) => {
      socket.end(errorResponse("FATAL", "57P03", "the database system is starting up"));
    });
    await expect(streamFrom(fatal.port)).rejects.toMatchObject({ code: "57P03" });
    const { port } = await serve((sql, socket) => {
      if (sql === "IDENTIFY_SYSTEM") return identifySystem.forEach((m) => socket.write(m));
      socket.end(Buffer.concat([frame("W", new Uint8Array(3)), wal(START, Uint8Array.of(9))]));
    });
    const { ends, got } = await streamFrom(port);
    expect(await until("the end", () => ends[0])).toMatchObject({ kind: "lost" });
    expect(got.at).toEqual([START]);
  });
});
