// The page server's process for verifications: serve.ts DATADIR PAGE_PORT HTTP_PORT
//
// With CRASH_POINTS in the environment it takes messages { point, times }: when it comes to that point for
// so many times, it kills itself.

import { serve } from "../../src/main.ts";
import type { CrashPoint } from "../../src/store/crash-points.ts";

// Whoever verifies is gone: nobody would ever stop us.
process.once("disconnect", () => process.exit(1));

/** What the process waits for. */
export interface Armed {
  readonly point: string;
  readonly times: number;
}

function armable(): CrashPoint {
  let wanted = "";
  let left = 0;
  process.on("message", (armed: Armed) => {
    wanted = armed.point;
    left = armed.times;
  });
  return (name) => {
    if (name === wanted && --left === 0) process.kill(process.pid, "SIGKILL");
  };
}

const [dataDir, listenPort, httpPort] = process.argv.slice(2);
const crashPoint = process.env["CRASH_POINTS"] === undefined ? undefined : armable();
await serve({ dataDir, listenPort, httpPort }, undefined, crashPoint);
