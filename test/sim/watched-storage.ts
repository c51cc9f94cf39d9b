// Object storage in memory that watches what is done to it: nothing that a manifest names at that moment is
// deleted, or replaced by other bytes.

import type { ObjectVersion } from "../../src/core/object-storage.ts";
import { MemoryStorage } from "../../src/io/objects/memory.ts";
import { decodeManifest } from "../../src/store/manifest.ts";

const OF_TIMELINE = /^(tenants\/[0-9a-f]+\/timelines\/[0-9a-f]+\/)(.+)$/;

export class WatchedStorage extends MemoryStorage {
  /** What should never happen, as sentences. */
  readonly violations: string[] = [];

  override async put(name: string, bytes: Uint8Array): Promise<ObjectVersion> {
    if (!name.endsWith(".json") && (await this.isNamed(name))) {
      const there = await this.getRange(name, 0, Infinity);
      if (Buffer.compare(there, bytes) !== 0) this.violations.push(`${name} becomes another`);
    }
    return super.put(name, bytes);
  }

  override async deleteMany(names: readonly string[]): Promise<void> {
    for (const name of names) {
      if (await this.isNamed(name)) this.violations.push(`${name} is deleted, though it is named`);
    }
    return super.deleteMany(names);
  }

  private async isNamed(name: string): Promise<boolean> {
    const [, prefix, own] = OF_TIMELINE.exec(name) ?? [];
    if (prefix === undefined || !this.names.includes(`${prefix}manifest.json`)) return false;
    const { bytes } = await this.get(`${prefix}manifest.json`);
    const { layers, wal } = decodeManifest(bytes, prefix);
    return [...layers.map(({ object }) => object!.name), ...wal.map((one) => one.name)].some(
      (named) => named === own,
    );
  }
}
