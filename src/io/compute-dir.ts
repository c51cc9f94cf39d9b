// Where computes and other throw-away PostgreSQL directories live. One rule: below the data
// directory if whoever runs PostgreSQL can get there; else (a checkout under /root, a home with
// mode 0700) in /var/tmp, in a directory named after the data directory, so that a restart finds
// it again. What lies there is disposable.

import { createHash } from "node:crypto";
import { lstat, mkdir, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { type Account, PostgresProblem } from "./postgres.ts";

/** The directory under which PostgreSQL's directories are made, created if it is not there, 0755. */
export async function computeRoot(dataDir: string, account: Account): Promise<string> {
  const data = resolve(dataDir);
  const root = (await canReach(data, account)) ? join(data, "computes") : fallback(data);
  await mkdir(root, { recursive: true, mode: 0o755 });
  const made = await lstat(root);
  // In /var/tmp anybody may have been there first.
  if (!made.isDirectory() || made.uid !== (process.getuid?.() ?? made.uid)) {
    throw new PostgresProblem(`${root} is not a directory of ours; remove it`);
  }
  return root;
}

/** True when `account` may pass through `dir` and all its parents, as far as they exist. */
export async function canReach(dir: string, account: Account): Promise<boolean> {
  if (account.uid === undefined) return true;
  for (let at = resolve(dir); ; at = dirname(at)) {
    const found = await stat(at).catch(() => undefined);
    if (found !== undefined && !maySearch(found, account)) return false;
    if (at === dirname(at)) return true;
  }
}

/** POSIX: exactly one class of the mode counts. Supplementary groups are not looked at: rather too strict. */
function maySearch(
  found: { readonly mode: number; readonly uid: number; readonly gid: number },
  account: { readonly uid: number; readonly gid: number },
): boolean {
  if (found.uid === account.uid) return (found.mode & 0o100) !== 0;
  if (found.gid === account.gid) return (found.mode & 0o010) !== 0;
  return (found.mode & 0o001) !== 0;
}

function fallback(data: string): string {
  const hash = createHash("sha256").update(data).digest("hex").slice(0, 12);
  return join("/var/tmp", `pageserver-${process.getuid?.() ?? "user"}-${hash}`);
}
