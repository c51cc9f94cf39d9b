// A process that holds keys and tokens: a core dump of it shows which libraries it had, and none of
// its memory. Processes that it starts inherit that.

import fs from "node:fs";

/** ELF headers and nothing else; core(5), "Controlling which mappings are written". */
const FILTER = "0x10";

/** False where this system does not let us; there it is up to the limit on core dumps. */
export function keepOutOfCoreDumps(): boolean {
  try {
    fs.writeFileSync("/proc/self/coredump_filter", FILTER);
    return true;
  } catch {
    return false;
  }
}
