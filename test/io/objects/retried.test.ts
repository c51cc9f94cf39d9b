// Retries: what may pass is tried again, what is an answer is given at once, and a write whose answer
// was lost is not mistaken for someone else's.

import { expect, test } from "vitest";
import { probeStorage } from "../../../src/core/backup/probe.ts";
import { ObjectError, type ObjectStorage } from "../../../src/core/object-storage.ts";
import { MemoryStorage } from "../../../src/io/objects/memory.ts";
import { type RetryTimes, withRetries } from "../../../src/io/objects/retried.ts";
import { FaultyStorage } from "../../support/faulty-storage.ts";
import { kindOf, text } from "./conformance.ts";

const QUICK: RetryTimes = { firstMs: 1, mostMs: 2, tries: 4, restMs: 50 };

function world() {
  const memory = new MemoryStorage();
  const faulty = new FaultyStorage(memory);
  const lanes = withRetries(faulty, QUICK);
  return { memory, faulty, lanes, storage: lanes.background };
}

test("what may pass is tried again, and given up after its tries", async () => {
  const { faulty, storage, lanes } = world();
  faulty.next("fail-before", 3);
  await storage.put("a", text("1"));
  expect(lanes.counts.retries).toBe(3);
  faulty.next("fail-before", 4);
  expect(await kindOf(storage.put("a", text("2")))).toBe("unavailable");
  expect(lanes.counts.failures).toBe(1);
});

test("answers are given at once", async () => {
  const { storage, lanes } = world();
  expect(await kindOf(storage.get("a"))).toBe("not-found");
  await storage.putIfAbsent("a", text("1"));
  expect(await kindOf(storage.putIfAbsent("a", text("2")))).toBe("exists");
  expect(lanes.counts).toMatchObject({ retries: 0, failures: 0 });
});

test("a conditional write whose answer was lost counts as ours, another's does not", async () => {
  const { faulty, storage, memory } = world();
  faulty.next("fail-after");
  const first = await storage.putIfAbsent("a", text("ours"));
  expect((await memory.get("a")).version).toBe(first);
  faulty.next("fail-after");
  const second = await storage.compareAndSwap("a", text("ours too"), first);
  expect((await memory.get("a")).version).toBe(second);

  await memory.put("b", text("theirs"));
  faulty.next("fail-before");
  expect(await kindOf(storage.putIfAbsent("b", text("ours")))).toBe("exists");
  const { version } = await memory.get("b");
  await memory.put("b", text("theirs again"));
  faulty.next("fail-before");
  expect(await kindOf(storage.compareAndSwap("b", text("ours"), version))).toBe("changed");
});

test("a back end that is down is left alone for a while, then asked again", async () => {
  const { faulty, storage, lanes } = world();
  faulty.down = true;
  for (let i = 0; i < 5; i++) expect(await kindOf(storage.get("a"))).toBe("unavailable");
  const before = faulty.calls;
  await expect(storage.get("a")).rejects.toThrow("memory is down: ");
  expect(faulty.calls).toBe(before);
  expect(lanes.resting()).toBeDefined();
  faulty.down = false;
  await new Promise((resolve) => setTimeout(resolve, 60));
  await storage.put("a", text("1"));
  expect(lanes.resting()).toBeUndefined();
});

test("a back end that ignores conditions is refused", async () => {
  const memory = new MemoryStorage();
  const lying: ObjectStorage = new Proxy(memory, {
    get: (target, name) => {
      if (name === "putIfAbsent" || name === "compareAndSwap") return target.put.bind(target);
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const refused = probeStorage(lying, "n");
  await expect(refused).rejects.toThrow(
    "memory cannot keep backups safely: it answered a conditional write with success",
  );
  await expect(refused).rejects.toBeInstanceOf(ObjectError);
  expect(memory.names).toEqual([]);
});
