// Text of paths, queries and command lines to domain values. Throws MalformedInput, which becomes
// a 400 with the sentence.

import { MalformedInput } from "../core/assert.ts";
import { parseTenantId, parseTimelineId } from "../core/ids.ts";
import { KEY_BYTES, KIND, readKey } from "../core/key.ts";
import { Lsn } from "../core/lsn.ts";
import {
  FORK_FSM,
  FORK_INIT,
  FORK_MAIN,
  FORK_VM,
  type RelTag,
  SPC_DEFAULT,
  SPC_GLOBAL,
} from "../core/page.ts";
import { parseTime } from "../core/time-text.ts";
import { NAME_PATTERN } from "../protocol/api.ts";
import type { BranchPoint, DumpTarget, TenantRef, TimelineRef } from "./management.ts";

const NAME = new RegExp(NAME_PATTERN);
const HEX32 = /^[0-9a-fA-F]{32}$/;
const U32_MAX = 4_294_967_295;

/** "default" or a tenant id. */
export function parseTenantRef(text: string): TenantRef {
  return text === "default" ? { kind: "default" } : { kind: "id", id: parseTenantId(text) };
}

/** A timeline's id or name. */
export function parseTimelineRef(text: string): TimelineRef {
  if (HEX32.test(text)) return { kind: "id", id: parseTimelineId(text) };
  if (NAME.test(text)) return { kind: "name", name: text };
  throw new MalformedInput(
    `not a timeline's name or id: "${text}" (a letter, then letters, digits, "_", "-" or "."; ` +
      `or 32 hex digits)`,
  );
}

/** A moment that was named in one way, or in none: then it is now. */
export function parseMoment(
  moment: {
    readonly lsn?: string | undefined;
    readonly timestamp?: string | undefined;
    readonly snapshot?: string | undefined;
  },
  prefix = "",
): BranchPoint {
  const { lsn, timestamp, snapshot } = moment;
  const given = Object.entries(moment).filter(([, value]) => value !== undefined);
  if (given.length > 1) {
    const names = given.map(([name]) => prefix + name).join(" or ");
    throw new MalformedInput(`give either ${names}, not both`);
  }
  if (lsn !== undefined) return { kind: "lsn", lsn: Lsn.parse(lsn) };
  if (timestamp !== undefined) return { kind: "time", unixUs: parseTime(timestamp) };
  if (snapshot !== undefined) return { kind: "snapshot", name: snapshot };
  return { kind: "latest" };
}

const FORKS: Readonly<Record<string, number>> = {
  main: FORK_MAIN,
  fsm: FORK_FSM,
  vm: FORK_VM,
  init: FORK_INIT,
  "0": FORK_MAIN,
  "1": FORK_FSM,
  "2": FORK_VM,
  "3": FORK_INIT,
};

/**
 * A relation fork: "1663/5/16384", "1663/5/16384.vm", "1663/5/16384.2", or as
 * pg_relation_filepath() prints it: "base/5/16384_vm", "global/1262".
 */
export function parseRel(text: string): RelTag {
  const match = /^(?:(\d+)\/(\d+)|base\/(\d+)|(global))\/(\d+)(?:[._](\w+))?$/.exec(text);
  const fork = FORKS[match?.[6] ?? "main"];
  if (match === null || fork === undefined) {
    throw new MalformedInput(
      `not a relation: "${text}" (expected tablespace/database/relfilenode[.fork], ` +
        `e.g. 1663/5/16384 or 1663/5/16384.vm)`,
    );
  }
  const [, spc, db, baseDb, global, rel] = match;
  const u32 = (digits: string): number => parseU32(digits, "relation");
  if (global !== undefined) return { spc: SPC_GLOBAL, db: 0, rel: u32(rel!), fork };
  if (baseDb !== undefined) return { spc: SPC_DEFAULT, db: u32(baseDb), rel: u32(rel!), fork };
  return { spc: u32(spc!), db: u32(db!), rel: u32(rel!), fork };
}

/** What to dump: `rel` and `block`, or `key`. */
export function parseDumpTarget(
  rel: string | undefined,
  block: string | undefined,
  key: string | undefined,
): DumpTarget {
  if (key !== undefined && rel === undefined && block === undefined) return parseKey(key);
  if (rel === undefined || block === undefined || key !== undefined) {
    throw new MalformedInput("give either rel and block, or key");
  }
  return { kind: "rel", rel: parseRel(rel), block: parseU32(block, "block") };
}

/** Our 18-byte key as 36 hex digits (core/key.ts). */
function parseKey(text: string): DumpTarget {
  const bytes = Buffer.from(text, "hex");
  if (!/^[0-9a-fA-F]*$/.test(text) || bytes.length !== KEY_BYTES) {
    throw new MalformedInput(`not a key: "${text}" (expected ${KEY_BYTES * 2} hex digits)`);
  }
  const { group, block } = readKey(
    new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    0,
  );
  if (!Object.values(KIND).includes(group.kind)) {
    throw new MalformedInput(`not a key: "${text}" (unknown kind ${group.kind})`);
  }
  return { kind: "key", group, block };
}

function parseU32(text: string, what: string): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : NaN;
  if (!(value <= U32_MAX)) throw new MalformedInput(`not a 32-bit number in ${what}: "${text}"`);
  return value;
}
