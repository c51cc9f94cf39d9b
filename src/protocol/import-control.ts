// pg_control of a data directory that is to be imported: which PostgreSQL it is of, and whether
// pages, WAL and state are such that its history can be kept here.

import { MalformedInput } from "../core/assert.ts";
import { Lsn, WAL_PAGE_BYTES, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import { PAGE_BYTES, RELSEG_BLOCKS } from "../core/page.ts";
import { CONTROL_FILE_BYTES, type ControlFile, DB_STATE, readControlFile } from "./control-file.ts";
import { ByteReader } from "./bytes.ts";
import type { PgVersion } from "./wal/format.ts";

/** CATALOG_VERSION_NO: the only field that tells 14, 15 and 16 apart. */
const VERSION_OF_CATALOG: ReadonlyMap<number, PgVersion> = new Map([
  [202107181, 14],
  [202209061, 15],
  [202307071, 16],
  [202406281, 17],
]);
const CATALOG_VERSION_AT = 12;

export interface ImportedControl {
  readonly pgVersion: PgVersion;
  readonly control: ControlFile;
}

/** Reads and checks pg_control. Throws MalformedInput with what is wrong and what would be right. */
export function importControl(
  file: Uint8Array,
  expect: { readonly baseLsn: Lsn; readonly state: "exact" | "fuzzy" },
): ImportedControl {
  if (file.length !== CONTROL_FILE_BYTES) {
    throw new MalformedInput(`pg_control: ${file.length} bytes, expected ${CONTROL_FILE_BYTES}`);
  }
  const catalog = new ByteReader(file, CATALOG_VERSION_AT).u32le("catalog version");
  const pgVersion = VERSION_OF_CATALOG.get(catalog);
  if (pgVersion === undefined) {
    throw new MalformedInput(
      `catalog version ${catalog} is none of PostgreSQL 14 to 17; ` +
        `other versions and development versions are not supported`,
    );
  }
  const control = readControlFile(file, pgVersion);
  const sizes: readonly (readonly [string, number, number])[] = [
    ["page size", control.blockBytes, PAGE_BYTES],
    ["pages of a relation segment", control.segmentBlocks, RELSEG_BLOCKS],
    ["WAL page size", control.walPageBytes, WAL_PAGE_BYTES],
    ["WAL segment size", control.walSegmentBytes, WAL_SEGMENT_BYTES],
    ["maximum alignment", control.maxAlign, 8],
  ];
  for (const [name, found, wanted] of sizes) {
    if (found !== wanted) {
      throw new MalformedInput(`${name} is ${found}; only PostgreSQL's default, ${wanted}, works`);
    }
  }
  checkState(control, expect);
  return { pgVersion, control };
}

function checkState(
  control: ControlFile,
  expect: { readonly baseLsn: Lsn; readonly state: "exact" | "fuzzy" },
): void {
  const { redo } = control.checkPointCopy;
  if (expect.state === "exact") {
    if (control.state !== DB_STATE.SHUTDOWNED || control.checkPoint !== redo) {
      throw new MalformedInput(
        `the cluster was not shut down cleanly (state ${control.state}); start and stop it first`,
      );
    }
    if (redo !== expect.baseLsn) {
      throw new MalformedInput(
        `its last checkpoint is at ${Lsn.format(redo)}, not at ${Lsn.format(expect.baseLsn)}`,
      );
    }
  } else if (redo < expect.baseLsn) {
    // pg_control is copied last, and the backup began with a checkpoint.
    throw new MalformedInput(
      `pg_control is older (${Lsn.format(redo)}) than the backup (${Lsn.format(expect.baseLsn)})`,
    );
  }
}
