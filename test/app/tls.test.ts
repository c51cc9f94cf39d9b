// TLS on both ports of the whole program: PostgreSQL's own libpq and Node as clients, certificates made
// by openssl, and their renewal while it runs.

import { execFile } from "node:child_process";
import fs from "node:fs";
import https from "node:https";
import path from "node:path";
import tls from "node:tls";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import { ServerTls } from "../../src/io/tls.ts";
import { type TestAuthority, type TestCertificate, newAuthority } from "../support/certificates.ts";
import { memoryPage } from "../support/memory-timeline.ts";
import { PageClient } from "../support/page-client.ts";
import { TENANT, TIMELINE, startPageService } from "../support/page-service.ts";
import { PG_BIN } from "../support/postgres.ts";
import { type TestProgram, newDataDir, startTestProgram } from "../support/program.ts";
import { converse, outline, query, startupPacket } from "../support/raw-link.ts";
import { ed25519Key, sign } from "../support/tokens.ts";

const run = promisify(execFile);
const key = ed25519Key();
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
const PROTOCOL = "postgresql";

let dir: string;
let authority: TestAuthority;
let live: TestCertificate;
let keysFile: string;
let server: TestProgram;
let token: string;
let port: number;

beforeAll(async () => {
  dir = newDataDir();
  authority = newAuthority(dir);
  live = authority.issue("live");
  keysFile = path.join(dir, "keys.pem");
  fs.writeFileSync(keysFile, key.pem);
  token = await sign(key, { scope: "pageserverapi" });
  const flags = { authKeys: keysFile, tlsCert: live.certFile, tlsKey: live.keyFile };
  server = await startTestProgram(path.join(dir, "data"), flags);
  port = server.program.listenPort;
});
afterAll(async () => {
  await server.program.stop();
  fs.rmSync(dir, { recursive: true, force: true });
});

/** What PostgreSQL's own client says, with libpq's settings. */
async function psql(settings: string): Promise<string> {
  const conninfo = `port=${port} user=u dbname=d connect_timeout=10 gssencmode=disable ${settings}`;
  const env = { PATH: process.env["PATH"], PGPASSWORD: token };
  const args = ["-AtX", "-d", conninfo, "-c", "set a to b"];
  return run(path.join(PG_BIN, "psql"), args, { env }).then(
    ({ stdout }) => stdout.trim(),
    (error: { stderr: string }) => error.stderr,
  );
}

/** GET with the certificate checked; status, body, and whose certificate it was. */
function get(url: string, bearer = token): Promise<{ status: number; body: string; cn: string }> {
  return new Promise((resolve, reject) => {
    const options = { ca: fs.readFileSync(authority.caFile), agent: false };
    const headers = { authorization: `Bearer ${bearer}` };
    const request = https.get(url, { ...options, headers }, (response) => {
      const { subject } = (response.socket as tls.TLSSocket).getPeerCertificate();
      let body = "";
      response.on("data", (chunk: Buffer) => (body += chunk.toString()));
      response.on("end", () => resolve({ status: response.statusCode!, body, cn: subject.CN }));
    });
    request.on("error", reject);
  });
}

/** TLS without a word before; what is heard until the server closes. */
function direct(alpn: readonly string[], say: readonly Buffer[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const heard: Buffer[] = [];
    const ca = fs.readFileSync(authority.caFile);
    const to = { host: "127.0.0.1", port, ca, ALPNProtocols: [...alpn] };
    const socket = tls.connect(to, () => say.forEach((piece) => socket.write(piece)));
    socket.on("data", (chunk: Buffer) => heard.push(chunk));
    socket.on("error", reject);
    socket.on("close", () => resolve(Buffer.concat(heard)));
  });
}

test("libpq verifies the certificate and the name, and gets in", async () => {
  const verified = `sslmode=verify-full sslrootcert=${authority.caFile}`;
  expect(await psql(`host=127.0.0.1 ${verified}`)).toBe("SELECT 1");
  expect(await psql(`host=localhost ${verified}`)).toBe("SELECT 1");
  expect(await psql(`host=127.0.0.1 sslmode=require ssl_min_protocol_version=TLSv1.3`)).toBe(
    "SELECT 1",
  );
  const elsewhere = newAuthority(fs.mkdtempSync(path.join(dir, "other-")));
  expect(
    await psql(`host=127.0.0.1 sslmode=verify-full sslrootcert=${elsewhere.caFile}`),
  ).toContain("certificate verify failed");
  expect(await psql("host=127.0.0.1 sslmode=disable")).toContain("must connect with TLS");
});

