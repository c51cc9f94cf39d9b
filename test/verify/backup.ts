// npm run verify:backup — the machine of the page server is lost again and again, with its whole data
// directory, and another one attaches from object storage. See backup-rounds.ts for what is checked.
// Last line: JSON. Exit code 1 when anything was lost or differs.
//
//   --rounds N   lost machines (10)      --seed N   which moments (printed)
//   --s3         objects in a real Ceph RADOS gateway; a local directory without

import { BackupRounds, isSound } from "./backup-rounds.ts";
import { runRounds } from "./rounds-program.ts";

await runRounds(
  "verify:backup",
  10,
  (options, flags) =>
    new BackupRounds({ ...options, scale: 2, place: flags.has("s3") ? "s3" : "local" }),
  isSound,
  ["s3"],
);
