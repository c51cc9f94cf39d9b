// Completion follows the commands: what is offered is what may be written there. The script for bash is
// run by bash; zsh and fish read the same lines.

import { execFileSync } from "node:child_process";
import path from "node:path";
import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { type Names, candidates } from "../../src/cli/complete.ts";
import { program } from "../../src/cli/main.ts";
import { runCli } from "./run-cli.ts";

const names: Names = async (kind) =>
  ({ timeline: ["main", "staging"], tenant: ["a".repeat(32)], job: ["job-1"] })[kind];

const words = async (...line: readonly string[]): Promise<readonly string[]> =>
  (await candidates(program(), line, names)).map(({ word }) => word);

describe("candidates", () => {
  test("commands, and those that begin so", async () => {
    expect(await words("")).toEqual(expect.arrayContaining(["serve", "timeline", "job", "doctor"]));
    expect(await words("")).not.toContain("complete");
    expect(await words("ti")).toEqual(["timeline"]);
    expect(await words("timeline", "li")).toEqual(["list"]);
    expect(await words("nonsense", "")).toEqual([]);
  });

  test("options of the command and of all commands", async () => {
    expect(await words("compute", "start", "--p")).toEqual(["--port"]);
    expect(await words("timeline", "list", "--j")).toEqual(["--json"]);
  });

  test("names of the server's where a name is wanted, and nowhere else", async () => {
    expect(await words("timeline", "show", "")).toEqual(["main", "staging"]);
    expect(await words("compute", "start", "--port", "5432", "st")).toEqual(["staging"]);
    expect(await words("branch", "main", "")).toEqual([]);
    expect(await words("compute", "start", "--port", "")).toEqual([]);
    expect(await words("job", "wait", "")).toEqual(["job-1"]);
    expect(await words("--tenant", "")).toEqual(["a".repeat(32)]);
    expect(await words("completion", "")).toEqual(["bash", "zsh", "fish"]);
  });

  test("every command can be reached word by word", async () => {
    const walk = async (command: Command, line: readonly string[]): Promise<void> => {
      for (const one of command.commands) {
        if (one.name() === "complete") continue;
        expect(await words(...line, one.name())).toContain(one.name());
        await walk(one, [...line, one.name()]);
      }
    };
    await walk(program(), []);
  });
});

test("bash completes with the script that it is given", async () => {
  const { out } = await runCli(["completion", "bash"]);
  const root = path.resolve(import.meta.dirname, "../..");
  const main = path.join(root, "src/cli/main.ts");
  const script = `const { run } = await import(${JSON.stringify(main)});
    process.exitCode = await run(process.argv.slice(1));`;
  const ask = (line: readonly string[]): readonly string[] => {
    const bash = `pageserver() { node --import tsx --input-type=module --eval "$CODE" -- "$@"; }
      ${out}
      COMP_WORDS=(pageserver ${line.map((word) => `'${word}'`).join(" ")})
      COMP_CWORD=${line.length}
      _pageserver
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    const env = { ...process.env, CODE: script, PAGESERVER_API: "http://127.0.0.1:1" };
    const ran = execFileSync("bash", ["-c", bash], { cwd: root, env, encoding: "utf8" });
    return ran.split("\n").filter((word) => word !== "");
  };
  expect(ask(["snapshot", "c"])).toEqual(["create"]);
  // No server answers: no names, and no error.
  expect(ask(["timeline", "show", ""])).toEqual([]);
});
