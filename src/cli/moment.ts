// A moment as people write it: "now", an LSN, a time with or without a zone, a snapshot.

import { MalformedInput } from "../core/assert.ts";
import { parseTime } from "../core/time-text.ts";

/** "now", an LSN or a time to the API's fields. Throws MalformedInput. */
export function momentFields(at: string): { lsn?: string; timestamp?: string } {
  if (at === "now") return {};
  if (/^[0-9a-f]+\/[0-9a-f]+$/i.test(at)) return { lsn: at };
  return { timestamp: timeWithZone(at) };
}

/** The same, or "snapshot:NAME", to the fields of a new branch. Throws MalformedInput. */
export function branchPoint(at: string): {
  ancestor_start_lsn?: string;
  ancestor_start_timestamp?: string;
  ancestor_start_snapshot?: string;
} {
  if (at.startsWith("snapshot:")) return { ancestor_start_snapshot: at.slice("snapshot:".length) };
  const { lsn, timestamp } = momentFields(at);
  if (lsn !== undefined) return { ancestor_start_lsn: lsn };
  return timestamp === undefined ? {} : { ancestor_start_timestamp: timestamp };
}

/** A time without a zone is this machine's local time. */
function timeWithZone(text: string): string {
  if (/^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?$/.test(text)) {
    const fraction = /\.(\d+)$/.exec(text)?.[1] ?? "";
    const local = new Date(text.replace(" ", "T").replace(/\.\d+$/, ""));
    if (!Number.isNaN(local.getTime())) {
      return local.toISOString().replace(".000Z", fraction === "" ? "Z" : `.${fraction}Z`);
    }
  }
  try {
    parseTime(text);
  } catch {
    throw new MalformedInput(
      `--at: not "now", an LSN or a time: "${text}" ` +
        `(expected e.g. 0/16B3748 or 2026-01-31T10:20:30Z)`,
    );
  }
  return text;
}
