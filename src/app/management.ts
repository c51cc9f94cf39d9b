// The management interface over the live tree: finds the tenant and timeline, asks the actor whose
// business it is, and turns what comes back into the API's shapes. Long work becomes a job.

import { randomBytes } from "node:crypto";
import type { Directory, TenantHandle, TimelineHandle } from "../actors/directory.ts";
import { type ActorRef, type TreeNode, ask } from "../actors/runtime.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import type { TenantMsg } from "../actors/tenant.ts";
import type { TenantsMsg } from "../actors/tenants.ts";
import type { AdminError } from "../core/admin-error.ts";
import { MalformedInput } from "../core/assert.ts";
import { type TimelineId, parseTimelineId } from "../core/ids.ts";
import { WAIT_LSN_MS_MAX } from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import { type Result, ok } from "../core/result.ts";
import type { JobBook } from "../http/jobs.ts";
import type { CreateTimeline, Follow, Management, TenantRef } from "../http/management.ts";
import type { PostgresPrograms } from "../io/postgres.ts";
import type { TimelineInfo } from "../protocol/api.ts";
import type { Status } from "../protocol/api-status.ts";
import type { Job } from "../protocol/api-work.ts";
import { parseConninfo } from "../protocol/conninfo.ts";
import { StoreFull } from "../store/store-errors.ts";
import { bootstrapTimeline } from "./bootstrap.ts";
import { checkManagement } from "./check.ts";
import { compatManagement } from "./compat.ts";
import type { Computes } from "./computes.ts";
import { dumpKey } from "./dump.ts";
import { Finder, refuse } from "./finder.ts";
import { followSlot, takeBaseBackup } from "./follow.ts";
import { NameInUse } from "./import.ts";
import { ImportRunning, ImportStopped, type Imports } from "./imports.ts";
import { timelineInfo } from "./info.ts";
import { holdsManagement } from "./holds.ts";
import { metricsSource } from "./metrics.ts";
import { timelineSizes } from "./sizes.ts";
import { tenantFor, tenantsManagement } from "./tenants.ts";
import { collected, momentLsn, notLoaded } from "./moments.ts";
import { retentionManagement } from "./retention.ts";
import { lsnAtUnixTime, unixTimeAtLsn } from "./times.ts";

export interface ManagementDeps {
  readonly shared: TenantShared;
  readonly directory: Directory;
  readonly tenants: ActorRef<TenantsMsg>;
  readonly programs: PostgresPrograms;
  readonly jobs: JobBook;
  readonly computes: Computes;
  readonly imports: Imports;
  readonly status: () => Status;
  readonly tree: () => readonly TreeNode[];
  readonly reload: Management["reload"];
  readonly certificateEndsMs: () => number | undefined;
  readonly shutdown: () => void;
}

const randomId = (): string => randomBytes(16).toString("hex");
const conflict = (message: string): Result<never, AdminError> =>
  refuse({ kind: "conflict", message });
const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export function createManagement(deps: ManagementDeps): Management {
  const { directory, jobs, computes } = deps;
  const finder = new Finder(directory);
  return {
    ...ofTheServer(deps),
    resolve: (tenant, timeline) => finder.resolve(tenant, timeline),
    ...tenantsManagement(deps, finder),
    listTimelines: (ref) =>
      finder.withTenant(ref, (tenant) =>
        ok([...tenant.timelines.values()].map((timeline) => timelineInfo(tenant, timeline))),
      ),
    getTimeline: (ref, timelineRef, detail) =>
      finder.withTimeline(ref, timelineRef, async (tenant, timeline) => {
        const info = timelineInfo(tenant, timeline);
        if (detail === "brief") return ok(info);
        const sizes = await timelineSizes(deps.shared, tenant, timeline);
        return ok(sizes === undefined ? info : { ...info, sizes });
      }),
    createTimeline: (ref, request) => createTimeline(deps, finder, ref, request),
    follow: (ref, request) => follow(deps, finder, ref, request),
    computeStart: (ref, request) =>
      finder.withTimeline(ref, request.timeline, (tenant, timeline) =>
        computes.start(tenant, timeline, request),
      ),
    computeStop: (ref, timeline, at) =>
      finder.withTimeline(ref, timeline, (tenant, handle) => computes.stop(tenant, handle, at)),
    listComputes: (ref) =>
      finder.withTenant(ref, async (tenant) => ok(await computes.list(tenant))),
    listJobs: () => Promise.resolve(ok(jobs.list())),
    getJob: async (id, waitMs) => {
      const job = await jobs.wait(id, waitMs);
      return job === undefined ? refuse({ kind: "not-found", what: `job ${id}` }) : ok(job);
    },
    cancelJob: (id) => {
      const job = jobs.cancel(id);
      if (job === undefined)
        return Promise.resolve(refuse({ kind: "not-found", what: `job ${id}` }));
      const message = `job ${id} cannot be cancelled any more; it ends by itself`;
      return Promise.resolve(job === "too-late" ? conflict(message) : ok(job));
    },
    ...compatManagement(deps.shared, finder),
    dumpPage: (ref, timelineRef, target, at) =>
      finder.withTimeline(ref, timelineRef, async (tenant, timeline) => {
        const lsn = at ?? timeline.facts.positions.visible;
        const outside = collected(deps.shared, tenant, timeline, lsn) ?? outOfReach(timeline, lsn);
        if (outside !== undefined) return refuse(outside);
        try {
          return ok(await dumpKey(timeline, target, lsn));
        } catch (error) {
          return refuse({ kind: "bad-request", message: textOf(error) });
        }
      }),
    lsnByTimestamp: (ref, timelineRef, unixUs) =>
      finder.withTimeline(ref, timelineRef, (_tenant, timeline) => {
        const found = lsnAtUnixTime(directory, timeline, unixUs);
        if (found === undefined) return refuse(notLoaded(timeline));
        return ok({ lsn: Lsn.format(found.lsn), kind: found.kind });
      }),
    timestampOfLsn: (ref, timelineRef, lsn) =>
      finder.withTimeline(ref, timelineRef, (tenant, timeline) => {
        const refused = collected(deps.shared, tenant, timeline, lsn);
        return refused === undefined
          ? ok(unixTimeAtLsn(directory, timeline, lsn))
          : refuse(refused);
      }),
    ...holdsManagement(directory, finder, deps.shared.clock.nowMs),
    ...retentionManagement(deps.shared, deps.computes, jobs, finder),
    ...checkManagement(deps.shared, jobs, finder),
  };
}

