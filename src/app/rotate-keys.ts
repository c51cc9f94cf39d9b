// `pageserver keys rotate`: every tenant's key in the place is wrapped by the newest master key. Their
// objects stay as they are. What was done stays done if it is cut short, and doing it again is harmless.

import type { AdminError } from "../core/admin-error.ts";
import { tenantPrefix } from "../core/backup/names.ts";
import { parseObjectName } from "../core/backup/object-names.ts";
import { type Result, ok } from "../core/result.ts";
import type { JobReporter } from "../http/jobs.ts";
import type { RotatedKeys } from "../protocol/api-backup.ts";
import type { Job } from "../protocol/api-work.ts";
import type { AttachDeps } from "./attach.ts";
import { refuse } from "./finder.ts";

export async function rotateKeys(deps: AttachDeps): Promise<Result<Job, AdminError>> {
  const { jobs, shared } = deps;
  const keys = shared.backup?.options.keys;
  if (keys?.masters.newest === undefined) {
    const message = "no master key is configured: set backup_key_file, and start the server again";
    return refuse({ kind: "precondition", message });
  }
  const target = keys.masters.newest.id;
  const busy = jobs.running("rotate-keys", target);
  if (busy !== undefined) {
    return refuse({ kind: "conflict", message: `job ${busy.id} rotates keys already` });
  }
  const job = jobs.start("rotate-keys", target);
  work(deps, job).then(
    (rotated) => job.done({ keys: rotated }),
    (error: unknown) => job.failed(error instanceof Error ? error.message : String(error)),
  );
  return ok(jobs.get(job.id)!);
}

async function work({ shared }: AttachDeps, job: JobReporter): Promise<RotatedKeys> {
  const { storage, keys, ready } = shared.backup!.options;
  job.step("wrap keys");
  await ready();
  const done = { rotated: 0, "newest already": 0, "not encrypted": 0 };
  let after = "tenants/";
  for (;;) {
    job.signal.throwIfAborted();
    const { objects } = await storage.list("tenants/", after);
    const last = objects.at(-1);
    if (last === undefined) break;
    const found = objects.map(({ name }) => parseObjectName(name)).find((one) => one !== undefined);
    if (found === undefined || !("tenant" in found)) {
      after = last.name;
      continue;
    }
    done[await keys!.rotate(found.tenant)]++;
    job.detail(`${done.rotated} rotated`);
    after = `${tenantPrefix(found.tenant)}~`; // behind all of its names
  }
  return {
    master: keys!.masters.newest!.id,
    ...{ rotated: done.rotated, unchanged: done["newest already"] },
    not_encrypted: done["not encrypted"],
  };
}
