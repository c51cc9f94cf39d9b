// The page service as stock libpq sees it, through psql.

import { execFile } from "node:child_process";
import { afterEach, describe, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import { err, ok } from "../../src/core/result.ts";
import { TRUSTED } from "../../src/core/permission.ts";
import {
  MISSING,
  type PageServiceOptions,
  TENANT,
  TIMELINE,
  type TestPageService,
  emptySource,
  startPageService,
} from "../support/page-service.ts";

let service: TestPageService | undefined;
afterEach(async () => {
  await service?.stop();
  service = undefined;
});

interface Said {
  readonly code: number;
  readonly out: Buffer;
  readonly error: string;
}

/** Runs psql with commands, one query each, against a page service with these options. */
async function psql(
  options: PageServiceOptions,
  commands: readonly string[],
  conninfo = "",
): Promise<Said> {
  service ??= await startPageService(options);
  const target = `host=127.0.0.1 port=${service.port} dbname=x user=u ${conninfo}`;
  const args = ["-X", "-A", "-t", "-w", "-d", target, ...commands.flatMap((c) => ["-c", c])];
  return new Promise((resolve) => {
    execFile(
      "psql",
      args,
      {
        encoding: "buffer",
        timeout: 20_000,
        maxBuffer: 1 << 26,
        env: { PATH: process.env["PATH"] },
      },
      (error, out, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
        resolve({ code, out, error: stderr.toString() });
      },
    );
  });
}

describe("psql", () => {
  test("a lease is a row, a refused one NULL", async () => {
    const options = { lease: (lsn: Lsn) => (lsn === 0x10 ? 1_700_000_000_123 : undefined) };
    const said = await psql(options, [
      `lease lsn ${TENANT} ${TIMELINE} 0/10`,
      "\\pset null refused",
      `lease lsn ${TENANT} ${TIMELINE} 0/20`,
      "SET datestyle TO 'ISO'",
    ]);
    expect(said.error).toBe("");
    expect(said.code).toBe(0);
    expect(said.out.toString().split("\n")).toContain("1700000000123");
    expect(said.out.toString().split("\n")).toContain("refused");
  });

  test("errors are shown with their text; the next command runs", async () => {
    const said = await psql({ lease: () => 7 }, [
      "select 1",
      `basebackup ${TENANT} ${MISSING}`,
      `lease lsn ${TENANT} ${TIMELINE} 0/10`,
    ]);
    expect(said.error).toContain("ERROR:  unsupported command select in select 1");
    expect(said.error).toContain("ERROR:  not found");
    expect(said.out.toString()).toBe("7\n");
  });

  test("a backup comes out byte for byte", async () => {
    const tar = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) >> 5));
    const said = await psql(
      {
        backupSource: () => ok(emptySource(Lsn.of(16), Lsn.of(0))),
        serveBackup: async function* () {
          await Promise.resolve();
          for (let at = 0; at < tar.length; at += 70_000) yield tar.subarray(at, at + 70_000);
        },
      },
      [`fullbackup ${TENANT} ${TIMELINE}`],
    );
    expect(said.error).toBe("");
    expect(said.out.equals(tar)).toBe(true);
  });

  test("encryption is declined: preferred goes on without, required fails on the client", async () => {
    const lease = [`lease lsn ${TENANT} ${TIMELINE} 0/10`];
    const preferred = await psql({ lease: () => 1 }, lease, "sslmode=prefer gssencmode=prefer");
    expect(preferred.out.toString()).toBe("1\n");
    const required = await psql({}, lease, "sslmode=require");
    expect(required.code).toBe(2);
    expect(required.error).toContain("does not support SSL");
    expect(service!.lines).toEqual([]);
  });

  test("a token as password: asked for, checked, refused", async () => {
    const options: PageServiceOptions = {
      lease: () => 1,
      authenticate: () => ({
        kind: "ask-password",
        check: async (token) =>
          token === "secret" ? ok(TRUSTED) : err("JWT authentication error"),
      }),
    };
    const lease = [`lease lsn ${TENANT} ${TIMELINE} 0/10`];
    expect((await psql(options, lease, "password=secret")).out.toString()).toBe("1\n");
    const refused = await psql(options, lease, "password=wrong");
    expect(refused.code).toBe(2);
    expect(refused.error).toContain("JWT authentication error");
    expect(service!.lines).toMatchObject([{ msg: "login refused: JWT authentication error" }]);
  });

  test("too many connections are said in words", async () => {
    const many = await psql({ connectionsMax: 0 }, ["set x"]);
    expect(many.code).toBe(2);
    expect(many.error).toContain("more than 0 connections");
  });
});
