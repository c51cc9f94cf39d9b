// A small Management in memory: timelines as rows, jobs that end when the test says so. It stands
// in for the program only where HTTP and the command line themselves are under test.

import type { AdminError } from "../../src/core/admin-error.ts";
import type { TenantId, TimelineId } from "../../src/core/ids.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { type Result, err, ok } from "../../src/core/result.ts";
import { JobBook, type JobReporter } from "../../src/http/jobs.ts";
import type {
  BranchPoint,
  CreateTimeline,
  DumpTarget,
  Follow,
  Management,
  TenantRef,
  TimelineRef,
} from "../../src/http/management.ts";
import type { TenantInfo, TimelineInfo } from "../../src/protocol/api.ts";
import type { LeaseInfo, SnapshotInfo } from "../../src/protocol/api-holds.ts";
import type { Status } from "../../src/protocol/api-status.ts";
import type { RetentionInfo } from "../../src/protocol/api-retention.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";

export const TENANT = "000102030405060708090a0b0c0d0e0f" as TenantId;
const STARTED = "2026-01-31T10:20:30.000Z";
const LAST = "0/16B3748";

export interface MemoryManagement extends Management {
  readonly timelines: Map<string, TimelineInfo>;
  readonly computes: Map<string, ComputeInfo>;
  /** Reporters of the jobs that were started, newest last. */
  readonly reporters: JobReporter[];
  readonly asked: {
    follow?: Follow;
    dump?: { readonly target: DumpTarget; readonly at: Lsn | undefined };
    create?: CreateTimeline;
    synchronous?: boolean;
    diskless?: boolean;
    at?: BranchPoint | undefined;
    shutdowns: number;
    checkpoints: number;
    deleted?: { readonly id: TenantId; readonly recursive: boolean };
    moment?: BranchPoint;
    durationMs?: number | undefined;
    release?: { readonly owner: string | undefined; readonly lsn: Lsn | undefined };
  };
  problems: string[];
}

