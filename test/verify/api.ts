// `npm run verify:api [-- --seed N --rounds N]`: every operation that the API's description names, asked
// of a running server many times, sensibly and not. Each answer is held to the description; afterwards
// the store is clean and the log knows of no fault.

import fs from "node:fs";
import { parseArgs } from "node:util";
import { conform, type Description, operations } from "../support/openapi.ts";
import { newDataDir, startTestProgram } from "../support/program.ts";

/** It would end the server that is asked; test/http tests it. */
const WITHOUT = ["POST /v1/shutdown"];

const { values } = parseArgs({
  options: { seed: { type: "string" }, rounds: { type: "string" } },
});
const first = Number(values.seed ?? 1);
const rounds = Number(values.rounds ?? 5);

const dataDir = newDataDir();
const server = await startTestProgram(dataDir);
const { client, program } = server;
const problems: string[] = [];
try {
  const main = await client.createTimeline({ name: "main" });
  const description = (await (await fetch(`${program.http}/openapi.json`)).json()) as Description;
  const say = async (method: string, url: string, body: unknown) => {
    const answer = await fetch(program.http + url, {
      method,
      ...(body !== undefined && {
        body: JSON.stringify(body),
        headers: { "content-type": "application/json" },
      }),
    });
    const type = answer.headers.get("content-type") ?? "";
    return { status: answer.status, type, body: await answer.text() };
  };
  for (let seed = first; seed < first + rounds; seed++) {
    // Deletions happened: there is a timeline to ask for again.
    await client.createTimeline({ name: "main" }).catch(() => undefined);
    const good = {
      tenant: ["default", main.tenant_id, "f".repeat(32)],
      timeline: ["main", "main", main.timeline_id, "no-such"],
      lsn: [main.last_record_lsn, main.initdb_lsn, "0/1", "FFFFFFFF/FFFFFFFF"],
      at_lsn: [main.last_record_lsn],
      ancestor_start_lsn: [main.last_record_lsn],
      ancestor_timeline_id: [main.timeline_id],
      // What would start servers or wait for long is asked of what does not exist, or for no time.
      conninfo: ["host=127.0.0.1 port=1 user=x", "colour=red", ""],
      timeout: [{ secs: 0, nanos: 0 }],
      dir: ["/proc/nowhere"],
    };
    const seen = await conform(description, say, {
      seed,
      perOperation: 10,
      good,
      without: WITHOUT,
    });
    problems.push(...seen.problems);
    process.stdout.write(
      `seed ${seed}: ${seen.operations} operations of ${operations(description).length}, ` +
        `${seen.good} good answers, ${seen.refused} refusals, ${seen.problems.length} problems\n`,
    );
  }
  const check = await fetch(`${program.http}/v1/tenant/${main.tenant_id}/check`, {
    method: "POST",
  });
  if (check.status === 200) {
    const found = (await check.json()) as { problems: string[] };
    problems.push(...found.problems);
  }
  const faults = server.lines.filter(({ msg }) => msg === "request failed");
  problems.push(...faults.map((line) => JSON.stringify(line)));
} finally {
  for (const compute of await client.computes().catch(() => [])) {
    await client.stopCompute(compute.timeline).catch(() => undefined);
  }
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  await program.stop();
  fs.rmSync(dataDir, { recursive: true, force: true });
}
for (const problem of problems) process.stdout.write(`${problem}\n`);
process.stdout.write(problems.length === 0 ? "ok\n" : `${problems.length} problems\n`);
process.exit(problems.length === 0 ? 0 : 1);
