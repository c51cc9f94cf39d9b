// Native operations against models that know nothing of bytes: sets of statuses, tables of members.

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  CLOG_ABORTED,
  CLOG_COMMITTED,
  SMALL_OP_BYTES,
  VM_BLOCKS_PER_PAGE,
  appendClogXid,
  appendMember,
  applyOp,
  writeClogSet,
  writeFsmTruncate,
  writeMembers,
  writeOffsets,
  writeVmClear,
  writeVmSet,
  writeVmTruncate,
} from "../../src/core/page-op.ts";
import { initPage, isPageHeaderSane, pageLsn } from "../../src/protocol/page-header.ts";

/** Applies an operation from the middle of other bytes, as a chain does. */
function apply(page: Uint8Array, lsn: number, op: Uint8Array, length = op.length): void {
  const around = new Uint8Array(length + 7).fill(0xa5);
  around.set(op.subarray(0, length), 5);
  applyOp(around, 5, length, page, lsn);
}

function small(write: (op: Uint8Array) => void): Uint8Array {
  const op = new Uint8Array(SMALL_OP_BYTES);
  write(op);
  return op;
}

const vmStep = fc.record({
  kind: fc.constantFrom("set", "clear", "truncate"),
  // Few blocks, so that steps meet; near both ends of a map page, on any page.
  heap: fc.oneof(
    fc.integer({ min: 0, max: 9 }),
    fc.integer({ min: VM_BLOCKS_PER_PAGE - 6, max: VM_BLOCKS_PER_PAGE - 1 }),
  ),
  flags: fc.integer({ min: 1, max: 3 }),
  lsn: fc.integer({ min: 1, max: 50 }),
});

describe("visibility map", () => {
  test("sets, clears and truncations in any order", () => {
    fc.assert(
      fc.property(fc.array(vmStep, { maxLength: 40 }), (steps) => {
        const page = new Uint8Array(8192);
        const model = new Map<number, number>();
        let lsn = 0;
        for (const step of steps) {
          const now = model.get(step.heap) ?? 0;
          const heap = step.heap + 3 * VM_BLOCKS_PER_PAGE;
          if (step.kind === "set") {
            // heap_xlog_visible: not if the page is as new; visibilitymap_set: not if the bits are as asked.
            if (step.lsn > lsn && now !== step.flags) {
              model.set(step.heap, now | step.flags);
              lsn = step.lsn;
            }
            apply(
              page,
              step.lsn,
              small((op) => writeVmSet(op, heap, step.flags)),
            );
          } else if (step.kind === "clear") {
            model.set(step.heap, now & ~step.flags);
            apply(
              page,
              step.lsn,
              small((op) => writeVmClear(op, heap, step.flags)),
            );
          } else {
            for (const block of model.keys()) if (block >= step.heap) model.delete(block);
            apply(
              page,
              step.lsn,
              small((op) => writeVmTruncate(op, heap)),
            );
          }
        }
        const want = new Map(
          [...model].filter(([, bits]) => bits !== 0).sort((x, y) => x[0] - y[0]),
        );
        const found = new Map<number, number>();
        for (let block = 0; block < VM_BLOCKS_PER_PAGE; block++) {
          const bits = (page[24 + (block >> 2)]! >> ((block & 3) * 2)) & 3;
          if (bits !== 0) found.set(block, bits);
        }
        expect(found).toEqual(want);
        expect(pageLsn(page)).toBe(lsn);
        if (found.size > 0) expect(isPageHeaderSane(page)).toBe(true);
      }),
    );
  });

  test("a new page is initialised like PageInit does", () => {
    const page = new Uint8Array(8192);
    apply(
      page,
      0x1_0000_0010,
      small((op) => writeVmSet(op, 0, 1)),
    );
    const want = new Uint8Array(8192);
    initPage(want, 0, 0);
    want.set([1, 0, 0, 0, 0x10, 0, 0, 0]);
    want[24] = 1;
    expect(page).toEqual(want);
  });

  test("clearing a new page leaves it new", () => {
    const page = new Uint8Array(8192);
    apply(
      page,
      9,
      small((op) => writeVmClear(op, 5, 3)),
    );
    expect(page).toEqual(new Uint8Array(8192));
  });
});

