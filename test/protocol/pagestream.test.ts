import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MalformedInput } from "../../src/core/assert.ts";
import { BATCH_SLAB_BYTES_MAX } from "../../src/core/limits.ts";
import { LSN_MAX } from "../../src/core/lsn.ts";
import type { PageAnswer, PageRequest } from "../../src/core/page-batch.ts";
import { SlabPool } from "../../src/core/slab-pool.ts";
import { BatchBuilder, encodeAnswers, errorAnswer } from "../../src/protocol/pagestream.ts";

type Version = 2 | 3;

interface Ask {
  readonly tag: 0 | 1 | 2 | 3 | 4;
  readonly reqid: bigint;
  readonly lsn: bigint;
  readonly since: bigint;
  readonly rel: readonly [number, number, number, number];
  readonly number: number;
  readonly kind: number;
}

const u32 = (value: number): Buffer => {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
};
const u64 = (value: bigint): Buffer => {
  const out = Buffer.alloc(8);
  out.writeBigUInt64BE(value);
  return out;
};

function bodyOf(ask: Ask): Buffer {
  const rel = Buffer.concat([...ask.rel.slice(0, 3).map(u32), Buffer.from([ask.rel[3]])]);
  if (ask.tag === 2) return Buffer.concat([rel, u32(ask.number)]);
  if (ask.tag === 3) return u32(ask.number);
  if (ask.tag === 4) return Buffer.concat([Buffer.from([ask.kind]), u32(ask.number)]);
  return rel;
}

function encode(version: Version, ask: Ask): Buffer {
  const id = version === 3 ? [u64(ask.reqid)] : [];
  return Buffer.concat([Buffer.from([ask.tag]), ...id, u64(ask.lsn), u64(ask.since), bodyOf(ask)]);
}

/** What the answer must be, byte for byte. `payload` undefined: an error with `text`. */
function expected(version: Version, ask: Ask, payload: Uint8Array | undefined, text = ""): Buffer {
  const head = [u64(ask.reqid), u64(ask.lsn), u64(ask.since)];
  const rest =
    payload === undefined
      ? [...(version === 3 ? head : []), Buffer.from(`${text}\0`)]
      : [...(version === 3 ? [...head, bodyOf(ask)] : []), payload];
  const tag = payload === undefined ? 103 : [100, 101, 102, 104, 105][ask.tag]!;
  const content = Buffer.concat([Buffer.from([tag]), ...rest]);
  return Buffer.concat([Buffer.from("d"), u32(content.length + 4), content]);
}

const MAX = 0xffff_ffff_ffff_ffffn;
const u32s = fc.nat(0xffff_ffff);
const lsns = fc.bigInt({ min: 1n, max: 1n << 50n });
const ask: fc.Arbitrary<Ask> = fc
  .record({
    tag: fc.constantFrom(0 as const, 1 as const, 2 as const, 3 as const, 4 as const),
    reqid: fc.bigInt({ min: 0n, max: MAX }),
    a: fc.oneof(lsns, fc.constant(MAX)),
    b: lsns,
    rel: fc.tuple(fc.constantFrom(1663, 1664), fc.nat(3), u32s, fc.nat(3)),
    number: u32s,
    kind: fc.nat(2),
  })
  .map(({ a, b, ...rest }) => ({ ...rest, lsn: a > b ? a : b, since: a > b ? b : a }));
const versions = fc.constantFrom(2 as const, 3 as const);

function decoded(ask: Ask): PageRequest {
  const lsn = (value: bigint) => (value === MAX ? LSN_MAX : Number(value)) as typeof LSN_MAX;
  const at = { lsn: lsn(ask.lsn), notModifiedSince: lsn(ask.since) };
  const [spc, db, relnode, fork] = ask.rel;
  const rel = { spc, db, rel: relnode, fork };
  switch (ask.tag) {
    case 0:
      return { kind: "exists", rel, ...at };
    case 1:
      return { kind: "nblocks", rel, ...at };
    case 2:
      return { kind: "get-page", rel, block: ask.number, ...at };
    case 3:
      return { kind: "db-size", db: ask.number, ...at };
    case 4:
      return { kind: "slru", slru: ask.kind, segment: ask.number, ...at };
  }
}

const page = (fill: number): Uint8Array => new Uint8Array(8192).fill(fill);

