// The API's description: every route is in it, with what it takes and answers, and answers what it says.

import { Check, Errors } from "typebox/value";
import Type, { type TSchema } from "typebox";
import { beforeEach, expect, test } from "vitest";
import type { RouteInfo } from "../../src/http/authorize.ts";
import { type App, buildApp } from "../../src/http/server.ts";
import { ErrorBody } from "../../src/protocol/api.ts";
import { memoryManagement } from "./memory-management.ts";
import { type Description, conform, operations } from "../support/openapi.ts";

let app: App;
let routes: RouteInfo[];
let description: Description;

beforeEach(async () => {
  routes = [];
  app = buildApp(memoryManagement(), {
    host: "127.0.0.1",
    onUnexpected: (error) => {
      throw error;
    },
    onRoute: (route) => routes.push(route),
  });
  await app.ready();
  const { body } = await app.inject({ url: "/openapi.json", headers: { host: "127.0.0.1" } });
  description = JSON.parse(body) as Description;
});

test("every route is described: what it does, takes and answers", () => {
  expect(description.openapi).toMatch(/^3\.1/);
  const described = operations(description).map(({ method, path }) => `${method} ${path}`);
  const existing = routes
    .filter(({ method, path }) => method !== "HEAD" && path !== "/" && !path.startsWith("/ui"))
    .map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, "{$1}")}`);
  expect(described.sort()).toEqual(existing.sort());
  for (const { operation, path, method } of operations(description)) {
    const at = `${method} ${path}`;
    expect(operation.summary, at).toMatch(/^[a-z].{5,120}$/s);
    const codes = Object.keys(operation.responses);
    expect(codes.filter((code) => /^2\d\d$/.test(code)).length, at).toBe(1);
    expect(codes, at).toContain("4XX");
    for (const name of path.matchAll(/\{(\w+)\}/g)) {
      const given = operation.parameters?.some((p) => p.in === "path" && p.name === name[1]);
      expect(given, `${at}: ${name[1]}`).toBe(true);
    }
  }
});

test("answers are what the description says, for requests made from it", async () => {
  await app.inject({
    method: "POST",
    url: "/v1/tenant/default/timeline",
    headers: { host: "127.0.0.1" },
    payload: { name: "main" },
  });
  const say = async (method: string, url: string, body: unknown) => {
    const answer = await app.inject({
      method: method as "GET",
      url,
      headers: { host: "127.0.0.1" },
      ...(body !== undefined && { payload: body as object }),
    });
    const type = String(answer.headers["content-type"] ?? "");
    return { status: answer.statusCode, type, body: answer.body };
  };
  const seen = await conform(description, say, { seed: 1, perOperation: 20 });
  expect(seen.problems).toEqual([]);
  expect(seen.operations).toBe(operations(description).length);
  // Good answers and refusals both came up.
  expect(seen.good).toBeGreaterThan(100);
  expect(seen.refused).toBeGreaterThan(100);
});

test("the check can fail", () => {
  const schema: TSchema = Type.Object({ a: Type.Number() });
  expect(Check(schema, { a: "x" })).toBe(false);
  expect(Errors(ErrorBody, { msg: 1 }).length).toBeGreaterThan(0);
});
