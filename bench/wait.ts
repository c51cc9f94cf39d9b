// Waiting for what cannot tell, with a bound.

/** Resolves when `ready` says so; looks every few milliseconds. Throws when it takes too long. */
export async function until(ready: () => boolean, msMax = 60_000): Promise<void> {
  const deadline = performance.now() + msMax;
  while (!ready()) {
    if (performance.now() > deadline) throw new Error(`not ready within ${msMax} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The middle one of several numbers (of two middle ones the lower). */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y);
  const middle = sorted[Math.floor((sorted.length - 1) / 2)];
  if (middle === undefined) throw new Error("the median of nothing");
  return middle;
}
