// Tests of the whole program start servers and PostgreSQL clusters: they run one file at a time,
// after the quick ones, so that a slow machine does not fail them by being busy.

import { defineConfig } from "vitest/config";

const SLOW = ["test/e2e/**/*.test.ts"];

// Not read by anything else: vitest asks for a default export.
export default defineConfig({
  test: {
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    projects: [
      {
        extends: true,
        test: {
          name: "quick",
          include: ["test/**/*.test.ts"],
          exclude: SLOW,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "e2e",
          include: SLOW,
          fileParallelism: false,
          testTimeout: 300_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
