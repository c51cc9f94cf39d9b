// What the time slider runs over, and how a moment is written. Pure.

/** The slider's steps, seconds: whole seconds, as people remember them. */
export interface MomentRange {
  readonly minS: number;
  readonly maxS: number;
}

/**
 * From the oldest commit that can be read (undefined: none is known below the cutoff) or the timeline's
 * making, whichever is later, to now. At least one second long.
 */
export function momentRange(
  createdMs: number,
  oldestCommitMs: number | undefined,
  nowMs: number,
): MomentRange {
  const from = Math.max(createdMs, oldestCommitMs ?? createdMs);
  // The second in which it was made has moments before it was: begin with the next.
  const minS = Math.ceil(from / 1000);
  return { minS, maxS: Math.max(minS + 1, Math.floor(nowMs / 1000)) };
}

/** Local time for `<input type="datetime-local" step="1">`. */
export function localText(seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (n: number): string => String(n).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day}T${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** The other way round; undefined: not a time. */
export function localSeconds(text: string): number | undefined {
  const ms = new Date(text).getTime();
  return Number.isNaN(ms) ? undefined : Math.floor(ms / 1000);
}
