// What a compute of ours says of itself when it connects to the page service: in libpq's `options`, as
// settings on PostgreSQL's command line are written. Whoever says nothing of it is nobody's compute, and
// is held to nothing; options of others are left alone.

import { MalformedInput } from "../core/assert.ts";
import { Lsn } from "../core/lsn.ts";
import type { StartupParameters } from "./pg-handshake.ts";

export interface ComputeOptions {
  /** The timeline's generation for which it was booted. */
  readonly generation?: number | undefined;
  /** The moment that it shows, whatever it asks for. */
  readonly at?: Lsn | undefined;
  /** The system identifier in its own pg_control: it says that of itself, its conninfo does not. */
  readonly systemId?: string | undefined;
}

const GENERATION = "pageserver.generation";
const AT = "pageserver.at";
const SYSTEM_ID = "pageserver.system_id";

/** What is added to a conninfo of key=value pairs. */
export function computeConninfo(
  conninfo: string,
  { generation, at }: Omit<ComputeOptions, "systemId">,
): string {
  const words = [
    ...(generation === undefined ? [] : [`-c ${GENERATION}=${generation}`]),
    ...(at === undefined ? [] : [`-c ${AT}=${Lsn.format(at)}`]),
  ];
  return words.length === 0 ? conninfo : `${conninfo} options='${words.join(" ")}'`;
}

/** Throws MalformedInput: what cannot be read must not pass for none. */
export function parseComputeOptions(parameters: StartupParameters): ComputeOptions {
  const words = (parameters.get("options") ?? "").split(/\s+/);
  const given = (name: string): string | undefined =>
    words.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1);
  const [generation, at, systemId] = [given(GENERATION), given(AT), given(SYSTEM_ID)];
  return {
    ...(generation !== undefined && { generation: Number(digits(GENERATION, generation, 15)) }),
    ...(at !== undefined && { at: Lsn.parse(at) }),
    // Of 64 bits: too many for a number.
    ...(systemId !== undefined && { systemId: digits(SYSTEM_ID, systemId, 20) }),
  };
}

function digits(name: string, text: string, most: number): string {
  if (/^\d+$/.test(text) && text.length <= most) return text;
  throw new MalformedInput(`${name} is "${text.slice(0, 40)}", not a number`);
}
