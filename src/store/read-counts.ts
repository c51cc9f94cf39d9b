// What reading costs, counted in plain numbers: the reader takes the difference before and after.

/** Of this process. */
export const readCounts = {
  /** Layers, in memory or sealed, into which a lookup of a key has looked: what filters and ranges ruled out is not one. */
  layers: 0,
};
