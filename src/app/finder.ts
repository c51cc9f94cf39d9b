// From the references of a request to the tenant and the timeline that they name, or to the refusal
// that says what is not there.

import type { Directory, TenantHandle, TimelineHandle } from "../actors/directory.ts";
import { ask } from "../actors/runtime.ts";
import type { TimelineMsg } from "../actors/timeline-messages.ts";
import type { AdminError } from "../core/admin-error.ts";
import { WAIT_LSN_MS_MAX } from "../core/limits.ts";
import { type Result, err, ok } from "../core/result.ts";
import { StoreCorrupt } from "../store/store-errors.ts";
import type { Management, TenantRef, TimelineRef } from "../http/management.ts";

export type Answer<T> = Promise<Result<T, AdminError>>;

export const refuse = (error: AdminError): Result<never, AdminError> => err(error);

type Resolved = ReturnType<Management["resolve"]>;

/** From references to what they name. */
export class Finder {
  private readonly directory: Directory;

  constructor(directory: Directory) {
    this.directory = directory;
  }

  tenant(ref: TenantRef): Result<TenantHandle, AdminError> {
    const { tenants, unusable } = this.directory;
    if (ref.kind === "id") {
      const tenant = tenants.get(ref.id);
      if (tenant !== undefined) return usable(tenant);
      const why = unusable.get(ref.id);
      if (why === undefined) return refuse({ kind: "not-found", what: `tenant ${ref.id}` });
      return refuse({ kind: "unavailable", message: `tenant ${ref.id}: ${why}` });
    }
    const [first, second] = tenants.values();
    if (second !== undefined) {
      const message = "there are several tenants; name one by its id";
      return refuse({ kind: "bad-request", message });
    }
    if (first !== undefined) return usable(first);
    for (const [id, why] of unusable) {
      return refuse({ kind: "unavailable", message: `tenant ${id}: ${why}` });
    }
    const remedy = "create a timeline, then there is one";
    return refuse({ kind: "not-found", what: "the default tenant", remedy });
  }

  timeline(tenant: TenantHandle, ref: TimelineRef): Result<TimelineHandle, AdminError> {
    const found =
      ref.kind === "id"
        ? tenant.timelines.get(ref.id)
        : this.directory.findByName(tenant.id, ref.name);
    if (found !== undefined) return ok(found);
    const what = ref.kind === "id" ? `timeline ${ref.id}` : `timeline "${ref.name}"`;
    return refuse({ kind: "not-found", what, remedy: "see: pageserver timeline list" });
  }

  /** What references stand for, refused or not: see Management.resolve. */
  resolve(ref: TenantRef, timelineRef: TimelineRef | undefined): Resolved {
    const found = this.tenant(ref);
    const tenant = ref.kind === "id" ? ref.id : found.ok ? found.value.id : undefined;
    if (tenant === undefined || timelineRef === undefined) return { tenant, timeline: undefined };
    if (timelineRef.kind === "id") return { tenant, timeline: timelineRef.id };
    return { tenant, timeline: this.directory.findByName(tenant, timelineRef.name)?.entry.id };
  }

  async withTenant<T>(
    ref: TenantRef,
    use: (tenant: TenantHandle) => Result<T, AdminError> | Answer<T>,
  ): Answer<T> {
    const tenant = this.tenant(ref);
    return tenant.ok ? orDamaged(() => use(tenant.value)) : tenant;
  }

  async withTimeline<T>(
    ref: TenantRef,
    timelineRef: TimelineRef,
    use: (tenant: TenantHandle, timeline: TimelineHandle) => Result<T, AdminError> | Answer<T>,
  ): Answer<T> {
    const tenant = this.tenant(ref);
    if (!tenant.ok) return tenant;
    const timeline = this.timeline(tenant.value, timelineRef);
    if (!timeline.ok) return timeline;
    const handle = await this.awake(timeline.value);
    return orDamaged(() => use(tenant.value, handle));
  }

  /** A timeline that slept, and is loaded now, if that works. */
  async awake(timeline: TimelineHandle): Promise<TimelineHandle> {
    if (timeline.asleep === undefined) return timeline;
    await ask<TimelineMsg, undefined>(
      timeline.ref,
      (reply) => ({ kind: "wake", reply }),
      WAIT_LSN_MS_MAX,
    );
    return this.directory.find(timeline.tenantId, timeline.entry.id) ?? timeline;
  }
}

/** Damage on disk is no bug of ours: the answer names it. */
async function orDamaged<T>(use: () => Result<T, AdminError> | Answer<T>): Answer<T> {
  try {
    return await use();
  } catch (error) {
    if (!(error instanceof StoreCorrupt)) throw error;
    return refuse({ kind: "internal", message: error.message });
  }
}

const usable = (tenant: TenantHandle): Result<TenantHandle, AdminError> =>
  tenant.broken === undefined
    ? ok(tenant)
    : refuse({ kind: "unavailable", message: `tenant ${tenant.id} is broken: ${tenant.broken}` });
