// What a compute of ours says of itself when it connects to the page service: in libpq's `options`, as
// settings on PostgreSQL's command line are written. Whoever says nothing of it is nobody's compute, and
// is held to nothing; options of others are left alone.

import { MalformedInput } from "../core/assert.ts";
import type { StartupParameters } from "./pg-handshake.ts";

export interface ComputeOptions {
  /** The timeline's generation for which it was booted. */
  readonly generation?: number;
}

const GENERATION = "pageserver.generation";

/** What is added to a conninfo of key=value pairs. */
export const computeConninfo = (conninfo: string, { generation }: ComputeOptions): string =>
  generation === undefined ? conninfo : `${conninfo} options='-c ${GENERATION}=${generation}'`;

/** Throws MalformedInput: a generation that cannot be read must not pass for none. */
export function parseComputeOptions(parameters: StartupParameters): ComputeOptions {
  const words = (parameters.get("options") ?? "").split(/\s+/);
  const given = words.find((word) => word.startsWith(`${GENERATION}=`));
  if (given === undefined) return {};
  const text = given.slice(GENERATION.length + 1);
  const generation = Number(text);
  if (!/^\d{1,15}$/.test(text)) {
    throw new MalformedInput(`${GENERATION} is "${text.slice(0, 40)}", not a number`);
  }
  return { generation };
}
