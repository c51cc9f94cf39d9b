// The page server of the benchmarks: the program's own tree of actors, its store and page service,
// without the management API. Lives in a process of its own (page-server-process.ts), so that its memory and
// its time are its own.

import os from "node:os";
import path from "node:path";
import { Directory, type TenantHandle, type TimelineHandle } from "../src/actors/directory.ts";
import { ask } from "../src/actors/runtime.ts";
import type { TenantsMsg } from "../src/actors/tenants.ts";
import type { TimelineMsg } from "../src/actors/timeline-messages.ts";
import { TimelineImport } from "../src/app/import.ts";
import { createLogin } from "../src/app/login.ts";
import { libraryPath } from "../src/app/program.ts";
import { type LiveTree, type TreeParts, growTree } from "../src/app/tree.ts";
import { loadConfig } from "../src/config.ts";
import type { TimelineId } from "../src/core/ids.ts";
import { OPEN_FILES_MAX } from "../src/core/limits.ts";
import type { Lsn } from "../src/core/lsn.ts";
import type { Result } from "../src/core/result.ts";
import { systemClock } from "../src/io/clock.ts";
import { readControl, walkDataDir } from "../src/io/data-dir.ts";
import { type Listener, listen } from "../src/io/listener.ts";
import { type Log, createLog } from "../src/io/log.ts";
import { findPostgres } from "../src/io/postgres.ts";
import { prepareRedoTemplate } from "../src/io/redo-template.ts";
import { readControlFile } from "../src/protocol/control-file.ts";
import { DataDirImport } from "../src/protocol/import-data-dir.ts";
import { listTenants, openDataDirectory } from "../src/store/data-dir.ts";
import { OpenBudget } from "../src/store/open-budget.ts";
import { PageCache } from "../src/store/page-cache.ts";
import { OpenFiles } from "../src/store/sealed-file.ts";
import { POLICY } from "../supervision.ts";
import { TENANT } from "./tenant.ts";
import { until } from "./wait.ts";

const PG_MAJOR = 15;
const ANSWER_MS_MAX = 600_000;
/** No merge for so long: none is due. Timelines look once a second. */
const SETTLED_MS = 2_500;

export interface BenchServer {
  readonly port: number;
  readonly tenant: TenantHandle;
  /** Imports a cleanly stopped cluster as a new timeline; all of it is in sealed layers then. */
  importCluster(id: TimelineId, dir: string): Promise<void>;
  timeline(id: TimelineId): TimelineHandle;
  /** Loads a timeline that sleeps; the milliseconds that took, 0 when none does. */
  wakeOne(): Promise<number>;
  /** Waits until a timeline can be used. */
  loaded(id: TimelineId): Promise<void>;
  /** Waits until all timelines that the catalogs name can be used. */
  allLoaded(): Promise<void>;
  /** Waits until everything a timeline has taken in is in sealed layers. */
  seal(id: TimelineId): Promise<void>;
  /** Waits until its layers are merged as far as they are due. */
  settle(id: TimelineId): Promise<void>;
  /** Merges all of its layers. */
  compact(id: TimelineId): Promise<void>;
  /** Lets go of all history that nothing holds, and merges all of its layers; gives the seconds. */
  collect(id: TimelineId): Promise<number>;
  /** Bytes of its layers' files, and of its relations. */
  bytes(id: TimelineId): { readonly sealed: number; readonly logical: number };
  stop(): Promise<void>;
}

/** Starts one on a data directory, which is made if it is missing. */
export async function startBenchServer(dataDir: string): Promise<BenchServer> {
  const log = createLog({ level: "error", to: 2, pretty: false });
  const { config } = loadConfig({ dataDir, listenPort: 0 }, {});
  openDataDirectory(dataDir);
  const programs = await findPostgres({ major: PG_MAJOR, binDir: config.pgBinDir });
  const cacheDir = path.join(os.tmpdir(), "pageserver-bench-cache");
  const listener = await listen({
    host: config.listenHost,
    port: config.listenPort,
    onError: (error) => log.error({ err: error }, "listener"),
  });
  const tree = await growTree({
    shared: sharedOf(dataDir, log),
    listener,
    tenantConnectionsMax: config.tenantConnections,
    login: await createLogin(config, dataDir, log),
    redo: {
      processes: config.redoProcesses,
      pgMajor: PG_MAJOR,
      template: await prepareRedoTemplate(programs, cacheDir),
      library: libraryPath("walredo.so"),
      counts: { queued: 0, pages: 0, failures: 0 },
    },
  });
  const tenant = await ask<TenantsMsg, TenantHandle | undefined>(
    tree.tenants,
    (reply) => ({ kind: "create", id: TENANT, reply }),
    ANSWER_MS_MAX,
  );
  if (tenant === undefined || tenant === "timed-out") throw new Error("the tenant does not start");
  return new Server(tree, tenant, listener);
}

/** As src/app/program.ts makes it. */
const sharedOf = (dataDir: string, log: Log): TreeParts["shared"] => ({
  dataDir,
  log,
  directory: new Directory(),
  files: new OpenFiles(OPEN_FILES_MAX, systemClock.steadyMs),
  cache: new PageCache(),
  budget: new OpenBudget(),
  clock: systemClock,
  tenantRestart: POLICY.tenant,
  timelineRestart: POLICY.timeline,
  receiverRestart: POLICY.walReceiver,
  applicationName: "pageserver-bench",
  onFatal: (error) => {
    throw error;
  },
});