/** What concerns no tenant. */
function ofTheServer(
  deps: ManagementDeps,
): Pick<Management, "status" | "metrics" | "reload" | "shutdown"> {
  const metrics = metricsSource(deps.status, {
    directory: deps.directory,
    tree: deps.tree,
    nowMs: deps.shared.clock.nowMs,
    certificateEndsMs: deps.certificateEndsMs,
  });
  return {
    status: () => Promise.resolve(ok(deps.status())),
    metrics: async () => ok(await metrics()),
    reload: deps.reload,
    shutdown: () => {
      deps.shutdown();
      return Promise.resolve(ok(undefined));
    },
  };
}

function outOfReach({ facts, entry }: TimelineHandle, lsn: Lsn): AdminError | undefined {
  const { visible } = facts.positions;
  if (lsn > Lsn.normalize(visible)) {
    const message = `${Lsn.format(lsn)} is above the last record of "${entry.name}", ${Lsn.format(visible)}`;
    return { kind: "bad-request", message };
  }
  return undefined;
}

async function createTimeline(
  deps: ManagementDeps,
  finder: Finder,
  ref: TenantRef,
  request: CreateTimeline,
): Promise<Result<TimelineInfo, AdminError>> {
  const tenant = await tenantFor(deps, finder, ref);
  if (!tenant.ok) return tenant;
  const id = request.timelineId ?? parseTimelineId(randomId());
  const name = request.name ?? `timeline-${id.slice(0, 8)}`;
  const made =
    request.kind === "branch"
      ? await branch(deps.directory, finder, tenant.value, request, { id, name })
      : await bootstrap(deps, tenant.value, request, { id, name });
  return made.ok ? ok(timelineInfo(tenant.value, made.value)) : made;
}

async function branch(
  directory: Directory,
  finder: Finder,
  tenant: TenantHandle,
  request: Extract<CreateTimeline, { kind: "branch" }>,
  { id, name }: { readonly id: TimelineId; readonly name: string },
): Promise<Result<TimelineHandle, AdminError>> {
  const found = finder.timeline(tenant, request.ancestor);
  if (!found.ok) return found;
  const ancestor = await finder.awake(found.value);
  const at = momentLsn(directory, tenant, ancestor, request.at);
  if (!at.ok) return at;
  const known = tenant.timelines.get(id);
  if (known !== undefined) {
    const same = known.entry.ancestor?.id === ancestor.entry.id;
    if (same) return ok(known);
    return refuse({ kind: "conflict", message: `timeline ${id} exists and is another one` });
  }
  const body = { id, name, ancestor: ancestor.entry.id, lsn: at.value };
  const made = await ask<TenantMsg, Result<TimelineHandle, AdminError>>(
    tenant.ref,
    (reply) => ({ kind: "branch", request: body, reply }),
    WAIT_LSN_MS_MAX,
  );
  if (made !== "timed-out") return made;
  return refuse({ kind: "unavailable", message: "the tenant did not answer in time; retry" });
}

