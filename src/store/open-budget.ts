// Memory that all open and frozen layers of the process share. Each timeline's store reports its
// own. While the budget is exceeded, those who hold the average or more of what is not frozen yet must
// freeze, and nobody takes in WAL while a layer of its own is being sealed. So somebody always can
// go on, whoever else has nothing to freeze: sealing gives memory back, and waiting is only for that.

import { BlockPool } from "../core/arena.ts";
import {
  OPEN_LAYERS_BUDGET_BYTES,
  OPEN_LAYERS_IDLE_BYTES_MAX,
  OPEN_LAYER_BUDGET_BYTES_MIN,
} from "../core/limits.ts";

interface Share {
  readonly open: number;
  readonly frozen: number;
}

const NOTHING: Share = { open: 0, frozen: 0 };

export class OpenBudget {
  readonly bytesMax: number;
  /** Memory of layers that were sealed, for new ones. */
  readonly blocks = new BlockPool(OPEN_LAYERS_IDLE_BYTES_MAX);
  private readonly shares = new Map<object, Share>();
  private open = 0;
  private frozen = 0;

  constructor(bytesMax = OPEN_LAYERS_BUDGET_BYTES) {
    this.bytesMax = bytesMax;
  }

  /** Bytes of all open and frozen layers. */
  get bytes(): number {
    return this.open + this.frozen;
  }

  get exceeded(): boolean {
    return this.bytes >= this.bytesMax;
  }

  /** Sets what `owner` holds now: in its open layer, and in those that wait to be sealed. */
  report(owner: object, open: number, frozen: number): void {
    const old = this.shares.get(owner) ?? NOTHING;
    this.open += open - old.open;
    this.frozen += frozen - old.frozen;
    if (open + frozen === 0) this.shares.delete(owner);
    else this.shares.set(owner, { open, frozen });
  }

  /** True when the budget is exceeded and `owner` is among those whose open layer must go. */
  mustFreeze(owner: object): boolean {
    if (!this.exceeded) return false;
    const { open } = this.shares.get(owner) ?? NOTHING;
    return open >= OPEN_LAYER_BUDGET_BYTES_MIN && open * this.shares.size >= this.open;
  }
}
