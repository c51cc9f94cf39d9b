// Master keys: given by a person, never written anywhere by us. They encrypt tenants' keys and nothing
// else; the last one that is given is the newest and wraps what is new.
//
//   ID:KEY, one a line (in the environment also separated by commas); KEY: 32 bytes as base64 or hex

import fs from "node:fs/promises";
import { KEY_FILE_BYTES_MAX } from "../../core/limits.ts";
import { KEY_BYTES } from "./object-cipher.ts";

/** Master keys that cannot be used; the sentence says where and what is wrong, and shows no key. */
export class MasterKeysUnusable extends Error {
  override readonly name = "MasterKeysUnusable";
}

export interface MasterKey {
  readonly id: string;
  readonly bytes: Uint8Array;
}

export class MasterKeys {
  /** In the order in which they were given. */
  private readonly keys: readonly MasterKey[];

  constructor(keys: readonly MasterKey[]) {
    this.keys = keys;
  }

  /** Undefined: nothing is encrypted. */
  get newest(): MasterKey | undefined {
    return this.keys.at(-1);
  }

  get ids(): readonly string[] {
    return this.keys.map(({ id }) => id);
  }

  find(id: string): MasterKey | undefined {
    return this.keys.find((key) => key.id === id);
  }
}

export const NO_MASTER_KEYS = new MasterKeys([]);

/** `where`: for the message. Throws MasterKeysUnusable. */
export function parseMasterKeys(text: string, where: string): MasterKeys {
  const lines = text.split(/[\n,]/).map((line) => line.trim());
  const keys: MasterKey[] = [];
  lines.forEach((line, i) => {
    if (line === "" || line.startsWith("#")) return;
    const bad = (why: string): MasterKeysUnusable =>
      new MasterKeysUnusable(
        `${where}, key ${i + 1}: ${why}; write ID:KEY with 32 random bytes as base64 or hex, as ` +
          `echo "k1:$(openssl rand -base64 32)" does`,
      );
    const [, id, key] = /^([A-Za-z0-9._-]{1,64}):(\S+)$/.exec(line) ?? [];
    if (id === undefined || key === undefined) throw bad("it is not ID:KEY");
    const bytes = /^[0-9a-fA-F]{64}$/.test(key)
      ? Buffer.from(key, "hex")
      : /^[A-Za-z0-9+/_-]{43}=?$/.test(key)
        ? Buffer.from(key, "base64")
        : undefined;
    if (bytes?.length !== KEY_BYTES) throw bad(`"${id}" is not a key of ${KEY_BYTES} bytes`);
    if (keys.some((other) => other.id === id)) throw bad(`"${id}" is there twice`);
    keys.push({ id, bytes });
  });
  if (keys.length === 0) throw new MasterKeysUnusable(`${where} has no key`);
  return new MasterKeys(keys);
}

/** Reads the file. Throws MasterKeysUnusable. */
export async function readMasterKeys(file: string): Promise<MasterKeys> {
  let text: string;
  try {
    const { mode, size } = await fs.stat(file);
    if ((mode & 0o077) !== 0) {
      throw new MasterKeysUnusable(`${file} can be read by others: chmod 600 ${file}`);
    }
    if (size > KEY_FILE_BYTES_MAX) throw new MasterKeysUnusable(`${file} is no file of keys`);
    text = await fs.readFile(file, "utf8");
  } catch (error) {
    if (error instanceof MasterKeysUnusable) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new MasterKeysUnusable(`the file of master keys cannot be read: ${why}`);
  }
  return parseMasterKeys(text, file);
}
