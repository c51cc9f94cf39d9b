import fs from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Lsn, WAL_SEGMENT_BYTES } from "../../src/core/lsn.ts";
import type { StoreFailed } from "../../src/store/store-errors.ts";
import { StoreFull } from "../../src/store/store-errors.ts";
import { WalFiles, segmentName } from "../../src/store/wal-files.ts";
import { inScratch } from "./scratch.ts";

const SEGMENT = WAL_SEGMENT_BYTES;

interface Opened {
  readonly wal: WalFiles;
  readonly durables: number[];
  readonly fatal: StoreFailed[];
}

function openWal(directory: string, start: number, tli = 1): Opened {
  const durables: number[] = [];
  const fatal: StoreFailed[] = [];
  const wal = new WalFiles({
    directory,
    tli,
    start: start as Lsn,
    onDurable: (lsn) => durables.push(lsn),
    onFatal: (error) => fatal.push(error),
  });
  return { wal, durables, fatal };
}

/** WAL whose every byte follows from its LSN, never zero. */
const walAt = (lsn: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => ((lsn + i) % 251) + 1);

async function readAll(wal: WalFiles): Promise<{ start: number; bytes: Buffer }> {
  const pieces: Uint8Array[] = [];
  let start = -1;
  let next = -1;
  for await (const { at, bytes } of wal.read()) {
    if (start < 0) start = at;
    else expect(at).toBe(next);
    next = at + bytes.length;
    pieces.push(bytes);
  }
  return { start, bytes: Buffer.concat(pieces) };
}

/** Length of what was written by walAt at the start of `bytes`. */
function wholeLength(bytes: Uint8Array, start: number): number {
  let length = 0;
  while (length < bytes.length && bytes[length] === ((start + length) % 251) + 1) length++;
  return length;
}

test("file names are PostgreSQL's", () => {
  expect(segmentName(1, 1)).toBe("000000010000000000000001");
  expect(segmentName(0x1a, 0x3_45ff)).toBe("0000001A00000345000000FF");
});

