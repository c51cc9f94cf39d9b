// Computes that this program booted: stock PostgreSQL servers in disposable directories, of which one a
// timeline writes (fixed-computes.ts has the others). They outlive us (even a SIGKILL), so what is known of them is in the tenant's catalog and
// whether one runs is asked of the system.

import { rm } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Directory, TenantHandle, TimelineHandle } from "../actors/directory.ts";
import type { AdminError } from "../core/admin-error.ts";
import { COMPUTE_POLL_MS, COMPUTE_STREAM_MS_MAX } from "../core/limits.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { Lsn } from "../core/lsn.ts";
import { type Result, err, ok } from "../core/result.ts";
import { formatTime } from "../core/time-text.ts";
import type { JobBook, JobReporter } from "../http/jobs.ts";
import type { ComputeStart } from "../http/management.ts";
import {
  bootCompute,
  computeLog,
  computeUri,
  findCompute,
  freePort,
  readStatistics,
  stopCompute,
} from "../io/compute.ts";
import { computeRoot } from "../io/compute-dir.ts";
import { readableLibrary } from "../io/compute-library.ts";
import type { PostgresPrograms } from "../io/postgres.ts";
import type { ComputeInfo, Job } from "../protocol/api-work.ts";
import { baseBackupTar, fullBackupTar } from "../protocol/base-backup.ts";
import { timelinePath } from "../store/data-dir.ts";
import { keepStatistics, statisticsAt } from "./compute-statistics.ts";
import {
  backupSourceOf,
  conflict,
  nextCompute,
  recordOf,
  requireEmpty,
  setSource,
} from "./compute-asks.ts";
import type { ComputeRecord } from "./compute-record.ts";
import { FixedComputes } from "./fixed-computes.ts";

/** Slot by which a compute keeps WAL for us. */
const SLOT = "pageserver";

export interface ComputesDeps {
  readonly dataDir: string;
  readonly directory: Directory;
  readonly programs: PostgresPrograms;
  readonly jobs: JobBook;
  readonly applicationName: string;
  /** libpq's conninfo by which computes without disks read pages from here. */
  readonly pageService: string;
  /** Absolute path of compute.so. */
  readonly computeLibrary: string;
  /** What computes show to the page service; undefined: it asks for nothing. */
  readonly computeToken: (tenant: TenantId, timeline: TimelineId) => Promise<string | undefined>;
  readonly nowMs: () => number;
}

interface BootOptions {
  /** The directory is ours: what is left there of a former compute goes. */
  readonly ownDir: boolean;
  readonly settings: Readonly<Record<string, string>>;
  /** A compute that runs, and is to run no more. */
  readonly former: ComputeRecord | undefined;
}

export class Computes {
  private readonly deps: ComputesDeps;
  private readonly fixed: FixedComputes;

  constructor(deps: ComputesDeps) {
    this.deps = deps;
    this.fixed = new FixedComputes(deps);
  }

  async list(tenant: TenantHandle): Promise<readonly ComputeInfo[]> {
    const found: ComputeInfo[] = [];
    for (const timeline of tenant.timelines.values()) {
      const record = recordOf(tenant, timeline);
      if (record !== undefined) found.push(await this.info(timeline, record));
      found.push(...(await this.fixed.list(tenant, timeline)));
    }
    return found;
  }

  /** Begins to boot a compute on a timeline. */
  async start(
    tenant: TenantHandle,
    timeline: TimelineHandle,
    request: ComputeStart,
  ): Promise<Result<Job, AdminError>> {
    const { jobs, programs, dataDir } = this.deps;
    if (request.at !== undefined) return this.fixed.start(tenant, timeline, request, request.at);
    const { name, id, source } = timeline.entry;
    const { phase } = timeline.facts;
    const busy = this.busyWith(name);
    if (busy !== undefined) return busy;
    if (phase.kind === "broken") {
      const message = `"${name}" takes in no WAL, so a compute cannot write to it: ${phase.reason}`;
      return err({ kind: "unavailable", message });
    }
    if (source?.kind === "primary" || source?.kind === "safekeeper") {
      return conflict(
        `"${name}" follows another server and takes its WAL from there; branch it, and start ` +
          `a compute on the branch`,
      );
    }
    const old = recordOf(tenant, timeline);
    const running = old !== undefined && (await findCompute(old.dir)) !== undefined;
    if (running && !request.replace) {
      return conflict(
        `a compute runs on "${name}" already: ${computeUri(old.port)}; stop it first, ` +
          `or take its place with --replace`,
      );
    }
    const root = await computeRoot(dataDir, programs.account);
    const record: ComputeRecord = {
      dir: request.dir ?? path.join(root, `${name}-${id.slice(0, 8)}`),
      port: request.port ?? (await freePort()),
      synchronous: request.synchronous,
      diskless: request.diskless,
    };
    // Somebody may have begun while we looked around.
    const overtaken = this.busyWith(name);
    if (overtaken !== undefined) return overtaken;
    const job = jobs.start("compute-start", name);
    const { dir, settings } = request;
    const former = running ? old : undefined;
    const options = { ownDir: dir === undefined, settings, former };
    this.boot(tenant, timeline, record, options, job).then(
      (compute) => job.done({ compute }),
      async (error: unknown) => {
        // Nothing ran in it yet, and what is half unpacked is of no use to anybody.
        if (job.signal.aborted) await rm(record.dir, { recursive: true, force: true });
        job.failed(error instanceof Error ? error.message : String(error));
      },
    );
    return ok(jobs.get(job.id)!);
  }

