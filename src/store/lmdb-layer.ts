// A sealed layer: one LMDB file of runs (run.ts), opened when it is read and closed when others are
// needed more. Its file name, size and ranges come from the catalog, so that most layers say "not
// here" without being opened.

import { assert } from "../core/assert.ts";
import { type Group, KEY_BYTES, compareGroups, writeKey } from "../core/key.ts";
import { LSN_INVALID, type Lsn } from "../core/lsn.ts";
import { LayerCheck, type LayerFacts, type OnOpenChain } from "./check-layer.ts";
import type {
  CheckReport,
  KeyVisitor,
  Layer,
  LayerCursor,
  VersionVisitor,
} from "./object-store.ts";
import { readCounts } from "./read-counts.ts";
import { RUN_KEY_BYTES, RunKey, RunReader, type VersionKey, versionKeyOf } from "./run.ts";
import type { OpenFiles, SealedFile } from "./sealed-file.ts";
import { StoreCorrupt } from "./store-errors.ts";

/** Reads of a layer after which its file counts as recently used. */
const READS_A_TOUCH = 64;

// Reads never nest (a visitor reads no layer), so these serve all layers.
const key = new RunKey();
const run = new RunReader();

export class LmdbLayer implements Layer {
  readonly path: string;
  readonly firstLsn: Lsn;
  readonly lastLsn: Lsn;
  readonly versions: number;
  private readonly facts: LayerFacts;
  private readonly files: OpenFiles;
  private readonly firstKey: VersionKey;
  private readonly lastKey: VersionKey;
  private file: SealedFile | undefined;
  /** What a read met in the file that is open. */
  private met: string | undefined;
  reads = 0;

  constructor(path: string, facts: LayerFacts, files: OpenFiles) {
    this.path = path;
    this.facts = facts;
    this.files = files;
    this.firstLsn = facts.firstLsn;
    this.lastLsn = facts.lastLsn;
    this.versions = facts.versions;
    this.firstKey = keyOfHex(facts.firstKey);
    this.lastKey = keyOfHex(facts.lastKey);
  }

  get damage(): string | undefined {
    return this.met ?? this.files.damageOf(this.path);
  }

  distrust(reason: string): void {
    try {
      this.open();
    } catch (cause) {
      if (!(cause instanceof StoreCorrupt)) throw cause; // as a whole: the files know
    }
    this.met = reason;
  }

  visit(group: Group, block: number, at: Lsn, floor: Lsn, visitor: VersionVisitor): boolean {
    if (at < this.firstLsn || floor >= this.lastLsn) return true;
    if (compareKeys(group, block, this.firstKey) < 0) return true;
    if (compareKeys(group, block, this.lastKey) > 0) return true;
    const file = this.open();
    if (!file.filter.mayHold(group, block)) return true;
    readCounts.layers++;
    key.set(group, block);
    try {
      return visitRuns(file, group, block, at, floor, visitor);
    } catch (cause) {
      if (cause instanceof StoreCorrupt && cause.what === this.path) this.met = cause.reason;
      throw cause;
    }
  }

  scan(kind: number, a: number | undefined, b: number | undefined, each: KeyVisitor): void {
    if ((this.facts.kinds & (1 << kind)) === 0) return;
    // Listed before anyone is called back: a visitor may read layers, this one included.
    const found = [...versionKeys(this.open(), kind, a, a === undefined ? undefined : b)];
    for (const { group, block } of found) {
      if (b === undefined || group.b === b) each(group, block);
    }
  }

  cursor(): LayerCursor {
    return new LmdbCursor(this.open());
  }

  /** Up to `limit` keys in key order, from the first behind `after` on. */
  keysAfter(after: VersionKey | undefined, limit: number): readonly VersionKey[] {
    const found: VersionKey[] = [];
    const from = after ?? this.firstKey;
    key.set(from.group, from.block);
    const start = Buffer.from(key.newest);
    for (const at of this.open().keys(start, Buffer.from([0xff]))) {
      if (at.length !== KEY_BYTES) continue;
      if (after !== undefined && at.equals(start)) continue;
      if (found.push(versionKeyOf(at)) >= limit) break;
    }
    return found;
  }

  check(report: CheckReport): void {
    const step = this.beginCheck(report, () => {});
    while (step());
  }

