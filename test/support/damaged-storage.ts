// Damage to objects as it happens: bytes flipped, objects gone, and objects that nobody names.

import type { ObjectStorage } from "../../src/core/object-storage.ts";
import { listAll } from "../../src/core/object-storage.ts";

/** Names below `prefix`, in order. */
export async function namesOf(storage: ObjectStorage, prefix = ""): Promise<readonly string[]> {
  const names: string[] = [];
  for await (const { name } of listAll(storage, prefix)) names.push(name);
  return names;
}

/** The first name that has `part` in it. */
export async function nameWith(storage: ObjectStorage, part: string): Promise<string> {
  const name = (await namesOf(storage)).find((one) => one.includes(part));
  if (name === undefined) throw new Error(`no object has "${part}" in its name`);
  return name;
}

/** Flips a bit of the byte at `at`, from the end if negative. */
export async function flip(storage: ObjectStorage, name: string, at: number): Promise<void> {
  const bytes = Uint8Array.from((await storage.get(name)).bytes);
  const index = at < 0 ? bytes.length + at : at;
  bytes[index]! ^= 0x10;
  await storage.put(name, bytes);
}
