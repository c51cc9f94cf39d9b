// Computes that show one moment of a timeline, read-only: PostgreSQL as a standby that nobody sends
// WAL to, whose pages are read at that moment. Each is named by its timeline and LSN; several run beside
// each other and beside the one that writes. A lease keeps the history it needs until it is stopped,
// whether it runs meanwhile or not: nobody but its owner knows whether it will be wanted again.

import { rm } from "node:fs/promises";
import path from "node:path";
import type { TenantHandle, TimelineHandle } from "../actors/directory.ts";
import { cutoffOf, heldLsns } from "../actors/timeline-pins.ts";
import { type AdminError, adminErrorText } from "../core/admin-error.ts";
import type { BackupSource } from "../core/backup-source.ts";
import { notKept } from "../core/holds.ts";
import { FIXED_COMPUTE_LEASE_MS } from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import { type Result, err, ok } from "../core/result.ts";
import { formatTime } from "../core/time-text.ts";
import type { JobReporter } from "../http/jobs.ts";
import type { BranchPoint, ComputeStart } from "../http/management.ts";
import {
  bootCompute,
  computeLog,
  computeUri,
  findCompute,
  freePort,
  stopCompute,
} from "../io/compute.ts";
import { computeRoot } from "../io/compute-dir.ts";
import { readableLibrary } from "../io/compute-library.ts";
import type { ComputeInfo, Job } from "../protocol/api-work.ts";
import { baseBackupTar, fullBackupTar } from "../protocol/base-backup.ts";
import { backupSourceOf, conflict, requireEmpty } from "./compute-asks.ts";
import { type FixedComputeRecord, parseFixedComputeRecords } from "./compute-record.ts";
import type { ComputesDeps } from "./computes.ts";
import { acquireLease, releaseLeases } from "./holds.ts";
import { momentLsn } from "./moments.ts";

export class FixedComputes {
  private readonly deps: ComputesDeps;

  constructor(deps: ComputesDeps) {
    this.deps = deps;
  }

  list(tenant: TenantHandle, timeline: TimelineHandle): Promise<readonly ComputeInfo[]> {
    return Promise.all(recordsOf(tenant, timeline).map((record) => this.info(timeline, record)));
  }

  /** Begins to boot one. */
  async start(
    tenant: TenantHandle,
    timeline: TimelineHandle,
    request: ComputeStart,
    at: BranchPoint,
  ): Promise<Result<Job, AdminError>> {
    const { jobs, programs, dataDir, nowMs } = this.deps;
    const { id, name } = timeline.entry;
    const found = await this.sourceAt(tenant, timeline, at);
    if (!found.ok) return found;
    const source = found.value;
    const { lsn } = source;
    const running = recordsOf(tenant, timeline).find((each) => each.lsn === lsn);
    if (running !== undefined && (await findCompute(running.dir)) !== undefined) {
      return conflict(
        `a compute shows "${name}" at ${Lsn.format(lsn)} already: ${computeUri(running.port)}`,
      );
    }
    const root = await computeRoot(dataDir, programs.account);
    const record: FixedComputeRecord = {
      dir: request.dir ?? path.join(root, `${name}-${id.slice(0, 8)}-at-${lsn.toString(16)}`),
      port: request.port ?? (await freePort()),
      diskless: request.diskless,
      lsn,
      startedAtMs: nowMs(),
    };
    const busy = this.busyWith(timeline, lsn);
    if (busy !== undefined) return busy;
    const job = jobs.start("compute-start", targetOf(timeline, lsn));
    this.boot(tenant, timeline, record, source, request, job).then(
      (compute) => job.done({ compute }),
      (error: unknown) => job.failed(error instanceof Error ? error.message : String(error)),
    );
    return ok(jobs.get(job.id)!);
  }

  /** Begins to stop the one at `lsn`; what it held is held no more. */
  stop(tenant: TenantHandle, timeline: TimelineHandle, lsn: Lsn): Result<Job, AdminError> {
    const { jobs } = this.deps;
    const { name } = timeline.entry;
    const record = recordsOf(tenant, timeline).find((each) => each.lsn === lsn);
    if (record === undefined) {
      const what = `a compute at ${Lsn.format(lsn)} on "${name}"`;
      return err({ kind: "not-found", what, remedy: "see: pageserver compute list" });
    }
    const busy = this.busyWith(timeline, lsn);
    if (busy !== undefined) return busy;
    const job = jobs.start("compute-stop", targetOf(timeline, lsn));
    this.halt(tenant, timeline, record, job).then(
      (compute) => job.done({ compute }),
      (error: unknown) => job.failed(error instanceof Error ? error.message : String(error)),
    );
    return ok(jobs.get(job.id)!);
  }

  private async sourceAt(
    tenant: TenantHandle,
    timeline: TimelineHandle,
    at: BranchPoint,
  ): Promise<Result<BackupSource, AdminError>> {
    const { directory, nowMs } = this.deps;
    const { entry, facts } = timeline;
    const asked = momentLsn(directory, tenant, timeline, at);
    if (!asked.ok) return asked;
    const lsn = asked.value;
    const durable = Lsn.normalize(facts.positions.durable);
    if (lsn > durable) {
      const message =
        `${Lsn.format(lsn)} is above the last durable record of "${entry.name}", ` +
        `${Lsn.format(durable)}; name a moment that has been`;
      return err({ kind: "precondition", message });
    }
    const held = heldLsns(tenant.catalog, entry.id, nowMs());
    const gone = notKept(lsn, cutoffOf(directory, tenant.id, entry), held, entry.name);
    if (gone !== undefined) return err({ kind: "precondition", message: gone });
    try {
      return ok(await backupSourceOf(timeline, lsn));
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      return err({ kind: "unavailable", message });
    }
  }

