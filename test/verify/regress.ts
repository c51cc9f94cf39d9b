// PostgreSQL's own core regression suite, run against a server that is up. Its SQL comes from the
// source package of the distribution; nothing of it is kept here.

import { execFile, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { PG_BIN, giveToPostgres, postgresIdentity } from "../support/postgres.ts";

const execute = promisify(execFile);
const RUN_MS_MAX = 1_800_000;
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

export interface Suite {
  /** src/test/regress of the sources. */
  readonly inputDir: string;
  /** Directory of the suite's C functions, compiled against the installed server. */
  readonly libraries: string;
}

const pgConfig = (what: string): string =>
  spawnSync(path.join(PG_BIN, "pg_config"), [what], { encoding: "utf8" }).stdout.trim();

/** Unpacks the source package below `home`, unless `given` is an unpacked source tree. */
export async function prepareSuite(home: string, given: string | undefined): Promise<Suite> {
  const source = given ?? (await fetchSource(path.join(home, "source")));
  const inputDir = path.join(source, "src/test/regress");
  const libraries = path.join(home, "libraries");
  fs.mkdirSync(libraries);
  const regress = path.join(inputDir, "regress.c");
  const headers = `-I${pgConfig("--includedir-server")}`;
  // Their code: their warnings.
  const args = ["-O1", "-fPIC", "-shared", "-w", headers];
  await execute("cc", [...args, "-o", path.join(libraries, "regress.so"), regress]);
  for (const name of ["refint.so", "autoinc.so"]) {
    fs.symlinkSync(path.join(pgConfig("--pkglibdir"), name), path.join(libraries, name));
  }
  return { inputDir, libraries };
}

/**
 * The newest source package that can be had: a mirror may lack the one that the installed server was
 * built from. Both servers of a verification run the same suite, so any of the major version will do.
 */
async function fetchSource(dir: string): Promise<string> {
  fs.mkdirSync(dir, { recursive: true });
  const { stdout } = await execute("apt-cache", ["showsrc", "postgresql-15"]);
  const versions = [...stdout.matchAll(/^Version: (.+)$/gm)].map(([, version]) => version!);
  versions.sort((x, y) => y.localeCompare(x, "en", { numeric: true }));
  const refused: string[] = [];
  for (const version of versions) {
    try {
      await execute("apt-get", ["source", "-qq", `postgresql-15=${version}`], { cwd: dir });
      process.stdout.write(`source package postgresql-15 ${version}\n`);
      return path.join(dir, fs.readdirSync(dir, { withFileTypes: true }).find(isDirectory)!.name);
    } catch (error) {
      refused.push(`${version}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new Error(
    "no source package of postgresql-15: enable deb-src in apt's sources and run apt-get update, or give " +
      `--source DIR with its unpacked sources\n${refused.join("\n")}`,
  );
}

const isDirectory = (entry: fs.Dirent): boolean => entry.isDirectory();

export interface SuiteRun {
  /** Port of the server; asked again after each pause. */
  readonly port: () => number;
  readonly outputDir: string;
  /** Tests that run at a time. */
  readonly connections: number;
  /** Called between the groups of tests; undefined: the whole schedule is one run. */
  readonly pause: (() => Promise<void>) | undefined;
}

/** Runs the whole schedule; gives each test's output by its name. */
export async function runSuite(suite: Suite, run: SuiteRun): Promise<ReadonlyMap<string, string>> {
  fs.mkdirSync(run.outputDir);
  giveToPostgres(run.outputDir);
  const whole = path.join(suite.inputDir, "parallel_schedule");
  if (run.pause === undefined) await runSchedule(suite, run, whole, []);
  else {
    const groups = fs
      .readFileSync(whole, "utf8")
      .split("\n")
      .filter((line) => line.startsWith("test:"));
    for (const [i, group] of groups.entries()) {
      const schedule = path.join(run.outputDir, `schedule-${i}`);
      fs.writeFileSync(schedule, `${group}\n`);
      await runSchedule(suite, run, schedule, i === 0 ? [] : ["--use-existing"]);
      await run.pause();
    }
  }
  const results = path.join(run.outputDir, "results");
  const names = fs.readdirSync(results).filter((name) => name.endsWith(".out"));
  return new Map(
    names.sort().map((name) => [name, fs.readFileSync(path.join(results, name), "utf8")]),
  );
}

async function runSchedule(
  suite: Suite,
  { port, outputDir, connections }: SuiteRun,
  schedule: string,
  more: readonly string[],
): Promise<void> {
  const args = [
    `--inputdir=${suite.inputDir}`,
    `--outputdir=${outputDir}`,
    `--bindir=${PG_BIN}`,
    `--dlpath=${suite.libraries}`,
    `--schedule=${schedule}`,
    ...["--host=127.0.0.1", `--port=${port()}`, "--user=postgres", "--max-concurrent-tests=20"],
    `--max-connections=${connections}`,
    ...more,
  ];
  const program = path.join(path.dirname(pgConfig("--pgxs")), "../test/regress/pg_regress");
  // Its status says whether the output is that of the developers' machine: we compare otherwise.
  await execute(program, args, {
    ...postgresIdentity(),
    cwd: outputDir,
    env: { PATH: process.env["PATH"] },
    timeout: RUN_MS_MAX,
    maxBuffer: OUTPUT_BYTES_MAX,
  }).catch((error: unknown) => {
    if (!fs.existsSync(path.join(outputDir, "regression.out"))) throw error;
  });
}

/** Names of the tests whose outputs are not equal. */
export function differences(
  wanted: ReadonlyMap<string, string>,
  got: ReadonlyMap<string, string>,
): readonly string[] {
  const names = new Set([...wanted.keys(), ...got.keys()]);
  return [...names].sort().filter((name) => wanted.get(name) !== got.get(name));
}
