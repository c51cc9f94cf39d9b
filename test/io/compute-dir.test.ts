import { chmod, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { canReach, computeRoot } from "../../src/io/compute-dir.ts";

/** Nobody that exists here: neither owner nor group of anything. */
const STRANGER = { uid: 61_234, gid: 61_234 };

let base: string;
let left: string[];

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "compute-dir-"));
  await chmod(base, 0o755);
  left = [base];
});
afterEach(async () => {
  for (const dir of left) await rm(dir, { recursive: true, force: true });
});

test("a data directory that others can pass through holds its computes", async () => {
  const data = join(base, "data");
  await mkdir(data, { mode: 0o755 });
  expect(await computeRoot(data, STRANGER)).toBe(join(data, "computes"));
  expect(await computeRoot(data, {})).toBe(join(data, "computes"));
});

test("a closed parent anywhere sends them to a stable place of their own", async () => {
  const data = join(base, "closed", "data");
  await mkdir(data, { recursive: true });
  await chmod(join(base, "closed"), 0o700);
  const root = await computeRoot(data, STRANGER);
  left.push(root);
  expect(root).toMatch(/^\/var\/tmp\/pageserver-\d+-[0-9a-f]{12}$/);
  expect(await canReach(root, STRANGER)).toBe(true);
  expect(await computeRoot(data, STRANGER)).toBe(root);
  expect(await computeRoot(data, {})).toBe(join(data, "computes"));
});

test("a planted link in place of it is refused", async () => {
  const data = join(base, "closed", "data");
  await mkdir(data, { recursive: true });
  await chmod(join(base, "closed"), 0o700);
  const root = await computeRoot(data, STRANGER);
  left.push(root);
  await rm(root, { recursive: true });
  await symlink(base, root);
  await expect(computeRoot(data, STRANGER)).rejects.toThrow(/not a directory of ours/);
});

test("the class of the mode that counts is exactly one: owner, else group, else others", async () => {
  const dir = join(base, "d");
  await mkdir(dir);
  const { uid, gid } = { uid: process.getuid!(), gid: process.getgid!() };
  await chmod(dir, 0o011);
  expect(await canReach(dir, { uid, gid })).toBe(false);
  expect(await canReach(dir, { uid: STRANGER.uid, gid })).toBe(true);
  await chmod(dir, 0o701);
  expect(await canReach(dir, { uid: STRANGER.uid, gid })).toBe(false);
  expect(await canReach(dir, STRANGER)).toBe(true);
});