test("in clear nothing is asked or answered, whatever comes", async () => {
  const clear = await converse(port, [startupPacket(), query("set a to b")]);
  expect(outline(clear)).toBe("E:28000:must connect with TLS");
  const early = await converse(port, [Buffer.concat([SSL_REQUEST, startupPacket()])]);
  expect(early.toString("latin1")).toContain("unencrypted data after the SSL request");
  const garbage = await converse(port, [Buffer.concat([Buffer.from([0x16]), Buffer.alloc(2000)])]);
  // An alert of TLS, and no more.
  expect(garbage[0]).not.toBe("R".charCodeAt(0));
  expect(garbage.length).toBeLessThan(16);
  await expect(fetch(server.program.http.replace("https", "http"))).rejects.toThrow();
});

test("direct TLS needs the protocol's name (ALPN)", async () => {
  const login = [startupPacket(), Buffer.from("p\0\0\0\x05\0", "latin1")];
  const heard = (await direct([PROTOCOL], login)).toString("latin1");
  expect(heard).toMatch(/^R\0\0\0\x08\0\0\0\x03E.*JWT authentication error/s);
  expect((await direct([], login)).length).toBe(0);
  await expect(direct(["http/1.1"], login)).rejects.toThrow(/alert|reset|hang up|disconnected/i);
});

test("megabytes of pages, many in flight, inside TLS", async () => {
  const own = await ServerTls.load({ ...live, policy: "offered" });
  const service = await startPageService({ tls: own });
  try {
    const client = await PageClient.connect({ port: service.port, tls: true });
    const stream = await client.pagestream(TENANT, TIMELINE, 3);
    const rel = { spc: 1663, db: 5, rel: 16384, fork: 0 };
    const at = { lsn: Lsn.of(0x5000), notModifiedSince: Lsn.of(0x4000) };
    for (let from = 0; from < 3_000; from += 1_000) {
      const blocks = Array.from({ length: 1_000 }, (_, n) => from + n);
      const pages = await Promise.all(blocks.map((block) => stream.getPage(rel, block, at)));
      const wrong = pages.filter((page, n) =>
        Buffer.compare(page, memoryPage(rel, from + n, at.lsn)),
      );
      expect(wrong.length).toBe(0);
    }
    await client.close();
    // Offered, not required: in clear is as good.
    await (await PageClient.connect({ port: service.port })).close();
  } finally {
    await service.stop();
  }
});

test("the management API speaks TLS only, and a new certificate counts for new connections", async () => {
  expect(server.program.http).toMatch(/^https:/);
  const status = `${server.program.http}/v1/status`;
  expect(await get(status)).toMatchObject({ status: 200, cn: "live" });
  expect((await get(`${server.program.http}/v1/tenant`, "x")).status).toBe(401);

  const held = await PageClient.connect({ port, password: token, tls: true });
  const next = authority.issue("next");
  // Certificate and key that do not belong together: nothing changes, the keys of tokens neither.
  fs.copyFileSync(next.certFile, live.certFile);
  fs.writeFileSync(keysFile, ed25519Key().pem);
  await server.program.reload();
  expect(server.lines.at(-1)?.msg).toBe("nothing is reloaded");
  expect(await get(`${server.program.http}/v1/tenant`)).toMatchObject({ status: 200, cn: "live" });

  fs.copyFileSync(next.keyFile, live.keyFile);
  fs.writeFileSync(keysFile, key.pem);
  await server.program.reload();
  expect(await get(status)).toMatchObject({ status: 200, cn: "next" });
  expect(await psql(`host=127.0.0.1 sslmode=verify-full sslrootcert=${authority.caFile}`)).toBe(
    "SELECT 1",
  );
  await held.query("set still to here");
  await held.close();
  const text = server.lines.map((line) => JSON.stringify(line)).join("\n");
  expect(text).not.toContain(token);
  expect(text).not.toContain("PRIVATE KEY");
});