  /** The refusal while a compute of that timeline is being started or stopped. */
  private busyWith(name: string): Result<never, AdminError> | undefined {
    const { jobs } = this.deps;
    const busy = jobs.running("compute-start", name) ?? jobs.running("compute-stop", name);
    return busy && conflict(`a ${busy.kind} of "${name}" is running already (job ${busy.id})`);
  }

  private async boot(
    tenant: TenantHandle,
    timeline: TimelineHandle,
    planned: ComputeRecord,
    { ownDir, settings: extra, former }: BootOptions,
    job: JobReporter,
  ): Promise<ComputeInfo> {
    const { programs, applicationName, pageService, computeLibrary, nowMs } = this.deps;
    const { entry } = timeline;
    // Whatever was there before, and whether it can be found or not: from here on it counts no more.
    // What it has had acknowledged is taken in, and is in the backup.
    const generation = await nextCompute(tenant, timeline);
    const ended = former === undefined || (await this.end(former, job));
    const record = ended ? planned : { ...planned, dir: `${planned.dir}-${generation}` };
    job.step("base backup");
    const source = await backupSourceOf(timeline);
    // Ours to throw away: whatever a former compute has left there is history that we have.
    if (ownDir) await rm(record.dir, { recursive: true, force: true });
    const at = Lsn.format(source.lsn);
    job.detail(`at ${at}`);
    const backup = record.diskless ? baseBackupTar : fullBackupTar;
    const tar = backup(source, { timeS: Math.floor(nowMs() / 1000) });
    const settings = {
      port: record.port,
      commits: record.synchronous ? "synchronous" : "asynchronous",
      standbyName: applicationName,
      extra,
      ...(record.diskless && {
        diskless: {
          library: await readableLibrary(computeLibrary, record.dir, programs.account),
          pageService,
          tenant: timeline.tenantId,
          timeline: entry.id,
          startLsn: source.lsn,
          generation,
        },
      }),
    } as const;
    const token = record.diskless
      ? await this.deps.computeToken(timeline.tenantId, entry.id)
      : undefined;
    const statistics = await statisticsAt(this.timelineDir(timeline), source.lsn);
    const options = { dir: record.dir, token, statistics, ...settings };
    // Recorded before it runs: should we die meanwhile, it is found by this. But what is recorded is
    // removed with it, so nothing of somebody else's may be in there.
    await requireEmpty(record.dir);
    const started = { ...record, startLsn: source.lsn, startedAtMs: nowMs() };
    tenant.catalog.change((change) => change.putSetting(`compute/${entry.id}`, started));
    const compute = await bootCompute(programs, tar, options, (step) => {
      if (step.step === "receive") job.signal.throwIfAborted();
      else job.pastCancelling();
      if (step.step === "receive") job.progress(step.bytes, undefined);
      else if (step.step !== "ready") job.step(step.step);
    });
    await this.streamBack(tenant, timeline, compute.port, job);
    return this.info(timeline, started);
  }

  /**
   * Ends a compute whose place is taken: by force, for its clients wait for commits that will not be
   * acknowledged. False: it runs on, which harms nothing but its clients' patience.
   */
  private async end({ dir }: ComputeRecord, job: JobReporter): Promise<boolean> {
    job.step("end the former compute");
    try {
      await stopCompute(dir, { programs: this.deps.programs, mode: "immediate" });
    } catch (error) {
      job.detail(error instanceof Error ? error.message : String(error));
      return false;
    }
    await rm(dir, { recursive: true, force: true });
    return true;
  }

  private timelineDir({ tenantId, entry }: TimelineHandle): string {
    return timelinePath(this.deps.dataDir, tenantId, entry.id);
  }

  private async streamBack(
    tenant: TenantHandle,
    timeline: TimelineHandle,
    port: number,
    job: JobReporter,
  ): Promise<void> {
    job.step("stream WAL back");
    const conninfo = `host=127.0.0.1 port=${port} user=postgres dbname=postgres`;
    await setSource(tenant, timeline, { kind: "compute", conninfo, slot: SLOT });
    await this.untilStreaming(timeline);
  }

