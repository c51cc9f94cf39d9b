// `npm run verify:security [-- --cases N --seed N]`: a server that asks for tokens, in a process of its
// own, and everything that should not work: bytes of all kinds at login, as commands and in a pagestream;
// tokens of every bad kind on both ports; a thousand idle links, two hundred busy ones, and a tenant
// that floods. Nothing crashes or leaks, nobody is answered without permission, no secret is written.

import { createHmac } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { Client } from "../../src/http/client.ts";
import { PageClient } from "../support/page-client.ts";
import { newDataDir } from "../support/program.ts";
import { type TestKey, ed25519Key, rsaKey, sign } from "../support/tokens.ts";
import { Random } from "./random.ts";
import { fuzz } from "./security-fuzz.ts";
import { floodFairness, manyConnections } from "./security-load.ts";
import { SecureServer } from "./security-server.ts";

const { values } = parseArgs({
  options: { cases: { type: "string" }, seed: { type: "string" }, links: { type: "string" } },
});
const links = Number(values.links ?? 1_000);
const cases = Number(values.cases ?? 100_000);
const seed = Number(values.seed ?? 1);
const AUDIENCE = "verify";

const problems: string[] = [];
const say = (text: string): void => void process.stdout.write(`${text}\n`);
const expect = (holds: boolean, what: string): void => {
  if (!holds) problems.push(what);
};

const dir = newDataDir();
const key = ed25519Key();
fs.writeFileSync(path.join(dir, "key.pem"), key.pem);
const server = await SecureServer.start(dir, [
  `auth_keys = "${dir}/key.pem"`,
  `auth_audience = "${AUDIENCE}"`,
]);
const secrets: string[] = [];
const token = async (
  claims: Record<string, unknown>,
  times = {},
  by: TestKey = key,
): Promise<string> => {
  const made = await sign(by, { aud: AUDIENCE, ...claims }, times);
  secrets.push(made);
  return made;
};

try {
  const manager = await token({ scope: "pageserverapi" });
  const client = new Client(server.api, "default", manager);
  const main = await client.createTimeline({ name: "main" });
  const tenant = main.tenant_id;
  const other = (await client.createTenant("b".repeat(32))).id;
  const neighbour = await new Client(server.api, other, manager).createTimeline({ name: "main" });

  say("tokens that are not good");
  await badTokens(tenant);

  say(`${cases} cases of bytes, seed ${seed}`);
  const before = server.usage();
  const own = await token({ scope: "tenant", tenant_id: tenant });
  const at = { tenant, timeline: main.timeline_id, other, otherTimeline: neighbour.timeline_id };
  const warm = Math.min(5_000, Math.ceil(cases / 5));
  const options = { port: server.port, token: own, ...at };
  problems.push(...(await fuzz(new Random(seed), warm, options)));
  const warmed = server.usage();
  problems.push(...(await fuzz(new Random(seed + 1), cases - warm, options)));
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  const after = server.usage();
  say(`  descriptors ${before.descriptors} -> ${after.descriptors}`);
  say(`  memory ${warmed.rssMiB} -> ${after.rssMiB} MiB`);
  expect(after.descriptors <= before.descriptors + 8, "descriptors are left open");
  expect(after.rssMiB <= warmed.rssMiB + 96, "memory has grown with the number of cases");
  expect((await client.status()).state === "running", "the server still runs");

  say("a thousand idle links and two hundred busy ones");
  const target = { port: server.port, token: own, tenant, timeline: main.timeline_id };
  say(`  ${JSON.stringify(await manyConnections(target, links, links / 5))}`);
  say("a tenant that floods");
  const quiet = { port: server.port, tenant: other, timeline: neighbour.timeline_id };
  const fair = await floodFairness(target, { ...quiet, token: manager }, 5);
  for (const round of fair.rounds) say(`  ${JSON.stringify(round)}`);
  expect(fair.ratio <= 3, `the neighbour's p99 is ${fair.ratio} times its quiet value`);

  const written = server.output();
  for (const secret of secrets) {
    const [, payload, signature] = secret.split(".");
    for (const part of [secret, payload!, signature!]) {
      expect(part === "" || !written.includes(part), "a token is in the log");
    }
  }
  expect(!/crashed|internal error/.test(written), "the log knows of a crash");
} catch (error) {
  problems.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
} finally {
  await server.stop();
  fs.rmSync(dir, { recursive: true, force: true });
}
for (const problem of problems.slice(0, 50)) say(problem);
say(problems.length === 0 ? "ok" : `${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);

/** None of them gets in, on either port. */
async function badTokens(tenant: string): Promise<void> {
  const good = { scope: "pageserverapi" };
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + 3_600;
  const body = part({ ...good, aud: AUDIENCE, exp });
  const hs256 = `${part({ alg: "HS256" })}.${body}`;
  const bad: Readonly<Record<string, string>> = {
    expired: await token(good, { expiresInS: -60 }),
    "not valid yet": await token(good, { notBeforeInS: 600 }),
    "without an end": await token(good, { expiresInS: undefined }),
    "for another audience": await token({ ...good, aud: "elsewhere" }),
    "of another key": await token(good, {}, ed25519Key()),
    "of another algorithm": await token(good, {}, rsaKey()),
    "alg none": `${part({ alg: "none" })}.${body}.`,
    "HS256 with the public key": `${hs256}.${createHmac("sha256", key.pem).update(hs256).digest("base64url")}`,
    "of an unknown scope": await token({ scope: "admin" }),
    "of a tenant without one": await token({ scope: "tenant" }),
    nothing: "",
  };
  for (const [what, text] of Object.entries(bad)) {
    const refused = await PageClient.connect({ port: server.port, password: text }).then(
      () => false,
      () => true,
    );
    expect(refused, `page service: a token ${what} was accepted`);
    const headers = { authorization: `Bearer ${text}` };
    const { status } = await fetch(`${server.api}/v1/tenant`, { headers });
    expect(status === 401, `HTTP: a token ${what} was answered with ${status}`);
  }
  const foreign = await token({ scope: "tenant", tenant_id: "c".repeat(32) });
  const headers = { authorization: `Bearer ${foreign}` };
  const { status } = await fetch(`${server.api}/v1/tenant/${tenant}`, { headers });
  expect(status === 403, `HTTP: another tenant's token was answered with ${status}`);
}