  /** `check` in bounded steps: the function answers false when it was the last. */
  beginCheck(report: CheckReport, onOpenChain: OnOpenChain): () => boolean {
    const check = new LayerCheck(this.facts, report, onOpenChain);
    return () => check.step(() => this.open());
  }

  /** Valid until the next call. */
  private open(): SealedFile {
    const { file } = this;
    this.reads++;
    // Which files are in use is told now and then, not with every page.
    if (file?.isUsable === true && this.reads % READS_A_TOUCH !== 0) return file;
    const opened = this.files.get(this.path, this.facts);
    if (opened !== file) this.met = undefined;
    return (this.file = opened);
  }
}

/** `key` is set. From the key's newest run to older ones, by exact gets, with at most one seek. */
function visitRuns(
  file: SealedFile,
  group: Group,
  block: number,
  at: Lsn,
  floor: Lsn,
  visitor: VersionVisitor,
): boolean {
  let runKey = key.newest;
  for (let first = true; ; first = false) {
    const value = file.get(runKey);
    if (value === undefined) {
      // The filter may have been wrong; the roll is not.
      if (first && !file.isOnRoll(group, block)) return true;
      throw new StoreCorrupt(file.path, `a run of ${key.newest.toString("hex")} is missing`);
    }
    // Only of newest runs it is kept whether they are trusted; others are rarely read.
    const trusted = first && file.isTrusted(group, block);
    run.open(runKey, value.view, value.bytes, value.length, file.path, trusted);
    if (first && !trusted) file.trust(group, block);
    const { olderLsn } = run;
    if (first && olderLsn > at) {
      // Far in the past of a busy key: the run that has `at` or the versions just above it.
      const near = file.keyAtOrBelow(key.older(at), key.newest);
      if (near === undefined) throw new StoreCorrupt(file.path, "an older run is missing");
      runKey = near;
      continue;
    }
    const outcome = run.visit(at, floor, visitor);
    if (outcome === "stopped") return false;
    if (outcome === "floor" || olderLsn === 0 || olderLsn <= floor) return true;
    runKey = key.older(olderLsn);
  }
}

function keyOfHex(hex: string): VersionKey {
  const bytes = Buffer.from(hex, "hex");
  assert(bytes.length === KEY_BYTES, "a version key has 18 bytes");
  return versionKeyOf(bytes);
}

const compareKeys = (group: Group, block: number, other: VersionKey): number =>
  compareGroups(group, other.group) || block - other.block;

/** Version keys (those of newest runs) that begin with kind, a, b. */
function* versionKeys(
  file: SealedFile,
  kind: number,
  a: number | undefined,
  b: number | undefined,
): Generator<VersionKey> {
  const bounds = [0, 0xffff_ffff].map((rest) => {
    const bound = Buffer.alloc(RUN_KEY_BYTES, rest & 0xff);
    const group = { kind, a: a ?? rest, b: b ?? rest, c: rest, d: rest & 0xff } as Group;
    writeKey(new DataView(bound.buffer, bound.byteOffset), 0, group, rest);
    return bound;
  });
  const start = bounds[0]!.subarray(0, KEY_BYTES);
  for (const found of file.keys(start, bounds[1]!)) {
    if (found.length === KEY_BYTES) yield versionKeyOf(found);
  }
}

class LmdbCursor implements LayerCursor {
  group: Group = { kind: 0, a: 0, b: 0, c: 0, d: 0 };
  block = 0;
  private readonly file: SealedFile;
  private readonly keys: Iterator<Buffer>;

  constructor(file: SealedFile) {
    this.file = file;
    const all = file.keys(Buffer.from([0]), Buffer.from([0xff]));
    this.keys = all[Symbol.iterator]();
  }

  next(): boolean {
    for (;;) {
      const { done, value } = this.keys.next();
      if (done === true) return false;
      if (value.length !== KEY_BYTES) continue;
      ({ group: this.group, block: this.block } = versionKeyOf(value));
      return true;
    }
  }

  visit(at: Lsn, visitor: VersionVisitor): boolean {
    key.set(this.group, this.block);
    return visitRuns(this.file, this.group, this.block, at, LSN_INVALID, visitor);
  }
}
