// The whole program put together: lock, store, PostgreSQL's programs, the actor tree, listeners. One
// function that starts it and gives back how to stop it; used by `pageserver serve` and by tests.

import { mkdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { POLICY } from "../../supervision.ts";
import { Directory } from "../actors/directory.ts";
import type { Config } from "../config.ts";
import { formatTime } from "../core/time-text.ts";
import { JobBook } from "../http/jobs.ts";
import { startHttp } from "../http/server.ts";
import { OPEN_FILES_MAX } from "../core/limits.ts";
import { systemClock } from "../io/clock.ts";
import { lockDataDirectory } from "../io/data-lock.ts";
import { listen } from "../io/listener.ts";
import type { Log } from "../io/log.ts";
import { type PostgresPrograms, findPostgres } from "../io/postgres.ts";
import { prepareRedoTemplate } from "../io/redo-template.ts";
import type { Secret } from "../protocol/conninfo.ts";
import { type CrashPoint, filesWithPoints } from "../store/crash-points.ts";
import { openDataDirectory } from "../store/data-dir.ts";
import { OpenBudget } from "../store/open-budget.ts";
import { PageCache } from "../store/page-cache.ts";
import { OpenFiles } from "../store/sealed-file.ts";
import { evictionPolicy, openBackup } from "./backup.ts";
import { Closers } from "./closers.ts";
import { Computes } from "./computes.ts";
import { readDashboard } from "./dashboard-files.ts";
import { Imports } from "./imports.ts";
import { type Login, createLogin } from "./login.ts";
import type { LiveSettings } from "./live-settings.ts";
import { type ManagementDeps, createManagement } from "./management.ts";
import { statusOf } from "./status.ts";
import { type LiveTree, type TreeParts, growTree } from "./tree.ts";

const PG_MAJOR = 15;
/** Name under which WAL senders know us, and computes' synchronous_standby_names. */
const APPLICATION_NAME = "pageserver";

export interface Program {
  readonly http: string;
  readonly listenPort: number;
  /** Resolves when somebody asked for the end through the API. */
  readonly stopAsked: Promise<string>;
  /** Reads what may change while it runs: settings, public keys, the certificate. What cannot be read is logged and stays as it was. */
  readonly reload: () => Promise<void>;
  /** Orderly: listeners, imports, connections, timelines, redo, lock. */
  readonly stop: () => Promise<void>;
}

/** What no setting holds, because settings are shown. */
export interface Secrets {
  /** Password for WAL sources whose connection string has none. */
  readonly walToken?: Secret | undefined;
  /** Master keys of backups: io/objects/master-keys.ts. */
  readonly backupKeys?: Secret | undefined;
}

/** What the process lends to the program that runs in it. */
export interface Lent extends Secrets {
  /** How settings are read again; undefined: they are not. */
  readonly settings?: LiveSettings;
}

/** A data directory that cannot be made or written; the message names it and the remedy. */
export class DataDirectoryUnusable extends Error {
  override readonly name = "DataDirectoryUnusable";
}

/**
 * Starts everything. Throws with a sentence that names what is missing; nothing runs then. `onFatal`:
 * the process must end at once, because what is on disk is unknown or the data lock is lost.
 * `crashPoint`: for verifications, see store/crash-points.ts.
 */
export async function startProgram(
  config: Config,
  log: Log,
  onFatal: (error: Error) => void,
  lent: Lent = {},
  crashPoint?: CrashPoint,
): Promise<Program> {
  const closers = new Closers(log);
  try {
    return await start(config, log, onFatal, lent, closers, crashPoint);
  } catch (error) {
    await closers.closeAll();
    throw error;
  }
}

async function start(
  config: Config,
  log: Log,
  onFatal: (error: Error) => void,
  lent: Lent,
  closers: Closers,
  crashPoint: CrashPoint | undefined,
): Promise<Program> {
  const dataDir = path.resolve(config.dataDir);
  await lockedDirectory(dataDir, onFatal, closers);
  const programs = await findPostgres({ major: PG_MAJOR, binDir: config.pgBinDir });
  const login = await createLogin(config, dataDir, log, lent.settings);
  const parts = await treeParts({
    ...{ config, dataDir, log, onFatal, programs, login, secrets: lent, crashPoint },
  });
  const { listener } = parts;
  closers.add("open files", () => Promise.resolve(parts.shared.files.closeAll()));
  const tree = await startListening(parts, closers);
  const imports = new Imports();
  closers.add("imports", () => imports.stop());
  const jobs = new JobBook(systemClock.nowMs);
  const computes = new Computes({
    ...{ dataDir, directory: parts.shared.directory, programs, jobs },
    applicationName: APPLICATION_NAME,
    pageService: pageServiceConninfo(config.listenHost, listener.port, login),
    computeLibrary: libraryPath("compute.so"),
    computeToken: login.computeToken,
    nowMs: systemClock.nowMs,
  });
  let askStop = (_why: string): void => undefined;
  const stopAsked = new Promise<string>((resolve) => (askStop = resolve));
  const url = { http: "" };
  const { shared, tenants } = tree;
  const management = createManagement({
    ...{ shared, directory: shared.directory, tenants, programs, jobs, computes, imports },
    status: statusSource({ config, parts, tree, closers, url }),
    tree: tree.system.tree,
    reload: login.reload,
    certificateEndsMs: () => login.tls?.notAfterMs,
    shutdown: () => askStop("asked through the API"),
  });
  const http = await startHttp(management, {
    host: config.httpHost,
    port: config.httpPort,
    files: readDashboard(checkoutPath("dist/dashboard")),
    ...(login.checkToken !== undefined && { checkToken: login.checkToken }),
    ...(login.tls !== undefined && { tls: login.tls }),
    audit: (entry) => log.info({ audit: entry }, "management"),
    onUnexpected: (error, request) => log.error({ err: error, request }, "request failed"),
  });
  url.http = http.url;
  closers.add("management API", () => http.close());
  const stop = (): Promise<void> => closers.closeAll();
  return { http: url.http, listenPort: listener.port, stopAsked, reload: login.reloadLogged, stop };
}

/** Makes the directory if needed, locks it for this process and checks what it is. */
async function lockedDirectory(
  dataDir: string,
  onFatal: (error: Error) => void,
  closers: Closers,
): Promise<void> {
  const lock = await mkdir(dataDir, { recursive: true })
    .then(() => lockDataDirectory(dataDir))
    .catch((cause: unknown) => {
      const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
      if (typeof code !== "string") throw cause;
      throw new DataDirectoryUnusable(
        `data directory ${dataDir} cannot be used (${code}); make it a directory that this user can ` +
          `write, or name another one with --data`,
        { cause },
      );
    });
  closers.add("data lock", () => lock.release());
  void lock.lost.then(onFatal);
  openDataDirectory(dataDir);
}

interface Found {
  readonly config: Config;
  readonly dataDir: string;
  readonly log: Log;
  readonly onFatal: (error: Error) => void;
  readonly crashPoint: CrashPoint | undefined;
  readonly programs: PostgresPrograms;
  readonly login: Login;
  readonly secrets: Secrets;
}

/** What the tree is made of, the listener open. */
async function treeParts(found: Found): Promise<TreeParts> {
  const { config, dataDir, log, onFatal, programs, login, secrets, crashPoint } = found;
  const files = new OpenFiles(OPEN_FILES_MAX, systemClock.steadyMs);
  const template = await prepareRedoTemplate(programs, path.join(dataDir, "cache"));
  const shared: TreeParts["shared"] = {
    ...{ dataDir, log, onFatal, clock: systemClock, applicationName: APPLICATION_NAME },
    directory: new Directory(),
    files: crashPoint === undefined ? files : filesWithPoints(files, crashPoint),
    crashPoint,
    cache: new PageCache(),
    budget: new OpenBudget(),
    tenantRestart: POLICY.tenant,
    timelineRestart: POLICY.timeline,
    receiverRestart: POLICY.walReceiver,
    walToken: secrets.walToken,
  };
  const redo: TreeParts["redo"] = {
    processes: config.redoProcesses,
    pgMajor: PG_MAJOR,
    template,
    library: libraryPath("walredo.so"),
    counts: { queued: 0, pages: 0, failures: 0 },
  };
  const backup = await openBackup(config, log, secrets.backupKeys);
  const listener = await listen({
    host: config.listenHost,
    port: config.listenPort,
    onError: (error) => log.error({ err: error }, "accepting connections"),
  });
  const eviction = evictionPolicy(config);
  const tenantConnectionsMax = config.tenantConnections;
  const drillEveryMs = config.backupDrillEveryS * 1_000;
  return { shared, listener, tenantConnectionsMax, login, redo, backup, eviction, drillEveryMs };
}

/** The listener closes when its last link has, and links are closed by the tree: both at once. */
async function startListening(parts: TreeParts, closers: Closers): Promise<LiveTree> {
  const { listener } = parts;
  const grown: { tree?: LiveTree } = {};
  closers.add("page service and actors", async () => {
    const closed: Promise<void> = listener.close();
    await grown.tree?.stop();
    await closed;
  });
  return (grown.tree = await growTree(parts));
}

function statusSource(of: {
  readonly config: Config;
  readonly parts: TreeParts;
  readonly tree: LiveTree;
  readonly closers: Closers;
  readonly url: { readonly http: string };
}): ManagementDeps["status"] {
  const { config, parts, tree, closers, url } = of;
  const { dataDir, budget, directory } = parts.shared;
  const startedMs = systemClock.nowMs();
  return () =>
    statusOf({
      ...{ dataDir, budget, directory },
      state: closers.isClosing ? "stopping" : "running",
      startedAt: formatTime(startedMs * 1000),
      uptimeMs: systemClock.nowMs() - startedMs,
      pageService: `${config.listenHost}:${parts.listener.port}`,
      http: url.http,
      redoProcesses: parts.redo.processes,
      redoCounts: parts.redo.counts,
      tree: tree.system.tree(),
      backup: tree.shared.backup,
    });
}

/**
 * How a compute on this machine connects to the page service. Nobody is between us, so that TLS, where
 * it is spoken, needs no proof of who we are.
 */
function pageServiceConninfo(listenHost: string, port: number, { tls }: Login): string {
  const everywhere = listenHost === "0.0.0.0" || listenHost === "::";
  const host = everywhere ? "127.0.0.1" : listenHost;
  return (
    `host=${host} port=${port} user=compute dbname=compute application_name=compute ` +
    `sslmode=${tls === undefined ? "disable" : "require"} gssencmode=disable connect_timeout=10`
  );
}

/** A library beside the sources. */
export const libraryPath = (name: string): string => path.join(checkoutPath("pgext/build"), name);

/** A folder of the checkout, whether this file was compiled or not. */
export function checkoutPath(folder: string): string {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const root = here.split(path.sep).includes("dist")
    ? path.resolve(here, "../../..")
    : path.resolve(here, "../..");
  return path.join(root, folder);
}
