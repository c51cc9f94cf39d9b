// The naive truth of the simulator: every version of every page, size and value in a list, copied
// whole when a branch is made. Too simple to be wrong.

import { WAL_SEGMENT_BYTES } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";

const ZEROS: Uint8Array = new Uint8Array(PAGE_BYTES);

/** Where every history begins: not far from the end of a WAL segment. */
export const BASE_LSN = WAL_SEGMENT_BYTES - 1_000;

interface Timed<T> {
  readonly lsn: number;
  readonly value: T;
}

const at = <T>(list: readonly Timed<T>[] | undefined, lsn: number): T | undefined =>
  list?.findLast((entry) => entry.lsn <= lsn)?.value;

export class Model {
  /** "db/rel" to its sizes; -1: dropped. */
  readonly sizes = new Map<string, Timed<number>[]>();
  /** "db/rel/block" and "slru/block" to contents. */
  readonly pages = new Map<string, Timed<Uint8Array>[]>();
  readonly values = new Map<number, Timed<string | undefined>[]>();
  last = BASE_LSN;

  size(rel: string, lsn: number): number {
    return at(this.sizes.get(rel), lsn) ?? -1;
  }

  page(name: string, lsn: number): Uint8Array {
    return at(this.pages.get(name), lsn) ?? ZEROS;
  }

  value(key: number, lsn: number): string | undefined {
    return at(this.values.get(key), lsn);
  }

  setSize(rel: string, lsn: number, value: number): void {
    push(this.sizes, rel, { lsn, value });
  }

  setPage(name: string, lsn: number, value: Uint8Array): void {
    push(this.pages, name, { lsn, value });
  }

  setValue(key: number, lsn: number, value: string | undefined): void {
    push(this.values, key, { lsn, value });
  }

  /** As of `lsn`, with a life of its own. */
  branch(lsn: number): Model {
    const model = new Model();
    for (const [from, to] of [
      [this.sizes, model.sizes],
      [this.pages, model.pages],
      [this.values, model.values],
    ] as const) {
      for (const [name, list] of from as Map<string, Timed<never>[]>) {
        const kept = list.filter((entry) => entry.lsn <= lsn);
        (to as unknown as Map<string, Timed<never>[]>).set(name, kept);
      }
    }
    model.last = lsn;
    return model;
  }
}

function push<K, T>(map: Map<K, T[]>, name: K, entry: T): void {
  const list = map.get(name);
  if (list === undefined) map.set(name, [entry]);
  else list.push(entry);
}
