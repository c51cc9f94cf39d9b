// Runs whose checksum was compared a short while ago: reading them again need not do it again, which
// is half of what reading a page costs. A table of fixed size; what is pushed out is compared again,
// and so is everything after forget(), so that a disk that goes bad is noticed.

const SLOTS = 1 << 19;
const TWO_32 = 4_294_967_296;

export class TrustedRuns {
  // By slot: file and group, and block, as one number; 0: empty.
  private slots = new Float64Array(0);
  private scopesMade = 0;

  /** A number that stands for one group in one opened file. */
  newScope(): number {
    return ++this.scopesMade;
  }

  has(scope: number, block: number): boolean {
    return this.slots[slotOf(scope, block)] === scope * TWO_32 + block;
  }

  add(scope: number, block: number): void {
    if (this.slots.length === 0) this.slots = new Float64Array(SLOTS);
    this.slots[slotOf(scope, block)] = scope * TWO_32 + block;
  }

  forget(): void {
    this.slots.fill(0);
  }
}

// Neighbouring blocks lie in neighbouring slots.
const slotOf = (scope: number, block: number): number =>
  (Math.imul(scope, 0x9e3779b1) + block) & (SLOTS - 1);
