// Makes WAL segment files from pieces that came from elsewhere: each at its place, zeros between, full
// size, as wal-files.ts reads them. Nothing may use them before end().

import fs from "node:fs";
import path from "node:path";
import { type Lsn, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import { syncEntries } from "./data-dir.ts";
import { writeError } from "./store-errors.ts";

const NAME = /(?:^|\/)([0-9A-F]{24})(?:\.|$)/;

export class WalRestore {
  private readonly directory: string;
  private readonly files = new Map<string, number>();

  constructor(directory: string) {
    this.directory = directory;
  }

  /** `name`: of the object; a segment's name is in it. Throws StoreFull, StoreFailed. */
  put(
    piece: { readonly name: string; readonly kind: "part" | "segment"; readonly from: Lsn },
    bytes: Uint8Array,
  ): void {
    const segment = NAME.exec(piece.name)?.[1] ?? piece.name;
    const file = path.join(this.directory, path.basename(segment));
    try {
      let fd = this.files.get(file);
      if (fd === undefined) {
        fd = fs.openSync(file, "w", 0o600);
        this.files.set(file, fd);
        fs.ftruncateSync(fd, WAL_SEGMENT_BYTES);
      }
      const offset = piece.kind === "segment" ? 0 : piece.from % WAL_SEGMENT_BYTES;
      fs.writeSync(fd, bytes, 0, bytes.length, offset);
    } catch (cause) {
      throw writeError(file, "writing", cause);
    }
  }

  /** All of it is on disk when this returns. */
  end(): void {
    for (const [file, fd] of this.files) {
      try {
        fs.fsyncSync(fd);
        fs.closeSync(fd);
      } catch (cause) {
        throw writeError(file, "syncing", cause);
      }
    }
    this.files.clear();
    syncEntries(this.directory);
  }
}
