// The actor tree of the program: what each child that supervision.ts names is started with.

import { POLICY, type ChildSpec, type Running, type Tree, startTree } from "../../supervision.ts";
import { Backup, type BackupOptions } from "../actors/backup.ts";
import { spawnUploader } from "../actors/uploader.ts";
import { spawnConnections } from "../actors/connections.ts";
import type { Directory } from "../actors/directory.ts";
import { spawnDriller } from "../actors/driller.ts";
import { spawnEvictor } from "../actors/evictor.ts";
import type { TimelineLookup } from "../actors/page-stream.ts";
import type { Merger } from "../actors/merger.ts";
import { type RedoPoolMsg, spawnRedoPool } from "../actors/redo-pool.ts";
import { type ActorRef, type CrashReport, type Scope, ask } from "../actors/runtime.ts";
import type { Sealer } from "../actors/sealer.ts";
import { spawnScheduler } from "../actors/scheduler.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import { type TenantsMsg, spawnTenants } from "../actors/tenants.ts";
import type { EvictionPolicy } from "../core/backup/evict.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { REDO_DEADLINE_MS, WAIT_LSN_MS_MAX } from "../core/limits.ts";
import { systemClock } from "../io/clock.ts";
import { diskUsage } from "../io/disk-usage.ts";
import type { Listener } from "../io/listener.ts";
import { startRedoProcess } from "../io/redo-process.ts";
import { baseBackupTar, fullBackupTar } from "../protocol/base-backup.ts";
import { parsePgVersion, walFormat } from "../protocol/wal/format.ts";
import type { Login } from "./login.ts";
import { type RedoCounts, countedRedo } from "./status.ts";
import { threadChildren } from "./threads.ts";

const NAME = "pageserver";

export interface TreeParts {
  /** All that tenants share but what is part of the tree. */
  readonly shared: Omit<TenantShared, "redo" | "backup" | "sealer" | "merger">;
  /** Undefined: none is configured. */
  readonly backup?: BackupOptions | undefined;
  /** When layers leave the disk; counts only with a backup. */
  readonly eviction?: EvictionPolicy;
  /** Time between two restore drills of a timeline, ms; 0 or none: none are made. Counts only with a backup. */
  readonly drillEveryMs?: number;
  readonly listener: Listener;
  /** Links of one tenant at once. */
  readonly tenantConnectionsMax: number;
  readonly login: Login;
  readonly redo: {
    readonly processes: number;
    readonly pgMajor: number;
    /** Data directory that redo processes start from, and walredo.so. */
    readonly template: Parameters<typeof startRedoProcess>[0]["template"];
    readonly library: string;
    readonly counts: RedoCounts;
  };
}

export interface LiveTree extends Tree {
  readonly tenants: ActorRef<TenantsMsg>;
  readonly shared: TenantShared;
}

/** What one child gives to those that start after it. */
interface Live {
  redo?: ActorRef<RedoPoolMsg>;
  backup?: Backup;
  sealer?: Sealer;
  merger?: Merger;
  tenants?: ActorRef<TenantsMsg>;
}

