import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MalformedInput } from "../../src/core/assert.ts";
import { Framer } from "../../src/protocol/pg-frames.ts";

interface Message {
  readonly type: number;
  readonly body: Uint8Array;
}

const message = fc.record({
  type: fc.integer({ min: 0, max: 255 }),
  body: fc.uint8Array({ maxLength: 40 }),
});

function encode(messages: readonly Message[]): Uint8Array {
  const parts = messages.map(({ type, body }) => {
    const head = Buffer.alloc(5);
    head[0] = type;
    head.writeUInt32BE(body.length + 4, 1);
    return Buffer.concat([head, body]);
  });
  return new Uint8Array(Buffer.concat(parts));
}

/** Feeds `bytes` cut at `cuts` and gives what came out, copied at once and again at the end. */
function run(bytes: Uint8Array, cuts: readonly number[]): { seen: Message[]; pending: number } {
  const kept: Message[] = [];
  const atOnce: Message[] = [];
  const framer = new Framer((type, body) => {
    kept.push({ type, body });
    atOnce.push({ type, body: Uint8Array.from(body) });
  }, 1000);
  const bounds = [0, ...[...cuts].sort((a, b) => a - b), bytes.length];
  for (let i = 1; i < bounds.length; i++) {
    // As from a socket: every chunk is memory of its own.
    framer.push(Uint8Array.from(bytes.subarray(bounds[i - 1]!, bounds[i]!)));
  }
  // What was handed out may be kept.
  expect(kept.map((m) => ({ ...m, body: Uint8Array.from(m.body) }))).toEqual(atOnce);
  return { seen: atOnce, pending: framer.pendingBytes };
}

describe("Framer", () => {
  test("messages come out whole and in order, wherever the stream is cut", () => {
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 8 }),
        fc.array(fc.nat(400), { maxLength: 12 }),
        (messages, raw) => {
          const bytes = encode(messages);
          const cuts = raw.map((cut) => Math.min(cut, bytes.length));
          expect(run(bytes, cuts)).toEqual({ seen: messages, pending: 0 });
        },
      ),
    );
  });

  test("cut at every single byte", () => {
    const messages = [
      { type: 81, body: new Uint8Array([1, 2, 3]) },
      { type: 88, body: new Uint8Array(0) },
      { type: 100, body: new Uint8Array(20).fill(9) },
    ];
    const bytes = encode(messages);
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(run(bytes, [cut]).seen).toEqual(messages);
    }
    expect(run(bytes, [...bytes.keys()]).seen).toEqual(messages);
  });

  test("an incomplete message is held back and counted", () => {
    const bytes = encode([{ type: 81, body: new Uint8Array(10) }]);
    for (let size = 0; size < bytes.length; size++) {
      expect(run(bytes.subarray(0, size), [2])).toEqual({ seen: [], pending: size });
    }
  });

  test("a split message copies itself, not the rest of the chunk", () => {
    const bytes = encode([
      { type: 100, body: new Uint8Array(10) },
      { type: 100, body: new Uint8Array(10) },
    ]);
    const second = Uint8Array.from(bytes.subarray(7));
    const bodies: Uint8Array[] = [];
    const framer = new Framer((_type, body) => bodies.push(body), 1000);
    framer.push(Uint8Array.from(bytes.subarray(0, 7)));
    framer.push(second);
    expect(bodies).toHaveLength(2);
    expect(bodies[0]!.buffer).not.toBe(second.buffer);
    expect(bodies[1]!.buffer).toBe(second.buffer);
  });

  test("what is not wanted waits as it came, and comes in order when it is", () => {
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 8 }),
        fc.array(fc.nat(400), { maxLength: 12 }),
        fc.array(fc.nat(3), { maxLength: 20 }),
        (messages, raw, patience) => {
          let wanted = 0;
          const seen: Message[] = [];
          const framer = new Framer(
            (type, body) => {
              wanted--;
              seen.push({ type, body: Uint8Array.from(body) });
            },
            1000,
            () => wanted > 0,
          );
          const bytes = encode(messages);
          const cuts = raw.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b);
          const bounds = [0, ...cuts, bytes.length];
          for (let i = 1; i < bounds.length; i++) {
            framer.push(Uint8Array.from(bytes.subarray(bounds[i - 1]!, bounds[i]!)));
            wanted += patience[i] ?? 0;
            framer.resume();
            expect(wanted > 0 && framer.isHolding).toBe(false);
          }
          wanted = Infinity;
          framer.resume();
          expect(seen).toEqual(messages);
          expect([framer.isHolding, framer.pendingBytes]).toEqual([false, 0]);
        },
      ),
    );
  });

  test.each([
    ["too short", [81, 0, 0, 0, 3]],
    ["too long", [81, 0, 0, 4, 1]],
    ["as long as can be said", [81, 255, 255, 255, 255]],
  ])("a length that is %s is refused, whole or split", (_name, header) => {
    for (const cut of [0, 1, 4]) {
      const framer = new Framer(() => expect.unreachable(), 1024);
      const bytes = Uint8Array.from(header);
      expect(() => {
        framer.push(bytes.subarray(0, cut));
        framer.push(bytes.subarray(cut));
      }).toThrow(MalformedInput);
    }
  });
});
