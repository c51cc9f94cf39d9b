// The dashboard's files over HTTP: what browsers are told to allow and to keep, and that there is no
// way from their paths to other files.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, expect, test } from "vitest";
import { readDashboard } from "../../src/app/dashboard-files.ts";
import { err } from "../../src/core/result.ts";
import { buildApp } from "../../src/http/server.ts";
import { memoryManagement } from "./memory-management.ts";

const dir = fs.mkdtempSync(path.join(os.tmpdir(), "dashboard-"));
fs.mkdirSync(path.join(dir, "assets"));
fs.writeFileSync(path.join(dir, "index.html"), "<!doctype html>");
fs.writeFileSync(path.join(dir, "assets/index-0a1B_2c3.js"), "let a;");
fs.writeFileSync(path.join(dir, "assets/plain.css"), "a{}");
fs.writeFileSync(path.join(dir, "secret.pem"), "no kind of file that a browser asks for");
afterAll(() => fs.rmSync(dir, { recursive: true }));

const app = buildApp(memoryManagement(), {
  host: "127.0.0.1",
  onUnexpected: () => undefined,
  // Nobody has a token: the pages are there all the same.
  checkToken: () => Promise.resolve(err("none is good")),
  files: readDashboard(dir),
});

const get = (url: string, headers: Readonly<Record<string, string>> = {}) =>
  app.inject({ method: "GET", url, headers: { host: "127.0.0.1", ...headers } });

test("the page, with the policy that shuts everything foreign out", async () => {
  const redirect = await get("/");
  expect([redirect.statusCode, redirect.headers["location"]]).toEqual([302, "/ui/"]);
  for (const url of ["/ui", "/ui/", "/ui/index.html"]) {
    const page = await get(url);
    expect([page.statusCode, page.body]).toEqual([200, "<!doctype html>"]);
    expect(page.headers).toMatchObject({
      "content-type": "text/html; charset=utf-8",
      "cache-control": "no-cache",
      "x-content-type-options": "nosniff",
      "x-frame-options": "DENY",
      "referrer-policy": "no-referrer",
    });
    const policy = String(page.headers["content-security-policy"]);
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/unsafe|\*|https?:/);
  }
});

test("what is named by its content is kept for ever, the rest is asked for again", async () => {
  const script = await get("/ui/assets/index-0a1B_2c3.js");
  expect(script.headers).toMatchObject({
    "content-type": "text/javascript; charset=utf-8",
    "cache-control": "public, max-age=31536000, immutable",
  });
  const style = await get("/ui/assets/plain.css");
  expect(style.headers["cache-control"]).toBe("no-cache");
  const again = await get("/ui/assets/plain.css", {
    "if-none-match": String(style.headers["etag"]),
  });
  expect([again.statusCode, again.body]).toEqual([304, ""]);
});

test.each([
  "/ui/secret.pem",
  "/ui/assets",
  "/ui/../package.json",
  "/ui/%2e%2e/%2e%2e/etc/passwd",
  "/ui/..%2f..%2fetc%2fpasswd",
  "/ui/constructor",
  `/ui/${"a/".repeat(400)}`,
])("nothing at %s", async (url) => {
  const { statusCode, body } = await get(url);
  expect([404, 401, 414]).toContain(statusCode);
  expect(body).toMatch(/^\{"msg":/);
});

test("a checkout in which it was not built says how it is", async () => {
  expect(readDashboard(path.join(dir, "nowhere")).size).toBe(0);
  const bare = buildApp(memoryManagement(), { host: "127.0.0.1", onUnexpected: () => undefined });
  const page = await bare.inject({ method: "GET", url: "/ui/", headers: { host: "127.0.0.1" } });
  expect([page.statusCode, page.json<{ msg: string }>().msg]).toEqual([
    404,
    expect.stringContaining("npm run build:dashboard"),
  ]);
});
