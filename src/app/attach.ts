// `tenant attach` and `tenant restore`: a tenant is taken over from object storage, as a job with steps.

import { attachTenant } from "../actors/backup-attach.ts";
import type { Directory } from "../actors/directory.ts";
import { type ActorRef, ask } from "../actors/runtime.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import type { TenantsMsg } from "../actors/tenants.ts";
import type { AdminError } from "../core/admin-error.ts";
import type { TenantId } from "../core/ids.ts";
import { WAIT_LSN_MS_MAX } from "../core/limits.ts";
import { type Result, ok } from "../core/result.ts";
import type { JobBook, JobReporter } from "../http/jobs.ts";
import type { Job } from "../protocol/api-work.ts";
import { fileExists } from "../store/data-dir.ts";
import { refuse } from "./finder.ts";

export interface AttachDeps {
  readonly shared: TenantShared;
  readonly directory: Directory;
  readonly tenants: ActorRef<TenantsMsg>;
  readonly jobs: JobBook;
}

export async function attach(
  deps: AttachDeps,
  id: TenantId,
  layers: "when-read" | "fetch",
): Promise<Result<Job, AdminError>> {
  const { directory, jobs, shared } = deps;
  if (shared.backup === undefined) {
    const message = "no backup is configured: start the server with --backup PLACE";
    return refuse({ kind: "precondition", message });
  }
  if (directory.tenants.has(id) || directory.unusable.has(id)) {
    const remedy =
      "delete it here first (tenant delete --keep-backup), or use the machine that has it";
    return refuse({ kind: "conflict", message: `tenant ${id} is here already; ${remedy}` });
  }
  const busy = jobs.running("attach", id) ?? jobs.running("restore", id);
  if (busy !== undefined) {
    return refuse({ kind: "conflict", message: `job ${busy.id} attaches tenant ${id} already` });
  }
  const job = jobs.start(layers === "fetch" ? "restore" : "attach", id);
  work(deps, id, layers, job).then(
    () => job.done({}),
    (error: unknown) => job.failed(error instanceof Error ? error.message : String(error)),
  );
  return ok(jobs.get(job.id)!);
}

async function work(
  deps: AttachDeps,
  id: TenantId,
  layers: "when-read" | "fetch",
  job: JobReporter,
): Promise<void> {
  const { shared, directory, tenants } = deps;
  job.step("take over");
  const backup = shared.backup!;
  await attachTenant({
    ...{ backup, dataDir: shared.dataDir, tenant: id },
    warmUpBytes: layers === "fetch" ? 0 : backup.options.warmUpBytes,
    onProgress: (done, of) => job.detail(`${done} of ${of} timelines`),
  });
  job.step("load");
  await ask<TenantsMsg, unknown>(
    tenants,
    (reply) => ({ kind: "create", id, reply }),
    WAIT_LSN_MS_MAX,
  );
  await untilLoaded(directory, id);
  if (layers === "fetch") await fetchAll(deps, id, job);
}

async function untilLoaded(directory: Directory, id: TenantId): Promise<void> {
  for (;;) {
    const timelines = [...(directory.tenants.get(id)?.timelines.values() ?? [])];
    const waiting = timelines.filter(({ facts }) => facts.phase.kind === "loading");
    if (directory.tenants.has(id) && waiting.length === 0) return;
    const why = directory.unusable.get(id);
    if (why?.startsWith("it cannot") === true) throw new Error(`tenant ${id}: ${why}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Every layer of every timeline; a layer that is merged meanwhile is not needed. */
async function fetchAll(
  { shared, directory }: AttachDeps,
  id: TenantId,
  job: JobReporter,
): Promise<void> {
  job.step("fetch");
  const timelines = [...(directory.tenants.get(id)?.timelines.values() ?? [])];
  const wanted = timelines.flatMap(({ store }) =>
    (store?.map.layers ?? []).map(({ entry, layer }) => ({ tenant: id, path: layer.path, entry })),
  );
  const absent = wanted.filter(({ path }) => !fileExists(path));
  const total = absent.reduce((sum, { entry }) => sum + entry.bytes, 0);
  let done = 0;
  job.progress(0, total);
  const { fetcher } = shared.backup!;
  const each = absent.map(async (layer) => {
    await fetcher.fetch(layer, "background");
    done += layer.entry.bytes;
    job.progress(done, total);
  });
  await Promise.all(each);
}
