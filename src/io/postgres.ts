// PostgreSQL's own programs: where they are, as which user they run, and running them to their
// end. PostgreSQL refuses root, so a page server that runs as root runs them as user postgres.

import { execFile } from "node:child_process";
import fs from "node:fs/promises";
import path from "node:path";

import { INITDB_MS_MAX, PROGRAM_MS_MAX, PROGRAM_OUTPUT_BYTES_MAX } from "../core/limits.ts";

/** Who runs PostgreSQL: empty when it is ourselves. */
export type Account =
  { readonly uid: number; readonly gid: number } | { readonly uid?: never; readonly gid?: never };

export interface PostgresPrograms {
  readonly binDir: string;
  /** Major version, 15. */
  readonly major: number;
  /** What `postgres --version` says, e.g. "15.20". */
  readonly version: string;
  readonly account: Account;
}

/** The outside (a program, a directory, a user) is not as needed; the message says what to do. */
export class PostgresProblem extends Error {
  override readonly name = "PostgresProblem";
}

const binDirs = (major: number): readonly string[] => [
  `/usr/lib/postgresql/${major}/bin`,
  `/usr/pgsql-${major}/bin`,
  `/opt/homebrew/opt/postgresql@${major}/bin`,
  `/usr/local/opt/postgresql@${major}/bin`,
  "/usr/local/pgsql/bin",
];

/**
 * Finds the programs of one major version: in `binDir` when given (then nowhere else), else in the
 * usual places and on the PATH. `osUser` runs them when we are root. Throws PostgresProblem.
 */
export async function findPostgres(options: {
  readonly major: number;
  readonly binDir?: string;
  readonly osUser?: string;
}): Promise<PostgresPrograms> {
  const account = await postgresAccount(options.osUser ?? "postgres");
  const onPath = (process.env["PATH"] ?? "").split(path.delimiter).filter((dir) => dir !== "");
  const dirs =
    options.binDir === undefined ? [...binDirs(options.major), ...onPath] : [options.binDir];
  const seen: string[] = [];
  for (const binDir of dirs) {
    const version = await versionIn(binDir);
    if (version === undefined) continue;
    const major = Number.parseInt(version, 10);
    if (major === options.major) return { binDir, major, version, account };
    seen.push(`${binDir} (${version})`);
  }
  throw new PostgresProblem(
    `PostgreSQL ${options.major} not found in ${options.binDir ?? "the usual places and on PATH"}` +
      (seen.length > 0 ? `; found instead: ${seen.join(", ")}` : "") +
      `; install it (Debian: apt-get install postgresql-${options.major}) or name its bin directory`,
  );
}

/** Version of the server in a directory, if there is one with initdb and pg_ctl beside it. */
async function versionIn(binDir: string): Promise<string | undefined> {
  try {
    for (const name of ["postgres", "initdb", "pg_ctl"]) {
      await fs.access(path.join(binDir, name), fs.constants.X_OK);
    }
    const out = await run(path.join(binDir, "postgres"), ["--version"], {}, PROGRAM_MS_MAX);
    return /\) (\d+[^\s]*)/.exec(out)?.[1];
  } catch {
    return undefined;
  }
}

/** Who may run PostgreSQL: ourselves, or `osUser` when we are root. Throws PostgresProblem. */
async function postgresAccount(osUser: string): Promise<Account> {
  if (process.getuid?.() !== 0) return {};
  try {
    const id = async (flag: string): Promise<number> =>
      Number(await run("id", [flag, "--", osUser], {}, PROGRAM_MS_MAX));
    const account = { uid: await id("-u"), gid: await id("-g") };
    if (Number.isInteger(account.uid) && account.uid > 0) return account;
  } catch {
    // told below
  }
  throw new PostgresProblem(
    `PostgreSQL refuses to run as root, and there is no usable user "${osUser}" to run it as; ` +
      `create that user, or start the page server as an ordinary user`,
  );
}

/** Runs one of the programs to its end; gives its stdout. Throws PostgresProblem with its stderr. */
export function runProgram(
  programs: PostgresPrograms,
  name: string,
  args: readonly string[],
  timeoutMs = PROGRAM_MS_MAX,
  environment: Readonly<Record<string, string>> = {},
): Promise<string> {
  return run(path.join(programs.binDir, name), args, programs.account, timeoutMs, environment);
}

function run(
  file: string,
  args: readonly string[],
  account: Account,
  timeoutMs: number,
  environment: Readonly<Record<string, string>> = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      file,
      args,
      {
        ...account,
        cwd: "/",
        encoding: "utf8",
        timeout: timeoutMs,
        killSignal: "SIGKILL",
        maxBuffer: PROGRAM_OUTPUT_BYTES_MAX,
        // Nothing of the caller's settings (PGDATA, PGHOST, locale) may reach the server.
        env: { PATH: process.env["PATH"], LC_ALL: "C", ...environment },
      },
      (error, stdout, stderr) => {
        if (error === null) return resolve(stdout);
        const why = error.killed === true ? `no end after ${timeoutMs} ms` : error.message;
        const said = stderr.trim() || stdout.trim();
        reject(new PostgresProblem(`${path.basename(file)}: ${why}${said ? `\n${said}` : ""}`));
      },
    );
    child.stdin?.on("error", () => {}); // it may end without reading
    child.stdin?.end();
  });
}

/** Makes an empty directory, mode 0700, that belongs to whoever runs PostgreSQL. Throws when it has content. */
export async function makeServerDir(account: Account, dir: string): Promise<void> {
  await fs.mkdir(dir, { recursive: true, mode: 0o755 });
  const content = await fs.readdir(dir);
  if (content.length > 0) {
    throw new PostgresProblem(`${dir} is not empty (${content[0]} …); remove it first`);
  }
  await fs.chmod(dir, 0o700);
  if (account.uid !== undefined) await fs.chown(dir, account.uid, account.gid);
}

export interface InitdbOptions {
  /** The superuser's name. */
  readonly superuser?: string;
  /** Locale of the template databases; encoding is always UTF8. */
  readonly locale?: string;
  readonly checksums?: "on" | "off";
}

/**
 * Creates a cluster in `dir` (empty or absent), cleanly shut down. Not synced: it is read once and
 * thrown away. No password: whoever can reach it may be superuser, so it is never to be started as is.
 */
export async function initdb(
  programs: PostgresPrograms,
  dir: string,
  options: InitdbOptions = {},
): Promise<void> {
  await makeServerDir(programs.account, dir);
  const args = ["-D", dir, "-U", options.superuser ?? "postgres", "-A", "trust", "-E", "UTF8"];
  args.push(`--locale=${options.locale ?? "C.UTF-8"}`, "--no-sync", "--no-instructions");
  if (options.checksums === "on") args.push("--data-checksums");
  await runProgram(programs, "initdb", args, INITDB_MS_MAX);
}
