// The back ends of object storage against one suite. S3 is Ceph's RADOS gateway, the real thing; where
// Debian's packages are not installed that part is skipped, and says so.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { claimPlace } from "../../../src/core/backup/probe.ts";
import { LocalStorage } from "../../../src/io/objects/local.ts";
import { MemoryStorage } from "../../../src/io/objects/memory.ts";
import { withRetries } from "../../../src/io/objects/retried.ts";
import { storageSuite } from "./conformance.ts";

const scratch = (): string => fs.mkdtempSync(path.join(os.tmpdir(), "objects-test-"));

storageSuite("memory", async () => ({ storage: new MemoryStorage(), end: async () => {} }));

storageSuite("a local directory", async () => {
  const root = scratch();
  const storage = new LocalStorage(path.join(root, "not/there/yet"));
  return { storage, end: async () => fs.rmSync(root, { recursive: true }) };
});

storageSuite("a local directory, with retries", async () => {
  const root = scratch();
  const storage = withRetries(new LocalStorage(root)).background;
  return { storage, end: async () => fs.rmSync(root, { recursive: true }) };
});

test("a directory that holds something else is refused", async () => {
  const root = scratch();
  try {
    fs.writeFileSync(path.join(root, "holiday.jpg"), "x");
    await expect(claimPlace(new LocalStorage(root))).rejects.toThrow(
      `holds "holiday.jpg", which is not ours; give the backup a bucket or a prefix of its own`,
    );
    expect(fs.readdirSync(root)).toEqual(["holiday.jpg"]);
  } finally {
    fs.rmSync(root, { recursive: true });
  }
});

test("a directory that cannot be written is refused by name", async () => {
  const file = path.join(scratch(), "file");
  fs.writeFileSync(file, "x");
  await expect(claimPlace(new LocalStorage(file))).rejects.toMatchObject({ name: "ObjectError" });
  fs.rmSync(path.dirname(file), { recursive: true });
});

test("a mark of a newer version is refused, and left", async () => {
  const storage = new MemoryStorage();
  await storage.put("pageserver.json", Buffer.from('{"what":"pageserver backup","format":9}'));
  await expect(claimPlace(storage)).rejects.toThrow("another version of pageserver (format 9");
});
