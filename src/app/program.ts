// The whole program put together: lock, store, PostgreSQL's programs, the actor tree, listeners. One
// function that starts it and gives back how to stop it; used by `pageserver serve` and by tests.

import { mkdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { POLICY, type Tree, startTree } from "../../supervision.ts";
import { spawnConnections } from "../actors/connections.ts";
import { Directory } from "../actors/directory.ts";
import { type RedoPoolMsg, spawnRedoPool } from "../actors/redo-pool.ts";
import { type ActorRef, type CrashReport, ask } from "../actors/runtime.ts";
import { spawnScheduler } from "../actors/scheduler.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import { type TenantsMsg, spawnTenants } from "../actors/tenants.ts";
import type { Config } from "../config.ts";
import { REDO_DEADLINE_MS, WAIT_LSN_MS_MAX } from "../core/limits.ts";
import { formatTime } from "../core/time-text.ts";
import { JobBook } from "../http/jobs.ts";
import { type HttpServer, startHttp } from "../http/server.ts";
import { systemClock } from "../io/clock.ts";
import { lockDataDirectory } from "../io/data-lock.ts";
import { type Listener, listen } from "../io/listener.ts";
import type { Log } from "../io/log.ts";
import { findPostgres } from "../io/postgres.ts";
import { startRedoProcess } from "../io/redo-process.ts";
import { prepareRedoTemplate } from "../io/redo-template.ts";
import { baseBackupTar, fullBackupTar } from "../protocol/base-backup.ts";
import { parsePgVersion, walFormat } from "../protocol/wal/format.ts";
import { openDataDirectory } from "../store/data-dir.ts";
import { OpenBudget } from "../store/open-budget.ts";
import { PageCache } from "../store/page-cache.ts";
import { OpenFiles } from "../store/sealed-file.ts";
import { Computes } from "./computes.ts";
import { type Login, createLogin } from "./login.ts";
import { createManagement } from "./management.ts";
import { countedRedo, statusOf } from "./status.ts";

const PG_MAJOR = 15;
/** Name under which WAL senders know us, and computes' synchronous_standby_names. */
const APPLICATION_NAME = "pageserver";

export interface Program {
  readonly http: string;
  readonly listenPort: number;
  /** Resolves when somebody asked for the end through the API, or the data lock was lost. */
  readonly stopAsked: Promise<string>;
  /** Reads what may change while it runs: public keys. What cannot be read is logged and stays as it was. */
  readonly reload: () => Promise<void>;
  /** Orderly: listeners, connections, timelines, redo, lock. */
  readonly stop: () => Promise<void>;
}

/** Starts everything. Throws with a sentence that names what is missing. */
export async function startProgram(
  config: Config,
  log: Log,
  onFatal: (error: Error) => void,
): Promise<Program> {
  const dataDir = path.resolve(config.dataDir);
  await mkdir(dataDir, { recursive: true });
  const lock = await lockDataDirectory(dataDir);
  try {
    return await start(config, dataDir, log, onFatal, lock);
  } catch (error) {
    await lock.release();
    throw error;
  }
}

async function start(
  config: Config,
  dataDir: string,
  log: Log,
  onFatal: (error: Error) => void,
  lock: Awaited<ReturnType<typeof lockDataDirectory>>,
): Promise<Program> {
  openDataDirectory(dataDir);
  const programs = await findPostgres({ major: PG_MAJOR, binDir: config.pgBinDir });
  const template = await prepareRedoTemplate(programs, path.join(dataDir, "cache"));
  const login = await createLogin(config, dataDir, log);
  const listener = await listen({
    host: config.listenHost,
    port: config.listenPort,
    onError: (error) => log.error({ err: error }, "accepting connections"),
  });
  const directory = new Directory();
  const parts: Parts = { config, dataDir, log, directory, listener, login };
  const live: {
    redo?: ActorRef<RedoPoolMsg>;
    tenants?: ActorRef<TenantsMsg>;
    shared?: TenantShared;
  } = {};
  const redoOptions = {
    template,
    library: libraryPath("walredo.so"),
    deadlineMs: REDO_DEADLINE_MS,
    walMagic: walFormat(parsePgVersion(PG_MAJOR)).magic,
  };
  const redoCounts = { queued: 0, pages: 0, failures: 0 };
  let askStop = (_why: string): void => undefined;
  const stopAsked = new Promise<string>((resolve) => (askStop = resolve));
  const onCrash = (report: CrashReport): void => {
    log.error({ err: report.error, actor: report.path, next: report.decision }, "an actor crashed");
    if (report.path.endsWith("/tenants")) onFatal(new Error("the directory of tenants crashed"));
  };

  const tree = await startTree("pageserver", childSpecs(), onCrash).catch(
    async (error: unknown) => {
      await listener.close();
      throw error;
    },
  );

  function childSpecs(): Parameters<typeof startTree>[1] {
    return [
      {
        name: "redo-pool",
        start: (root) => {
          const pool = spawnRedoPool(root, {
            processes: config.redoProcesses,
            open: (handlers) => startRedoProcess(redoOptions, handlers),
            restart: POLICY.redoPool,
            workerRestart: POLICY.redoWorker,
            onLine: (worker, line) => log.warn({ worker }, `walredo: ${line}`),
          });
          live.redo = countedRedo(pool, redoCounts);
          return { stop: async () => pool.stop() };
        },
      },
      {
        name: "tenants",
        start: (root) => {
          live.shared = sharedOf(parts, live.redo!, onFatal);
          const tenants = spawnTenants(root, POLICY.tenants, live.shared);
          live.tenants = tenants;
          return {
            stop: async () => {
              await ask<TenantsMsg, undefined>(
                tenants,
                (reply) => ({ kind: "stop", reply }),
                WAIT_LSN_MS_MAX,
              );
              tenants.stop();
            },
          };
        },
      },
      {
        name: "scheduler",
        start: (root) => {
          const scheduler = spawnScheduler(root, POLICY.scheduler, live.tenants!);
          return { stop: async () => scheduler.stop() };
        },
      },
      { name: "connections", start: (root) => startConnections(root, parts) },
    ];
  }

  const startedMs = systemClock.nowMs();
  const jobs = new JobBook(systemClock.nowMs);
  const computes = new Computes({
    dataDir,
    directory,
    programs,
    jobs,
    applicationName: APPLICATION_NAME,
    pageService: pageServiceConninfo(config.listenHost, listener.port),
    computeLibrary: libraryPath("compute.so"),
    computeToken: login.computeToken,
    nowMs: systemClock.nowMs,
  });
  let stopping = false;
  const running: { http?: HttpServer } = {};
  const management = createManagement({
    shared: live.shared!,
    directory,
    tenants: live.tenants!,
    programs,
    jobs,
    computes,
    status: () =>
      statusOf({
        state: stopping ? "stopping" : "running",
        startedAt: formatTime(startedMs * 1000),
        uptimeMs: systemClock.nowMs() - startedMs,
        dataDir,
        pageService: `${config.listenHost}:${listener.port}`,
        http: running.http?.url ?? "",
        budget: live.shared!.budget,
        redoProcesses: config.redoProcesses,
        redoCounts,
        directory,
        tree: tree.system.tree(),
      }),
    reloadKeys: login.reloadKeys,
    shutdown: () => askStop("asked through the API"),
  });
  const http = await startHttp(management, {
    host: config.httpHost,
    port: config.httpPort,
    ...(login.checkToken !== undefined && { checkToken: login.checkToken }),
    audit: (entry) => log.info({ audit: entry }, "management"),
    onUnexpected: (error, request) => log.error({ err: error, request }, "request failed"),
  }).catch(async (error: unknown) => {
    await tree.stop();
    await listener.close();
    throw error;
  });
  running.http = http;
  void lock.lost.then((why) => onFatal(why));
  const stop = async (): Promise<void> => {
    stopping = true;
    await http.close();
    await stopTree(tree, listener);
    await lock.release();
  };
  return { http: http.url, listenPort: listener.port, stopAsked, reload: login.reload, stop };
}

async function stopTree(tree: Tree, listener: Listener): Promise<void> {
  const closed = listener.close();
  await tree.stop();
  await closed;
}

interface Parts {
  readonly config: Config;
  readonly dataDir: string;
  readonly log: Log;
  readonly directory: Directory;
  readonly listener: Listener;
  readonly login: Login;
}

function sharedOf(
  { dataDir, log, directory }: Parts,
  redo: ActorRef<RedoPoolMsg>,
  onFatal: (error: Error) => void,
): TenantShared {
  return {
    dataDir,
    directory,
    files: new OpenFiles(),
    cache: new PageCache(),
    budget: new OpenBudget(),
    redo,
    clock: systemClock,
    log,
    applicationName: APPLICATION_NAME,
    tenantRestart: POLICY.tenant,
    timelineRestart: POLICY.timeline,
    receiverRestart: POLICY.walReceiver,
    onFatal,
  };
}

function startConnections(
  root: Parameters<typeof spawnConnections>[0],
  { listener, directory, log, login }: Parts,
): { stop: () => Promise<void> } {
  const connections = spawnConnections(root, POLICY.connections, {
    listener,
    authenticate: login.authenticate,
    log,
    resolve: (tenant, timeline) => {
      const handle = directory.find(tenant, timeline);
      if (handle === undefined) return { error: { kind: "not-found", message: "not found" } };
      const { phase } = handle.facts;
      if (phase.kind === "loading") {
        return { error: { kind: "not-active", message: "the timeline is loading" } };
      }
      return handle.ref;
    },
    serveBackup: (source, kind) => {
      const options = { timeS: Math.floor(systemClock.nowMs() / 1000) };
      return kind === "fullbackup"
        ? fullBackupTar(source, options)
        : baseBackupTar(source, options);
    },
  });
  return { stop: async () => connections.stop() };
}

/** How a compute on this machine connects to the page service; it has neither TLS nor GSS. */
function pageServiceConninfo(listenHost: string, port: number): string {
  const everywhere = listenHost === "0.0.0.0" || listenHost === "::";
  const host = everywhere ? "127.0.0.1" : listenHost;
  return (
    `host=${host} port=${port} user=compute dbname=compute application_name=compute ` +
    `sslmode=disable gssencmode=disable connect_timeout=10`
  );
}

/** A library beside the sources: pgext/build of the checkout, whether this file was compiled or not. */
function libraryPath(name: string): string {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const root = here.split(path.sep).includes("dist")
    ? path.resolve(here, "../../..")
    : path.resolve(here, "../..");
  return path.join(root, "pgext/build", name);
}
