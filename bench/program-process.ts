// The whole page server as a benchmark's process, management API and computes included; ends with its parent.

import { serve } from "../src/main.ts";

export interface ProgramCommand {
  readonly dataDir: string;
  readonly pagePort: number;
  readonly httpPort: number;
}

process.on("disconnect", () => process.exit(0));
process.on("message", ({ dataDir, pagePort, httpPort }: ProgramCommand) => {
  serve({ dataDir, listenPort: pagePort, httpPort, logLevel: "error" }).then(
    () => process.exit(0),
    (error: unknown) => {
      process.stderr.write(`${String(error)}\n`);
      process.exit(1);
    },
  );
  process.send?.({ value: 0 });
});
