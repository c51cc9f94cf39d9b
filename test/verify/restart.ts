// npm run verify:restart — the page server is killed (SIGKILL) at random moments, 20 times, while
// pgbench runs on a primary that it follows and on a compute that it serves. See restart-rounds.ts
// for what is checked. Last line: JSON. Exit code 1 when anything was lost or differs.
//
//   --rounds N   kills (20)      --seed N   which moments (printed)

import { RestartRounds, isGood } from "./restart-rounds.ts";
import { runRounds } from "./rounds-program.ts";

await runRounds(
  "verify:restart",
  20,
  (options) => new RestartRounds({ ...options, scale: 3 }),
  isGood,
);
