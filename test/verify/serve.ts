// The page server's process for verifications: serve.ts DATADIR PAGE_PORT HTTP_PORT

import { serve } from "../../src/main.ts";

// Whoever verifies is gone: nobody would ever stop us.
process.once("disconnect", () => process.exit(1));

const [dataDir, listenPort, httpPort] = process.argv.slice(2);
await serve({ dataDir, listenPort, httpPort });
