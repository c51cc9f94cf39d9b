// Encrypted objects: the suite of all back ends holds over them, nothing of the data is in the clear,
// and what was changed, cut, moved or swapped does not open.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { keyName, tenantName, timelinePrefix } from "../../../src/core/backup/names.ts";
import { parseTenantId, parseTimelineId } from "../../../src/core/ids.ts";
import type { ObjectStorage } from "../../../src/core/object-storage.ts";
import { EncryptedStorage } from "../../../src/io/objects/encrypted.ts";
import { LocalStorage } from "../../../src/io/objects/local.ts";
import {
  type MasterKeys,
  NO_MASTER_KEYS,
  parseMasterKeys,
  readMasterKeys,
} from "../../../src/io/objects/master-keys.ts";
import { MemoryStorage } from "../../../src/io/objects/memory.ts";
import { withRetries } from "../../../src/io/objects/retried.ts";
import { type PlainObjects, TenantKeys } from "../../../src/io/objects/tenant-keys.ts";
import {
  CHUNK_BYTES,
  ENCRYPTED_HEADER_BYTES,
  SEALED_CHUNK_BYTES,
} from "../../../src/protocol/encrypted-object.ts";
import { flip } from "../../support/damaged-storage.ts";
import { FaultyStorage } from "../../support/faulty-storage.ts";
import { inFolder } from "../../support/in-folder.ts";
import { gather, kindOf, noise, storageSuite, text } from "./conformance.ts";

const TENANT = parseTenantId("a".repeat(32));
const OTHER = parseTenantId("b".repeat(32));
const PREFIX = timelinePrefix(TENANT, parseTimelineId("c".repeat(32)));
const key = (id: string, byte: number): string =>
  `${id}:${Buffer.alloc(32, byte).toString("base64")}`;
const keys = (...lines: string[]): MasterKeys => parseMasterKeys(lines.join("\n"), "test");
const K1 = keys(key("k1", 1));

function encrypted(
  below: ObjectStorage,
  masters: MasterKeys = K1,
  plain: PlainObjects = "refused",
): EncryptedStorage {
  return new EncryptedStorage(below, new TenantKeys(below, masters, plain));
}

storageSuite("encrypted, in memory", async () => {
  const storage = inFolder(encrypted(new MemoryStorage()), PREFIX);
  return { storage, end: async () => {} };
});

storageSuite("encrypted, in a directory, with retries", async () => {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), "encrypted-test-"));
  const storage = inFolder(encrypted(withRetries(new LocalStorage(root)).background), PREFIX);
  return { storage, end: async () => fs.rmSync(root, { recursive: true }) };
});

/** Object `name`, of `bytes` noisy bytes, by one put or as a stream. */
async function put(storage: ObjectStorage, name: string, bytes: number, how: "whole" | "stream") {
  const { all, source } = noise(bytes);
  if (how === "whole") await storage.put(name, all);
  else await storage.putStream(name, source);
  return all;
}

const SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7];

describe("what is stored", () => {
  test.each(["whole", "stream"] as const)("opens at every edge of a chunk (%s)", async (how) => {
    const storage = encrypted(new MemoryStorage());
    for (const size of SIZES) {
      const name = `${PREFIX}x${size}`;
      const all = await put(storage, name, size, how);
      expect(all.equals((await storage.get(name)).bytes)).toBe(true);
      for (const from of [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, size, size + CHUNK_BYTES]) {
        const rest = all.subarray(from);
        expect(rest.equals(await gather(storage.getStream(name, from)))).toBe(true);
        for (const length of [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, size + 1]) {
          const part = Buffer.from(await storage.getRange(name, from, length));
          expect(part.equals(rest.subarray(0, length))).toBe(true);
        }
      }
      const { objects } = await storage.list(name);
      expect(objects.map(({ bytes }) => bytes)).toEqual([size]);
    }
  });

  test("has nothing of the data in the clear, and is never the same twice", async () => {
    const below = new MemoryStorage();
    const storage = encrypted(below);
    const words = text("the quick brown fox ".repeat(10));
    await storage.put(`${PREFIX}a`, words);
    const first = Buffer.from((await below.get(`${PREFIX}a`)).bytes);
    await storage.put(`${PREFIX}a`, words);
    const second = Buffer.from((await below.get(`${PREFIX}a`)).bytes);
    expect(first.includes("quick")).toBe(false);
    expect(
      first.subarray(ENCRYPTED_HEADER_BYTES).equals(second.subarray(ENCRYPTED_HEADER_BYTES)),
    ).toBe(false);
    await storage.put(tenantName(TENANT), words);
    expect(Buffer.from((await below.get(tenantName(TENANT))).bytes).equals(words)).toBe(true);
    const wrapped = String(Buffer.from((await below.get(keyName(TENANT))).bytes));
    expect(wrapped).toMatch(/"master":"k1"/);
    expect(wrapped).not.toContain(Buffer.alloc(32, 1).toString("base64"));
  });

  test("an upload that is tried again has the same bytes; one whose source changed is refused", async () => {
    const below = new FaultyStorage(new MemoryStorage());
    const storage = encrypted(
      withRetries(below, { firstMs: 1, mostMs: 2, tries: 3, restMs: 50 }).background,
    );
    const { all, source } = noise(3 * CHUNK_BYTES);
    await storage.put(`${PREFIX}key`, text("x"));
    below.next("fail-after", 2);
    await storage.putStream(`${PREFIX}a`, source);
    expect(all.equals((await storage.get(`${PREFIX}a`)).bytes)).toBe(true);
    let times = 0;
    below.next("fail-after");
    const changing = storage.putStream(`${PREFIX}b`, async function* () {
      yield noise(2 * CHUNK_BYTES, ++times).all;
    });
    await expect(changing).rejects.toThrow("what is uploaded changed while it was");
  });
});

