// /v1/backup: the place of backups as a whole.

import { parseTenantId } from "../core/ids.ts";
import { ScrubRequest } from "../protocol/api-backup.ts";
import { Job } from "../protocol/api-work.ts";
import { route } from "./describe.ts";
import { answer } from "./errors.ts";
import type { Management } from "./management.ts";
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
}
