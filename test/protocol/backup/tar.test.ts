// Archives are checked against another implementation (tar-stream) in both directions.

import { Readable } from "node:stream";
import fc from "fast-check";
import tarStream from "tar-stream";
import { describe, expect, test } from "vitest";
import { MalformedInput } from "../../../src/core/assert.ts";
import { type TarMember, packTar, readTar, tarHeader } from "../../../src/protocol/backup/tar.ts";

interface Plain {
  readonly path: string;
  readonly kind: string;
  readonly content: string;
}

const plainArbitrary: fc.Arbitrary<Plain[]> = fc
  .uniqueArray(
    fc.record({
      path: fc.stringMatching(/^[a-z0-9_.]{1,20}(\/[a-z0-9_]{1,20}){0,3}$/),
      kind: fc.constantFrom("file", "directory"),
      content: fc.oneof(
        fc.string({ maxLength: 40 }),
        fc.constantFrom(511, 512, 513, 5000).map((n) => "x".repeat(n)),
      ),
    }),
    { maxLength: 6, selector: (m) => m.path },
  )
  .map((all) =>
    all
      .filter((m) => !/(^|\/)\.{1,2}(\/|$)/.test(m.path))
      .map((m) => (m.kind === "file" ? m : { ...m, content: "" })),
  );

async function* membersOf(plain: readonly Plain[]): AsyncGenerator<TarMember> {
  for (const { path, kind, content } of plain) {
    const bytes = Buffer.from(content);
    const body = [bytes.subarray(0, 7), bytes.subarray(7)];
    yield { path, kind: kind === "file" ? "file" : "directory", size: bytes.length, body };
  }
}

async function joined(chunks: AsyncIterable<unknown>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) {
    if (!(chunk instanceof Uint8Array)) throw new Error("not bytes");
    all.push(chunk);
  }
  return Buffer.concat(all);
}

async function* cut(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function unpack(archive: Uint8Array, chunkBytes: number): Promise<Plain[]> {
  const all: Plain[] = [];
  for await (const entry of readTar(cut(archive, chunkBytes))) {
    const content = (await joined(entry.body)).toString();
    all.push({ path: entry.path, kind: entry.kind, content });
  }
  return all;
}

const packed = (plain: readonly Plain[], chunkBytes = 4096): Promise<Buffer> =>
  joined(packTar(membersOf(plain), 1_700_000_000, chunkBytes));

const ONE: readonly Plain[] = [{ path: "a/b", kind: "file", content: "hello" }];

describe("tar", () => {
  test("what is packed is read back, whatever the chunks", async () => {
    await fc.assert(
      fc.asyncProperty(plainArbitrary, fc.integer({ min: 1, max: 2000 }), async (plain, size) => {
        expect(await unpack(await packed(plain, size), size)).toEqual(plain);
      }),
      { numRuns: 60 },
    );
  });

  test("another implementation reads what is packed", async () => {
    await fc.assert(
      fc.asyncProperty(plainArbitrary, async (plain) => {
        const extract = tarStream.extract();
        Readable.from([await packed(plain)]).pipe(extract);
        const found: Plain[] = [];
        for await (const entry of extract) {
          const path = entry.header.name.replace(/\/$/, "");
          const content = (await joined(entry)).toString();
          found.push({ path, kind: entry.header.type ?? "", content });
          expect(entry.header.mode).toBe(entry.header.type === "file" ? 0o600 : 0o700);
        }
        expect(found).toEqual(plain);
      }),
      { numRuns: 30 },
    );
  });

  test("what another implementation packs is read", async () => {
    const pack = tarStream.pack();
    pack.entry({ name: "./base/", type: "directory" });
    pack.entry({ name: "./base/1", mode: 0o600 }, "content");
    pack.entry({ name: "pg_tblspc/77", type: "symlink", linkname: "/elsewhere" });
    pack.finalize();
    const archive = await joined(pack);
    const seen: unknown[] = [];
    for await (const { path, kind, size, target } of readTar(cut(archive, 100))) {
      seen.push([path, kind, size, target]);
    }
    expect(seen).toEqual([
      ["base", "directory", 0, ""],
      ["base/1", "file", 7, ""],
      ["pg_tblspc/77", "symlink", 0, "/elsewhere"],
    ]);
  });

  test("bodies that nobody reads are passed over", async () => {
    const plain = [...ONE, { path: "c", kind: "file", content: "x".repeat(1500) }, ...ONE];
    const paths: string[] = [];
    for await (const entry of readTar(cut(await packed(plain), 333))) paths.push(entry.path);
    expect(paths).toEqual(["a/b", "c", "a/b"]);
  });

  test("an archive without its end is refused, wherever it is cut", async () => {
    const archive = await packed(ONE);
    for (const length of [0, 100, 512, 515, 1023, 1024, 1500]) {
      await expect(unpack(archive.subarray(0, length), 512)).rejects.toThrow("cut off");
    }
  });

  test("a damaged header is refused", async () => {
    const archive = await packed(ONE);
    archive[3]! ^= 1;
    await expect(unpack(archive, 512)).rejects.toThrow("checksum");
  });

  test.each(["../x", "/etc/passwd", "a/../../x"])("a member %s is refused", async (path) => {
    const archive = Buffer.concat([tarHeader(path, "file", 0, 0), Buffer.alloc(1024)]);
    await expect(unpack(archive, 512)).rejects.toThrow(MalformedInput);
  });

  test("a body that is not as long as announced is our bug", async () => {
    const members = async function* (): AsyncGenerator<TarMember> {
      yield { path: "a", kind: "file", size: 5, body: [Buffer.from("four")] };
    };
    await expect(joined(packTar(members(), 0, 512))).rejects.toThrow("4 bytes instead of 5");
  });
});
