// /v1/backup: the place of backups as a whole.

import Type from "typebox";
import { parseTenantId } from "../core/ids.ts";
import { Lsn } from "../core/lsn.ts";
import { DrillRequest, ScrubRequest } from "../protocol/api-backup.ts";
import { Job } from "../protocol/api-work.ts";
import { Bytes, route } from "./describe.ts";
import { answer } from "./errors.ts";
import type { Management } from "./management.ts";
import { parseTenantRef, parseTimelineRef } from "./params.ts";
import type { App } from "./server.ts";

export function backupRoutes(app: App, management: Management): void {
  app.post(
    "/v1/backup/rotate-keys",
    {
      config: route("manage", "wraps the keys of tenants with the newest master key", Job, 202),
    },
    async (_request, reply) => answer(reply, await management.rotateKeys(), 202),
  );

  app.post(
    "/v1/backup/scrub",
    {
      schema: { body: ScrubRequest },
      config: route(
        "manage",
        "reads all that is in object storage, repairs what can be, deletes orphans with purge",
        Job,
        202,
      ),
    },
    async (request, reply) => {
      const { tenant_id: id, purge } = request.body;
      const tenant = id === undefined ? undefined : parseTenantId(id);
      return answer(reply, await management.scrub(tenant, purge === true ? "purge" : "keep"), 202);
    },
  );

  app.post(
    "/v1/backup/drill",
    {
      schema: { body: DrillRequest },
      config: route(
        "manage",
        "restores a sample of backups into a scratch folder and compares it with what is served",
        Job,
        202,
      ),
    },
    async (request, reply) => {
      const { tenant_id: id, seed } = request.body;
      const tenant = id === undefined ? undefined : parseTenantId(id);
      return answer(reply, await management.drill(tenant, seed), 202);
    },
  );

  app.get(
    "/v1/tenant/:tenant/timeline/:timeline/fullbackup",
    {
      schema: {
        params: Type.Object({ tenant: Type.String(), timeline: Type.String() }),
        querystring: Type.Object({
          lsn: Type.Optional(Type.String()),
          recovery: Type.Optional(Type.Boolean()),
        }),
      },
      config: route("read", "a whole data directory at an LSN, as a tar", Bytes),
    },
    async (request, reply) => {
      const tenant = parseTenantRef(request.params.tenant);
      const timeline = parseTimelineRef(request.params.timeline);
      const { lsn, recovery } = request.query;
      const at = lsn === undefined ? undefined : Lsn.parse(lsn);
      const use = recovery === true ? "recovery" : "start";
      const tar = await management.fullBackup(tenant, timeline, at, use);
      if (!tar.ok) return answer(reply, tar);
      return reply.type("application/x-tar").send(tar.value);
    },
  );
}