class Server implements BenchServer {
  readonly port: number;
  readonly tenant: TenantHandle;
  private readonly tree: LiveTree;
  private readonly listener: Listener;

  constructor(tree: LiveTree, tenant: TenantHandle, listener: Listener) {
    this.tree = tree;
    this.listener = listener;
    this.port = listener.port;
    this.tenant = tenant;
  }

  async importCluster(id: TimelineId, dir: string): Promise<void> {
    const { tenant } = this;
    const { shared } = this.tree;
    const control = readControlFile(await readControl(dir), 15);
    const { redo: baseLsn, tli } = control.checkPointCopy;
    const name = `bench-${id.slice(-6)}`;
    const made = new TimelineImport(shared, tenant, {
      id,
      name,
      pgVersion: 15,
      tli,
      systemId: `${control.systemId}`,
      baseLsn,
    });
    const job = new DataDirImport(made.sink, {
      baseLsn,
      state: "exact",
      pressure: made.pressure,
    });
    for await (const entry of walkDataDir(dir)) await job.entry(entry);
    job.finish();
    await made.finish({ readableFrom: baseLsn });
    tenant.ref.tell({ kind: "adopt", timeline: id, reply: { answer: () => undefined } });
    await this.loaded(id);
  }

  loaded(id: TimelineId): Promise<void> {
    return until(() => this.find(id)?.facts.phase.kind === "active");
  }

  allLoaded(): Promise<void> {
    const { tenants, unusable } = this.tree.shared.directory;
    const wanted = listTenants(this.tree.shared.dataDir).length;
    return until(() => {
      if (unusable.size > 0) throw new Error([...unusable.values()][0]);
      if (tenants.size < wanted) return false;
      for (const { catalog, timelines } of tenants.values()) {
        for (const { facts } of timelines.values()) {
          if (facts.phase.kind !== "active") return false;
        }
        if (timelines.size < catalog.timelines().length) return false;
      }
      return true;
    }, ANSWER_MS_MAX);
  }

  timeline(id: TimelineId): TimelineHandle {
    const found = this.find(id);
    if (found === undefined) throw new Error(`timeline ${id} is not there`);
    return found;
  }

  async wakeOne(): Promise<number> {
    const handles = [...this.tenant.timelines.values()].reverse();
    const handle = handles.find(({ asleep }) => asleep !== undefined);
    if (handle === undefined) return 0;
    const started = performance.now();
    await ask<TimelineMsg, undefined>(
      handle.ref,
      (reply) => ({ kind: "wake", reply }),
      ANSWER_MS_MAX,
    );
    const ms = performance.now() - started;
    if (this.timeline(handle.entry.id).store === undefined) throw new Error("it is not loaded");
    return ms;
  }

  async seal(id: TimelineId): Promise<void> {
    while (this.timeline(id).store?.openIsEmpty === false) {
      const sealed = await ask<TimelineMsg, unknown>(
        this.timeline(id).ref,
        (reply) => ({ kind: "seal-now", reply }),
        ANSWER_MS_MAX,
      );
      if (sealed === "timed-out") throw new Error("sealing does not end");
    }
  }

  async settle(id: TimelineId): Promise<void> {
    let quietSince = performance.now();
    await until(() => {
      if (this.timeline(id).merge?.().merging !== false) quietSince = performance.now();
      return performance.now() - quietSince > SETTLED_MS;
    }, ANSWER_MS_MAX);
  }

  async compact(id: TimelineId): Promise<void> {
    const done = await ask<TimelineMsg, Result<undefined, string>>(
      this.timeline(id).ref,
      (reply) => ({ kind: "compact", reply }),
      ANSWER_MS_MAX,
    );
    if (done === "timed-out") throw new Error("merging does not end");
    if (!done.ok) throw new Error(done.error);
  }

  async collect(id: TimelineId): Promise<number> {
    const started = performance.now();
    const moved = await ask<TimelineMsg, Lsn | undefined>(
      this.timeline(id).ref,
      (reply) => ({ kind: "collect", windowMs: 0, walBytes: 0, reply }),
      ANSWER_MS_MAX,
    );
    if (moved === "timed-out" || moved === undefined) throw new Error("the cutoff does not move");
    await this.compact(id);
    return (performance.now() - started) / 1000;
  }

  bytes(id: TimelineId): { readonly sealed: number; readonly logical: number } {
    const { readFrom, store, facts } = this.timeline(id);
    if (readFrom === undefined || store === undefined)
      throw new Error("the timeline is not loaded");
    const logical = readFrom.pages.relations.logicalSize(facts.positions.visible);
    return { sealed: store.sealedBytes, logical };
  }

  async stop(): Promise<void> {
    const closed = this.listener.close();
    await this.tree.stop();
    await closed;
  }

  private find(id: TimelineId): TimelineHandle | undefined {
    return this.tree.shared.directory.find(TENANT, id);
  }
}
