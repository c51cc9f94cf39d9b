// What every back end must do, as one suite of tests.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { claimPlace, probeStorage } from "../../../src/core/backup/probe.ts";
import { OBJECT_PART_BYTES } from "../../../src/core/limits.ts";
import {
  type ByteSource,
  ObjectError,
  type ObjectStorage,
  type ObjectVersion,
  listAll,
} from "../../../src/core/object-storage.ts";

export const text = (words: string): Uint8Array => Buffer.from(words);
const read = async (storage: ObjectStorage, name: string): Promise<string> =>
  Buffer.from((await storage.get(name)).bytes).toString();

/** The kind of the ObjectError that a call rejects with. */
export async function kindOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof ObjectError) return error.kind;
    throw error;
  }
  return "no error";
}

export const gather = async (pieces: AsyncIterable<Uint8Array>): Promise<Buffer> => {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
};

/** Bytes that differ everywhere, in pieces of an awkward size. */
export function noise(
  bytes: number,
  seed = 1,
): { readonly all: Buffer; readonly source: ByteSource } {
  const all = Buffer.alloc(bytes);
  let x = seed * 2_654_435_761;
  for (let i = 0; i < bytes; i++) {
    x = (Math.imul(x, 1_103_515_245) + 12_345) >>> 0;
    all[i] = x >>> 16;
  }
  const source: ByteSource = async function* () {
    for (let at = 0; at < bytes; at += 777_777) yield all.subarray(at, at + 777_777);
  };
  return { all, source };
}

