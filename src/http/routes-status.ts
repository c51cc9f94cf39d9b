// /v1/status, /v1/shutdown and the check of a tenant's store.

import Type from "typebox";
import { answer } from "./errors.ts";
import type { Management } from "./management.ts";
import { parseTenantRef } from "./params.ts";
import type { App } from "./server.ts";

const TenantParams = Type.Object({ tenant: Type.String() });

export function statusRoutes(app: App, management: Management): void {
  app.get("/v1/status", async (_request, reply) => answer(reply, await management.status()));

  app.post("/v1/shutdown", async (_request, reply) =>
    answer(reply, await management.shutdown(), 202),
  );

  app.post(
    "/v1/tenant/:tenant/check",
    { schema: { params: TenantParams } },
    async (request, reply) =>
      answer(reply, await management.check(parseTenantRef(request.params.tenant))),
  );
}
