import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { createLog } from "../../src/io/log.ts";

function lineOf(pretty: boolean, write: (log: ReturnType<typeof createLog>) => void): string {
  const lines: string[] = [];
  write(createLog({ level: "debug", to: { write: (line) => lines.push(line) }, pretty }));
  expect(lines).toHaveLength(1);
  return lines[0]!;
}

const SECRET = "hunter2";

describe("log", () => {
  test("carries the fields of its parents", () => {
    const line = lineOf(false, (log) =>
      log.child({ tenant: "t1" }).child({ timeline: "l1" }).warn({ lsn: "0/10" }, "stalled"),
    );
    expect(JSON.parse(line)).toMatchObject({
      tenant: "t1",
      timeline: "l1",
      lsn: "0/10",
      msg: "stalled",
    });
  });

  test.each([
    ["URI", `postgres://me:${SECRET}@db:5432/x`],
    ["URI with odd characters", `postgresql://me:${SECRET}"\\@${SECRET}@db/x`],
    ["URI parameter", `postgresql://db/x?password=${SECRET}&sslmode=require`],
    ["conninfo", `host=db password=${SECRET} port=1`],
    ["conninfo with quotes", `host=db password = 'a \\' ${SECRET}' port=1`],
    ["conninfo with a backslash at its end", `host=db password='${SECRET}\\\\' port=1`],
    ["conninfo with a double quote", `host=db password=a"${SECRET} port=1`],
    ["TLS key", `host=db sslpassword=${SECRET}`],
  ])("a password does not get out: %s", (_name, text) => {
    for (const pretty of [false, true]) {
      for (const line of [
        lineOf(pretty, (log) => log.info(text)),
        lineOf(pretty, (log) => log.info({ conninfo: text }, "connecting")),
        lineOf(pretty, (log) => log.error({ err: new Error(`failed: ${text}`) }, "failed")),
      ]) {
        expect(line).not.toContain(SECRET);
        expect(line).toContain("***");
        if (!pretty) expect(() => JSON.parse(line)).not.toThrow();
      }
    }
  });

  test("a field called password does not get out", () => {
    expect(lineOf(false, (log) => log.info({ login: { password: SECRET } }, "x"))).not.toContain(
      SECRET,
    );
  });

  test("that cannot be written ends nothing, and goes on when it can", async () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), "log-test-"));
    const fd = fs.openSync(path.join(dir, "log"), "a");
    const real = fs.writeSync;
    const full = Object.assign(new Error("ENOSPC"), { code: "ENOSPC" });
    const log = createLog({ level: "info", to: fd, pretty: false });
    try {
      Object.assign(fs, {
        writeSync: () => {
          throw full;
        },
      });
      for (let i = 0; i < 5_000; i++) log.info({ fill: "x".repeat(1_000) }, `line ${i}`);
      await new Promise((resolve) => setImmediate(resolve));
    } finally {
      Object.assign(fs, { writeSync: real });
    }
    for (let i = 0; i < 3; i++) log.info("there is room again");
    const text = fs.readFileSync(path.join(dir, "log"), "utf8");
    expect(text).toContain("line 0");
    expect(text).toContain("there is room again");
    expect(text.length, "what waits is bounded").toBeLessThan(2 * 1024 * 1024);
    fs.closeSync(fd);
    fs.rmSync(dir, { recursive: true });
  });

  test("other text stays as it is", () => {
    const text = "postgres://db:5432/x, host=db port=1, passwords are not needed";
    expect(lineOf(false, (log) => log.info(text))).toContain(text);
  });
});

test("another level counts at once, for children that were made before, too", () => {
  const lines: string[] = [];
  const log = createLog({
    level: "warn",
    to: { write: (line) => lines.push(JSON.parse(line).msg) },
    pretty: false,
  });
  const child = log.child({ tenant: "t" });
  const grandchild = child.child({ timeline: "x" });
  const all = (when: string): void => {
    for (const one of [log, child, grandchild]) {
      one.debug(`debug ${when}`);
      one.warn({ n: 1 }, `warn ${when}`);
    }
  };
  all("before");
  log.setLevel("debug");
  all("after");
  log.setLevel("silent");
  all("silent");
  expect(lines).toEqual([
    ...["warn before", "warn before", "warn before"],
    ...["debug after", "warn after", "debug after", "warn after", "debug after", "warn after"],
  ]);
});