export function storageSuite(
  title: string,
  make: () => Promise<{ readonly storage: ObjectStorage; readonly end: () => Promise<void> }>,
): void {
  describe(title, () => {
    let storage: ObjectStorage;
    let end = async (): Promise<void> => {};
    beforeAll(async () => ({ storage, end } = await make()));
    afterAll(() => end());

    test("it passes the probe, and is claimed once and again", async () => {
      await probeStorage(storage, "nonce");
      await claimPlace(storage);
      await claimPlace(storage);
    });

    test("what was put is there, and put again is replaced", async () => {
      await storage.put("a/b", text("one"));
      expect(await read(storage, "a/b")).toBe("one");
      await storage.put("a/b", text("two"));
      expect(await read(storage, "a/b")).toBe("two");
      await storage.put("a/empty", new Uint8Array(0));
      expect(await read(storage, "a/empty")).toBe("");
    });

    test("what is not there is not found", async () => {
      expect(await kindOf(storage.get("no/such"))).toBe("not-found");
      expect(await kindOf(storage.getRange("no/such", 0, 10))).toBe("not-found");
      expect(await kindOf(gather(storage.getStream("no/such", 0)))).toBe("not-found");
    });

    test("of many who put if absent one wins, and its bytes stay", async () => {
      const racers = Array.from({ length: 12 }, (_, i) =>
        storage.putIfAbsent("race/absent", text(`racer ${i}`)).then(
          () => `racer ${i}`,
          (error: unknown) => (error as ObjectError).kind,
        ),
      );
      const outcomes = await Promise.all(racers);
      const winners = outcomes.filter((outcome) => outcome.startsWith("racer"));
      expect(winners).toHaveLength(1);
      expect(outcomes.filter((outcome) => outcome === "exists")).toHaveLength(11);
      expect(await read(storage, "race/absent")).toBe(winners[0]);
    });

    test("of many who swap the same version one wins, round after round", async () => {
      let version = await storage.putIfAbsent("race/swap", text("start"));
      for (let round = 0; round < 3; round++) {
        const racers = Array.from({ length: 8 }, (_, i) =>
          storage.compareAndSwap("race/swap", text(`${round}/${i}`), version).then(
            (won) => ({ won, i }),
            (error: unknown) => (error as ObjectError).kind,
          ),
        );
        const outcomes = await Promise.all(racers);
        const winners = outcomes.filter((outcome) => typeof outcome !== "string");
        expect(winners).toHaveLength(1);
        // A server may find that it is too busy to say who won.
        const lost = outcomes.filter(
          (outcome) => outcome === "changed" || outcome === "unavailable",
        );
        expect(lost).toHaveLength(7);
        version = winners[0]!.won;
        const found = await storage.get("race/swap");
        expect(Buffer.from(found.bytes).toString()).toBe(`${round}/${winners[0]!.i}`);
        expect(found.version).toBe(version);
      }
    });

    test("a swap is refused when the object is older, put anew, or gone", async () => {
      const first = await storage.putIfAbsent("swap", text("1"));
      const second = await storage.compareAndSwap("swap", text("2"), first);
      expect(await kindOf(storage.compareAndSwap("swap", text("x"), first))).toBe("changed");
      await storage.put("swap", text("3"));
      expect(await kindOf(storage.compareAndSwap("swap", text("x"), second))).toBe("changed");
      const { version } = await storage.get("swap");
      await storage.deleteMany(["swap"]);
      expect(await kindOf(storage.compareAndSwap("swap", text("x"), version))).toBe("changed");
      const never = "0123456789abcdef0123456789abcdef" as ObjectVersion;
      expect(await kindOf(storage.compareAndSwap("swap/never", text("x"), never))).toBe("changed");
      expect(await kindOf(storage.get("swap"))).toBe("not-found");
    });

    test("ranges: within, over the end, behind the end", async () => {
      await storage.put("range", text("0123456789"));
      const range = async (from: number, length: number): Promise<string> =>
        Buffer.from(await storage.getRange("range", from, length)).toString();
      expect(await range(2, 3)).toBe("234");
      expect(await range(7, 100)).toBe("789");
      expect(await range(10, 5)).toBe("");
      expect(await range(0, 0)).toBe("");
    });

    test("streams: nothing, a little, and more than two parts", async () => {
      for (const bytes of [0, 10, OBJECT_PART_BYTES, 2 * OBJECT_PART_BYTES + 12_345]) {
        const { all, source } = noise(bytes);
        const name = `stream/${bytes}`;
        await storage.putStream(name, source);
        expect((await gather(storage.getStream(name, 0))).equals(all)).toBe(true);
        const from = Math.floor(bytes / 2) + 1;
        const rest = await gather(storage.getStream(name, from));
        expect(rest.equals(all.subarray(from))).toBe(true);
      }
    });

    test("a source that fails leaves what was there", async () => {
      await storage.putStream("failing", noise(100).source);
      const failing: ByteSource = async function* () {
        yield noise(2 * OBJECT_PART_BYTES).all;
        throw new Error("the disk is gone");
      };
      await expect(storage.putStream("failing", failing)).rejects.toThrow("the disk is gone");
      expect((await storage.get("failing")).bytes).toHaveLength(100);
    });

    test("lists are in order, by prefix, and go on behind a name", async () => {
      const names = Array.from({ length: 30 }, (_, i) => `list/${i % 3}/${100 + i}`);
      await Promise.all(names.map((name) => storage.put(name, text(name))));
      const listed: string[] = [];
      for await (const { name, bytes } of listAll(storage, "list/")) {
        listed.push(name);
        expect(bytes).toBe(name.length);
      }
      expect(listed).toEqual([...names].sort());
      const { objects } = await storage.list("list/1/", "list/1/115");
      expect(objects.map(({ name }) => name)).toEqual(
        [...names].sort().filter((name) => name.startsWith("list/1/") && name > "list/1/115"),
      );
      expect((await storage.list("list/none")).objects).toEqual([]);
    });

    test("deleting takes what is there, and does not mind what is not", async () => {
      const version = await storage.putIfAbsent("gone/1", text("1"));
      await storage.compareAndSwap("gone/1", text("2"), version);
      await storage.put("gone/2", text("2"));
      await storage.deleteMany(["gone/1", "gone/2", "gone/3"]);
      expect((await storage.list("gone/")).objects).toEqual([]);
      expect(await kindOf(storage.get("gone/1"))).toBe("not-found");
    });
  });
}
