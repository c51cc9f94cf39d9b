import { describe, expect, test } from "vitest";
import { Arena, BlockPool } from "../../src/core/arena.ts";
import { ARENA_CHUNK_BYTES } from "../../src/core/limits.ts";

const nobody = (): boolean => false;

describe("an arena", () => {
  test("keeps what was committed, in chunks that hold what is reserved", () => {
    const arena = new Arena();
    arena.reserve(10);
    const { chunk, used } = arena;
    chunk.bytes.fill(1, used, used + 10);
    arena.commit(10);
    expect(arena.used).toBe(16);
    arena.reserve(ARENA_CHUNK_BYTES);
    expect(arena.chunk).not.toBe(chunk);
    expect(arena.used).toBe(0);
    arena.reserve(3 * ARENA_CHUNK_BYTES);
    expect(arena.chunk.bytes).toHaveLength(3 * ARENA_CHUNK_BYTES);
    expect(arena.capacityBytes).toBe(5 * ARENA_CHUNK_BYTES);
    expect(chunk.bytes[9]).toBe(1);
  });

  test("gives its blocks to the next one", () => {
    const pool = new BlockPool(8 * ARENA_CHUNK_BYTES);
    const first = new Arena(pool);
    first.reserve(ARENA_CHUNK_BYTES);
    first.commit(ARENA_CHUNK_BYTES);
    first.reserve(1);
    const memory = first.chunks.map(({ bytes }) => bytes.buffer);
    first.release(nobody);
    expect(pool.idleBytes).toBe(2 * ARENA_CHUNK_BYTES);
    const second = new Arena(pool);
    second.reserve(ARENA_CHUNK_BYTES);
    second.commit(ARENA_CHUNK_BYTES);
    second.reserve(1);
    expect(new Set(second.chunks.map(({ bytes }) => bytes.buffer))).toEqual(new Set(memory));
    expect(pool.idleBytes).toBe(0);
  });

  test("does not give away chunks that are kept, nor those of another size", () => {
    const pool = new BlockPool(8 * ARENA_CHUNK_BYTES);
    const arena = new Arena(pool);
    arena.reserve(ARENA_CHUNK_BYTES);
    const kept = arena.chunk;
    arena.commit(ARENA_CHUNK_BYTES);
    arena.reserve(2 * ARENA_CHUNK_BYTES);
    arena.release((chunk) => chunk === kept);
    expect(pool.idleBytes).toBe(0);
  });
});

test("a pool keeps no more than its bound", () => {
  const pool = new BlockPool(2 * ARENA_CHUNK_BYTES);
  const blocks = [pool.take(), pool.take(), pool.take()];
  for (const block of blocks) pool.give(block);
  expect(pool.idleBytes).toBe(2 * ARENA_CHUNK_BYTES);
  expect(() => pool.give(new SharedArrayBuffer(8))).toThrow(/whole blocks/);
});