describe("what was tampered with does not open", () => {
  const reads = (storage: ObjectStorage, name: string): readonly (() => Promise<unknown>)[] => [
    () => storage.get(name),
    () => gather(storage.getStream(name, 0)),
    () => gather(storage.getStream(name, CHUNK_BYTES)),
    () => storage.getRange(name, 0, 10 * CHUNK_BYTES),
  ];
  const spots = [
    ...["a key id", "a salt", "a nonce", "zeros of the header"].map(
      (w, i) => [w, [9, 20, 50, 60][i]!] as const,
    ),
    ...([
      ["a chunk", 90_000],
      ["a tag", -1],
    ] as const),
  ];

  test.each(spots)("a bit of %s", async (_what, at) => {
    const below = new MemoryStorage();
    const storage = encrypted(below);
    await put(storage, `${PREFIX}a`, 3 * CHUNK_BYTES, "whole");
    await flip(below, `${PREFIX}a`, at);
    for (const read of reads(storage, `${PREFIX}a`))
      expect(await kindOf(read())).toMatch(/corrupt|no-key/);
  });

  test("cut, also between chunks; chunks in another order; bytes behind the end", async () => {
    const below = new MemoryStorage();
    const storage = encrypted(below);
    const name = `${PREFIX}a`;
    await put(storage, name, 4 * CHUNK_BYTES, "stream");
    const { bytes } = await below.get(name);
    const at = (chunk: number): number => ENCRYPTED_HEADER_BYTES + chunk * SEALED_CHUNK_BYTES;
    const chunk = (i: number): Uint8Array => bytes.subarray(at(i), at(i + 1));
    const header = bytes.subarray(0, at(0));
    const changed: readonly (readonly Uint8Array[])[] = [
      [bytes.subarray(0, at(3))],
      [bytes.subarray(0, at(2) + 5)],
      [header, chunk(1), chunk(0), chunk(2), chunk(3)],
      [header, chunk(0), chunk(1), chunk(3)],
      [bytes, Buffer.alloc(1)],
      [bytes, chunk(3)],
    ];
    for (const pieces of changed) {
      await below.put(name, Buffer.concat(pieces));
      for (const read of reads(storage, name).slice(0, 3))
        expect(await kindOf(read())).toBe("corrupt");
    }
    await below.put(name, bytes);
    for (const read of reads(storage, name)) expect(await kindOf(read())).toBe("no error");
  });

  test("another object's bytes, of the same tenant or of another", async () => {
    const below = new MemoryStorage();
    const storage = encrypted(below);
    await storage.put(`${PREFIX}a`, text("a"));
    await storage.put(`${PREFIX}b`, text("b"));
    await below.put(`${PREFIX}a`, (await below.get(`${PREFIX}b`)).bytes);
    await expect(storage.get(`${PREFIX}a`)).rejects.toThrow(
      "or not what was written under this name",
    );
    const theirs = PREFIX.replace(TENANT, OTHER);
    await storage.put(`${theirs}a`, text("theirs"));
    await below.put(`${PREFIX}a`, (await below.get(`${theirs}a`)).bytes);
    expect(await kindOf(storage.get(`${PREFIX}a`))).toBe("no-key");
    // Not with the other's wrapped key either.
    await below.put(keyName(TENANT), (await below.get(keyName(OTHER))).bytes);
    expect(await kindOf(encrypted(below).get(`${PREFIX}a`))).toBe("corrupt");
  });
});

