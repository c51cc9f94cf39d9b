// The pipe to redo processes: what this side writes is what the C side reads (build/wire_dump is
// made from the same header as walredo), and answers come together whatever pieces they come in.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";

import { MalformedInput } from "../../src/core/assert.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { RedoRecords, type RedoRequest } from "../../src/core/redo-request.ts";
import {
  REDO_HELLO_BYTES,
  RedoAnswers,
  decodeRedoHello,
  encodeRedoRequests,
  rebuiltPageProblem,
  redoRequestBytes,
  redoRequestProblem,
} from "../../src/protocol/redo.ts";
import { WAL_MAGIC_15, buildPgext } from "../support/redo.ts";

let wireDump: string;
beforeAll(() => {
  wireDump = path.join(buildPgext(), "wire_dump");
});

const dump = (messages: Uint8Array): string => {
  try {
    return execFileSync(wireDump, ["messages"], { input: messages, encoding: "utf8" });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
};
const helloFromC = (): Uint8Array => execFileSync(wireDump, ["hello", "150020", `${WAL_MAGIC_15}`]);

const page = (fill: number): Uint8Array => new Uint8Array(8192).fill(fill);
const record = (length: number, fill: number): Uint8Array => new Uint8Array(length).fill(fill);

const BATCH: readonly RedoRequest[] = [
  {
    base: Object.assign(page(0x11), { 8191: 0x22 }),
    out: page(0),
    steps: [
      {
        rel: { spc: 1663, db: 5, rel: 0xfffffff0, fork: 0 },
        block: 0xfffffffd,
        records: RedoRecords.of([
          { lsn: Lsn.parse("0/1000028"), bytes: record(24, 0xaa) },
          { lsn: Lsn.parse("1FFFFF/FFFFFFF8"), bytes: record(300, 0xbb) },
        ]),
      },
    ],
    at: Lsn.of(0),
  },
  {
    base: undefined,
    out: page(0),
    steps: [
      { rel: { spc: 1663, db: 5, rel: 1259, fork: 0 }, block: 7, records: RedoRecords.of([]) },
      {
        rel: { spc: 1664, db: 0, rel: 1260, fork: 2 },
        block: 8,
        records: RedoRecords.of([{ lsn: Lsn.parse("0/2000000"), bytes: record(25, 0xcc) }]),
      },
    ],
    at: Lsn.of(0),
  },
];

describe("requests", () => {
  test("are read by the C side as they were meant", () => {
    const golden = new URL("../golden/redo-messages.txt", import.meta.url);
    expect(dump(encodeRedoRequests(BATCH))).toBe(fs.readFileSync(golden, "utf8"));
  });

  test("are as long as announced", () => {
    const sizes = BATCH.map(redoRequestBytes);
    expect(encodeRedoRequests(BATCH).length).toBe(sizes.reduce((a, b) => a + b));
    expect(sizes).toEqual(BATCH.map((request) => encodeRedoRequests([request]).length));
  });

  test("that would break the protocol are named", () => {
    const [good, retagged] = BATCH as [RedoRequest, RedoRequest];
    expect(redoRequestProblem(good)).toBeUndefined();
    expect(redoRequestProblem(retagged)).toBeUndefined();
    expect(redoRequestProblem({ ...good, steps: [] })).toMatch(/no step/);
    expect(redoRequestProblem({ ...good, base: new Uint8Array(8191) })).toMatch(/8191 bytes/);
    expect(redoRequestProblem({ ...good, out: new Uint8Array(8190) })).toMatch(/8190 bytes/);
    const short = RedoRecords.of([{ lsn: Lsn.of(8), bytes: record(23, 0) }]);
    expect(redoRequestProblem({ ...good, steps: [{ ...good.steps[0]!, records: short }] })).toMatch(
      /0\/8 has 23 bytes/,
    );
  });

  test("that are damaged are refused by the C side", () => {
    const bytes = encodeRedoRequests([BATCH[0]!]);
    const changed = (at: number, value: number): Uint8Array => {
      const copy = bytes.slice();
      copy[at] = value;
      return copy;
    };
    expect(dump(changed(0, 0x58))).toMatch(/^error: unknown message type/);
    expect(dump(changed(4, bytes[4]! + 1))).toMatch(/^error: push message is not/);
    expect(dump(bytes.subarray(0, 3))).toMatch(/^error: header is cut off/);
    expect(dump(bytes.subarray(0, 8000))).toMatch(/^error: body is cut off/);
    const firstApply = 5 + 17 + 8192;
    expect(dump(changed(firstApply + 1, 0x7f))).toMatch(/error: apply message is too short or/);
    expect(dump(changed(firstApply + 4, 3))).toMatch(/error: message length is below 4/);
  });
});

describe("hello", () => {
  test("of the C side is understood", () => {
    expect(helloFromC().length).toBe(REDO_HELLO_BYTES);
    expect(decodeRedoHello(helloFromC())).toEqual({
      serverVersion: 150020,
      walMagic: WAL_MAGIC_15,
    });
  });

  test.each([
    [0, 0x58, /starts with/],
    [7, 2, /protocol 2.*rebuild/],
    [18, 0x40, /pages of/],
  ])("with byte %i changed is refused", (at, value, why) => {
    const hello = new Uint8Array(helloFromC());
    hello[at] = value;
    expect(() => decodeRedoHello(hello)).toThrow(why);
  });
});

describe("answers", () => {
  test("fill their slabs whatever pieces they come in", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 4 }),
        fc.array(fc.integer({ min: 1, max: 9000 }), { maxLength: 12 }),
        (pagesOfSlabs, cuts) => {
          const total = pagesOfSlabs.reduce((a, b) => a + b) * 8192;
          const output = new Uint8Array(REDO_HELLO_BYTES + total);
          output.set(helloFromBytes);
          for (let i = 0; i < total; i++) output[REDO_HELLO_BYTES + i] = i * 31 + (i >> 8);

          const answers = new RedoAnswers();
          const slabs = pagesOfSlabs.map((n) => new Uint8Array(n * 8192));
          for (const slab of slabs) answers.expect(slab);
          let hellos = 0;
          let full = 0;
          let at = 0;
          for (const cut of [...cuts, output.length]) {
            const piece = output.subarray(at, at + cut);
            answers.push(
              piece,
              () => hellos++,
              () => full++,
            );
            at += piece.length;
          }
          expect(hellos).toBe(1);
          expect(full).toBe(slabs.length);
          expect(Buffer.concat(slabs).equals(output.subarray(REDO_HELLO_BYTES))).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });
  const helloFromBytes = Uint8Array.from([
    ...Buffer.from("REDO"),
    ...[0, 0, 0, 1, 0, 2, 0x4a, 4, 0, 0, 0xd1, 0x10, 0, 0, 0x20, 0],
  ]);

  test("that were cut off count their whole pages", () => {
    const answers = new RedoAnswers();
    answers.expect(new Uint8Array(3 * 8192));
    answers.push(
      helloFromBytes,
      () => {},
      () => {},
    );
    answers.push(
      new Uint8Array(2 * 8192 + 8191),
      () => {},
      () => {},
    );
    expect(answers.pagesOfOldest).toBe(2);
  });

  test("nobody asked for are malformed", () => {
    const answers = new RedoAnswers();
    const push = (bytes: Uint8Array): void =>
      answers.push(
        bytes,
        () => {},
        () => {},
      );
    push(helloFromBytes);
    expect(() => push(new Uint8Array(1))).toThrow(MalformedInput);
  });
});

