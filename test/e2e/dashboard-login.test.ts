// The dashboard of a server that asks for tokens: nothing is shown without a good one, it stays in the
// tab and nowhere else, and a token of one tenant shows that tenant.

import fs from "node:fs";
import path from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Client } from "../../src/http/client.ts";
import { buildDashboard, hasBrowser, openBrowser, picture, visit } from "../support/browser.ts";
import { type TestProgram, newDataDir, startTestProgram } from "../support/program.ts";
import { ed25519Key, sign } from "../support/tokens.ts";

const TENANT = "a".repeat(32);

describe.runIf(hasBrowser)("logging in", () => {
  const dir = newDataDir();
  const key = ed25519Key();
  let browser: Browser;
  let server: TestProgram;

  beforeAll(async () => {
    buildDashboard();
    fs.writeFileSync(path.join(dir, "key.pem"), key.pem);
    const flags = { authKeys: path.join(dir, "key.pem") };
    [browser, server] = await Promise.all([
      openBrowser(),
      startTestProgram(path.join(dir, "data"), flags),
    ]);
    const admin = await sign(key, { scope: "pageserverapi" });
    await new Client(server.program.http, "default", admin).createTenant(TENANT);
  });

  afterAll(async () => {
    await browser?.close();
    await server?.program.stop();
    fs.rmSync(dir, { recursive: true, force: true });
  });

  test("with no token, a bad one, and one of the server", async () => {
    const { page, complaints } = await visit(browser, server.program.http);
    const field = page.getByLabel("Token");
    await field.waitFor();
    expect(await page.getByRole("navigation").count()).toBe(0);
    const bad = await sign(ed25519Key(), { scope: "pageserverapi" });
    await field.fill(bad);
    await page.keyboard.press("Enter");
    await page.getByRole("alert").filter({ hasText: "JWT authentication error" }).waitFor();
    await picture(page, "dashboard-login");

    const good = await sign(key, { scope: "pageserverapi" });
    await field.fill(good);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByText("No timelines yet").waitFor();
    await page.reload();
    await page.getByText("No timelines yet").waitFor();
    // Only this tab keeps it: neither a cookie nor storage that outlives it, nor the address.
    expect(await page.context().cookies()).toEqual([]);
    const { origins } = await page.context().storageState();
    expect(JSON.stringify(origins)).not.toContain(good);
    expect(page.url()).not.toContain(good);

    await page.getByRole("button", { name: "Log out" }).click();
    await field.waitFor();
    await page.reload();
    await field.waitFor();
    expect(complaints).toEqual([]);
  });

  test("a token of one tenant shows it, and says what it does not", async () => {
    const { page, complaints } = await visit(browser, server.program.http);
    await page.getByLabel("Token").fill(await sign(key, { scope: "tenant", tenant_id: TENANT }));
    await page.keyboard.press("Enter");
    await page.getByText("aaaaaaaa…").waitFor();
    await page.getByRole("link", { name: "Supervision" }).click();
    await page.getByText("needs a token of scope pageserverapi").waitFor();
    expect(complaints).toEqual([]);
  });
});