describe("keys", () => {
  test("a missing or wrong master key is named, and nothing is written in the clear", async () => {
    const below = new MemoryStorage();
    await encrypted(below).put(`${PREFIX}a`, text("a"));
    const before = below.names;
    const cases = [
      [
        NO_MASTER_KEYS,
        /encrypted with master key "k1", and none was given: name it in backup_key_file or PAGESERVER_BACKUP_KEY/,
      ],
      [keys(key("k2", 2)), /encrypted with master key "k1", and those given are k2/],
      [keys(key("k1", 9)), /the key given by that name is another one/],
    ] as const;
    for (const [masters, sentence] of cases) {
      const storage = encrypted(below, masters);
      await expect(storage.get(`${PREFIX}a`)).rejects.toThrow(sentence);
      await expect(storage.put(`${PREFIX}b`, text("b"))).rejects.toThrow(sentence);
      expect(below.names).toEqual(before);
    }
  });

  test("objects in the clear are refused, or read where that is allowed; new ones are encrypted", async () => {
    const below = new MemoryStorage();
    await encrypted(below, NO_MASTER_KEYS).put(`${PREFIX}old`, text("old"));
    await expect(encrypted(below).get(`${PREFIX}old`)).rejects.toThrow(
      "is not encrypted, though a key is given: if it was written before there was one, set backup_plain_objects = true",
    );
    await expect(encrypted(below).put(`${PREFIX}new`, text("new"))).rejects.toThrow(
      /has objects in memory and no tenants\/a+\/key.json/,
    );
    const migrating = encrypted(below, K1, "read");
    expect(String(Buffer.from((await migrating.get(`${PREFIX}old`)).bytes))).toBe("old");
    expect(String(await gather(migrating.getStream(`${PREFIX}old`, 1)))).toBe("ld");
    await migrating.put(`${PREFIX}new`, text("new"));
    expect(Buffer.from((await below.get(`${PREFIX}new`)).bytes).includes("new")).toBe(false);
    expect(await kindOf(encrypted(below).get(`${PREFIX}old`))).toBe("no-key");
  });

  test("a rotated master key opens what the old one did; the old one may go then", async () => {
    const below = new MemoryStorage();
    await encrypted(below).put(`${PREFIX}a`, text("a"));
    const { bytes } = await below.get(`${PREFIX}a`);
    const both = keys(key("k1", 1), key("k2", 2));
    const rotating = new TenantKeys(below, both, "refused");
    expect(await rotating.rotate(TENANT)).toBe("rotated");
    expect(await rotating.rotate(TENANT)).toBe("newest already");
    expect(await rotating.rotate(OTHER)).toBe("not encrypted");
    const storage = encrypted(below, keys(key("k2", 2)));
    expect(String(Buffer.from((await storage.get(`${PREFIX}a`)).bytes))).toBe("a");
    expect((await below.get(`${PREFIX}a`)).bytes).toEqual(bytes);
    await expect(encrypted(below).get(`${PREFIX}a`)).rejects.toThrow('with master key "k2"');
  });

  test("a tenant whose key is deleted is erased, also for a server that had the key", async () => {
    const below = new MemoryStorage();
    const storage = encrypted(below);
    await storage.put(`${PREFIX}a`, text("a"));
    await storage.deleteMany([keyName(TENANT)]);
    await expect(storage.get(`${PREFIX}a`)).rejects.toThrow(
      /is encrypted with key [0-9a-f]{16} of the tenant, and .*key.json has it no more: the tenant was erased/,
    );
    expect(await kindOf(storage.put(`${PREFIX}b`, text("b")))).toBe("no-key");
  });

  test("two servers that begin at once have one key", async () => {
    const below = new MemoryStorage();
    const [one, two] = [encrypted(below), encrypted(below)];
    await Promise.all([one.put(`${PREFIX}a`, text("a")), two.put(`${PREFIX}b`, text("b"))]);
    expect(String(Buffer.from((await one.get(`${PREFIX}b`)).bytes))).toBe("b");
    expect(String(Buffer.from((await two.get(`${PREFIX}a`)).bytes))).toBe("a");
  });

  test("keys are parsed strictly, and no sentence shows one", async () => {
    const hex = "0f".repeat(32);
    const two = parseMasterKeys(
      `# old\n k1:${hex}\n\nk2:${Buffer.alloc(32, 7).toString("base64")}`,
      "x",
    );
    expect(two).toMatchObject({ ids: ["k1", "k2"], newest: { id: "k2" } });
    const bad = ["", "k1", `k1:${hex}00`, `k 1:${hex}`, `k1:${hex},k1:${hex}`, "k1:c2hvcnQ="];
    for (const given of bad) {
      expect(() => parseMasterKeys(given, "file x")).toThrow(/^file x/);
      expect(() => parseMasterKeys(given, "file x")).not.toThrow(hex);
    }
    const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "keys-test-")), "keys");
    await expect(readMasterKeys(file)).rejects.toThrow(
      "the file of master keys cannot be read: ENOENT",
    );
    fs.writeFileSync(file, `k1:${hex}\n`, { mode: 0o644 });
    await expect(readMasterKeys(file)).rejects.toThrow(`can be read by others: chmod 600 ${file}`);
    fs.chmodSync(file, 0o600);
    expect((await readMasterKeys(file)).ids).toEqual(["k1"]);
    fs.rmSync(path.dirname(file), { recursive: true });
  });
});
