// Where the WAL of a cleanly stopped cluster ends.

import type { Lsn } from "../../src/core/lsn.ts";
import { readControl } from "../../src/io/data-dir.ts";
import { checkpointEnd } from "../../src/protocol/backup/start-checkpoint.ts";
import { DB_STATE, readControlFile } from "../../src/protocol/control-file.ts";

/** End of the shutdown checkpoint. Throws when the cluster was not stopped cleanly. */
export async function shutdownEnd(dataDir: string): Promise<Lsn> {
  const control = readControlFile(await readControl(dataDir), 15);
  if (control.state !== DB_STATE.SHUTDOWNED) throw new Error(`${dataDir} was not stopped cleanly`);
  return checkpointEnd(control.checkPoint);
}
