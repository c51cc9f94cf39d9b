// npm run sim -- --seed N --steps M: one long run; says every step when it fails. --disk lmdb: in files;
// --backup: in files, and with a backup.

import { parseArgs } from "node:util";
import { BackupSimulator } from "./backup-simulator.ts";
import { Simulator } from "./simulator.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    steps: { type: "string", default: "1000" },
    disk: { type: "string", default: "memory" },
    backup: { type: "boolean", default: false },
    verbose: { type: "boolean", default: false },
  },
});
const lines: string[] = [];
const { disk } = values;
if (disk !== "memory" && disk !== "lmdb") throw new Error("--disk is memory or lmdb");
const say = (line: string): void => {
  lines.push(line);
  if (values.verbose) console.log(line);
};
const seed = Number(values.seed);
const simulator = values.backup
  ? new BackupSimulator(seed, "lmdb", say)
  : new Simulator(seed, disk, say);
try {
  const counts = await simulator.run(Number(values.steps));
  const backed = simulator instanceof BackupSimulator ? simulator.backed : {};
  const all = JSON.stringify({ ...counts, ...backed });
  console.log(`seed ${values.seed}, ${values.steps} steps: ${all}`);
} catch (error) {
  if (!values.verbose) console.log(lines.join("\n"));
  console.error(`seed ${values.seed} failed:`, error);
  process.exitCode = 1;
}
