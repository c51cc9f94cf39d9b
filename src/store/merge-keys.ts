// The keys of several tiers in key order, each once, with the layers that hold it, newest first. Keys
// are read ahead in small lists, so nothing of a file stays open between turns.

import { compareGroups } from "../core/key.ts";
import type { StoredLayer } from "./layer-files.ts";
import type { SealedLayer } from "./layer-map.ts";
import type { VersionKey } from "./run.ts";

const KEYS_AHEAD = 256;

/** One tier: layers whose key ranges do not overlap. */
class TierKeys {
  private readonly layers: readonly StoredLayer[];
  private next = 0;
  private ahead: readonly VersionKey[] = [];
  private at = 0;

  constructor(layers: readonly StoredLayer[]) {
    this.layers = layers;
  }

  /** The layer that `current` lies in. */
  get layer(): StoredLayer {
    return this.layers[this.next]!;
  }

  get current(): VersionKey | undefined {
    while (this.at >= this.ahead.length && this.next < this.layers.length) {
      const last = this.ahead.at(-1);
      this.ahead = this.layer.keysAfter(last, KEYS_AHEAD);
      this.at = 0;
      if (this.ahead.length === 0) this.next++;
    }
    return this.ahead[this.at];
  }

  advance(): void {
    this.at++;
  }
}

const compare = (x: VersionKey, y: VersionKey): number =>
  compareGroups(x.group, y.group) || x.block - y.block;

export interface MergeKey extends VersionKey {
  /** Newest first. */
  readonly layers: readonly StoredLayer[];
}

export class MergeKeys {
  private readonly tiers: readonly TierKeys[];

  /** `tiers` newest first, each in key order. */
  constructor(tiers: readonly (readonly SealedLayer[])[]) {
    this.tiers = tiers.map((tier) => new TierKeys(tier.map(({ layer }) => layer)));
  }

  /** Throws StoreCorrupt. */
  next(): MergeKey | undefined {
    let least: VersionKey | undefined;
    for (const { current } of this.tiers) {
      if (current === undefined) continue;
      if (least === undefined || compare(current, least) < 0) least = current;
    }
    if (least === undefined) return undefined;
    const layers: StoredLayer[] = [];
    for (const tier of this.tiers) {
      const { current } = tier;
      if (current === undefined || compare(current, least) !== 0) continue;
      layers.push(tier.layer);
      tier.advance();
    }
    return { ...least, layers };
  }
}
