// Tenants, as the management API shows, makes and deletes them.

import { randomBytes } from "node:crypto";
import type { Directory, TenantHandle } from "../actors/directory.ts";
import { type ActorRef, ask } from "../actors/runtime.ts";
import type { TenantsMsg } from "../actors/tenants.ts";
import type { AdminError } from "../core/admin-error.ts";
import { type TenantId, parseTenantId } from "../core/ids.ts";
import { COMPACT_MS_MAX, WAIT_LSN_MS_MAX } from "../core/limits.ts";
import { type Result, ok } from "../core/result.ts";
import type { Management, TenantRef } from "../http/management.ts";
import { type AttachDeps, attach } from "./attach.ts";
import type { Computes } from "./computes.ts";
import { type Answer, type Finder, refuse } from "./finder.ts";
import type { Imports } from "./imports.ts";
import { drill } from "./drill.ts";
import { fullBackup } from "./full-backup.ts";
import { tenantInfo, unusableTenants } from "./info.ts";
import { asJob } from "./long-work.ts";
import type { JobReporter } from "../http/jobs.ts";
import { rotateKeys } from "./rotate-keys.ts";
import { scrub } from "./scrub.ts";

export interface TenantsDeps extends AttachDeps {
  readonly directory: Directory;
  readonly tenants: ActorRef<TenantsMsg>;
  readonly computes: Computes;
  readonly imports: Imports;
}

/** The part of the management interface that is about tenants. */
export function tenantsManagement(
  deps: TenantsDeps,
  finder: Finder,
): Pick<
  Management,
  | "listTenants"
  | "getTenant"
  | "createTenant"
  | "deleteTenant"
  | "attachTenant"
  | "scrub"
  | "drill"
  | "rotateKeys"
  | "fullBackup"
> {
  const { directory } = deps;
  return {
    listTenants: () => {
      const all = [...directory.tenants.values()];
      const usable = all.map((tenant) => tenantInfo(tenant, all.length === 1));
      return Promise.resolve(ok([...usable, ...unusableTenants(directory)]));
    },
    getTenant: (ref) =>
      finder.withTenant(ref, (tenant) => ok(tenantInfo(tenant, directory.tenants.size === 1))),
    createTenant: async (id) => {
      const tenant = await createTenant(deps, id ?? parseTenantId(randomBytes(16).toString("hex")));
      return tenant.ok ? ok(tenantInfo(tenant.value, directory.tenants.size === 1)) : tenant;
    },
    attachTenant: (id, layers) => attach(deps, id, layers),
    scrub: (id, unnamed) => scrub(deps, id, unnamed),
    drill: (id, seed) => drill(deps, id, seed),
    rotateKeys: () => rotateKeys(deps),
    fullBackup: (ref, timelineRef, at, use) =>
      finder.withTimeline(ref, timelineRef, (tenant, timeline) =>
        fullBackup(deps.shared, tenant, timeline, at, use),
      ),
    deleteTenant: (id, recursive, backup) => deleteTenant(deps, id, recursive, backup),
  };
}

async function createTenant(
  { tenants, directory }: TenantsDeps,
  id: TenantId,
): Promise<Result<TenantHandle, AdminError>> {
  const made = await ask<TenantsMsg, TenantHandle | undefined>(
    tenants,
    (reply) => ({ kind: "create", id, reply }),
    WAIT_LSN_MS_MAX,
  );
  if (made !== "timed-out" && made !== undefined) return ok(made);
  const why = directory.unusable.get(id) ?? "no answer; see the log";
  return refuse({ kind: "internal", message: `tenant ${id} could not be created: ${why}` });
}

/** Chosen once: two who need the default tenant first get the same. */
const DEFAULT_TENANT = parseTenantId(randomBytes(16).toString("hex"));

/** The default tenant is made when it is first needed. */
export async function tenantFor(
  deps: TenantsDeps,
  finder: Finder,
  ref: TenantRef,
): Promise<Result<TenantHandle, AdminError>> {
  const { tenants, unusable } = deps.directory;
  if (ref.kind === "default" && tenants.size + unusable.size === 0) {
    return createTenant(deps, DEFAULT_TENANT);
  }
  return finder.tenant(ref);
}

/** Deletes it, whole. One that is broken or damaged can be deleted, too. */
async function deleteTenant(
  deps: TenantsDeps,
  id: TenantId,
  recursive: boolean,
  backup: "keep" | "remove",
): Answer<readonly string[]> {
  const { directory, tenants, imports } = deps;
  if (!directory.tenants.has(id) && !directory.unusable.has(id)) {
    const remedy = "see: pageserver tenant list";
    return refuse({ kind: "not-found", what: `tenant ${id}`, remedy });
  }
  if (imports.runIn(id)) {
    const message = `a timeline of tenant ${id} is being made; wait until it is, or stop that`;
    return refuse({ kind: "precondition", message });
  }
  const tenant = directory.tenants.get(id);
  const names = [...(tenant?.timelines.values() ?? [])].map(({ entry }) => entry.name);
  if (!recursive && (names.length > 0 || tenant === undefined)) {
    const has = tenant === undefined ? "may have timelines" : `has ${names.length} timelines`;
    const message = `tenant ${id} ${has}; delete them first, or delete recursively`;
    return refuse({ kind: "precondition", message });
  }
  if (tenant !== undefined) {
    const busy = await inUse(deps.computes, tenant, undefined);
    if (busy !== undefined) return refuse(busy);
  }
  const work = async (job: JobReporter): Promise<Result<readonly string[], AdminError>> => {
    // Half of it deleted would be worse.
    job.pastCancelling();
    job.step("delete");
    const deleted = await ask<TenantsMsg, Result<undefined, AdminError> | undefined>(
      tenants,
      (reply) => ({ kind: "delete", id, keepBackup: backup === "keep", reply }),
      COMPACT_MS_MAX,
    );
    if (deleted === undefined || deleted === "timed-out") {
      return refuse({ kind: "unavailable", message: `tenant ${id} is still being deleted` });
    }
    return deleted.ok ? ok(names) : deleted;
  };
  return asJob(deps.jobs, "delete", id, work, (gone) => ({ deleted: gone }));
}

/** The refusal to delete what computes use; `timelines` undefined: all of the tenant. */
export async function inUse(
  computes: Computes,
  tenant: TenantHandle,
  timelines: ReadonlySet<string> | undefined,
): Promise<AdminError | undefined> {
  const all = await computes.list(tenant);
  const busy = all
    .filter(({ state }) => state !== "stopped")
    .find(({ timeline_id }) => timelines === undefined || timelines.has(timeline_id));
  if (busy === undefined) return undefined;
  const message =
    `a compute runs on "${busy.timeline}"; ` +
    `stop it first: pageserver compute stop ${busy.timeline}` +
    (busy.read_only === true ? ` --at ${busy.start_lsn}` : "");
  return { kind: "precondition", message };
}
