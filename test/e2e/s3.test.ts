// Object storage in a real S3 server. Needs Debian's Ceph packages; skipped, aloud, where they are not.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { probeStorage } from "../../src/core/backup/probe.ts";
import { OBJECT_PART_BYTES } from "../../src/core/limits.ts";
import { S3Storage, type S3Options } from "../../src/io/objects/s3.ts";
import { withRetries } from "../../src/io/objects/retried.ts";
import { gather, kindOf, noise, storageSuite, text } from "../io/objects/conformance.ts";
import { type Rgw, makeBucket, rgwMissing, startRgw } from "../support/rgw.ts";

const missing = rgwMissing();
if (missing !== undefined) process.stderr.write(`${missing}\n`);

describe.skipIf(missing !== undefined)("S3, Ceph RADOS gateway", () => {
  let rgw: Rgw;
  const started = beforeOnce(async () => {
    rgw = await startRgw();
    await makeBucket(rgw, "bucket");
  });
  beforeAll(started);
  afterAll(() => rgw?.stop());

  const open = (options: Partial<S3Options> = {}): S3Storage =>
    new S3Storage({
      ...{ bucket: "bucket", prefix: "a/prefix/", region: "us-east-1", etagQuotes: "unquoted" },
      ...{ endpoint: rgw.endpoint, credentials: rgw.credentials },
      ...options,
    });

  storageSuite("one suite for all", async () => {
    await started();
    const storage = open();
    return { storage, end: () => storage.close() };
  });

  test("with the wrong quoting of ETags the probe refuses it", async () => {
    const storage = open({ etagQuotes: "quoted", prefix: "quoted/" });
    await expect(probeStorage(storage, "n")).rejects.toThrow(
      "the other value of backup_etag_quotes",
    );
  });

  test("wrong credentials and a missing bucket are named", async () => {
    const wrong = { ...rgw.credentials, secretAccessKey: "wrong" };
    await expect(open({ credentials: wrong }).get("x")).rejects.toThrow(
      "s3://bucket/a/prefix refuses these credentials",
    );
    await expect(open({ bucket: "no-such" }).put("x", text("x"))).rejects.toThrow(
      'there is no bucket "no-such"',
    );
  });

  test("a clock that is wrong is named, and the next try allows for it", async () => {
    const skewed = { clockOffsetMs: -3_600_000 };
    expect(await kindOf(open(skewed).put("skew", text("x")))).toBe("clock-skew");
    await withRetries(open(skewed)).background.put("skew", text("x"));
  });

  test("an upload that was cut short goes on with the parts that are there", async () => {
    const storage = open();
    const { all } = noise(3 * OBJECT_PART_BYTES + 5);
    let sent = 0;
    const cut = async function* () {
      for (let at = 0; at < all.length; at += OBJECT_PART_BYTES) {
        if (++sent === 3) rgw.stopGateway();
        if (sent === 3) await new Promise((resolve) => setTimeout(resolve, 1_500));
        yield all.subarray(at, at + OBJECT_PART_BYTES);
      }
    };
    expect(await kindOf(storage.putStream("cut", cut))).toBe("unavailable");
    expect(await kindOf(storage.get("cut"))).toBe("unavailable");
    await rgw.startGateway();
    expect(await kindOf(storage.get("cut"))).toBe("not-found");
    await storage.putStream("cut", async function* () {
      yield all;
    });
    expect((await gather(storage.getStream("cut", 0))).equals(all)).toBe(true);
  });
});

/** Whoever comes first starts it; all wait for the same. */
function beforeOnce(start: () => Promise<void>): () => Promise<void> {
  let started: Promise<void> | undefined;
  return () => (started ??= start());
}
