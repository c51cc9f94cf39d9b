// What a server that speaks S3 may answer, over real HTTP: each becomes an error with its remedy, and
// what may pass is tried again.

import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { probeStorage } from "../../../src/core/backup/probe.ts";
import { withRetries } from "../../../src/io/objects/retried.ts";
import { S3Storage } from "../../../src/io/objects/s3.ts";
import { kindOf, text } from "./conformance.ts";

type Handler = (request: http.IncomingMessage, response: http.ServerResponse) => void;
let server: http.Server;
let answer: Handler;
let asked = 0;

beforeAll(async () => {
  server = http.createServer((request, response) => {
    asked++;
    request.resume();
    request.on("end", () => answer(request, response));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

function open(): S3Storage {
  const { port } = server.address() as AddressInfo;
  return new S3Storage({
    ...{ bucket: "bucket", prefix: "p/", region: "us-east-1", etagQuotes: "quoted" },
    endpoint: `http://127.0.0.1:${port}`,
    credentials: { accessKeyId: "a", secretAccessKey: "b" },
  });
}

const refusal =
  (status: number, code: string): Handler =>
  (_request, response) => {
    response.writeHead(status, { "content-type": "application/xml" });
    response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>no</Message></Error>`);
  };

test.each([
  [403, "InvalidAccessKeyId", "denied", /refuses these credentials: .*set AWS_ACCESS_KEY_ID/],
  [403, "AccessDenied", "denied", /a key that may read, write, list and delete there/],
  [404, "NoSuchBucket", "no-bucket", /there is no bucket "bucket": make it, or correct/],
  [403, "RequestTimeTooSkewed", "clock-skew", /says that this machine's clock is wrong: set it/],
  [501, "NotImplemented", "unsupported", /does not implement what a backup needs/],
  [503, "SlowDown", "unavailable", /does not answer as it should/],
] as const)("%i %s", async (status, code, kind, sentence) => {
  answer = refusal(status, code);
  const storage = open();
  expect(await kindOf(storage.put("x", text("x")))).toBe(kind);
  await expect(storage.get("x")).rejects.toThrow(sentence);
  await storage.close();
});

test("a download that is cut short is asked for again; one that always is, is given up", async () => {
  const whole = Buffer.alloc(100_000, 7);
  let cuts = 2;
  answer = (_request, response) => {
    response.writeHead(200, { "content-length": whole.length, etag: '"1"' });
    if (cuts-- <= 0) return void response.end(whole);
    response.write(whole.subarray(0, 60_000), () => response.destroy());
  };
  const times = { firstMs: 1, mostMs: 2, tries: 4, restMs: 50 };
  const storage = withRetries(open(), times).background;
  expect(Buffer.from((await storage.get("x")).bytes).equals(whole)).toBe(true);
  cuts = Infinity;
  asked = 0;
  expect(await kindOf(storage.get("x"))).toMatch(/truncated|unavailable/);
  expect(asked).toBe(times.tries);
});

test("a server that ignores conditions, as some imitations of S3 do, is refused before anything is kept there", async () => {
  const objects = new Map<string, number>();
  answer = (request, response) => {
    const name = new URL(request.url!, "http://x").pathname;
    if (request.method === "PUT") objects.set(name, 1);
    response.writeHead(200, { etag: '"1"', "content-type": "application/xml" });
    response.end(request.method === "POST" ? "<DeleteResult/>" : "");
  };
  await expect(probeStorage(open(), "n")).rejects.toThrow(
    "cannot keep backups safely: it answered a conditional write with success though it had to refuse. " +
      "It must have conditional writes",
  );
  expect([...objects.keys()]).toEqual(["/bucket/p/probe/n"]);
});
