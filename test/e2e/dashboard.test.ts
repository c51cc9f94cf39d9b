// The dashboard as a person uses it, in a real browser: a moment on the slider becomes a branch, a
// compute is started there and used, its charts move. Nothing is asked of any other server.

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Visit,
  buildDashboard,
  hasBrowser,
  openBrowser,
  picture,
  visit,
} from "../support/browser.ts";
import { bootOn, removeServer, rowsOf, valueOf } from "../support/computes.ts";
import { ServerUnderTest } from "../verify/server.ts";

/** What is waited for in the browser, ms. */
const SEEN_MS_MAX = 60_000;

describe.runIf(hasBrowser)("the dashboard in Chromium", () => {
  const server = new ServerUnderTest();
  let browser: Browser;
  let seen: Visit;

  beforeAll(async () => {
    buildDashboard();
    [browser] = await Promise.all([openBrowser(), server.start()]);
    await server.client.createTimeline({ name: "main" });
    const { uri } = await bootOn(server, "main");
    await rowsOf(uri, "CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id");
    await server.client.createTimeline({ name: "early", ancestor_name: "main" });
    seen = await visit(browser, server.client.url);
    seen.page.setDefaultTimeout(SEEN_MS_MAX);
  });

  afterAll(async () => {
    await browser?.close();
    await removeServer(server);
  });

  const chart = (page: Page, title: string) =>
    page.locator("figure", { hasText: title }).locator("output");

  test("from an accident to a compute on the moment before it", async () => {
    const { page } = seen;
    const [main] = (await server.client.computes()).map(({ uri }) => uri);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const before = await valueOf(main!, "SELECT clock_timestamp()::timestamptz(0)::text");
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    await rowsOf(main!, "DELETE FROM orders WHERE id > 10");

    await page.getByRole("link", { name: /^main: / }).click();
    await page.getByRole("heading", { level: 1, name: "main" }).waitFor();
    const slider = page.getByRole("slider", { name: "Moment" });
    await slider.focus();
    await page.keyboard.press("Home");
    const first = Number(await slider.inputValue());
    const steps = Math.floor(Date.parse(before) / 1000) - first;
    for (let i = 0; i < steps; i++) await page.keyboard.press("ArrowRight");
    await page.getByText(/^LSN [0-9A-F]+\/[0-9A-F]+$/).waitFor();
    await page.getByLabel("Name", { exact: true }).fill("before");
    await picture(page, "dashboard-moment");
    await page.keyboard.press("Enter");

    await page.getByRole("heading", { level: 1, name: "before" }).waitFor();
    await page.getByRole("button", { name: "Start" }).click();
    const line = await page.getByText(/^psql postgresql:/).innerText();
    const uri = line.replace("psql ", "");
    expect(await valueOf(uri, "SELECT count(*) FROM orders")).toBe("1000");
    expect(await valueOf(main!, "SELECT count(*) FROM orders")).toBe("10");
  });

  test("the charts of its timeline move", async () => {
    const { page } = seen;
    const { uri } = (await server.client.computes()).find(({ timeline }) => timeline === "before")!;
    const charts = page.getByRole("region", { name: "The last five minutes" });
    await chart(page, "Pages read").waitFor();
    const still = await charts.screenshot();
    const moves = async (title: string, moving: RegExp): Promise<void> => {
      await expect
        .poll(() => chart(page, title).innerText(), { timeout: SEEN_MS_MAX })
        .toMatch(moving);
    };
    const work = async (): Promise<void> => {
      for (let i = 0; i < 8; i++) {
        await rowsOf(uri, "INSERT INTO orders SELECT generate_series(1, 20000)");
        await rowsOf(uri, "SELECT count(*) FROM pg_proc, pg_class");
      }
    };
    await Promise.all([
      work(),
      moves("WAL received", /[1-9].* (KiB|MiB)\/s/),
      moves("Pages read", /[1-9].*\/s/),
      moves("Time of a read", /[1-9].* (ms|s)/),
    ]);
    await expect.poll(async () => (await charts.screenshot()).equals(still)).toBe(false);
    await picture(page, "dashboard-timeline");
    await page.emulateMedia({ colorScheme: "dark" });
    await picture(page, "dashboard-timeline-dark");
    await page.emulateMedia({ colorScheme: "light" });
  });

  test("the tree, the computes, the actors and the jobs", async () => {
    const { page } = seen;
    const pages = page.getByRole("navigation", { name: "Pages" });
    await pages.getByRole("link", { name: "Branches" }).click();
    await page.getByRole("link", { name: /^before: .*compute runs/ }).waitFor();
    await page.getByRole("row", { name: /early Active main at/ }).waitFor();
    await picture(page, "dashboard-branches");
    await page.emulateMedia({ colorScheme: "dark" });
    await picture(page, "dashboard-branches-dark");
    await page.emulateMedia({ colorScheme: "light" });

    await pages.getByRole("link", { name: "Supervision" }).click();
    await page
      .getByText(/^redo-worker/)
      .first()
      .waitFor();
    await picture(page, "dashboard-supervision");

    await pages.getByRole("link", { name: "Computes" }).click();
    await picture(page, "dashboard-computes");
    await page
      .getByRole("region", { name: "before" })
      .getByRole("button", { name: "Stop" })
      .click();
    await page.getByRole("region", { name: "before" }).getByText("stopped").waitFor();
    expect(await server.client.computes()).toContainEqual(
      expect.objectContaining({ timeline: "before", state: "stopped" }),
    );

    await pages.getByRole("link", { name: /^Jobs/ }).click();
    await page.getByRole("region", { name: "compute-stop of before" }).getByText("done").waitFor();
    await picture(page, "dashboard-jobs");
  });

  test("a refusal is said, and the way back is a key away", async () => {
    const { page } = seen;
    await page.goBack();
    await page.goto(`${server.client.url}/ui/#/tenant/${"0".repeat(32)}`);
    await page
      .getByRole("alert")
      .filter({ hasText: /does not exist/ })
      .waitFor();
    await page.goto(`${server.client.url}/ui/#/`);
    await page.getByRole("link", { name: /^main: / }).waitFor();
    const skip = page.getByRole("link", { name: "Skip to the page" });
    await skip.focus();
    await page.keyboard.press("Enter");
    expect(await page.locator("main:focus").count()).toBe(1);
  });

  test("nothing was logged as an error, nothing came from elsewhere", () => {
    expect(seen.complaints).toEqual([]);
  });
});