describe("pagestream", () => {
  test("requests are decoded and answers are, byte for byte, what they must be", () => {
    fc.assert(
      fc.property(
        versions,
        fc.array(fc.tuple(ask, fc.nat(255), fc.boolean()), { minLength: 1, maxLength: 12 }),
        (version, asks) => {
          // Slabs come back dirty: nothing of what was in them may show.
          const slabs = new SlabPool(1 << 20);
          for (const size of [16, 32, 64, 128]) slabs.give(new Uint8Array(size * 1024).fill(0xee));
          const builder = new BatchBuilder(version, slabs);
          for (const [one] of asks) {
            expect(builder.add(encode(version, one))).toBeUndefined();
          }
          const open = builder.take()!;
          expect(open.batch.requests).toEqual(asks.map(([one]) => decoded(one)));
          const want: Buffer[] = [];
          const answers = asks.map(([one, fill, refused], i): PageAnswer => {
            if (refused) {
              want.push(expected(version, one, undefined, "Read error: the timeline is broken: é"));
              return { kind: "error", error: { kind: "timeline-broken", reason: "é" } };
            }
            const offset = open.batch.pageOffsets[i]!;
            expect(offset >= 0).toBe(one.tag === 2);
            switch (one.tag) {
              case 0:
                want.push(expected(version, one, Buffer.from([fill & 1])));
                return { kind: "exists", exists: (fill & 1) === 1 };
              case 1:
                want.push(expected(version, one, u32(one.number)));
                return { kind: "nblocks", blocks: one.number };
              case 2:
                want.push(expected(version, one, page(fill)));
                open.batch.slab.set(page(fill), offset);
                return { kind: "page" };
              case 3:
                want.push(expected(version, one, u64(BigInt(one.number) * 8192n)));
                return { kind: "db-size", bytes: one.number * 8192 };
              case 4: {
                const pages = new Uint8Array(8192 * (fill % 4)).fill(fill);
                want.push(expected(version, one, Buffer.concat([u32(fill % 4), pages])));
                return { kind: "slru", pages };
              }
            }
          });
          const { pieces, bytes } = encodeAnswers(open, answers);
          const sent = Buffer.concat(pieces);
          expect(sent.length).toBe(bytes);
          expect(sent.equals(Buffer.concat(want))).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });

  test("pages alone are one piece of the slab: one write, nothing copied again", () => {
    const builder = new BatchBuilder(3, new SlabPool(0));
    const one = fc.sample(ask, { numRuns: 1, seed: 1 })[0]!;
    for (let i = 0; i < 20; i++) builder.add(encode(3, { ...one, tag: 2, number: i }));
    const open = builder.take()!;
    const { pieces } = encodeAnswers(open, Array<PageAnswer>(20).fill({ kind: "page" }));
    expect(pieces).toHaveLength(1);
    expect(pieces[0]!.buffer).toBe(open.batch.slab.buffer);
    expect(builder.take()).toBeUndefined();
  });

  test("bytes behind a request are ignored; any byte missing is malformed", () => {
    fc.assert(
      fc.property(versions, ask, (version, one) => {
        const whole = encode(version, one);
        const builder = new BatchBuilder(version, new SlabPool(0));
        expect(builder.add(Buffer.concat([whole, Buffer.from("more")]))).toBeUndefined();
        expect(builder.take()!.batch.requests).toEqual([decoded(one)]);
        for (let size = 0; size < whole.length; size++) {
          expect(() => builder.add(whole.subarray(0, size))).toThrow(MalformedInput);
        }
        expect(builder.count).toBe(0);
      }),
      { numRuns: 50 },
    );
  });

  test.each([5, 99, 102, 255])("tag %i is malformed", (tag) => {
    const builder = new BatchBuilder(2, new SlabPool(0));
    const body = Buffer.alloc(64);
    body[0] = tag;
    expect(() => builder.add(body)).toThrow(`unknown pagestream request: ${tag}`);
  });

  const plain: Ask = {
    tag: 2,
    reqid: 1n,
    lsn: 0x20n,
    since: 0x10n,
    rel: [1663, 5, 16384, 0],
    number: 0,
    kind: 0,
  };

  test.each<[string, Partial<Ask>, string | undefined]>([
    ["R = N", { lsn: 0x10n }, undefined],
    ["R = MAX", { lsn: MAX }, undefined],
    ["R = N = MAX", { lsn: MAX, since: MAX }, undefined],
    [
      "R < N",
      { since: 0x1_0000_0021n },
      "invalid request with request LSN 0/20 and not_modified_since 1/21",
    ],
    ["R = 0", { lsn: 0n, since: 0n }, "invalid LSN(0) in request"],
    ["R = 0 < N", { lsn: 0n }, "invalid request with request LSN 0/0 and not_modified_since 0/10"],
    ["fork 4", { rel: [1663, 5, 16384, 4] }, "invalid fork number 4"],
    ["SLRU 3", { tag: 4, kind: 3 }, "invalid SLRU kind 3"],
    ["R = 0 of a database", { tag: 3, lsn: 0n, since: 0n }, "invalid LSN(0) in request"],
  ])("request LSN rules: %s", (_name, change, message) => {
    for (const version of [2, 3] as const) {
      const builder = new BatchBuilder(version, new SlabPool(0));
      const refusal = builder.add(encode(version, { ...plain, ...change }));
      expect(refusal).toEqual(message === undefined ? undefined : { kind: "bad-request", message });
      expect(builder.count).toBe(message === undefined ? 1 : 0);
    }
  });

  test("an error of its own is a whole answer", () => {
    for (const version of [2, 3] as const) {
      const frame = errorAnswer(version, encode(version, plain), "a\0é");
      expect(Buffer.from(frame)).toEqual(expected(version, plain, undefined, "a\uFFFDé"));
    }
  });

  test("a batch is full before its slab passes the bound", () => {
    const builder = new BatchBuilder(3, new SlabPool(0));
    while (!builder.full) builder.add(encode(3, plain));
    const open = builder.take()!;
    expect(open.batch.slab.length).toBeLessThanOrEqual(BATCH_SLAB_BYTES_MAX);
    expect(open.batch.requests.length).toBeGreaterThan(120);
  });

  test("an answer of another kind than its request is our fault", () => {
    const builder = new BatchBuilder(2, new SlabPool(0));
    builder.add(encode(2, plain));
    const open = builder.take()!;
    expect(() => encodeAnswers(open, [{ kind: "nblocks", blocks: 1 }])).toThrow("not answered");
    expect(() => encodeAnswers(open, [])).toThrow("request by request");
  });
});