async function bootstrap(
  deps: ManagementDeps,
  tenant: TenantHandle,
  request: Extract<CreateTimeline, { kind: "bootstrap" }>,
  timeline: { readonly id: TimelineId; readonly name: string },
): Promise<Result<TimelineHandle, AdminError>> {
  const known = tenant.timelines.get(timeline.id);
  if (known !== undefined && known.entry.ancestor === undefined) return ok(known);
  if (known !== undefined) return conflict(`timeline ${timeline.id} exists and is a branch`);
  if (deps.directory.findByName(tenant.id, timeline.name) !== undefined) {
    return conflict(`a timeline named "${timeline.name}" exists already`);
  }
  const { shared, programs, imports } = deps;
  if (request.pgVersion !== undefined && request.pgVersion !== programs.major) {
    const message = `PostgreSQL ${request.pgVersion} is not supported, only ${programs.major}`;
    return refuse({ kind: "bad-request", message });
  }
  try {
    const id = await imports.run(tenant.id, timeline, (signal) =>
      bootstrapTimeline(shared, programs, tenant, timeline, signal),
    );
    return await adopt(tenant, id);
  } catch (error) {
    return refuse(importRefusal(error));
  }
}

function importRefusal(error: unknown): AdminError {
  const message = textOf(error);
  if (error instanceof NameInUse || error instanceof ImportRunning) {
    return { kind: "conflict", message };
  }
  const later = error instanceof ImportStopped || error instanceof StoreFull;
  return { kind: later ? "unavailable" : "internal", message };
}

async function adopt(
  tenant: TenantHandle,
  timeline: TimelineId,
): Promise<Result<TimelineHandle, AdminError>> {
  const adopted = await ask<TenantMsg, Result<TimelineHandle, AdminError>>(
    tenant.ref,
    (reply) => ({ kind: "adopt", timeline, reply }),
    WAIT_LSN_MS_MAX,
  );
  if (adopted !== "timed-out") return adopted;
  return refuse({ kind: "unavailable", message: "the tenant did not answer in time; retry" });
}

async function follow(
  deps: ManagementDeps,
  finder: Finder,
  ref: TenantRef,
  request: Follow,
): Promise<Result<Job, AdminError>> {
  const { jobs, directory, shared, imports } = deps;
  try {
    parseConninfo(request.conninfo);
  } catch (error) {
    if (!(error instanceof MalformedInput)) throw error;
    return refuse({ kind: "bad-request", message: error.message });
  }
  const tenant = await tenantFor(deps, finder, ref);
  if (!tenant.ok) return tenant;
  const busy = jobs.running("follow", request.name);
  if (busy !== undefined) return conflict(`job ${busy.id} follows "${request.name}" already`);
  if (directory.findByName(tenant.value.id, request.name) !== undefined) {
    return conflict(`a timeline named "${request.name}" exists already`);
  }
  const id = request.timelineId ?? parseTimelineId(randomId());
  if (tenant.value.timelines.has(id)) return conflict(`timeline ${id} exists already`);
  const plan = {
    id,
    name: request.name,
    conninfo: request.conninfo,
    slot: request.slot ?? followSlot(tenant.value.id, request.name),
    maxRateBytes: request.maxRateBytes,
  };
  const job = jobs.start("follow", request.name);
  const work = async (): Promise<void> => {
    const take = (signal: AbortSignal): Promise<TimelineId> =>
      takeBaseBackup(shared, tenant.value, plan, job, signal);
    await imports.run(tenant.value.id, plan, take, job.signal);
    job.pastCancelling();
    job.step("stream");
    const adopted = await adopt(tenant.value, id);
    if (!adopted.ok) throw new Error("the timeline could not be opened; see the log");
    await untilReadable(directory, adopted.value);
    const live = directory.find(tenant.value.id, id) ?? adopted.value;
    job.done({ timeline: timelineInfo(tenant.value, live) });
  };
  work().catch((error: unknown) => job.failed(textOf(error)));
  return ok(jobs.get(job.id)!);
}

/** Waits until the backup's WAL is in. The timeline goes on by itself if that takes longer. */
async function untilReadable(directory: Directory, timeline: TimelineHandle): Promise<void> {
  const { tenantId, entry } = timeline;
  for (const end = performance.now() + WAIT_LSN_MS_MAX; performance.now() < end;) {
    const facts = directory.find(tenantId, entry.id)?.facts;
    if (facts !== undefined && facts.positions.durable >= entry.readableFrom) return;
    if (facts?.phase.kind === "broken") throw new Error(facts.phase.reason);
    if (facts?.receiver?.connection === "refused") throw new Error(facts.receiver.reason);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(
    `the base backup is taken, but its WAL has not arrived in ${WAIT_LSN_MS_MAX / 1000} s; it is ` +
      `waited for on: see pageserver timeline show ${entry.name}`,
  );
}
