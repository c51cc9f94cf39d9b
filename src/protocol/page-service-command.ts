// Commands of the page service, as text: docs/wire-protocol.md, "Commands". Parsed once, here; what
// is refused carries the sentence that the client sees.

import { MalformedInput } from "../core/assert.ts";
import { type TenantId, type TimelineId, parseTenantId, parseTimelineId } from "../core/ids.ts";
import { Lsn } from "../core/lsn.ts";
import { type Result, err, ok } from "../core/result.ts";

interface OnTimeline {
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
}

export type PageServiceCommand =
  | ({ readonly kind: "pagestream"; readonly version: 2 | 3 } & OnTimeline)
  | ({
      readonly kind: "basebackup";
      /** undefined: the last record. */
      readonly lsn: Lsn | undefined;
      readonly gzip: boolean;
      /** Replication slots are left out. */
      readonly replica: boolean;
    } & OnTimeline)
  | ({
      readonly kind: "fullbackup";
      readonly lsn: Lsn | undefined;
      readonly prevLsn: Lsn | undefined;
    } & OnTimeline)
  | ({
      readonly kind: "lease-lsn";
      /** Four hex digits, number and count, if the tenant was named with a shard. */
      readonly shard: string | undefined;
      readonly lsn: Lsn;
    } & OnTimeline)
  /** Drivers set parameters when they connect; nothing here depends on any. */
  | { readonly kind: "set" };

/** Parses one query. The error is the text for the client. */
export function parseCommand(query: string): Result<PageServiceCommand, string> {
  try {
    return ok(parse(query.trim()));
  } catch (error) {
    if (error instanceof MalformedInput) return err(error.message);
    throw error;
  }
}

function parse(query: string): PageServiceCommand {
  const [word, rest] = splitWord(query);
  if (rest === undefined) throw new MalformedInput(`cannot parse query: ${query}`);
  switch (word.toLowerCase()) {
    case "pagestream_v2":
      return parsePagestream(rest, 2);
    case "pagestream_v3":
      return parsePagestream(rest, 3);
    case "basebackup":
      return parseBasebackup(rest);
    case "fullbackup":
      return parseFullbackup(rest);
    case "lease": {
      const [what, parameters] = splitWord(rest);
      if (what.toLowerCase() !== "lsn" || parameters === undefined) {
        throw new MalformedInput(`invalid lease command: ${word}`);
      }
      return parseLease(parameters);
    }
    case "set":
      return { kind: "set" };
    default:
      throw new MalformedInput(`unsupported command ${word} in ${query}`);
  }
}

function parsePagestream(text: string, version: 2 | 3): PageServiceCommand {
  const words = wordsOf(text, "pagestream", 2, 2);
  return { kind: "pagestream", version, ...timelineOf(words) };
}

function parseBasebackup(text: string): PageServiceCommand {
  const words = wordsOf(text, "basebackup", 2, Infinity);
  const at = words[2];
  const flagsFrom = at === undefined || at.startsWith("--") ? 2 : 3;
  const lsn = flagsFrom === 2 || at === "latest" ? undefined : lsnOf(at!);
  const flags = words.slice(flagsFrom);
  for (const [i, flag] of flags.entries()) {
    if (flag !== "--gzip" && flag !== "--replica") {
      throw new MalformedInput(`unknown parameter for basebackup command: ${flag}`);
    }
    if (flags.indexOf(flag) !== i) {
      throw new MalformedInput(`duplicate parameter for basebackup command: ${flag}`);
    }
  }
  return {
    kind: "basebackup",
    ...timelineOf(words),
    lsn,
    gzip: flags.includes("--gzip"),
    replica: flags.includes("--replica"),
  };
}

function parseFullbackup(text: string): PageServiceCommand {
  const words = wordsOf(text, "fullbackup", 2, 4);
  const lsn = words[2] === undefined ? undefined : lsnOf(words[2]);
  const prevLsn = words[3] === undefined ? undefined : lsnOf(words[3]);
  return { kind: "fullbackup", ...timelineOf(words), lsn, prevLsn };
}

function parseLease(text: string): PageServiceCommand {
  const words = wordsOf(text, "lease lsn", 3, 3);
  const [, tenant, shard] = /^(.*?)(?:-([0-9a-fA-F]{4}))?$/.exec(words[0]!)!;
  return {
    kind: "lease-lsn",
    ...timelineOf(words, tenant),
    shard: shard?.toLowerCase(),
    lsn: lsnOf(words[2]!),
  };
}

/** The text before the first space and what follows it, or undefined if there is no space. */
function splitWord(text: string): [string, string | undefined] {
  const space = text.indexOf(" ");
  return space < 0 ? [text, undefined] : [text.slice(0, space), text.slice(space + 1)];
}

function wordsOf(text: string, command: string, min: number, max: number): readonly string[] {
  const words = text.split(/\s+/).filter((word) => word !== "");
  if (words.length < min || words.length > max) {
    throw new MalformedInput(`invalid number of parameters for ${command} command: ${text}`);
  }
  return words;
}

function timelineOf(words: readonly string[], tenant = words[0]!): OnTimeline {
  return {
    tenant: named("tenant id", tenant, parseTenantId),
    timeline: named("timeline id", words[1]!, parseTimelineId),
  };
}

const lsnOf = (word: string): Lsn => named("lsn", word, Lsn.parse);

/** The upper sentence first, then its cause: the form in which error chains are sent. */
function named<T>(what: string, word: string, parseIt: (word: string) => T): T {
  try {
    return parseIt(word);
  } catch (error) {
    if (!(error instanceof MalformedInput)) throw error;
    throw new MalformedInput(`Failed to parse ${what} from ${word}: ${error.message}`);
  }
}