export function memoryManagement(): MemoryManagement {
  const timelines = new Map<string, TimelineInfo>();
  const computes = new Map<string, ComputeInfo>();
  const reporters: JobReporter[] = [];
  const book = new JobBook(() => Date.now());
  const find = (tenant: TenantRef, ref: TimelineRef): Result<TimelineInfo, AdminError> => {
    if (tenant.kind === "id" && tenant.id !== TENANT) return missing(`tenant "${tenant.id}"`);
    const text = ref.kind === "id" ? ref.id : ref.name;
    for (const info of timelines.values()) {
      if (info.timeline_id === text || info.name === text) return ok(info);
    }
    return missing(`timeline "${text}"`);
  };
  const start = (kind: "follow" | "compute-start" | "compute-stop", target: string) => {
    const reporter = book.start(kind, target);
    reporters.push(reporter);
    return ok(book.get(reporter.id)!);
  };

  const memory: MemoryManagement = {
    timelines,
    computes,
    reporters,
    asked: { shutdowns: 0, checkpoints: 0 },
    problems: [],
    resolve: (tenant, ref) => {
      const found = ref?.kind === "name" ? find(tenant, ref) : undefined;
      return {
        tenant: tenant.kind === "id" ? tenant.id : TENANT,
        timeline: (ref?.kind === "id"
          ? ref.id
          : found?.ok === true
            ? found.value.timeline_id
            : undefined) as TimelineId | undefined,
      };
    },
    reload: async () => ok({ keys: 1 }),
    metrics: async () => ok("pageserver_timelines 1\n"),
    status: async () => ok(statusOf(timelines)),
    listTenants: async () => ok([tenantOf(timelines)]),
    getTenant: async (tenant) =>
      tenant.kind === "id" && tenant.id !== TENANT
        ? missing(`tenant "${tenant.id}"`)
        : ok(tenantOf(timelines)),
    createTenant: async (id) => ok({ ...tenantOf(timelines), id: id ?? TENANT }),
    attachTenant: async () => missing("the backup"),
    drill: async () => missing("the backup"),
    scrub: async () => missing("the backup"),
    rotateKeys: async () => missing("the backup"),
    fullBackup: async () => missing("the timeline"),
    deleteTenant: async (id, recursive) => {
      memory.asked.deleted = { id, recursive };
      return id === TENANT ? ok(["main"]) : missing(`tenant "${id}"`);
    },
    listTimelines: async () => ok([...timelines.values()]),
    getTimeline: async (tenant, ref) => find(tenant, ref),
    createTimeline: async (tenant, request) => {
      memory.asked.create = request;
      const made = create(request, timelines.size, (ref) => find(tenant, ref));
      if (made.ok && timelines.has(made.value.name)) {
        return err({ kind: "conflict", message: `timeline "${made.value.name}" exists` });
      }
      if (made.ok) timelines.set(made.value.name, made.value);
      return made;
    },
    follow: async (_tenant, request) => {
      memory.asked.follow = request;
      return start("follow", request.name);
    },
    computeStart: async (tenant, request) => {
      const found = find(tenant, request.timeline);
      if (!found.ok) return found;
      memory.asked.synchronous = request.synchronous;
      memory.asked.diskless = request.diskless;
      memory.asked.at = request.at;
      return start("compute-start", found.value.name);
    },
    computeStop: async (tenant, ref) => {
      const found = find(tenant, ref);
      return found.ok ? start("compute-stop", found.value.name) : found;
    },
    listComputes: async () => ok([...computes.values()]),
    listJobs: async () => ok(book.list()),
    getJob: async (id, waitMs) => {
      const job = await book.wait(id, waitMs);
      return job === undefined ? missing(`job "${id}"`) : ok(job);
    },
    dumpPage: async (tenant, ref, target, at) => {
      const found = find(tenant, ref);
      if (!found.ok) return found;
      memory.asked.dump = { target, at };
      return ok({
        tenantId: TENANT,
        timelineId: found.value.timeline_id as TimelineId,
        lsn: at ?? Lsn.parse(LAST),
        relBlocks: 3,
        page: samplePage(),
        versions: [
          {
            lsn: LAST,
            type: "image",
            length: 8192,
            will_init: true,
            layer: "open",
            timeline: found.value.name,
          },
        ],
      });
    },
    lsnByTimestamp: async () => ok({ lsn: LAST, kind: "present" }),
    timestampOfLsn: async (_tenant, _ref, lsn) => ok(lsn < 100 ? undefined : 1_769_854_830_123_456),
    checkpoint: async (tenant, ref) => {
      const found = find(tenant, ref);
      if (found.ok) memory.asked.checkpoints++;
      return found;
    },
    retention: async (tenant, ref) => retained(find(tenant, ref)),
    retentionPolicy: async (_tenant, change) =>
      ok({ window_ms: 604_800_000, wal_bytes: 67_108_864, ...change }),
    collect: async (tenant, ref) => {
      const kept = retained(find(tenant, ref));
      const layers = { layers_total: 3, layers_needed_by_cutoff: 2, layers_removed: 0, elapsed: 1 };
      return kept.ok ? ok({ ...kept.value, ...layers }) : kept;
    },
    cancelJob: async (id) => {
      const job = book.cancel(id);
      if (job === undefined) return missing(`job "${id}"`);
      return job === "too-late" ? err({ kind: "conflict", message: "too late" }) : ok(job);
    },
    tenantConfig: async (tenant) =>
      tenant.kind === "id" && tenant.id !== TENANT
        ? missing(`tenant "${tenant.id}"`)
        : ok({
            tenant_specific_overrides: { gc_horizon: 5 },
            effective_config: { gc_horizon: 5, pitr_interval: "7d" },
          }),
    setTenantConfig: async () => ok(undefined),
    keyspace: async (tenant, ref) => {
      const found = find(tenant, ref);
      return found.ok ? ok({ at_lsn: LAST, keys: [["0".repeat(36), "1".repeat(36)]] }) : found;
    },
    waitLsn: async (_tenant, wanted) => ok(wanted.every(({ lsn }) => lsn <= Lsn.parse(LAST))),
    compact: async (tenant, ref) => retained(find(tenant, ref)),
    deleteTimeline: async (tenant, ref) => {
      const found = find(tenant, ref);
      if (!found.ok) return found;
      return ok([found.value.name]);
    },
    snapshots: async () => ok([snapshot("monday")]),
    createSnapshot: async (_tenant, _ref, name, at) => {
      memory.asked.moment = at;
      return ok(snapshot(name));
    },
    deleteSnapshot: async (_tenant, _ref, name) =>
      name === "monday" ? ok(undefined) : missing(`snapshot "${name}"`),
    leases: async () => ok([LEASE]),
    acquireLease: async (_tenant, _ref, { owner, at, durationMs }) => {
      memory.asked.moment = at;
      memory.asked.durationMs = durationMs;
      return ok({ ...LEASE, owner });
    },
    releaseLeases: async (_tenant, _ref, which) => {
      memory.asked.release = which;
      return ok([LEASE]);
    },
    lease: async () => ok(Date.parse(STARTED)),
    check: async () =>
      ok({ layers: 2, versions: 10, remote_layers: 0, ms: 1.5, problems: memory.problems }),
    shutdown: async () => {
      memory.asked.shutdowns++;
      return ok(undefined);
    },
  };
  return memory;
}

