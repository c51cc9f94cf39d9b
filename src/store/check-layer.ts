// The walker of one sealed layer's file, in bounded steps: every run, its checksum, key order, the
// links between a key's runs, LSN ranges, counts, kinds of versions, the filter and the roll. Finds
// damage before a reader does. Holds no cursor between steps: the file may be closed meanwhile.

import { type Group, KEY_BYTES, KIND } from "../core/key.ts";
import { CHECK_RUNS_PER_TURN } from "../core/limits.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../core/lsn.ts";
import { VERSION, type Version, endsChain } from "../core/version.ts";
import { crc32c } from "../protocol/crc32c.ts";
import { rollBuckets } from "./layer-roll.ts";
import type { CheckReport } from "./object-store.ts";
import { RUN_KEY_BYTES, RunReader, versionKeyOf } from "./run.ts";
import type { FileFacts, SealedFile } from "./sealed-file.ts";
import { errorText } from "./store-errors.ts";

/** What must be known of a layer without opening it. */
export interface LayerFacts extends FileFacts {
  readonly firstLsn: Lsn;
  readonly lastLsn: Lsn;
  /** Version keys in hex. */
  readonly firstKey: string;
  readonly lastKey: string;
  readonly versions: number;
  /** Bit n: some key is of kind n. */
  readonly kinds: number;
}

/** A page whose oldest version in the layer needs an older one: I11 says that there is one. */
export type OnOpenChain = (group: Group, block: number, oldest: Lsn) => void;

const KEYS_END = Buffer.from([0xff]);

/** Reports I4 to I7 and I10 where they do not hold in a file. */
export class LayerCheck {
  private readonly facts: LayerFacts;
  private readonly report: CheckReport;
  private readonly onOpenChain: OnOpenChain;
  private readonly run = new RunReader();
  private previous: Buffer | undefined;
  /** Newest LSN of the run that must come next; 0: another key's, -1: unknown. */
  private expected = 0;
  private keys = 0;
  private runs = 0;
  private versions = 0;
  private keysCrc = 0;

  constructor(facts: LayerFacts, report: CheckReport, onOpenChain: OnOpenChain) {
    this.facts = facts;
    this.report = report;
    this.onOpenChain = onOpenChain;
  }

  /** Checks some runs of the file; false when it was the last step. Throws nothing. */
  step(open: () => SealedFile): boolean {
    let path = "";
    try {
      const file = open();
      path = file.path;
      const { previous } = this;
      // One byte more than the last key: the next key.
      const start = previous === undefined ? Buffer.from([0]) : Buffer.concat([previous, ZERO]);
      let seen = 0;
      for (const key of file.keys(start, KEYS_END, CHECK_RUNS_PER_TURN)) {
        this.visit(file, key);
        seen++;
      }
      if (seen === CHECK_RUNS_PER_TURN) return true;
      this.end(file);
    } catch (cause) {
      this.report("I4", path, errorText(cause));
    }
    return false;
  }

  private visit(file: SealedFile, key: Buffer): void {
    const { run } = this;
    const where = `${file.path}, run ${key.toString("hex")}`;
    this.checkOrder(key, where);
    this.runs++;
    this.keysCrc = crc32c(key, 0, key.length, this.keysCrc);
    const isNewest = key.length === KEY_BYTES;
    if (isNewest) {
      this.keys++;
      if (this.expected > 0) this.report("I5", where, "the key before it lacks an older run");
      this.checkFilter(file, key, where);
    }
    const value = file.get(key);
    if (value === undefined) return this.report("I5", where, "listed but not found");
    try {
      run.open(key, value.view, value.bytes, value.length, file.path);
    } catch (cause) {
      this.report("I4", where, errorText(cause));
      this.expected = -1;
      return;
    }
    if (!isNewest && this.expected !== -1 && run.newestLsn !== this.expected) {
      this.report("I5", where, `the newer run announced ${this.expected}`);
    }
    this.expected = run.olderLsn;
    this.checkVersions(key, where);
  }

