// The page server of the benchmarks: the program's own actors, store and page service without its
// management API. Lives in a process of its own (page-server-process.ts), so that its memory and
// its time are its own.

import { type ConnectionsMsg, spawnConnections } from "../src/actors/connections.ts";
import { Directory, type TenantHandle, type TimelineHandle } from "../src/actors/directory.ts";
import type { RedoPoolMsg } from "../src/actors/redo-pool.ts";
import { spawnRedoPool } from "../src/actors/redo-pool.ts";
import { type ActorRef, type ActorSystem, ask, startSystem } from "../src/actors/runtime.ts";
import type { TenantShared } from "../src/actors/tenant-timelines.ts";
import { type TenantsMsg, spawnTenants } from "../src/actors/tenants.ts";
import type { TimelineMsg } from "../src/actors/timeline-messages.ts";
import { TimelineImport } from "../src/app/import.ts";
import type { TimelineId } from "../src/core/ids.ts";
import { REDO_PROCESSES } from "../src/core/limits.ts";
import { systemClock } from "../src/io/clock.ts";
import { readControl, walkDataDir } from "../src/io/data-dir.ts";
import { type Listener, listen } from "../src/io/listener.ts";
import { createLog } from "../src/io/log.ts";
import { readControlFile } from "../src/protocol/control-file.ts";
import { DataDirImport } from "../src/protocol/import-data-dir.ts";
import { trust } from "../src/protocol/pg-handshake.ts";
import { openDataDirectory } from "../src/store/data-dir.ts";
import { OpenBudget } from "../src/store/open-budget.ts";
import { PageCache } from "../src/store/page-cache.ts";
import { OpenFiles } from "../src/store/sealed-file.ts";
import { POLICY } from "../supervision.ts";
import { redoOpener } from "../test/support/redo.ts";
import { TENANT } from "./tenant.ts";
import { until } from "./wait.ts";

const ANSWER_MS_MAX = 600_000;

export interface BenchServer {
  readonly port: number;
  readonly tenant: TenantHandle;
  /** Imports a cleanly stopped cluster as a new timeline; all of it is in sealed layers then. */
  importCluster(id: TimelineId, dir: string): Promise<void>;
  timeline(id: TimelineId): TimelineHandle;
  /** Waits until a timeline can be used. */
  loaded(id: TimelineId): Promise<void>;
  /** Waits until everything a timeline has taken in is in sealed layers. */
  seal(id: TimelineId): Promise<void>;
  stop(): Promise<void>;
}

/** Starts one on an empty data directory. */
export async function startBenchServer(dataDir: string): Promise<BenchServer> {
  const log = createLog({ level: "error", to: 2, pretty: false });
  const system = startSystem("bench", (report) => log.error({ err: report.error }, report.path));
  openDataDirectory(dataDir);
  const redo = await startRedo(system);
  const shared: TenantShared = {
    dataDir,
    files: new OpenFiles(),
    directory: new Directory(),
    cache: new PageCache(),
    budget: new OpenBudget(),
    redo,
    clock: systemClock,
    log,
    tenantRestart: POLICY.tenant,
    timelineRestart: POLICY.timeline,
    receiverRestart: POLICY.walReceiver,
    applicationName: "pageserver-bench",
    onFatal: (error) => {
      throw error;
    },
  };
  const tenants = spawnTenants(system.root, POLICY.tenants, shared);
  const tenant = await ask<TenantsMsg, TenantHandle | undefined>(
    tenants,
    (reply) => ({ kind: "create", id: TENANT, reply }),
    ANSWER_MS_MAX,
  );
  if (tenant === undefined || tenant === "timed-out") throw new Error("the tenant does not start");
  const onError = (err: Error): void => log.error({ err }, "listener");
  const listener = await listen({ host: "127.0.0.1", port: 0, onError });
  serve(system, listener, shared, log);
  return new Server({ system, shared, tenants, tenant, listener });
}

async function startRedo(system: ActorSystem): Promise<ActorRef<RedoPoolMsg>> {
  const { open } = await redoOpener();
  return spawnRedoPool(system.root, {
    processes: REDO_PROCESSES,
    open,
    restart: POLICY.redoPool,
    workerRestart: POLICY.redoWorker,
    onLine: (worker, line) => process.stderr.write(`redo ${worker}: ${line}\n`),
  });
}

function serve(
  system: ActorSystem,
  listener: Listener,
  shared: TenantShared,
  log: TenantShared["log"],
): ActorRef<ConnectionsMsg> {
  return spawnConnections(system.root, POLICY.connections, {
    listener,
    resolve: (tenant, timeline) => {
      const found = shared.directory.find(tenant, timeline);
      if (found !== undefined) return found.ref;
      return { error: { kind: "not-found", message: `timeline ${timeline}` } };
    },
    serveBackup: () => {
      throw new Error("the benchmarks take no base backups");
    },
    authenticate: trust,
    log,
  });
}

interface ServerParts {
  readonly system: ActorSystem;
  readonly shared: TenantShared;
  readonly tenants: ActorRef<TenantsMsg>;
  readonly tenant: TenantHandle;
  readonly listener: Listener;
}

class Server implements BenchServer {
  readonly port: number;
  readonly tenant: TenantHandle;
  private readonly parts: ServerParts;

  constructor(parts: ServerParts) {
    this.parts = parts;
    this.port = parts.listener.port;
    this.tenant = parts.tenant;
  }

  async importCluster(id: TimelineId, dir: string): Promise<void> {
    const { shared, tenant } = this.parts;
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

  timeline(id: TimelineId): TimelineHandle {
    const found = this.find(id);
    if (found === undefined) throw new Error(`timeline ${id} is not there`);
    return found;
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

  async stop(): Promise<void> {
    const { tenants, listener, system } = this.parts;
    await ask<TenantsMsg, undefined>(tenants, (reply) => ({ kind: "stop", reply }), ANSWER_MS_MAX);
    system.stop();
    await listener.close();
  }

  private find(id: TimelineId): TimelineHandle | undefined {
    return this.parts.shared.directory.find(TENANT, id);
  }
}
