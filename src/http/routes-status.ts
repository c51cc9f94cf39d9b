// /v1/status, /v1/shutdown and the check of a tenant's store.

import Type from "typebox";
import { checkPermission } from "../core/permission.ts";
import { ok } from "../core/result.ts";
import { Alive, CheckReport, Reloaded, Status } from "../protocol/api-status.ts";
import { claimsOfRequest } from "./authorize.ts";
import { Nothing, Text, route } from "./describe.ts";
import { answer } from "./errors.ts";
import type { Management } from "./management.ts";
import { parseTenantRef } from "./params.ts";
import type { App } from "./server.ts";

const TenantParams = Type.Object({ tenant: Type.String() });
const CheckQuery = Type.Object({ fetch: Type.Optional(Type.Boolean()) });

export function statusRoutes(app: App, management: Management): void {
  app.get(
    "/v1/status",
    {
      config: route(
        "open",
        "the state of the server; without permission to manage it, that it is there",
        Type.Union([Status, Alive]),
      ),
    },
    async (request, reply) => {
      const status = await management.status();
      const all = checkPermission(claimsOfRequest(request), { kind: "manage" }).ok;
      if (all || !status.ok) return answer(reply, status);
      const alive: Alive = { id: status.value.id };
      return answer(reply, ok(alive));
    },
  );

  // Names tenants and timelines, so it is not for everybody: Prometheus can send a bearer's token.
  const metrics = route("manage", "metrics in Prometheus's text format", Text);
  app.get("/metrics", { config: metrics }, async (_request, reply) => {
    const text = await management.metrics();
    if (!text.ok) return answer(reply, text);
    return reply.type("text/plain; version=0.0.4; charset=utf-8").send(text.value);
  });

  const shutdown = route("manage", "begins an orderly stop", Nothing, 202);
  app.post("/v1/shutdown", { config: shutdown }, async (_request, reply) =>
    answer(reply, await management.shutdown(), 202),
  );

  // The first is Neon's name for it.
  for (const path of ["/v1/reload_auth_validation_keys", "/v1/reload"]) {
    const config = route(
      "manage",
      "reads public keys and certificate again, all or none",
      Reloaded,
    );
    app.post(path, { config }, async (_request, reply) => answer(reply, await management.reload()));
  }

  app.post(
    "/v1/tenant/:tenant/check",
    {
      schema: { params: TenantParams, querystring: CheckQuery },
      config: route(
        "read",
        "walks the store of a tenant and reports every broken invariant",
        CheckReport,
      ),
    },
    async (request, reply) => {
      const remote = request.query.fetch === true ? "fetch" : "count";
      return answer(reply, await management.check(parseTenantRef(request.params.tenant), remote));
    },
  );
}
