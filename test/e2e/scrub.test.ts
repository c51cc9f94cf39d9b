// `pageserver scrub` against the whole program: the report, the exit code, the repair, the purge.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { LocalStorage } from "../../src/io/objects/local.ts";
import type { ScrubInfo } from "../../src/protocol/api-backup.ts";
import { runCli } from "../cli/run-cli.ts";
import { flip, nameWith, namesOf } from "../support/damaged-storage.ts";
import { type TestProgram, newDataDir, startTestProgram } from "../support/program.ts";
import { until } from "../support/replication.ts";

const dataDir = newDataDir();
const root = fs.mkdtempSync(path.join(os.tmpdir(), "scrub-e2e-"));
const storage = new LocalStorage(root);
let server: TestProgram;

beforeAll(async () => {
  const flags = { backup: `file://${root}`, backupPurgeAgeS: 1 };
  server = await startTestProgram(dataDir, flags);
  await server.client.createTimeline({ name: "main" });
  await until(
    "a layer is named",
    async () => {
      const [manifest] = (await namesOf(storage)).filter((name) => name.endsWith("manifest.json"));
      return (
        manifest !== undefined && /"object":/.test(String((await storage.get(manifest)).bytes))
      );
    },
    60_000,
  );
}, 120_000);
afterAll(async () => {
  await server.program.stop();
  for (const dir of [dataDir, root]) fs.rmSync(dir, { recursive: true, force: true });
});

async function scrub(...args: string[]) {
  const ran = await runCli(["scrub", "--json", ...args], { PAGESERVER_API: server.program.http });
  return { ...ran, report: JSON.parse(ran.out) as ScrubInfo };
}

test(
  "damage is repaired from the local copy, and orphans go on request",
  { timeout: 60_000 },
  async () => {
    const clean = await scrub();
    expect(clean).toMatchObject({ code: 0, report: { remaining: 0, tenants: 1, timelines: 1 } });
    const layer = await nameWith(storage, "/layers/");
    await flip(storage, layer, 5_000);
    const repaired = await scrub();
    expect(repaired).toMatchObject({ code: 0, report: { remaining: 0, repaired: 1 } });
    expect(repaired.report.problems).toMatchObject([{ kind: "corrupt", name: layer }]);

    const orphan = `${layer.slice(0, -8)}0badc0de`;
    await storage.put(orphan, Buffer.from("x"));
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    const found = await scrub(layer.split("/")[1]!);
    expect(found).toMatchObject({ code: 1, report: { remaining: 1 } });
    expect(found.err).toContain("1 problems remain");
    expect(await scrub("--purge")).toMatchObject({ code: 0, report: { deleted: 1, remaining: 0 } });
    expect(await namesOf(storage, orphan)).toEqual([]);
  },
);

test(
  "a tenant that is not there, and no backup at all, are refused",
  { timeout: 60_000 },
  async () => {
    const ran = await runCli(["scrub", "0".repeat(32)], { PAGESERVER_API: server.program.http });
    expect(ran).toMatchObject({ code: 1 });
    expect(ran.err).toMatch(/there is no backup of tenant 0{32} in file:/);
    const other = newDataDir();
    const without = await startTestProgram(other);
    const refused = await runCli(["scrub"], { PAGESERVER_API: without.program.http });
    expect(refused).toMatchObject({ code: 1 });
    expect(refused.err).toContain("no backup is configured: start the server with --backup PLACE");
    await without.program.stop();
    fs.rmSync(other, { recursive: true });
  },
);