  private async boot(
    tenant: TenantHandle,
    timeline: TimelineHandle,
    record: FixedComputeRecord,
    source: BackupSource,
    request: ComputeStart,
    job: JobReporter,
  ): Promise<ComputeInfo> {
    const { programs, applicationName, pageService, computeLibrary } = this.deps;
    const { tenantId, entry } = timeline;
    const { dir, port, diskless, lsn } = record;
    job.step("base backup", `at ${Lsn.format(lsn)}`);
    const kept = await acquireLease(timeline, lsn, ownerOf(lsn), FIXED_COMPUTE_LEASE_MS);
    if (!kept.ok) throw new Error(adminErrorText(kept.error));
    // Ours to throw away; of somebody else's nothing may be in there, for it is removed when it stops.
    if (request.dir === undefined) await rm(dir, { recursive: true, force: true });
    await requireEmpty(dir);
    keep(tenant, timeline, lsn, record);
    const backup = diskless ? baseBackupTar : fullBackupTar;
    const tar = backup(source, { timeS: Math.floor(record.startedAtMs / 1000) });
    const token = diskless ? await this.deps.computeToken(tenantId, entry.id) : undefined;
    const options = {
      ...{ dir, port, token, standbyName: applicationName, extra: request.settings },
      commits: "none",
      ...(diskless && {
        diskless: {
          library: await readableLibrary(computeLibrary, dir, programs.account),
          ...{ pageService, tenant: tenantId, timeline: entry.id },
          startLsn: lsn,
          at: lsn,
        },
      }),
    } as const;
    await bootCompute(programs, tar, options, (step) => {
      if (step.step === "receive") job.progress(step.bytes, undefined);
      else if (step.step !== "ready") job.step(step.step);
    });
    return this.info(timeline, record);
  }

  private async halt(
    tenant: TenantHandle,
    timeline: TimelineHandle,
    record: FixedComputeRecord,
    job: JobReporter,
  ): Promise<ComputeInfo> {
    const { dir, lsn } = record;
    job.step("stop PostgreSQL");
    const { how } = await stopCompute(dir, { programs: this.deps.programs });
    job.detail(how);
    job.step("remove its directory");
    await rm(dir, { recursive: true, force: true });
    const released = await releaseLeases(timeline, lsn, ownerOf(lsn));
    // Somebody may have released it by hand.
    if (!released.ok && released.error.kind !== "not-found") {
      throw new Error(adminErrorText(released.error));
    }
    keep(tenant, timeline, lsn, undefined);
    return this.info(timeline, record);
  }

  private busyWith(timeline: TimelineHandle, lsn: Lsn): Result<never, AdminError> | undefined {
    const { jobs } = this.deps;
    const target = targetOf(timeline, lsn);
    const busy = jobs.running("compute-start", target) ?? jobs.running("compute-stop", target);
    return busy && conflict(`a ${busy.kind} of "${target}" is running already (job ${busy.id})`);
  }

  private async info(timeline: TimelineHandle, record: FixedComputeRecord): Promise<ComputeInfo> {
    const { jobs } = this.deps;
    const { dir, port, lsn, startedAtMs } = record;
    const target = targetOf(timeline, lsn);
    const running = await findCompute(dir);
    const starting = jobs.running("compute-start", target) !== undefined && running === undefined;
    const stopping = jobs.running("compute-stop", target) !== undefined;
    const idle = running === undefined ? "stopped" : "running";
    return {
      tenant_id: timeline.tenantId,
      timeline_id: timeline.entry.id,
      timeline: timeline.entry.name,
      state: starting ? "starting" : stopping ? "stopping" : idle,
      ...{ port, dir, read_only: true },
      ...(running !== undefined && { pid: running.pid }),
      started_at: formatTime(startedAtMs * 1000),
      start_lsn: Lsn.format(lsn),
      uri: computeUri(port),
      log: computeLog(dir),
    };
  }
}

const targetOf = ({ entry }: TimelineHandle, lsn: Lsn): string =>
  `${entry.name}@${Lsn.format(lsn)}`;

/** Shown where it is said what history is kept for. */
const ownerOf = (lsn: Lsn): string => `compute at ${Lsn.format(lsn)}`;

const keyOf = ({ entry }: TimelineHandle): string => `fixed-computes/${entry.id}`;

const recordsOf = (tenant: TenantHandle, timeline: TimelineHandle): readonly FixedComputeRecord[] =>
  parseFixedComputeRecords(tenant.catalog.setting(keyOf(timeline)));

/** Puts the record of the one at `lsn` in the place of what there was; undefined: of none. */
function keep(
  tenant: TenantHandle,
  timeline: TimelineHandle,
  lsn: Lsn,
  record: FixedComputeRecord | undefined,
): void {
  const others = recordsOf(tenant, timeline).filter((each) => each.lsn !== lsn);
  const all = record === undefined ? others : [...others, record];
  tenant.catalog.change((change) => change.putSetting(keyOf(timeline), [...all]));
}