test("what was appended is read again after a crash, across segments, and ends where settle says", () =>
  fc.assert(
    fc.asyncProperty(
      // Near a segment's end, so that appends cross it.
      fc.integer({ min: 1, max: 60_000 }),
      fc.array(fc.integer({ min: 1, max: 30_000 }), { minLength: 1, maxLength: 6 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (before, sizes, part) =>
        inScratch(async (directory) => {
          const start = 3 * SEGMENT - before;
          const { wal, durables } = openWal(directory, start);
          await wal.settle(start as Lsn);
          let end = start;
          for (const size of sizes) {
            wal.append(end as Lsn, walAt(end, size));
            end += size;
          }
          expect(wal.received).toBe(end);
          await wal.flush();
          expect(wal.durable).toBe(end);
          expect(durables.at(-1)).toBe(end);
          await wal.close();

          // As if the last record were torn: everything behind `kept` is forgotten.
          const again = openWal(directory, start);
          const { start: from, bytes } = await readAll(again.wal);
          expect(from).toBe(start);
          expect(wholeLength(bytes, start)).toBe(end - start);
          const kept = start + Math.floor((end - start) * part);
          await again.wal.settle(kept as Lsn);
          expect([again.wal.received, again.wal.durable]).toEqual([kept, kept]);
          again.wal.append(kept as Lsn, walAt(kept, 10));
          await again.wal.flush();
          await again.wal.close();

          const third = openWal(directory, start);
          const left = (await readAll(third.wal)).bytes;
          expect(wholeLength(left, start)).toBe(kept + 10 - start);
          expect(left.subarray(kept + 10 - start).every((byte) => byte === 0)).toBe(true);
          await third.wal.close();
          for (const name of fs.readdirSync(directory)) {
            expect(fs.statSync(`${directory}/${name}`).size).toBe(SEGMENT);
          }
        }),
    ),
    { numRuns: 12 },
  ));

test("bytes that arrive during an fsync share the next one", () =>
  inScratch(async (directory) => {
    const { wal, durables } = openWal(directory, SEGMENT);
    await wal.settle(SEGMENT as Lsn);
    for (let i = 0; i < 500; i++) wal.append((SEGMENT + i * 8) as Lsn, walAt(i, 8));
    expect(durables).toEqual([]);
    await wal.flush();
    expect(durables.at(-1)).toBe(SEGMENT + 4_000);
    expect(durables.length).toBeLessThanOrEqual(2);
    await wal.close();
  }));

test("streaming begins again further back", () =>
  inScratch(async (directory) => {
    const start = 2 * SEGMENT - 100;
    const { wal } = openWal(directory, start);
    await wal.settle(start as Lsn);
    wal.append(start as Lsn, walAt(start, 300));
    await wal.rewindTo((start + 50) as Lsn);
    expect([wal.received, wal.durable]).toEqual([start + 50, start + 50]);
    expect(wal.segments).toEqual([1]);
    expect(() => wal.append((start + 51) as Lsn, walAt(0, 1))).toThrow("I8");
    wal.append((start + 50) as Lsn, walAt(start + 50, 10));
    await wal.flush();
    await wal.close();
    const { bytes } = await readAll(openWal(directory, start).wal);
    expect(wholeLength(bytes, start)).toBe(60);
    expect(bytes.subarray(60).every((byte) => byte === 0)).toBe(true);
  }));

test("the rest of a segment is skipped: zeros, durable, and read again", () =>
  inScratch(async (directory) => {
    const start = 3 * SEGMENT + 40;
    const { wal, durables } = openWal(directory, start);
    await wal.settle(start as Lsn);
    wal.append(start as Lsn, walAt(start, 1_000));
    expect(() => wal.skipTo((5 * SEGMENT) as Lsn)).toThrow(/rest of a segment/);
    wal.skipTo((4 * SEGMENT) as Lsn);
    await wal.flush();
    expect(durables.at(-1)).toBe(4 * SEGMENT);
    wal.append((4 * SEGMENT) as Lsn, walAt(4 * SEGMENT, 500));
    await wal.flush();
    await wal.close();
    const { bytes } = await readAll(openWal(directory, start).wal);
    expect(wholeLength(bytes, start)).toBe(1_000);
    expect(bytes.subarray(1_000, SEGMENT - 40).every((byte) => byte === 0)).toBe(true);
    expect(wholeLength(bytes.subarray(SEGMENT - 40), 4 * SEGMENT)).toBe(500);
  }));

test("segments below a position go, the one that holds it stays", () =>
  inScratch(async (directory) => {
    const { wal } = openWal(directory, SEGMENT);
    await wal.settle(SEGMENT as Lsn);
    for (let at = SEGMENT; at < 4 * SEGMENT; at += SEGMENT / 2) {
      wal.append(at as Lsn, new Uint8Array(SEGMENT / 2));
    }
    await wal.flush();
    expect(wal.segments).toEqual([1, 2, 3]);
    expect(wal.letGo((3 * SEGMENT - 1) as Lsn)).toBe(1);
    expect(wal.letGo((3 * SEGMENT) as Lsn)).toBe(1);
    expect(wal.segments).toEqual([3]);
    expect(fs.readdirSync(directory)).toEqual([segmentName(1, 3)]);
    await wal.close();
  }));

test("of a segment on two timelines the later one is read", () =>
  inScratch(async (directory) => {
    for (const tli of [2, 1]) {
      const { wal } = openWal(`${directory}/${tli}`, SEGMENT, tli);
      await wal.settle(SEGMENT as Lsn);
      wal.append(SEGMENT as Lsn, new Uint8Array(8).fill(tli));
      await wal.flush();
      await wal.close();
      fs.renameSync(
        `${directory}/${tli}/${segmentName(tli, 1)}`,
        `${directory}/${segmentName(tli, 1)}`,
      );
      fs.rmSync(`${directory}/${tli}`, { recursive: true });
    }
    const { bytes } = await readAll(openWal(directory, SEGMENT).wal);
    expect([...bytes.subarray(0, 3)]).toEqual([2, 2, 2]);
  }));

test("nothing may be appended before the files are settled, or with a gap", () =>
  inScratch(async (directory) => {
    const { wal } = openWal(directory, SEGMENT);
    expect(() => wal.append(SEGMENT as Lsn, walAt(0, 1))).toThrow("settled");
    await wal.settle(SEGMENT as Lsn);
    expect(() => wal.append((SEGMENT + 8) as Lsn, walAt(0, 1))).toThrow("I8");
    await wal.close();
  }));

/** A tiny file system would need root; a write that fails by RLIMIT or a full disk looks the same. */
function failing<K extends "writeSync" | "fdatasync">(name: K, code: string): () => void {
  const real = fs[name];
  const error = Object.assign(new Error(code), { code });
  const fake = (...args: unknown[]): number => {
    if (name === "writeSync") throw error;
    (args.at(-1) as (e: Error) => void)(error);
    return 0;
  };
  Object.assign(fs, { [name]: fake });
  return () => Object.assign(fs, { [name]: real });
}

test("a full disk is told, nothing of the bytes counts, and the same append works later", () =>
  inScratch(async (directory) => {
    const { wal, fatal } = openWal(directory, SEGMENT);
    await wal.settle(SEGMENT as Lsn);
    wal.append(SEGMENT as Lsn, walAt(SEGMENT, 100));
    const restore = failing("writeSync", "ENOSPC");
    expect(() => wal.append((SEGMENT + 100) as Lsn, walAt(0, 50))).toThrow(StoreFull);
    restore();
    expect(wal.received).toBe(SEGMENT + 100);
    wal.append((SEGMENT + 100) as Lsn, walAt(SEGMENT + 100, 50));
    await wal.flush();
    expect(wal.durable).toBe(SEGMENT + 150);
    expect(fatal).toEqual([]);
    await wal.close();
  }));

test("a write error that is not about space is fatal", () =>
  inScratch(async (directory) => {
    const { wal, fatal } = openWal(directory, SEGMENT);
    await wal.settle(SEGMENT as Lsn);
    const restore = failing("writeSync", "EIO");
    expect(() => wal.append(SEGMENT as Lsn, walAt(0, 50))).toThrow("check the disk");
    restore();
    expect(fatal).toHaveLength(1);
    expect(() => wal.append(SEGMENT as Lsn, walAt(0, 50))).toThrow("check the disk");
    await wal.close();
  }));

test("after a failed fsync nothing is ever called durable again", () =>
  inScratch(async (directory) => {
    const { wal, fatal, durables } = openWal(directory, SEGMENT);
    await wal.settle(SEGMENT as Lsn);
    const restore = failing("fdatasync", "ENOSPC");
    wal.append(SEGMENT as Lsn, walAt(0, 50));
    await expect(wal.flush()).rejects.toThrow("syncing");
    restore();
    expect(fatal).toHaveLength(1);
    expect(() => wal.append((SEGMENT + 50) as Lsn, walAt(0, 50))).toThrow();
    await expect(wal.flush()).rejects.toThrow();
    expect(durables).toEqual([]);
    expect(wal.durable).toBe(SEGMENT);
    await wal.close();
  }));
