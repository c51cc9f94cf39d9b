// The process of verify:full-disk whose disk fails: the scenario again and again, a write later each time, until
// one is over before the disk is full. What a process left that stopped or died is recovered first.

import fs from "node:fs";
import path from "node:path";
import {
  type DiskCounts,
  type Fills,
  type Outcome,
  recovered,
  scenario,
} from "./full-disk-scenario.ts";

const [kind, from, every] = process.argv.slice(2);
const { FULL_DISK_DIR: root = "", FULL_DISK_COUNTS: file = "" } = process.env;

/** Not on the disk that is full. */
const fillsFile = `${file}.fills`;

const set = (writes: number, syncs: number): void =>
  fs.writeFileSync(file, new BigInt64Array([BigInt(writes), BigInt(syncs), 0n]), { flag: "r+" });

const disk: DiskCounts = {
  get fills() {
    return JSON.parse(fs.readFileSync(fillsFile, "utf8")) as Fills;
  },
  set fills(fills) {
    fs.writeFileSync(fillsFile, JSON.stringify(fills));
  },
  arm: (at) => (kind === "writes" ? set(at, -1) : set(-1, at)),
  free: () => set(-1, -1),
  get failures() {
    return Number(fs.readFileSync(file).readBigInt64LE(16));
  },
};

const say = (outcome: Outcome): void => void fs.writeSync(1, `${JSON.stringify(outcome)}\n`);

for (const left of fs.readdirSync(root)) {
  const wrong = await recovered(path.join(root, left), disk.fills);
  if (wrong !== undefined)
    say({ kind: "wrong", at: Number(from), what: `after a death: ${wrong}` });
  fs.rmSync(path.join(root, left), { recursive: true });
}
for (let at = Number(from); ; at += Number(every)) {
  const directory = path.join(root, String(at));
  const outcome = await scenario(directory, kind === "writes", disk, at);
  say(outcome);
  if (outcome.kind === "over") break;
  if (outcome.kind === "stops") process.exit(1);
  fs.rmSync(directory, { recursive: true });
}
process.exit(0);