  /** What can be said only when all runs have been seen. */
  private end(file: SealedFile): void {
    const { keys, runs, versions, keysCrc, facts } = this;
    const { header, path } = file;
    if (this.expected > 0) this.report("I5", path, "the last key lacks an older run");
    const found = { keys, runs, versions, keysCrc };
    for (const name of ["keys", "runs", "versions", "keysCrc"] as const) {
      if (header[name] !== found[name]) {
        this.report("I5", path, `${name}: the header says ${header[name]}, found ${found[name]}`);
      }
    }
    const onRoll = file.rollSize(rollBuckets(header.keys));
    if (onRoll !== keys) this.report("I6", path, `${onRoll} keys on the roll, found ${keys}`);
    const same = ["firstLsn", "lastLsn", "firstKey", "lastKey", "versions", "kinds"] as const;
    for (const name of same) {
      if (header[name] !== facts[name]) {
        this.report("I7", path, `${name}: header ${header[name]}, catalog ${facts[name]}`);
      }
    }
  }

  private checkOrder(key: Buffer, where: string): void {
    const { previous } = this;
    if (key.length !== KEY_BYTES && key.length !== RUN_KEY_BYTES) {
      this.report("I5", where, `a key of ${key.length} bytes`);
    }
    if (previous !== undefined && Buffer.compare(previous, key) >= 0) {
      this.report("I5", where, "keys are not in order");
    }
    const sameKey =
      previous !== undefined && previous.compare(key, 0, KEY_BYTES, 0, KEY_BYTES) === 0;
    if (key.length === RUN_KEY_BYTES && !sameKey) {
      this.report("I5", where, "an older run without a newest one");
    }
    this.previous = key;
  }

  private checkFilter(file: SealedFile, key: Buffer, where: string): void {
    const { group, block } = versionKeyOf(key);
    if (!file.filter.mayHold(group, block)) this.report("I6", where, "the filter denies the key");
    if (!file.isOnRoll(group, block)) this.report("I6", where, "the key is not on the roll");
  }

  private checkVersions(key: Buffer, where: string): void {
    const { group, block } = versionKeyOf(key);
    const { firstLsn, lastLsn } = this.facts;
    let ends = false;
    let oldest: Lsn = LSN_INVALID;
    this.run.visit(LSN_MAX, LSN_INVALID, (version) => {
      const { lsn, type, flags } = version;
      this.versions++;
      if (lsn < firstLsn || lsn > lastLsn) {
        this.report("I7", where, `version ${lsn} outside ${firstLsn} to ${lastLsn}`);
      }
      const wrong = wrongVersion(group, version);
      if (wrong !== undefined) this.report("I10", where, `${wrong} at ${lsn}`);
      oldest = lsn;
      ends = endsChain(type, flags);
      return true;
    });
    if (this.run.olderLsn === 0 && !ends) this.onOpenChain(group, block, oldest);
  }
}

const ZERO = Buffer.from([0]);

/** What is wrong with a version of this type under a key of this kind (I10). */
function wrongVersion(group: Group, { type, length }: Version): string | undefined {
  switch (group.kind) {
    case KIND.PAGE:
      if (type === VERSION.VALUE || type === VERSION.TOMBSTONE) return `a page has type ${type}`;
      return undefined;
    case KIND.SLRU_PAGE:
      if (type === VERSION.IMAGE || type === VERSION.OP) return undefined;
      return `an SLRU page has type ${type}`;
    default:
      if (type === VERSION.TOMBSTONE) return undefined;
      if (type !== VERSION.VALUE) return `metadata has type ${type}`;
      if (isSize(group) && length !== 4) return `a size of ${length} bytes`;
      return undefined;
  }
}

const isSize = ({ kind }: Group): boolean => kind === KIND.REL_SIZE || kind === KIND.SLRU_SIZE;
