// Puts what a timeline holds in memory into sealed layers, on demand: before a planned restart, or to
// see what it costs. Nothing depends on it; what is durable is durable before.

import type { TenantHandle, TimelineHandle } from "../actors/directory.ts";
import { ask } from "../actors/runtime.ts";
import type { TimelineMsg } from "../actors/timeline-messages.ts";
import type { AdminError } from "../core/admin-error.ts";
import { CHECKPOINT_MS_MAX } from "../core/limits.ts";
import { type Result, err, ok } from "../core/result.ts";
import type { JobReporter } from "../http/jobs.ts";
import type { TimelineInfo } from "../protocol/api.ts";
import { timelineInfo } from "./info.ts";
import { unlessCancelled } from "./long-work.ts";

/** Answered when every record that was visible before is in a sealed layer. A seal that has begun is not cancelled. */
export async function checkpoint(
  tenant: TenantHandle,
  timeline: TimelineHandle,
  job: JobReporter,
): Promise<Result<TimelineInfo, AdminError>> {
  const { id, name } = timeline.entry;
  job.step("seal");
  // While one layer is being sealed the open one cannot be frozen: the second turn takes that one.
  for (let turn = 0; turn < 2; turn++) {
    unlessCancelled(job);
    const sealed = await ask<TimelineMsg, Result<undefined, string>>(
      timeline.ref,
      (reply) => ({ kind: "seal-now", reply }),
      CHECKPOINT_MS_MAX,
    );
    if (sealed === "timed-out") {
      const message = `"${name}" is still sealing after ${CHECKPOINT_MS_MAX / 1000} s`;
      return err({ kind: "unavailable", message });
    }
    if (!sealed.ok) return err({ kind: "unavailable", message: `"${name}": ${sealed.error}` });
  }
  return ok(timelineInfo(tenant, tenant.timelines.get(id) ?? timeline));
}
