// The API's description (OpenAPI), made of the routes themselves: what each does, who may use it, what
// it takes and answers. Served at /openapi.json; test/http/openapi.test.ts holds the answers to it.

import swagger from "@fastify/swagger";
import Type, { type TSchema } from "typebox";
import { ErrorBody } from "../protocol/api.ts";
import type { RoutePermission } from "./authorize.ts";
import type { App } from "./server.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** One sentence, for the description. */
    does?: string;
    /** What a good answer's body is. */
    answers?: TSchema;
    /** Of a good answer. */
    status?: number;
  }
}

interface RouteConfig {
  readonly permission: RoutePermission;
  readonly does: string;
  readonly answers: TSchema;
  readonly status: number;
}

/** A route's config: who may use it, what it does, what it answers with which status. */
export const route = (
  permission: RoutePermission,
  does: string,
  answers: TSchema,
  status = 200,
): RouteConfig => ({ permission, does, answers, status });

/** A body that is not JSON, or none. */
export const Text = Type.String({ description: "text" });
export const Bytes = Type.String({ format: "binary" });
export const Nothing = Type.Null();

const VERSION = "1";

/** Adds the routes of `add` and, beside them, their description. */
export function described(app: App, add: (scope: App) => void): void {
  app.addHook("onRoute", (options) => {
    const { does, answers, status = 200, permission } = options.config ?? {};
    if (does === undefined || answers === undefined) {
      options.schema = { ...options.schema, hide: true };
      return;
    }
    const text = answers === Text ? "text/plain" : "application/octet-stream";
    const body =
      answers === Text || answers === Bytes
        ? { description: does, content: { [text]: { schema: answers } } }
        : answers;
    options.schema = {
      ...options.schema,
      summary: does,
      response: { [status]: body, "4xx": ErrorBody, "5xx": ErrorBody },
      ...(permission === "open" && { security: [] }),
    };
  });
  void app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "pageserver",
        version: VERSION,
        description:
          "Management of the page server. LSNs are strings (0/16B3748), times RFC 3339 in UTC. " +
          "Paths that Neon's page server also has have its shapes.",
      },
      components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
      security: [{ token: [] }],
    },
  });
  void app.register(async (scope) => {
    add(scope as App);
    const config = route("open", "this description", Type.Unsafe<object>({ type: "object" }));
    scope.get("/openapi.json", { config }, () => app.swagger());
  });
}