  private async untilStreaming(timeline: TimelineHandle): Promise<void> {
    const deadline = performance.now() + COMPUTE_STREAM_MS_MAX;
    for (;;) {
      const receiver = this.deps.directory.find(timeline.tenantId, timeline.entry.id)?.facts
        .receiver;
      if (receiver?.connection === "streaming") return;
      if (receiver?.connection === "refused" || performance.now() > deadline) {
        throw new Error(
          `PostgreSQL runs, but its WAL does not come back: ${receiver?.reason ?? "no connection"}; ` +
            `stop the compute and start it again`,
        );
      }
      await sleep(COMPUTE_POLL_MS);
    }
  }

  /** Begins to stop the compute of a timeline; with `at` the one that shows this moment. */
  async stop(
    tenant: TenantHandle,
    timeline: TimelineHandle,
    at: Lsn | undefined,
  ): Promise<Result<Job, AdminError>> {
    if (at !== undefined) return this.fixed.stop(tenant, timeline, at);
    const { jobs } = this.deps;
    const { name } = timeline.entry;
    const record = recordOf(tenant, timeline);
    if (record === undefined) {
      return err({ kind: "not-found", what: `a compute on "${name}"` });
    }
    const busy = this.busyWith(name);
    if (busy !== undefined) return busy;
    const job = jobs.start("compute-stop", name);
    // Half stopped it would be of no use.
    job.pastCancelling();
    this.halt(tenant, timeline, record, job).then(
      (compute) => job.done({ compute }),
      (error: unknown) => job.failed(error instanceof Error ? error.message : String(error)),
    );
    return ok(jobs.get(job.id)!);
  }

  private async halt(
    tenant: TenantHandle,
    timeline: TimelineHandle,
    record: ComputeRecord,
    job: JobReporter,
  ): Promise<ComputeInfo> {
    const { programs, directory } = this.deps;
    // We died while it was booted: what was written to it since has not come back yet.
    const live = directory.find(timeline.tenantId, timeline.entry.id) ?? timeline;
    if (live.entry.source === undefined && (await findCompute(record.dir)) !== undefined) {
      await this.streamBack(tenant, timeline, record.port, job);
    }
    job.step("stop PostgreSQL");
    const { how, endLsn } = await stopCompute(record.dir, { programs });
    job.detail(how);
    if (endLsn === undefined && how !== "not-running" && !record.synchronous) {
      throw new Error(
        `PostgreSQL had to be stopped by force (${how}), and its commits did not wait for us: what we ` +
          `may not have of them is in ${record.dir}; remove it, or stop the compute again, to let go of it`,
      );
    }
    if (endLsn !== undefined) {
      job.step("take in its last WAL", Lsn.format(endLsn));
      const deadline = performance.now() + COMPUTE_STREAM_MS_MAX;
      for (;;) {
        const now = directory.find(timeline.tenantId, timeline.entry.id)?.facts.positions;
        if (now !== undefined && now.durable >= endLsn) break;
        if (performance.now() > deadline) {
          throw new Error(
            `WAL up to ${Lsn.format(endLsn)} did not arrive; its directory ${record.dir} is kept`,
          );
        }
        await sleep(COMPUTE_POLL_MS);
      }
    }
    if (endLsn !== undefined) {
      const statistics = await readStatistics(programs, record.dir);
      await keepStatistics(this.timelineDir(timeline), statistics, endLsn);
    }
    job.step("remove its directory");
    await setSource(tenant, timeline, undefined);
    await rm(record.dir, { recursive: true, force: true });
    return this.info(timeline, record);
  }

  private async info(timeline: TimelineHandle, record: ComputeRecord): Promise<ComputeInfo> {
    const { jobs } = this.deps;
    const { name, id } = timeline.entry;
    const running = await findCompute(record.dir);
    const starting = jobs.running("compute-start", name) !== undefined;
    const stopping = jobs.running("compute-stop", name) !== undefined;
    const idle = running === undefined ? "stopped" : "running";
    const state = starting && running === undefined ? "starting" : stopping ? "stopping" : idle;
    return {
      tenant_id: timeline.tenantId,
      timeline_id: id,
      timeline: name,
      state,
      port: record.port,
      dir: record.dir,
      ...(running !== undefined && { pid: running.pid }),
      ...(record.startedAtMs !== undefined && {
        started_at: formatTime(record.startedAtMs * 1000),
      }),
      ...(record.startLsn !== undefined && { start_lsn: Lsn.format(record.startLsn) }),
      uri: computeUri(record.port),
      log: computeLog(record.dir),
    };
  }
}
