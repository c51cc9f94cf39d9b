// How far a timeline's WAL files are known to be good: a note beside them, written after each fsync.
// The note itself is not synced, so it may be old, never too high. WAL that ends before it was damaged
// or removed: to go on there would silently forget commits that were acknowledged.
//
//   durable:   LSN in 16 hex digits, a space, CRC-32C of them in 8 hex digits, a newline

import fs from "node:fs";
import path from "node:path";
import { LSN_INVALID, type Lsn } from "../core/lsn.ts";
import { crc32c } from "../protocol/crc32c.ts";

const NAME = "durable";
const NOTE = /^([0-9a-f]{16}) ([0-9a-f]{8})\n$/;

const hex = (n: number, digits: number): string => n.toString(16).padStart(digits, "0");
const sumOf = (digits: string): string => hex(crc32c(Buffer.from(digits)), 8);

export class DurableFloor {
  readonly path: string;
  private noted: Lsn;
  private fd: number | undefined;

  /** `directory`: of the WAL files. It exists. */
  constructor(directory: string) {
    this.path = path.join(directory, NAME);
    this.noted = read(this.path);
  }

  /** End of a whole record that was durable; LSN_INVALID when nothing is known. */
  get lsn(): Lsn {
    return this.noted;
  }

  /** Whole records up to `lsn` are fsynced. A note that cannot be written stays as it was. */
  raise(lsn: Lsn): void {
    if (lsn <= this.noted) return;
    const digits = hex(lsn, 16);
    const note = Buffer.from(`${digits} ${sumOf(digits)}\n`);
    try {
      this.fd ??= fs.openSync(this.path, fs.constants.O_WRONLY | fs.constants.O_CREAT, 0o600);
      fs.writeSync(this.fd, note, 0, note.length, 0);
      this.noted = lsn;
    } catch {
      // A full disk: the old note still holds.
    }
  }

  close(): void {
    if (this.fd !== undefined) fs.closeSync(this.fd);
    this.fd = undefined;
  }
}

function read(file: string): Lsn {
  let text: string;
  try {
    text = fs.readFileSync(file, "latin1");
  } catch {
    return LSN_INVALID;
  }
  const [, digits, sum] = NOTE.exec(text) ?? [];
  if (digits === undefined || sumOf(digits) !== sum) return LSN_INVALID;
  return parseInt(digits, 16) as Lsn;
}