describe("a rebuilt page", () => {
  const header = (lower: number, upper: number, special: number, size = 0x2004): Uint8Array => {
    const bytes = new Uint8Array(8192);
    new Uint16Array(bytes.buffer, 12, 4).set([lower, upper, special, size]);
    return bytes;
  };

  test("may be new or in order", () => {
    expect(rebuiltPageProblem(new Uint8Array(8192))).toBeUndefined();
    expect(rebuiltPageProblem(header(24, 8192, 8192))).toBeUndefined();
    expect(rebuiltPageProblem(header(28, 8000, 8176))).toBeUndefined();
  });

  test("may not be anything else", () => {
    expect(rebuiltPageProblem(Object.assign(new Uint8Array(8192), { 100: 1 }))).toMatch(/empty/);
    expect(rebuiltPageProblem(header(20, 8000, 8176))).toMatch(/out of order/);
    expect(rebuiltPageProblem(header(8100, 8000, 8176))).toMatch(/out of order/);
    expect(rebuiltPageProblem(header(24, 8180, 8176))).toMatch(/out of order/);
    expect(rebuiltPageProblem(header(24, 8000, 8193))).toMatch(/out of order/);
    expect(rebuiltPageProblem(header(24, 8000, 8176, 0x4004))).toMatch(/16384 bytes/);
  });
});
