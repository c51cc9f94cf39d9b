// A disk that is fuller than it should be, in the whole program: layers leave it, and whoever needs them
// finds them: computes, checks and whoever asks why history is kept. Then the tenant is let go here and
// taken back from its backup, as a person types it.

import { afterAll, beforeAll, expect, test } from "vitest";
import type { BackupInfo } from "../../src/protocol/api.ts";
import { type Ran, runCli } from "../cli/run-cli.ts";
import { bootOn, haltOn, removeServer, rowsOf, valueOf } from "../support/computes.ts";
import { type BackupPlace, openPlace } from "../verify/backup-place.ts";
import { ServerUnderTest } from "../verify/server.ts";

const SUM = "SELECT count(*) || ' ' || sum(hashtext(body)::bigint) FROM rows";
/** Some 16 MB that do not compress well: merging gives them files of their own. */
const FILL = `CREATE TABLE rows AS SELECT n, (SELECT string_agg(md5(n::text || i::text), '')
  FROM generate_series(1, 60) i) AS body FROM generate_series(1, 8000) n`;

let place: BackupPlace;
let server: ServerUnderTest;
let tenant = "";
let sum = "";

const cli = (...args: readonly string[]): Promise<Ran> =>
  runCli(args, { PAGESERVER_API: server.client.url });
const backupOf = (info: { readonly backup?: BackupInfo }): BackupInfo => info.backup!;
const untilAway = () =>
  server.reached("main", (info) => (backupOf(info).remote_layers ?? 0) > 0).then(backupOf);

async function rowsThere(): Promise<string> {
  const { uri } = await bootOn(server, "main");
  const found = await valueOf(uri, SUM);
  await haltOn(server, "main");
  return found;
}

beforeAll(async () => {
  place = await openPlace("local");
  const marks = { PAGESERVER_EVICT_HIGH: "2MB", PAGESERVER_EVICT_LOW: "1MB" };
  const floor = { PAGESERVER_EVICT_FLOOR: "0" };
  server = new ServerUnderTest(undefined, { ...place.environment, ...marks, ...floor });
  await server.start();
  await server.client.createTimeline({ name: "main" });
  const { uri } = await bootOn(server, "main");
  await rowsOf(uri, FILL);
  sum = await valueOf(uri, SUM);
  await haltOn(server, "main");
  await server.client.compact("main");
  tenant = (await server.client.timeline("main")).tenant_id;
}, 180_000);

afterAll(async () => {
  await removeServer(server);
  await place.end();
});

test("above the mark layers leave the disk, and what is read comes back", async () => {
  const { remote_bytes: away } = await untilAway();
  expect(away).toBeGreaterThan(1_000_000);
  const { code, out } = await cli("check");
  expect(out).toMatch(/^clean: .*\n[1-9]\d* layers are remote, not checked \(use --fetch\)/);
  expect(code).toBe(0);
  const kept = await cli("timeline", "retention", "main");
  expect(kept.out).toMatch(/^ {2}remote .* layers; to know for what: .* --fetch$/m);
  expect(kept.out).not.toMatch(/^ {2}window/m);

  const all = await cli("check", "--fetch", "--json");
  expect(JSON.parse(all.out)).toMatchObject({ problems: [], remote_layers: 0 });
  expect((await cli("timeline", "retention", "main", "--fetch")).out).toMatch(/^ {2}window/m);
  await untilAway();
  expect(await rowsThere()).toBe(sum);
}, 180_000);

test("a tenant that is let go with its backup kept is taken back", async () => {
  const gone = await cli("tenant", "delete", tenant, "--recursive", "--keep-backup");
  expect(gone).toMatchObject({ code: 0, err: "" });
  expect(gone.out).toContain(`deleted tenant ${tenant}`);
  expect((await cli("tenant", "attach", tenant)).code).toBe(0);
  expect(await rowsThere()).toBe(sum);
}, 180_000);
