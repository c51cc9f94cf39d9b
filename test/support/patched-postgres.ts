// PostgreSQL server programs that differ from the installed one in a few bytes: of another version, or
// compiled so that it calls a function of the storage manager directly.

import fs from "node:fs";
import path from "node:path";
import { PG_BIN } from "./postgres.ts";

const SECTION = { dynsym: 11 };
const SYMBOL_BYTES = 24;
const X64_JUMP_BYTES = 5;

interface Section {
  readonly type: number;
  readonly address: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
}

/** Sections of a 64-bit little-endian ELF file. */
function sectionsOf(file: Buffer): readonly Section[] {
  const start = Number(file.readBigUInt64LE(40));
  const [bytes, count] = [file.readUInt16LE(58), file.readUInt16LE(60)];
  return Array.from({ length: count }, (_, i) => {
    const at = start + i * bytes;
    return {
      type: file.readUInt32LE(at + 4),
      address: Number(file.readBigUInt64LE(at + 16)),
      offset: Number(file.readBigUInt64LE(at + 24)),
      size: Number(file.readBigUInt64LE(at + 32)),
      link: file.readUInt32LE(at + 40),
    };
  });
}

/** Where the program exports a function, as an address. */
function addressOf(file: Buffer, sections: readonly Section[], wanted: string): number {
  const symbols = sections.find(({ type }) => type === SECTION.dynsym)!;
  const names = sections[symbols.link]!.offset;
  for (let at = symbols.offset; at < symbols.offset + symbols.size; at += SYMBOL_BYTES) {
    const name = names + file.readUInt32LE(at);
    if (file.toString("latin1", name, name + wanted.length + 1) === `${wanted}\0`) {
      return Number(file.readBigUInt64LE(at + 8));
    }
  }
  throw new Error(`the server exports no ${wanted}`);
}

function offsetOf(sections: readonly Section[], address: number): number {
  const one = sections.find((s) => address >= s.address && address < s.address + s.size);
  return one!.offset + address - one!.address;
}

/** A copy of the server's program in `dir`, changed; its path. */
function patched(dir: string, change: (file: Buffer) => void): string {
  const copy = path.join(dir, "postgres");
  const file = fs.readFileSync(path.join(PG_BIN, "postgres"));
  change(file);
  fs.writeFileSync(copy, file, { mode: 0o755 });
  return copy;
}

/** It calls `to` where `from` would look into the storage manager's table. x86-64 only. */
export const foldedServer = (dir: string, from: string, to: string): string =>
  patched(dir, (file) => {
    const sections = sectionsOf(file);
    const [source, target] = [addressOf(file, sections, from), addressOf(file, sections, to)];
    const at = offsetOf(sections, source);
    file[at] = 0xe9;
    file.writeInt32LE(target - (source + X64_JUMP_BYTES), at + 1);
  });

/** It says that it is version `to`, where the installed one is `from`: both as server_version_num is. */
export const serverOfVersion = (dir: string, from: number, to: number): string =>
  patched(dir, (file) => {
    const wanted = Buffer.alloc(4);
    wanted.writeUInt32LE(from);
    for (let at = file.indexOf(wanted); at >= 0; at = file.indexOf(wanted, at + 1)) {
      file.writeUInt32LE(to, at);
    }
  });
