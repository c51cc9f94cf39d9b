// npm run verify:crash — the page server is killed 100 times, at random instants and at every step around
// sealing, merging, committing and unlinking, while it follows a primary under load and branches come and
// go. See crash-rounds.ts for what is checked. Last line: JSON. Exit code 1 when anything is wrong.
//
//   --rounds N   kills (100)      --seed N   which moments (printed)

import { CrashRounds, isSound } from "./crash-rounds.ts";
import { runRounds } from "./rounds-program.ts";

await runRounds(
  "verify:crash",
  100,
  (options) => new CrashRounds({ ...options, scale: 2 }),
  isSound,
);
