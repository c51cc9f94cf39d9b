// Moments as text. Inside they are Unix microseconds in a double (exact until the year 2255), the
// resolution of PostgreSQL's commit times; outside RFC 3339, as Neon's management API has them.

import { MalformedInput } from "./assert.ts";

//                    date              T or space  time                fraction       zone
const RFC_3339 =
  /^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?\s?([Zz]|[+-]\d{2}(?::?\d{2})?)$/;

/** Unix microseconds of an RFC 3339 time; also psql's form ("2026-01-31 10:20:30.123456+00"). Throws MalformedInput. */
export function parseTime(text: string): number {
  const match = RFC_3339.exec(text);
  if (match === null) throw notATime(text);
  const [, date, time, fraction = "", zone] = match;
  const ms = Date.parse(`${date}T${time}${normalZone(zone!)}`);
  if (!Number.isFinite(ms)) throw notATime(text);
  return ms * 1000 + Number(fraction.padEnd(6, "0").slice(0, 6));
}

/** "2026-01-31T10:20:30.123456Z" */
export function formatTime(unixUs: number): string {
  const ms = Math.floor(unixUs / 1000);
  const us = String(unixUs - ms * 1000).padStart(3, "0");
  return new Date(ms).toISOString().replace("Z", `${us}Z`);
}

function normalZone(zone: string): string {
  if (zone === "Z" || zone === "z") return "Z";
  const digits = zone.slice(1).replace(":", "").padEnd(4, "0");
  return `${zone[0]}${digits.slice(0, 2)}:${digits.slice(2)}`;
}

function notATime(text: string): MalformedInput {
  return new MalformedInput(
    `not a time with a zone: "${text}" (expected e.g. 2026-01-31T10:20:30Z)`,
  );
}
