// Which layers are fetched after an attach before anybody asks: those that were read most, as far as the
// budget goes.

export interface WarmLayer {
  readonly bytes: number;
  readonly heat: number;
}

/** Hottest first. One that does not fit is left out; smaller ones may still. */
export function planWarmUp<L extends WarmLayer>(
  layers: readonly L[],
  budgetBytes: number,
): readonly L[] {
  const hot = layers.filter(({ heat }) => heat > 0);
  hot.sort((x, y) => y.heat - x.heat || x.bytes - y.bytes);
  let left = budgetBytes;
  return hot.filter(({ bytes }) => {
    if (bytes > left) return false;
    left -= bytes;
    return true;
  });
}
