// The walker of one sealed layer's file: every run, its checksum, key order, the links between a key's
// runs, LSN ranges, counts, the filter and the roll. Finds damage before a reader does.

import { KEY_BYTES } from "../core/key.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../core/lsn.ts";
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

/** Reports I4 to I7 where they do not hold in `file`, which the catalog describes as `facts`. */
export function checkLayerFile(file: SealedFile, facts: LayerFacts, report: CheckReport): void {
  const walk = new LayerWalk(file, report);
  try {
    for (const key of file.keys(Buffer.from([0]), Buffer.from([0xff]))) walk.visit(key);
    walk.end();
  } catch (cause) {
    report("I4", file.path, errorText(cause));
    return;
  }
  const { header, path } = file;
  const same = ["firstLsn", "lastLsn", "firstKey", "lastKey", "versions", "kinds"] as const;
  for (const name of same) {
    if (header[name] !== facts[name]) {
      report("I7", path, `${name}: header ${header[name]}, catalog ${facts[name]}`);
    }
  }
}

class LayerWalk {
  private readonly file: SealedFile;
  private readonly report: CheckReport;
  private readonly run = new RunReader();
  private previous: Buffer | undefined;
  /** Newest LSN of the run that must come next; 0: another key's, -1: unknown. */
  private expected = 0;
  private keys = 0;
  private runs = 0;
  private versions = 0;
  private keysCrc = 0;

  constructor(file: SealedFile, report: CheckReport) {
    this.file = file;
    this.report = report;
  }

  visit(key: Buffer): void {
    const { file, run } = this;
    const where = `${file.path}, run ${key.toString("hex")}`;
    this.checkOrder(key, where);
    this.runs++;
    this.keysCrc = crc32c(key, 0, key.length, this.keysCrc);
    const isNewest = key.length === KEY_BYTES;
    if (isNewest) {
      this.keys++;
      if (this.expected > 0) this.report("I5", where, "the key before it lacks an older run");
      this.checkFilter(key, where);
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
    this.checkVersions(where);
  }

  /** What can be said only when all runs have been seen. */
  end(): void {
    const { keys, runs, versions, keysCrc, file } = this;
    if (this.expected > 0) this.report("I5", file.path, "the last key lacks an older run");
    const found = { keys, runs, versions, keysCrc };
    for (const name of ["keys", "runs", "versions", "keysCrc"] as const) {
      const said = file.header[name];
      if (said !== found[name]) {
        this.report("I5", file.path, `${name}: the header says ${said}, found ${found[name]}`);
      }
    }
    const onRoll = file.rollSize(rollBuckets(file.header.keys));
    if (onRoll !== keys) this.report("I6", file.path, `${onRoll} keys on the roll, found ${keys}`);
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

  private checkFilter(key: Buffer, where: string): void {
    const { group, block } = versionKeyOf(key);
    if (!this.file.filter.mayHold(group, block)) {
      this.report("I6", where, "the filter denies the key");
    }
    if (!this.file.isOnRoll(group, block)) this.report("I6", where, "the key is not on the roll");
  }

  private checkVersions(where: string): void {
    const { firstLsn, lastLsn } = this.file.header;
    this.run.visit(LSN_MAX, LSN_INVALID, ({ lsn }) => {
      this.versions++;
      if (lsn < firstLsn || lsn > lastLsn) {
        this.report("I7", where, `version ${lsn} outside ${firstLsn} to ${lastLsn}`);
      }
      return true;
    });
  }
}
