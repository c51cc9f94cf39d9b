// Which LSNs a key is read at, below the cutoff: what a merge must carry of it. A block that lies past
// its relation's end at an LSN is not read there (it is zeros), so dropped relations go.

import { decodeDbCopy } from "../core/db-copy.ts";
import { type Group, KIND } from "../core/key.ts";
import { WAL_RECORD_BYTES_MAX } from "../core/limits.ts";
import { LSN_INVALID, LSN_MAX, Lsn } from "../core/lsn.ts";
import { VERSION } from "../core/version.ts";
import { MISSING, type Relations } from "./relations.ts";
import type { VersionStore } from "./version-store.ts";

/** What must stay readable on a timeline. */
export interface Retained {
  readonly cutoff: Lsn;
  /** LSNs below the cutoff. */
  readonly pins: readonly Lsn[];
}

/** How a key is kept: see Keeper.begin. */
export interface KeyKeep {
  readonly cutoff: Lsn;
  readonly cutoffNeeded: boolean;
  readonly pins: readonly Lsn[];
}

interface CopySource {
  readonly spc: number;
  readonly db: number;
  readonly lsn: Lsn;
}

export class KeepRules {
  private readonly retained: Retained;
  private readonly relations: Relations;
  /** The cutoff and the pins below it, descending. */
  private readonly points: readonly Lsn[];
  private readonly copies: readonly CopySource[];
  private group: Group | undefined;
  private sizes: readonly number[] = [];

  constructor(store: VersionStore, relations: Relations, retained: Retained) {
    const { cutoff } = retained;
    const pins = [...new Set(retained.pins)].filter((lsn) => lsn < cutoff).sort((x, y) => y - x);
    this.retained = { cutoff, pins };
    this.relations = relations;
    this.points = [cutoff, ...pins];
    this.copies = copySources(store, cutoff);
  }

  get cutoff(): Lsn {
    return this.retained.cutoff;
  }

  /** Pins below the cutoff, descending. */
  get pins(): readonly Lsn[] {
    return this.retained.pins;
  }

  of(group: Group, block: number): KeyKeep {
    const { cutoff, pins } = this.retained;
    switch (group.kind) {
      case KIND.PAGE:
      case KIND.SLRU_PAGE: {
        const sizes = this.sizesOf(group);
        const live = pins.filter((_, i) => block < sizes[i + 1]!);
        const copied = group.kind === KIND.PAGE ? this.copied(group) : [];
        const all = copied.length === 0 ? live : descending([...live, ...copied]);
        return { cutoff, cutoffNeeded: block < sizes[0]!, pins: all };
      }
      case KIND.DB_COPY:
        return { cutoff, cutoffNeeded: true, pins: descending([...pins, ...this.copied(group)]) };
      case KIND.BOUNDARY: {
        // To find the start of a record at an LSN, one looks back as far as the longest one.
        const window = Lsn.fromParts(group.c, block);
        const near = (lsn: Lsn): boolean =>
          window <= lsn && lsn - window <= 2 * WAL_RECORD_BYTES_MAX;
        return { cutoff, cutoffNeeded: near(cutoff), pins: pins.filter(near) };
      }
      case KIND.COMMIT_TIME: {
        // Seconds that passed below everything that is readable tell nothing any more.
        const lowest = pins.at(-1) ?? cutoff;
        const below = Math.max(lowest - 1, 0) as Lsn;
        return { cutoff: below, cutoffNeeded: false, pins: [] };
      }
      default:
        return { cutoff, cutoffNeeded: true, pins };
    }
  }

  /** Blocks of a relation fork or SLRU segment at the cutoff and at each pin; MISSING is less than any block. */
  private sizesOf(group: Group): readonly number[] {
    const known = this.group;
    const same =
      known !== undefined &&
      known.kind === group.kind &&
      known.a === group.a &&
      known.b === group.b &&
      known.c === group.c &&
      known.d === group.d;
    if (same) return this.sizes;
    this.group = group;
    const { relations } = this;
    const { a, b, c, d } = group;
    this.sizes = this.points.map((at) => {
      if (at === LSN_INVALID) return MISSING;
      return group.kind === KIND.PAGE
        ? relations.relSize({ spc: a, db: b, rel: c, fork: d }, at)
        : relations.slruSize(a, c, at);
    });
    return this.sizes;
  }

  private copied(group: Group): readonly Lsn[] {
    const own = this.copies.filter(({ spc, db }) => spc === group.a && db === group.b);
    return own.map(({ lsn }) => lsn);
  }
}

const descending = (lsns: readonly Lsn[]): readonly Lsn[] =>
  [...new Set(lsns)].sort((x, y) => y - x);

/** Databases that others are copies of, and the LSNs of the copies: pages are read there. */
function copySources(store: VersionStore, cutoff: Lsn): readonly CopySource[] {
  const keys: Group[] = [];
  store.scan(KIND.DB_COPY, undefined, undefined, (group) => keys.push(group));
  const copies: CopySource[] = [];
  for (const group of keys) {
    store.visit(group, 0, LSN_MAX, LSN_INVALID, ({ type, bytes, start, length }) => {
      if (type !== VERSION.VALUE) return true;
      const { srcSpc, srcDb, lsn } = decodeDbCopy(bytes.subarray(start, start + length));
      if (lsn < cutoff) copies.push({ spc: srcSpc, db: srcDb, lsn });
      return true;
    });
  }
  return copies;
}
