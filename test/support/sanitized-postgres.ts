// PostgreSQL's programs with AddressSanitizer's run-time library in them and this project's libraries built
// for it: a directory of programs like PG_BIN, whose `postgres` is a script that puts both in.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { PG_BIN, giveToPostgres, postgresTempDir } from "./postgres.ts";
import { buildPgext } from "./redo.ts";

const LIBRARIES = ["walredo.so", "compute.so", "asan_first.so"] as const;

export interface SanitizedPostgres {
  /** Like PostgreSQL's own. */
  readonly binDir: string;
  /** What the sanitizer has found so far; "" when nothing. */
  reports(): string;
  /** Of processes that run now, those with this library of ours and the sanitizer in them. */
  processesWith(library: "walredo.so" | "compute.so"): readonly number[];
  remove(): void;
}

export function sanitizedPostgres(): SanitizedPostgres {
  const built = path.join(buildPgext("asan"), "asan");
  const dir = postgresTempDir("pgasan-");
  const runtime = execFileSync("gcc", ["-print-file-name=libasan.so"], { encoding: "utf8" }).trim();
  for (const name of LIBRARIES) fs.copyFileSync(path.join(built, name), path.join(dir, name));
  for (const name of fs.readdirSync(PG_BIN)) {
    fs.symlinkSync(path.join(PG_BIN, name), path.join(dir, name));
  }
  const script = (name: string, lines: readonly string[]): void => {
    fs.rmSync(path.join(dir, name));
    fs.writeFileSync(path.join(dir, name), `${["#!/bin/sh", ...lines].join("\n")}\n`, {
      mode: 0o755,
    });
  };
  script("postgres", serverScript(dir, fs.realpathSync(runtime)));
  script("pg_ctl", [
    `case "$1" in start) set -- "$@" -p ${dir}/postgres;; esac`,
    `exec ${PG_BIN}/pg_ctl "$@"`,
  ]);
  giveToPostgres(dir);
  fs.chmodSync(dir, 0o755);
  return {
    binDir: dir,
    reports: () =>
      fs
        .readdirSync(dir)
        .filter((name) => name.startsWith("report."))
        .map((name) => fs.readFileSync(path.join(dir, name), "utf8"))
        .join("\n"),
    processesWith: (library) => processesThatMap([path.join(dir, library), "/libasan.so"]),
    remove: () => fs.rmSync(dir, { recursive: true, force: true }),
  };
}

/** WAL redo's sandbox would not let the sanitizer have its memory, nor write its report. */
const serverScript = (dir: string, runtime: string): readonly string[] => [
  "for given; do",
  "  shift",
  `  case "$given" in *walredo.so*) given="shared_preload_libraries=${dir}/walredo.so";; esac`,
  '  set -- "$@" "$given"',
  "done",
  'case "$1" in',
  '--single) shift; set -- --single -c walredo.sandbox=off "$@";;',
  `-D) set -- "$@" -c shared_preload_libraries=${dir}/compute.so;;`,
  "esac",
  `LD_PRELOAD="${runtime} ${dir}/asan_first.so"`,
  `ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=1:disable_coredump=1:log_path=${dir}/report`,
  "UBSAN_OPTIONS=print_stacktrace=1",
  "export LD_PRELOAD ASAN_OPTIONS UBSAN_OPTIONS",
  `exec ${PG_BIN}/postgres "$@"`,
];

function processesThatMap(files: readonly string[]): readonly number[] {
  const pids = fs.readdirSync("/proc").map(Number).filter(Number.isInteger);
  return pids.filter((pid) => {
    try {
      const maps = fs.readFileSync(`/proc/${pid}/maps`, "utf8");
      return files.every((file) => maps.includes(file));
    } catch {
      return false; // it has ended
    }
  });
}
