// Builds the dashboard into dist/dashboard: static files that the management API's port serves. What
// is named by the hash of its content may be kept for ever by browsers; index.html may not.

import preact from "@preact/preset-vite";
import path from "node:path";
import { build } from "vite";

const root = process.cwd();

await build({
  configFile: false,
  root: path.join(root, "src/dashboard"),
  base: "/ui/",
  plugins: [preact({ devToolsEnabled: false })],
  logLevel: "warn",
  build: {
    outDir: path.join(root, "dist/dashboard"),
    emptyOutDir: true,
    // The policy of the pages allows no script but files of ours.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
