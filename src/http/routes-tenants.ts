// /v1/tenant: list, show, create.

import Type from "typebox";
import { parseTenantId } from "../core/ids.ts";
import { CreateTenantRequest } from "../protocol/api.ts";
import { answer } from "./errors.ts";
import type { Management } from "./management.ts";
import { parseTenantRef } from "./params.ts";
import type { App } from "./server.ts";

const Params = Type.Object({ tenant: Type.String() });

export function tenantRoutes(app: App, management: Management): void {
  app.get("/v1/tenant", { config: { permission: "manage" } }, async (_request, reply) =>
    answer(reply, await management.listTenants()),
  );

  app.get(
    "/v1/tenant/:tenant",
    { schema: { params: Params }, config: { permission: "read" } },
    async (request, reply) =>
      answer(reply, await management.getTenant(parseTenantRef(request.params.tenant))),
  );

  app.post(
    "/v1/tenant",
    { schema: { body: CreateTenantRequest }, config: { permission: "manage" } },
    async (request, reply) => {
      const id = request.body.new_tenant_id;
      return answer(
        reply,
        await management.createTenant(id === undefined ? undefined : parseTenantId(id)),
        201,
      );
    },
  );
}
