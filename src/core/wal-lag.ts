// For how long a source has had WAL that we have not. The ends of its WAL that it told are kept with the
// time when they were heard, until they are reached: behind since the first one beyond a position.

import { LAG_SAMPLES_MAX, LAG_SAMPLE_MS } from "./limits.ts";
import type { Lsn } from "./lsn.ts";

/** The end of a source's WAL, as heard at a time, ms. */
export interface EndHeard {
  readonly atMs: number;
  readonly end: Lsn;
}

/** `heard`, oldest first, without what is reached and with one more if it says something new. */
export function hearEnd(
  heard: readonly EndHeard[],
  next: EndHeard,
  reached: Lsn,
): readonly EndHeard[] {
  const open = heard.findIndex(({ end }) => end > reached);
  const left = open < 0 ? [] : open === 0 ? heard : heard.slice(open);
  const last = left.at(-1);
  const news = last === undefined || next.end > last.end;
  if (next.end <= reached || !news) return left;
  if (last !== undefined && next.atMs - last.atMs < LAG_SAMPLE_MS) return left;
  // Every second one tells the time just half as finely.
  const kept = left.length < LAG_SAMPLES_MAX ? left : left.filter((_, i) => i % 2 === 0);
  return [...kept, next];
}

/** How long there has been WAL beyond `position`, ms; 0: there is none that we heard of. */
export function behindMs(heard: readonly EndHeard[], position: Lsn, nowMs: number): number {
  const first = heard.find(({ end }) => end > position);
  return first === undefined ? 0 : Math.max(0, nowMs - first.atMs);
}
