// npm run sim -- --seed N --steps M: one long run; says every step when it fails. --disk lmdb: in files.

import { parseArgs } from "node:util";
import { Simulator } from "./simulator.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    steps: { type: "string", default: "1000" },
    disk: { type: "string", default: "memory" },
    verbose: { type: "boolean", default: false },
  },
});
const lines: string[] = [];
const { disk } = values;
if (disk !== "memory" && disk !== "lmdb") throw new Error("--disk is memory or lmdb");
const simulator = new Simulator(Number(values.seed), disk, (line) => {
  lines.push(line);
  if (values.verbose) console.log(line);
});
try {
  const counts = await simulator.run(Number(values.steps));
  console.log(`seed ${values.seed}, ${values.steps} steps: ${JSON.stringify(counts)}`);
} catch (error) {
  if (!values.verbose) console.log(lines.join("\n"));
  console.error(`seed ${values.seed} failed:`, error);
  process.exitCode = 1;
}
