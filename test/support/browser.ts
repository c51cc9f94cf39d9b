// A real browser for the dashboard: Debian's Chromium without a screen. Whatever a page asks of
// another server, logs as an error or throws is kept: a test ends with none of that.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { type Browser, type Page, chromium } from "playwright-core";
import { ROOT } from "./source-tree.ts";

const PROGRAM = "/usr/bin/chromium";
const QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"];
const ALONE = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"];

/** CI keeps what lies there. */
const SCREENSHOTS = path.join(ROOT, ".ci/artifacts");

/** False where no browser is installed: its tests are skipped there (scripts/setup.sh says so). */
export const hasBrowser = fs.existsSync(PROGRAM);

/** From the sources as they are. */
export function buildDashboard(): void {
  const build = ["--import", "tsx", path.join(ROOT, "scripts/build-dashboard.ts")];
  execFileSync(process.execPath, build, { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
}

export const openBrowser = (): Promise<Browser> =>
  chromium.launch({ executablePath: PROGRAM, args: [...QUIET, ...ALONE] });

export interface Visit {
  readonly page: Page;
  /** Errors of the page, and requests that left for elsewhere. */
  readonly complaints: readonly string[];
}

/** A page of the server at `url` in a profile of its own. */
export async function visit(browser: Browser, url: string): Promise<Visit> {
  const context = await browser.newContext({ viewport: { width: 1180, height: 820 } });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    // Browsers log refusals by themselves; the page says them where they matter.
    const refusal = /^Failed to load resource: the server responded/.test(message.text());
    if (message.type() === "error" && !refusal) complaints.push(message.text());
  });
  page.on("response", (response) => {
    if (response.status() === 500) complaints.push(`500 for ${response.url()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(`${url}/`)) complaints.push(`asked for ${request.url()}`);
  });
  await page.goto(url);
  return { page, complaints };
}

/** The whole page as it looks, kept under that name. */
export async function picture(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`), fullPage: true });
}