function retained(found: Result<TimelineInfo, AdminError>): Result<RetentionInfo, AdminError> {
  if (!found.ok) return found;
  return ok({
    ...{ timeline_id: found.value.timeline_id, name: found.value.name },
    ...{ cutoff_lsn: LAST, last_record_lsn: LAST, window_ms: 1, wal_bytes: 2, tiers: 1 },
    pins: [{ lsn: LAST, reason: "branch", timeline_id: found.value.timeline_id }],
    ...{ logical_size: 3, physical_size: 4, window_size: 5, below_cutoff_size: 6 },
    merging: false,
  });
}

const ON_MAIN = { timeline_id: "b".repeat(32), timeline_name: "main", lsn: LAST };
const LEASE: LeaseInfo = { ...ON_MAIN, owner: "report", expires_at: STARTED };
const snapshot = (name: string): SnapshotInfo => ({ ...ON_MAIN, name, created_at: STARTED });

const missing = (what: string): Result<never, AdminError> => err({ kind: "not-found", what });

function create(
  request: CreateTimeline,
  count: number,
  find: (ref: TimelineRef) => Result<TimelineInfo, AdminError>,
): Result<TimelineInfo, AdminError> {
  const id = request.timelineId ?? String(count + 1).padStart(32, "a");
  const base = timelineInfo(id, request.name ?? id);
  if (request.kind === "bootstrap") return ok(base);
  const ancestor = find(request.ancestor);
  if (!ancestor.ok) return ancestor;
  const lsn = request.at.kind === "lsn" ? request.at.lsn : Lsn.parse(LAST);
  if (lsn > Lsn.parse(LAST)) {
    const message = `cannot branch at ${Lsn.format(lsn)}: the last record is ${LAST}`;
    return err({ kind: "bad-ancestor", message });
  }
  return ok({
    ...base,
    ancestor_timeline_id: ancestor.value.timeline_id,
    ancestor_name: ancestor.value.name,
    ancestor_lsn: Lsn.format(lsn),
  });
}

export function timelineInfo(id: string, name: string): TimelineInfo {
  const positions = { received: LAST, visible: LAST, durable: LAST, uploaded: "0/0" };
  return {
    tenant_id: TENANT,
    timeline_id: id,
    name,
    state: "Active",
    pg_version: 15,
    system_id: "7350000000000000001",
    created_at: STARTED,
    positions,
    last_record_lsn: LAST,
    disk_consistent_lsn: LAST,
    remote_consistent_lsn: "0/0",
    initdb_lsn: "0/1500000",
    min_readable_lsn: "0/1500000",
    current_physical_size: 12_345_678,
    source: { kind: "none", connection: "none" },
    layers: 1,
  };
}

function tenantOf(timelines: Map<string, TimelineInfo>): TenantInfo {
  return {
    id: TENANT,
    state: { slug: "Active" },
    is_default: true,
    current_physical_size: 1,
    timelines: [...timelines.values()].map((info) => info.timeline_id),
  };
}

function statusOf(timelines: Map<string, TimelineInfo>): Status {
  const node = { state: "running", restarts: 0, since: STARTED } as const;
  return {
    id: 1,
    version: "0.1.0",
    state: "running",
    pid: 4242,
    started_at: STARTED,
    uptime_ms: 65_432,
    data_dir: "data",
    page_service: "127.0.0.1:64000",
    http: "http://127.0.0.1:9898",
    rss_bytes: 100,
    open_layers_bytes: 50,
    alarms: [],
    redo: { processes: 2, queued: 0, pages: 7, failures: 1 },
    timelines: [...timelines.values()],
    tree: [
      { ...node, path: "ps/redo-pool" },
      { ...node, path: "ps/tenants" },
      { ...node, path: "ps/redo-pool/redo-worker-1", restarts: 3, last_crash: "exit 139" },
      { ...node, path: "ps/tenants/t1" },
    ],
  };
}

/** A heap page: pd_lsn 0/16B3748, checksum 0xBEEF, all-visible, lower 32 (2 items), upper 8000. */
export function samplePage(): Uint8Array {
  const page = new Uint8Array(8192);
  const view = new DataView(page.buffer);
  view.setUint32(4, 0x16b3748, true);
  view.setUint16(8, 0xbeef, true);
  view.setUint16(10, 4, true);
  view.setUint16(12, 32, true);
  view.setUint16(14, 8000, true);
  view.setUint16(16, 8192, true);
  view.setUint16(18, 8192 | 4, true);
  view.setUint32(20, 777, true);
  return page;
}
