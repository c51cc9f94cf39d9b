// A page server with a compute on it, whose disk can be made to fail: its calls go through a library
// (full-disk.c) that looks whether a flag file is there. Computes have their own disk.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import { ServerUnderTest } from "../verify/server.ts";
import { bootOn, removeServer, rowsOf } from "./computes.ts";

export interface FaultyDisk {
  readonly server: ServerUnderTest;
  /** On timeline "main", with an empty table t (n int). */
  readonly compute: ComputeInfo;
  /** The disk fails while this file is there. */
  readonly flag: string;
  readonly remove: () => Promise<void>;
}

/** `flagSetting`: FULL_DISK_FLAG or FAIL_SYNC_FLAG, see full-disk.c. */
export async function startOnFaultyDisk(
  flagSetting: "FULL_DISK_FLAG" | "FAIL_SYNC_FLAG",
): Promise<FaultyDisk> {
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), "faulty-disk-"));
  const flag = path.join(scratch, "fails");
  const library = path.join(scratch, "full-disk.so");
  const source = path.join(import.meta.dirname, "full-disk.c");
  execFileSync("cc", ["-shared", "-fPIC", "-o", library, source, "-ldl"]);
  const dataDir = fs.mkdtempSync(path.join(os.tmpdir(), "pageserver-faulty-"));
  const settings = { LD_PRELOAD: library, FULL_DISK_DIR: dataDir, [flagSetting]: flag };
  const server = new ServerUnderTest(dataDir, settings);
  await server.start();
  await server.client.createTimeline({ name: "main" });
  const compute = await bootOn(server, "main", "asynchronous");
  await rowsOf(compute.uri, "CREATE TABLE t (n int)");
  const remove = async (): Promise<void> => {
    fs.rmSync(flag, { force: true });
    await removeServer(server);
    fs.rmSync(scratch, { recursive: true, force: true });
  };
  return { server, compute, flag, remove };
}