/** Starts the tree. A child of the root that is given up takes the process along: nothing works without it. */
export async function growTree(parts: TreeParts): Promise<LiveTree> {
  const { shared, listener, tenantConnectionsMax, login } = parts;
  const { log, directory, onFatal } = shared;
  const live: Live = {};
  const all = (): TenantShared => ({
    ...shared,
    redo: live.redo!,
    ...{ backup: live.backup, sealer: live.sealer, merger: live.merger! },
  });
  const children: readonly ChildSpec[] = [
    {
      name: "redo-pool",
      start: (root) => {
        const pool = spawnRedoPool(root, redoDeps(parts));
        live.redo = countedRedo(pool, parts.redo.counts);
        return { stop: async () => pool.stop() };
      },
    },
    {
      name: "uploader",
      start: (root) => {
        const uploader = spawnUploader(root, POLICY.uploader);
        if (parts.backup !== undefined)
          live.backup = new Backup(parts.backup, uploader, shared.files);
        return { stop: async () => uploader.stop() };
      },
    },
    ...threadChildren(live, shared.crashPoint),
    {
      name: "tenants",
      start: (root) => {
        const tenants = (live.tenants = spawnTenants(root, POLICY.tenants, all()));
        return { stop: () => stopTenants(tenants) };
      },
    },
    { name: "evictor", start: (root) => startEvictor(root, parts, live.backup) },
    { name: "driller", start: (root) => startDriller(root, parts, live) },
    {
      name: "scheduler",
      start: (root) => {
        const scheduler = spawnScheduler(root, POLICY.scheduler, live.tenants!);
        return { stop: async () => scheduler.stop() };
      },
    },
    {
      name: "connections",
      start: (root) => {
        const connections = spawnConnections(root, POLICY.connections, {
          ...{ listener, log, serveBackup, tenantConnectionsMax },
          authenticate: login.authenticate,
          tls: login.tls,
          resolve: (tenant, timeline) => resolve(directory, tenant, timeline),
        });
        return { stop: async () => connections.stop() };
      },
    },
  ];
  const onCrash = ({ path, error, decision }: CrashReport): void => {
    log.error({ err: error, actor: path, next: decision }, "an actor crashed");
    const isChildOfRoot = path.split("/").length === 2;
    if (isChildOfRoot && decision === "give-up") onFatal(new Error(`${path} crashed too often`));
  };
  const tree = await startTree(NAME, children, onCrash);
  return { ...tree, tenants: live.tenants!, shared: all() };
}

/** Without a backup nothing may leave the disk. */
function startEvictor(root: Scope, parts: TreeParts, backup: Backup | undefined): Running {
  const { eviction: policy, shared } = parts;
  if (backup === undefined || policy === undefined) return { stop: () => Promise.resolve() };
  const { directory, log, clock, dataDir } = shared;
  const evictor = spawnEvictor(root, POLICY.evictor, {
    ...{ directory, log, policy, clock, state: backup.eviction },
    disk: () => diskUsage(dataDir),
  });
  return { stop: async () => evictor.stop() };
}

function startDriller(root: Scope, parts: TreeParts, { backup, redo }: Live): Running {
  const { drillEveryMs: everyMs = 0, shared } = parts;
  if (backup === undefined) return { stop: () => Promise.resolve() };
  const { directory, log, clock, dataDir } = shared;
  const disk = (): ReturnType<typeof diskUsage> => diskUsage(dataDir);
  const deps = { directory, log, clock, dataDir, backup, redo: redo!, disk, everyMs };
  return spawnDriller(root, POLICY.driller, deps);
}

function redoDeps({ redo, shared: { log } }: TreeParts): Parameters<typeof spawnRedoPool>[1] {
  const { processes, pgMajor, template, library } = redo;
  const walMagic = walFormat(parsePgVersion(pgMajor)).magic;
  const options = { template, library, walMagic, deadlineMs: REDO_DEADLINE_MS };
  return {
    processes,
    open: (handlers) => startRedoProcess(options, handlers),
    restart: POLICY.redoPool,
    workerRestart: POLICY.redoWorker,
    onLine: (worker, line) => log.warn({ worker }, `walredo: ${line}`),
  };
}

async function stopTenants(tenants: ActorRef<TenantsMsg>): Promise<void> {
  await ask<TenantsMsg, undefined>(tenants, (reply) => ({ kind: "stop", reply }), WAIT_LSN_MS_MAX);
  tenants.stop();
}

/** One that is loading is waited for by itself; one that is broken says so by itself. */
function resolve(directory: Directory, tenant: TenantId, timeline: TimelineId): TimelineLookup {
  const handle = directory.find(tenant, timeline);
  if (handle !== undefined) return handle.ref;
  const why = directory.unusable.get(tenant);
  const message =
    why === undefined ? `timeline ${timeline} of tenant ${tenant}` : `tenant ${tenant}: ${why}`;
  return { error: { kind: "not-found", message } };
}

const serveBackup: Parameters<typeof spawnConnections>[2]["serveBackup"] = (source, kind) => {
  const options = { timeS: Math.floor(systemClock.nowMs() / 1000) };
  return kind === "fullbackup" ? fullBackupTar(source, options) : baseBackupTar(source, options);
};
