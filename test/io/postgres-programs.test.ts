import fs from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { findPostgres, initdb, makeServerDir, runProgram } from "../../src/io/postgres.ts";
import { PG_BIN, postgresTempDir } from "../support/postgres.ts";

test("programs are found with their version; others are named", async () => {
  const programs = await findPostgres({ major: 15, binDir: PG_BIN });
  expect(programs.version).toMatch(/^15\./);
  const other = findPostgres({ major: 14, binDir: PG_BIN });
  await expect(other).rejects.toThrow(`found instead: ${PG_BIN} (15.`);
  await expect(findPostgres({ major: 15, binDir: "/nowhere" })).rejects.toThrow("in /nowhere");
});

test.runIf(process.getuid?.() === 0)("root needs a user to run PostgreSQL as", async () => {
  const nobody = findPostgres({ major: 15, binDir: PG_BIN, osUser: "no-such-user" });
  await expect(nobody).rejects.toThrow('no usable user "no-such-user"');
  const root = findPostgres({ major: 15, binDir: PG_BIN, osUser: "root" });
  await expect(root).rejects.toThrow("refuses to run as root");
});

test("a failing program's own words are in the error", async () => {
  const programs = await findPostgres({ major: 15, binDir: PG_BIN });
  await expect(runProgram(programs, "initdb", ["--no-such-option"])).rejects.toThrow(
    "unrecognized option",
  );
});

test("a directory with content is not overwritten", async () => {
  const programs = await findPostgres({ major: 15, binDir: PG_BIN });
  const home = postgresTempDir();
  try {
    await fs.writeFile(path.join(home, "precious"), "x");
    await expect(initdb(programs, home)).rejects.toThrow("is not empty (precious");
    const made = path.join(home, "a/b");
    await makeServerDir(programs.account, made);
    expect((await fs.stat(made)).mode & 0o777).toBe(0o700);
  } finally {
    await fs.rm(home, { recursive: true });
  }
});
