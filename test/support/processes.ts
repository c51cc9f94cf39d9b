// Processes that a page server has started, found in /proc by their parent.

import fs from "node:fs";

/** Pids of the direct children of a process. */
export function childrenOf(pid: number): readonly number[] {
  const found: number[] = [];
  for (const task of fs.readdirSync(`/proc/${pid}/task`)) {
    const text = fs.readFileSync(`/proc/${pid}/task/${task}/children`, "utf8");
    found.push(...text.trim().split(/\s+/).filter(Boolean).map(Number));
  }
  return found;
}

/** Pids of a page server's WAL redo processes. */
export function redoProcessesOf(pid: number): readonly number[] {
  return childrenOf(pid).filter((child) => commandOf(child).includes("--single"));
}

/** Arguments of a process; empty when it is gone. */
function commandOf(pid: number): readonly string[] {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    return [];
  }
}
