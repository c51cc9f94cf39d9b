// Conversations that go wrong, made from a seed: well-formed ones in which bytes are changed, cut, doubled
// or thrown in. Each ends by itself, and what is heard must not be an answer that the bearer may not have.

import { WAIT_LSN_MS_MAX } from "../../src/core/limits.ts";
import { converse, message, query, startupPacket } from "../support/raw-link.ts";
import type { Random } from "./random.ts";

export interface FuzzTarget {
  readonly port: number;
  /** Of `tenant`. */
  readonly token: string;
  readonly tenant: string;
  readonly timeline: string;
  /** What the token is not for. */
  readonly other: string;
  readonly otherTimeline: string;
}

/** Conversations at a time. */
const AT_ONCE = 32;
// A mangled request may ask for WAL that is still to come: that is waited for, for a minute.
const PATIENCE_MS = WAIT_LSN_MS_MAX + 30_000;

interface Case {
  readonly pieces: readonly Buffer[];
  /** What must never be heard. */
  readonly never: RegExp;
}

// A login that succeeded: AuthenticationOk. An answer: CopyBoth, CopyOut, a row.
const LOGGED_IN = /R\0\0\0\x08\0\0\0\0/;
const ANSWERED = /W\0\0\0\x07|H\0\0\0\x07|valid_until/;

/** What went wrong, one line each. */
export async function fuzz(
  random: Random,
  cases: number,
  target: FuzzTarget,
): Promise<readonly string[]> {
  const problems: string[] = [];
  let left = cases;
  const one = async (): Promise<void> => {
    while (left-- > 0) {
      const { pieces, never } = makeCase(random, target);
      const heard = await patiently(converse(target.port, pieces, { end: true }));
      if (heard === undefined || never.test(heard)) {
        const what = heard === undefined ? "did not end" : `heard ${JSON.stringify(heard)}`;
        const said = Buffer.concat([...pieces]).toString("hex");
        problems.push(`seed ${random.seed}: ${what.slice(0, 300)} after ${said.slice(0, 600)}`);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return problems;
}

/** What was heard, also of a link that was cut; undefined when nothing ended. */
async function patiently(heard: Promise<Buffer>): Promise<string | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), PATIENCE_MS);
  });
  const text = heard.then(
    (bytes) => bytes.toString("latin1"),
    () => "",
  );
  return Promise.race([text, late]).finally(() => clearTimeout(timer));
}

function makeCase(random: Random, target: FuzzTarget): Case {
  const login = [startupPacket(), message("p", `${target.token}\0`)];
  const lease = (tenant: string, timeline: string): Buffer =>
    query(`lease lsn ${tenant} ${timeline} 0/1`);
  switch (random.between(0, 6)) {
    case 0:
      return { pieces: [bytes(random, random.between(0, 300))], never: LOGGED_IN };
    case 1:
      // Everything but a good password.
      return {
        pieces: [
          mangle(random, startupPacket()),
          message("p", `${bytes(random, random.between(0, 80)).toString("latin1")}\0`),
          lease(target.tenant, target.timeline),
        ],
        never: new RegExp(`${LOGGED_IN.source}|${ANSWERED.source}`),
      };
    case 2: {
      // A token of which something is changed.
      const at = random.between(0, target.token.length);
      const wrong = target.token.slice(0, at) + "!" + target.token.slice(at + 1);
      return { pieces: [startupPacket(), message("p", `${wrong}\0`)], never: LOGGED_IN };
    }
    case 3:
      return {
        pieces: [...login, mangle(random, query(`set ${bytes(random, 20).toString("hex")} to x`))],
        never: ANSWERED,
      };
    case 4: {
      const command = random.pick(["pagestream_v2", "pagestream_v3", "basebackup", "lease lsn"]);
      const last = command === "lease lsn" ? " 0/1" : "";
      const text = `${command} ${target.other} ${target.otherTimeline}${last}`;
      return { pieces: [...login, query(text), bytes(random, 20)], never: ANSWERED };
    }
    default: {
      const version = random.pick([2, 3]);
      const start = query(`pagestream_v${version} ${target.tenant} ${target.timeline}`);
      const requests = Array.from({ length: random.between(1, 6) }, () =>
        message("d", request(random, version)),
      );
      const broken = requests.map((one) => (random.chance(0.5) ? mangle(random, one) : one));
      return { pieces: [...login, start, ...broken], never: /internal error/ };
    }
  }
}

/** A request of the pagestream, or nearly. LSNs are such that nothing has to be waited for. */
function request(random: Random, version: number): Buffer {
  const head = version === 3 ? 25 : 17;
  const out = bytes(random, head + random.pick([0, 4, 5, 13, 17, 17, 17, 40]));
  out[0] = random.pick([0, 1, 2, 2, 2, 3, 4, 99, 255]);
  out.fill(0xff, head - 16, head - 8);
  out.writeBigUInt64BE(1n, head - 8);
  return out;
}

function mangle(random: Random, whole: Buffer): Buffer {
  const out = Buffer.from(whole);
  switch (random.between(0, 4)) {
    case 0:
      for (let n = random.between(1, 5); n > 0 && out.length > 0; n--) {
        out[random.between(0, out.length)] = random.between(0, 256);
      }
      return out;
    case 1:
      return out.subarray(0, random.between(0, out.length + 1));
    case 2:
      return Buffer.concat([out, bytes(random, random.between(1, 40))]);
    default:
      return Buffer.concat([out, out]);
  }
}

const bytes = (random: Random, length: number): Buffer =>
  Buffer.from(Array.from({ length }, () => random.between(0, 256)));
