// Requests made from the API's own description, and answers held to it. Most requests are sensible, some
// are not; every answer must have a status and a body that the description names, and none may be our
// fault (500). Seeds make runs repeatable.

import type { TSchema } from "typebox";
import { Errors } from "typebox/value";
import { Random } from "../verify/random.ts";

interface Media {
  readonly schema?: TSchema;
}
interface Body {
  readonly content?: Readonly<Record<string, Media>>;
}
export interface Operation {
  readonly summary?: string;
  readonly parameters?: readonly {
    readonly in: "path" | "query";
    readonly name: string;
    readonly required?: boolean;
    readonly schema: TSchema;
  }[];
  readonly requestBody?: Body;
  readonly responses: Readonly<Record<string, Body>>;
}
export interface Description {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

export interface Described {
  readonly method: string;
  readonly path: string;
  readonly operation: Operation;
}

export const operations = ({ paths }: Description): readonly Described[] =>
  Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      ...{ method: method.toUpperCase(), path, operation },
    })),
  );

export interface Said {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}
type Say = (method: string, url: string, body: unknown) => Promise<Said>;

export interface ConformOptions {
  readonly seed: number;
  readonly perOperation: number;
  /** Values that mean something, by name of a parameter or of a field of a body. */
  readonly good?: Readonly<Record<string, readonly unknown[]>>;
  /** Operations ("POST /v1/shutdown") that are left out. */
  readonly without?: readonly string[];
}

export interface Conformity {
  operations: number;
  good: number;
  refused: number;
  readonly problems: string[];
}

const GOOD: Readonly<Record<string, readonly unknown[]>> = {
  tenant: ["default", "000102030405060708090a0b0c0d0e0f", "f".repeat(32)],
  timeline: ["main", "main", "no-such"],
  id: ["no-such-job"],
  name: ["main", "monday"],
  lsn: ["0/16B3748", "0/1"],
  at_lsn: ["0/16B3748"],
  timestamp: ["2026-01-31T10:20:30Z"],
  ancestor_start_timestamp: ["2026-01-31T10:20:30Z"],
  key: ["000000067f000000050000400000" + "00000000", "zz"],
  rel: ["1663/5/16384"],
  block: ["0"],
  pitr_interval: ["7days", "1h"],
  conninfo: ["host=127.0.0.1 user=x"],
  wait_ms: [0],
  ancestor_name: ["main"],
};

/** Asks every operation `perOperation` times. */
export async function conform(
  description: Description,
  say: Say,
  options: ConformOptions,
): Promise<Conformity> {
  const random = new Random(options.seed);
  const seen: Conformity = { operations: 0, good: 0, refused: 0, problems: [] };
  const good = { ...GOOD, ...options.good };
  for (const described of operations(description)) {
    const { method, path, operation } = described;
    if (options.without?.includes(`${method} ${path}`) === true) continue;
    seen.operations++;
    for (let n = 0; n < options.perOperation; n++) {
      const url = urlOf(described, good, random);
      const media = operation.requestBody?.content?.["application/json"]?.schema;
      const body = media && mangled(instance(media, good, random), random);
      const answer = await say(method, url, body);
      const problem = problemOf(operation, answer);
      if (answer.status < 400) seen.good++;
      else seen.refused++;
      if (problem === undefined) continue;
      const asked = `seed ${options.seed}: ${method} ${url} ${JSON.stringify(body) ?? ""}`;
      seen.problems.push(`${asked} -> ${answer.status} ${answer.body.slice(0, 300)}: ${problem}`);
    }
  }
  return seen;
}

function problemOf(operation: Operation, { status, type, body }: Said): string | undefined {
  const { responses } = operation;
  // Nobody said that a wait may end early, but it may: as Neon has it.
  const expected = responses[status] ?? responses[`${Math.floor(status / 100)}XX`];
  const early = status === 202 && responses["200"]?.content === undefined;
  if (expected === undefined) return early ? undefined : "a status that is not described";
  if (status === 500) return "our fault";
  const [kind, media] = Object.entries(expected.content ?? {})[0] ?? [];
  if (kind === undefined || media?.schema === undefined) {
    return body === "" || body === "null" ? undefined : "a body that is not described";
  }
  if (!type.startsWith(kind)) return `content type ${type} instead of ${kind}`;
  if (kind !== "application/json") return undefined;
  const [error] = Errors(media.schema, JSON.parse(body) as unknown);
  return error && `${error.instancePath} ${error.message}`;
}

function urlOf(
  { path, operation }: Described,
  good: Readonly<Record<string, readonly unknown[]>>,
  random: Random,
): string {
  let url = path;
  const query = new URLSearchParams();
  for (const { in: where, name, required, schema } of operation.parameters ?? []) {
    const value = String(valueOf(name, schema, good, random));
    if (where === "path") url = url.replace(`{${name}}`, encodeURIComponent(value || "x"));
    else if (required === true ? random.chance(0.9) : random.chance(0.5)) query.set(name, value);
  }
  return query.size === 0 ? url : `${url}?${query.toString()}`;
}

function valueOf(
  name: string,
  schema: TSchema,
  good: Readonly<Record<string, readonly unknown[]>>,
  random: Random,
): unknown {
  const known = good[name];
  if (known !== undefined && random.chance(0.85)) return random.pick(known);
  return instance(schema, good, random);
}

/** A value that the schema allows, or nearly: patterns are met for the kinds of text that the API has. */
function instance(
  schema: TSchema,
  good: Readonly<Record<string, readonly unknown[]>>,
  random: Random,
): unknown {
  const s = schema as Readonly<Record<string, unknown>>;
  const any = (s["anyOf"] ?? s["oneOf"]) as readonly TSchema[] | undefined;
  if (any !== undefined) return instance(random.pick(any), good, random);
  if (Array.isArray(s["enum"])) return random.pick(s["enum"] as unknown[]);
  switch (s["type"]) {
    case "object": {
      const made: Record<string, unknown> = {};
      const required = (s["required"] ?? []) as readonly string[];
      for (const [name, field] of Object.entries((s["properties"] ?? {}) as object)) {
        const wanted = required.includes(name) || random.chance(0.4);
        if (wanted) made[name] = valueOf(name, field as TSchema, good, random);
      }
      return made;
    }
    case "array":
      return [];
    case "integer":
    case "number": {
      const low = Number(s["minimum"] ?? 0);
      return low + random.between(0, Math.min(1_000, Number(s["maximum"] ?? 1_000) - low) + 1);
    }
    case "boolean":
      return random.chance(0.5);
    case "null":
      return null;
    default:
      return text(String(s["pattern"] ?? ""), random);
  }
}

function text(pattern: string, random: Random): string {
  if (pattern.includes("{32}")) return random.pick(["0", "a", "f"]).repeat(32);
  if (pattern.includes("/")) return random.pick(["0/16B3748", "0/0", "FFFFFFFF/FFFFFFFF"]);
  const words = ["x", "name-1", "0", "-", "é\u0000'\"", "%2e%2e", "a".repeat(300), "{}"];
  return random.pick(words);
}

/** Now and then something that is not allowed at all. */
function mangled(body: unknown, random: Random): unknown {
  if (random.chance(0.75) || typeof body !== "object" || body === null) return body;
  const fields = Object.keys(body);
  const name = fields.length > 0 ? random.pick(fields) : "x";
  return random.pick<unknown>([
    { ...body, [name]: { nested: [1, null] } },
    { ...body, unknown_field: 1 },
    { ...body, [name]: null },
    [],
    {},
  ]);
}
