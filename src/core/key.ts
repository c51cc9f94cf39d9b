// What a version is a version of: a key. A key is a *group* (kind and up to four numbers: for a
// page its relation fork) and a block number within it. 18 bytes, big-endian, byte order = query
// order; the timeline is not part of it, a layer belongs to one.
//
//   kind:1 | a:4 | b:4 | c:4 | d:1 | block:4   = 18 bytes
//
//   kind       a     b   c      d     block      value
//   PAGE       spc   db  rel    fork  block      page versions
//   REL_SIZE   spc   db  rel    fork  0          u32 LE blocks; tombstone = dropped
//   RELMAP     spc   db  0      0     0          pg_filenode.map; its existence = the database exists
//   DB_COPY    spc   db  0      0     0          where an unchanged page of this database is read: core/db-copy.ts
//   SLRU_PAGE  kind  0   segno  0     block      page versions (native operations and images)
//   SLRU_SIZE  kind  0   segno  0     0          u32 LE blocks; tombstone = segment dropped
//   TWO_PHASE  0     0   xid    0     0          main data of XLOG_XACT_PREPARE; tombstone = finished
//   CONTROL    0     0   0      0     0          pg_control as a 8192-byte file
//   CHECKPOINT 0     0   0      0     0          CheckPoint struct, 88 bytes
//   ORIGIN     0     0   id     0     0          u64 LE remote LSN of a replication origin
//   COMMIT_TIME 0    0   0      0     second     samples of commit time to LSN: core/commit-times.ts
//   BOUNDARY   0     0   high   0     low        starts of the records of one 64 KiB of WAL: core/boundaries.ts

import { assert } from "./assert.ts";

export const KIND = {
  PAGE: 0,
  REL_SIZE: 1,
  RELMAP: 2,
  DB_COPY: 3,
  SLRU_PAGE: 4,
  SLRU_SIZE: 5,
  TWO_PHASE: 6,
  CONTROL: 7,
  CHECKPOINT: 8,
  ORIGIN: 9,
  COMMIT_TIME: 10,
  BOUNDARY: 11,
} as const;
export type Kind = (typeof KIND)[keyof typeof KIND];

export interface Group {
  readonly kind: Kind;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
}

export const KEY_BYTES = 18;
const TWO_32 = 4_294_967_296;

/**
 * Small numbers for groups, so that the hot path can name a key with one double:
 * `groupId * 2^32 + block`. Ids are dense from 0, given on first use, stable while the table lives.
 */
export class GroupTable {
  private readonly groups: Group[] = [];
  // kind,a,b -> index of a scope; then (scope, c, d) -> group id. All products stay below 2^53.
  private readonly scopes = new Map<number, Map<number, Map<number, number>>>();
  private lastA = -1;
  private lastB = -1;
  private lastKind = -1;
  private lastScope: Map<number, number> | undefined;
  private lastCd = -1;
  private lastId = -1;
  private found: Group | undefined;
  private foundId = -1;

  get size(): number {
    return this.groups.length;
  }

  /** The group of an id that this table gave out. */
  group(id: number): Group {
    const group = this.groups[id];
    assert(group !== undefined, `unknown group id ${id}`);
    return group;
  }

  /** The id of a group, given out now if it is new. All fields are unsigned; c up to 32 bits, d up to 8. */
  id(kind: Kind, a: number, b: number, c: number, d: number): number {
    const cd = c * 256 + d;
    if (a !== this.lastA || b !== this.lastB || kind !== this.lastKind) this.scope(kind, a, b);
    else if (cd === this.lastCd) return this.lastId;
    const scope = this.lastScope!;
    let id = scope.get(cd);
    if (id === undefined) {
      id = this.groups.length;
      this.groups.push({ kind, a, b, c, d });
      scope.set(cd, id);
    }
    this.lastCd = cd;
    this.lastId = id;
    return id;
  }

  /** The id of a group if it has one, or -1: for readers, which must not make the table grow. */
  find(group: Group): number {
    if (group === this.found) return this.foundId;
    const { kind, a, b, c, d } = group;
    const id = this.scopes
      .get(kind * TWO_32 + a)
      ?.get(b)
      ?.get(c * 256 + d);
    if (id === undefined) return -1;
    this.found = group;
    return (this.foundId = id);
  }

  private scope(kind: Kind, a: number, b: number): void {
    const first = kind * TWO_32 + a;
    let byB = this.scopes.get(first);
    if (byB === undefined) this.scopes.set(first, (byB = new Map()));
    let scope = byB.get(b);
    if (scope === undefined) byB.set(b, (scope = new Map()));
    this.lastKind = kind;
    this.lastA = a;
    this.lastB = b;
    this.lastScope = scope;
    this.lastCd = -1;
  }
}

/** Order of groups = byte order of their keys. */
export function compareGroups(x: Group, y: Group): number {
  return x.kind - y.kind || x.a - y.a || x.b - y.b || x.c - y.c || x.d - y.d;
}

/** Writes the 18-byte key at `at`. */
export function writeKey(view: DataView, at: number, group: Group, block: number): void {
  view.setUint8(at, group.kind);
  view.setUint32(at + 1, group.a);
  view.setUint32(at + 5, group.b);
  view.setUint32(at + 9, group.c);
  view.setUint8(at + 13, group.d);
  view.setUint32(at + 14, block);
}

/** Reads what writeKey wrote; the caller has checked the length. */
export function readKey(
  view: DataView,
  at: number,
): { readonly group: Group; readonly block: number } {
  return {
    group: {
      kind: view.getUint8(at) as Kind,
      a: view.getUint32(at + 1),
      b: view.getUint32(at + 5),
      c: view.getUint32(at + 9),
      d: view.getUint8(at + 13),
    },
    block: view.getUint32(at + 14),
  };
}
