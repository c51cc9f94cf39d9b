// Memory that all open and frozen layers of the process share. Each timeline's store reports its
// own; whoever takes in WAL stops reading sockets while it is exceeded.

import { OPEN_LAYERS_BUDGET_BYTES } from "../core/limits.ts";

export class OpenBudget {
  readonly bytesMax: number;
  private readonly shares = new Map<object, number>();
  private used = 0;

  constructor(bytesMax = OPEN_LAYERS_BUDGET_BYTES) {
    this.bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.used;
  }

  get exceeded(): boolean {
    return this.used >= this.bytesMax;
  }

  /** Sets what `owner` holds now; 0 when it goes. */
  report(owner: object, bytes: number): void {
    this.used += bytes - (this.shares.get(owner) ?? 0);
    if (bytes === 0) this.shares.delete(owner);
    else this.shares.set(owner, bytes);
  }

  /** True when no one holds more than `owner`: it is the one to freeze. */
  isLargest(owner: object): boolean {
    const own = this.shares.get(owner) ?? 0;
    for (const bytes of this.shares.values()) if (bytes > own) return false;
    return true;
  }
}