describe("free space map", () => {
  // fp_nodes: 4095 inner nodes, then 4069 leaves; each inner node is the greatest of its children.
  const NODES_AT = 28;
  test("truncation forgets leaves and keeps the tree true", () => {
    const leaves = fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 4069, maxLength: 4069 });
    fc.assert(
      fc.property(leaves, fc.integer({ min: 1, max: 4068 }), (free, slot) => {
        const page = new Uint8Array(8192);
        initPage(page, 0, 0);
        page.set(free, NODES_AT + 4095);
        apply(
          page,
          9,
          small((op) => writeFsmTruncate(op, 4069 * 7 + slot)),
        );
        const nodes = page.subarray(NODES_AT);
        expect([...nodes.subarray(4095)]).toEqual(free.map((f, i) => (i < slot ? f : 0)));
        // By hand from the leaves up: the root is the greatest of all that is left.
        expect(nodes[0]).toBe(Math.max(...free.slice(0, slot)));
        for (const n of [1, 2, 777, 2046, 2047, 4080, 4081, 4082, 4094]) {
          expect(nodes[n]).toBe(Math.max(nodes[2 * n + 1] ?? 0, nodes[2 * n + 2] ?? 0));
        }
      }),
      { numRuns: 20 },
    );
  });
});

describe("clog", () => {
  const group = fc.record({
    status: fc.constantFrom(CLOG_COMMITTED, CLOG_ABORTED),
    xids: fc.array(fc.integer({ min: 0, max: 32_767 }), { minLength: 1, maxLength: 20 }),
  });
  test("statuses of any transactions, again and again", () => {
    fc.assert(
      fc.property(fc.array(group, { maxLength: 20 }), (groups) => {
        const page = new Uint8Array(8192);
        const model = new Map<number, number>();
        for (const { status, xids } of groups) {
          const op = new Uint8Array(1 + xids.length * 2);
          let length = SMALL_OP_BYTES;
          writeClogSet(op, status, xids[0]! + 32_768 * 100);
          for (const xid of xids.slice(1)) length = appendClogXid(op, length, xid + 32_768 * 100);
          expect(length).toBe(op.length);
          for (let twice = 0; twice < 2; twice++) apply(page, 9, op);
          for (const xid of xids) model.set(xid, status);
        }
        const found = new Map<number, number>();
        for (let xid = 0; xid < 32_768; xid++) {
          const status = (page[xid >> 2]! >> ((xid & 3) * 2)) & 3;
          if (status !== 0) found.set(xid, status);
        }
        expect(found).toEqual(new Map([...model].sort((x, y) => x[0] - y[0])));
      }),
    );
  });
});

describe("multixacts", () => {
  test("offsets lie where multixact.c puts them", () => {
    const page = new Uint8Array(8192);
    const op = new Uint8Array(64);
    apply(page, 9, op, writeOffsets(op, 2048 * 5 + 2046, [0xfedcba98, 7]));
    const view = new DataView(page.buffer);
    expect([2045, 2046, 2047].map((i) => view.getUint32(i * 4, true))).toEqual([0, 0xfedcba98, 7]);
  });

  test("members lie where multixact.c puts them", () => {
    const run = fc.record({
      first: fc.integer({ min: 0, max: 1_600 }),
      members: fc.array(fc.tuple(fc.nat({ max: 2 ** 32 - 1 }), fc.integer({ min: 0, max: 5 })), {
        minLength: 1,
        maxLength: 36,
      }),
    });
    fc.assert(
      fc.property(fc.array(run, { maxLength: 10 }), (runs) => {
        const page = new Uint8Array(8192);
        const model = new Map<number, readonly [number, number]>();
        for (const { first, members } of runs) {
          const op = new Uint8Array(SMALL_OP_BYTES + members.length * 5);
          let length = writeMembers(op, first + 1636 * 9);
          for (const [xid, status] of members) length = appendMember(op, length, xid, status);
          expect(length).toBe(op.length);
          apply(page, 9, op);
          members.forEach((member, i) => model.set(first + i, member));
        }
        const view = new DataView(page.buffer);
        for (const [offset, member] of model) {
          const flagsOffset = Math.floor(offset / 4) * 20;
          const xid = view.getUint32(flagsOffset + 4 + (offset % 4) * 4, true);
          const flags = view.getUint32(flagsOffset, true) >>> ((offset % 4) * 8);
          expect([xid, flags & 255]).toEqual(member);
        }
        const used = [...model.values()].filter(([xid, status]) => xid !== 0 || status !== 0);
        if (used.length === 0) expect(page).toEqual(new Uint8Array(8192));
      }),
    );
  });
});

test("bytes that are no operation are our fault", () => {
  const page = new Uint8Array(8192);
  expect(() => applyOp(Uint8Array.of(0xf0, 0, 0), 0, 3, page, 1)).toThrow(/unknown code 15/);
  expect(() => applyOp(Uint8Array.of(0x10, 0), 0, 2, page, 1)).toThrow(/2 bytes/);
});
