// A page service on a loopback port with timelines from memory behind it, for tests of the wire.

import { afterEach } from "vitest";
import type { ServeBackup } from "../../src/actors/backup-copy.ts";
import { type ConnectionDeadlines, DEADLINES } from "../../src/actors/connection.ts";
import { type ConnectionsMsg, spawnConnections } from "../../src/actors/connections.ts";
import type { LookupError, TimelineLookup } from "../../src/actors/page-stream.ts";
import { type ActorRef, type ActorSystem, ask, startSystem } from "../../src/actors/runtime.ts";
import type { BackupSource } from "../../src/core/backup-source.ts";
import type { Lsn } from "../../src/core/lsn.ts";
import { type Listener, listen } from "../../src/io/listener.ts";
import { createLog } from "../../src/io/log.ts";
import type { LinkTls } from "../../src/io/tls.ts";
import { type Authenticate, trust } from "../../src/protocol/pg-handshake.ts";
import { type MemoryTimelineOptions, spawnMemoryTimeline } from "./memory-timeline.ts";

export const TENANT = "0123456789abcdef0123456789abcdef";
export const TIMELINE = "fedcba9876543210fedcba9876543210";
export const MISSING = "00000000000000000000000000000000";

export interface PageServiceOptions extends MemoryTimelineOptions {
  readonly serveBackup?: ServeBackup;
  readonly authenticate?: Authenticate;
  readonly tls?: LinkTls;
  readonly connectionsMax?: number;
  readonly loginsMax?: number;
  readonly tenantConnectionsMax?: number;
  readonly deadlines?: Partial<ConnectionDeadlines>;
  /** The lookup of TIMELINE fails with this while it is set. */
  readonly lookup?: () => LookupError | undefined;
}

export interface TestPageService {
  readonly port: number;
  readonly system: ActorSystem;
  readonly listener: Listener;
  readonly connections: ActorRef<ConnectionsMsg>;
  /** Lines of the log at level info and above. */
  readonly lines: { level: number; msg: string; tenant?: string; timeline?: string }[];
  readonly count: () => Promise<number | "timed-out">;
  readonly stop: () => Promise<void>;
}

let started = 0;

export async function startPageService(options: PageServiceOptions = {}): Promise<TestPageService> {
  const lines: TestPageService["lines"] = [];
  const log = createLog({
    level: "info",
    to: { write: (line) => lines.push(JSON.parse(line) as (typeof lines)[number]) },
    pretty: false,
  });
  const system = startSystem(`page-service-${++started}`, (report) => {
    log.error({ err: report.error }, `crash of ${report.path}`);
  });
  const timeline = spawnMemoryTimeline(system.root, "timeline", options);
  const listener = await listen({
    host: "127.0.0.1",
    port: 0,
    onError: (err) => log.error({ err }, "listener"),
  });
  const resolve = (tenant: string, id: string): TimelineLookup => {
    const error = options.lookup?.();
    if (error !== undefined) return { error };
    if (tenant === TENANT && id === TIMELINE) return timeline;
    return { error: { kind: "not-found", message: `timeline ${id}` } };
  };
  const connections = spawnConnections(
    system.root,
    { crashesMax: 0, windowMs: 1, backOffMs: 0, backOffMsMax: 0 },
    {
      listener,
      resolve,
      serveBackup: options.serveBackup ?? noBackup,
      authenticate: options.authenticate ?? trust,
      tls: options.tls,
      log,
      ...(options.tenantConnectionsMax !== undefined && {
        tenantConnectionsMax: options.tenantConnectionsMax,
      }),
      ...(options.loginsMax === undefined ? {} : { loginsMax: options.loginsMax }),
      ...(options.connectionsMax === undefined ? {} : { connectionsMax: options.connectionsMax }),
      deadlines: { ...DEADLINES, ...options.deadlines },
    },
  );
  return {
    port: listener.port,
    system,
    listener,
    connections,
    lines,
    count: () =>
      ask<ConnectionsMsg, number>(connections, (reply) => ({ kind: "count", reply }), 2000),
    stop: async () => {
      system.stop();
      await listener.close();
    },
  };
}

/** A service that each test starts for itself and that ends with it. */
export function pageServiceOfTest() {
  let started: TestPageService | undefined;
  afterEach(async () => {
    await started?.stop();
    started = undefined;
  });
  return {
    start: async (options: PageServiceOptions = {}): Promise<TestPageService> =>
      (started = await startPageService(options)),
    service: (): TestPageService => started!,
    /** The test has ended it. */
    forget: (): void => void (started = undefined),
  };
}

export async function until(condition: () => boolean, timeoutMs = 5000): Promise<void> {
  const start = Date.now();
  while (!condition()) {
    if (Date.now() - start > timeoutMs) throw new Error("waited too long");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const noBackup: ServeBackup = () => {
  throw new Error("no backups in this test");
};

/** A source for tests of how a backup travels, not of what is in it. */
export function emptySource(lsn: Lsn, prevLsn: Lsn): BackupSource {
  const none = (): Promise<never> => Promise.reject(new Error("nothing in here"));
  return {
    lsn,
    prevLsn,
    pgVersion: 15,
    tli: 1,
    databases: () => Promise.resolve([]),
    relations: () => Promise.resolve([]),
    pages: none,
    slruSegments: () => Promise.resolve([]),
    slruSegment: none,
    twoPhase: () => Promise.resolve([]),
    origins: () => Promise.resolve([]),
    control: none,
    checkpoint: none,
  };
}
