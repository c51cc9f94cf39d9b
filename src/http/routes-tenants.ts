// /v1/tenant: list, show, create, delete.

import Type from "typebox";
import { parseTenantId } from "../core/ids.ts";
import { ok } from "../core/result.ts";
import { CreateTenantRequest, DeletedTenant, TenantInfo } from "../protocol/api.ts";
import { Job } from "../protocol/api-work.ts";
import { route } from "./describe.ts";
import { answer } from "./errors.ts";
import type { Management } from "./management.ts";
import { parseTenantRef } from "./params.ts";
import type { App } from "./server.ts";

const Params = Type.Object({ tenant: Type.String() });

export function tenantRoutes(app: App, management: Management): void {
  app.get(
    "/v1/tenant",
    { config: route("manage", "all tenants", Type.Array(TenantInfo)) },
    async (_request, reply) => answer(reply, await management.listTenants()),
  );

  app.get(
    "/v1/tenant/:tenant",
    { schema: { params: Params }, config: route("read", "a tenant", TenantInfo) },
    async (request, reply) =>
      answer(reply, await management.getTenant(parseTenantRef(request.params.tenant))),
  );

  // By id alone: what "default" means depends on what else there is.
  const Query = Type.Object({
    recursive: Type.Optional(Type.Boolean()),
    keep_backup: Type.Optional(Type.Boolean()),
  });
  app.delete(
    "/v1/tenant/:tenant",
    {
      schema: { params: Params, querystring: Query },
      config: route(
        "manage",
        "deletes a tenant and, if asked to, all its timelines; its backup goes, too, unless it is kept",
        DeletedTenant,
      ),
    },
    async (request, reply) => {
      const id = parseTenantId(request.params.tenant);
      const { recursive, keep_backup: keep } = request.query;
      const backup = keep === true ? "keep" : "remove";
      const deleted = await management.deleteTenant(id, recursive === true, backup);
      return answer(reply, deleted.ok ? ok({ deleted: id, timelines: deleted.value }) : deleted);
    },
  );

  attachRoute(app, management);

  app.post(
    "/v1/tenant",
    {
      schema: { body: CreateTenantRequest },
      config: route(
        "manage",
        "makes a tenant; the same id again answers the existing one",
        TenantInfo,
        201,
      ),
    },
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

function attachRoute(app: App, management: Management): void {
  app.post(
    "/v1/tenant/:tenant/attach",
    {
      schema: {
        params: Params,
        querystring: Type.Object({ fetch: Type.Optional(Type.Boolean()) }),
      },
      config: route(
        "manage",
        "brings a tenant back from its backup; layers come when they are read, or at once with fetch",
        Job,
        202,
      ),
    },
    async (request, reply) => {
      const id = parseTenantId(request.params.tenant);
      const layers = request.query.fetch === true ? "fetch" : "when-read";
      return answer(reply, await management.attachTenant(id, layers), 202);
    },
  );
}
