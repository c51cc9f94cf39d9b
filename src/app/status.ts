// What `pageserver status` shows: the live tree, positions of all timelines, work of WAL redo.

import type { Backup } from "../actors/backup.ts";
import type { Directory } from "../actors/directory.ts";
import type { RedoPoolMsg } from "../actors/redo-pool.ts";
import type { ActorRef, TreeNode } from "../actors/runtime.ts";
import { meters } from "../io/meters.ts";
import { formatTime } from "../core/time-text.ts";
import type { Status } from "../protocol/api-status.ts";
import type { OpenBudget } from "../store/open-budget.ts";
import { drillAlarmOf } from "./drill.ts";
import { sourceInfo, timelineInfo } from "./info.ts";

export const VERSION = "0.1.0";

export interface RedoCounts {
  queued: number;
  pages: number;
  failures: number;
}

/** The pool's address, counting what goes through it: a few additions a batch. */
export function countedRedo(
  pool: ActorRef<RedoPoolMsg>,
  counts: RedoCounts,
): ActorRef<RedoPoolMsg> {
  return {
    ...pool,
    tell: (msg) => {
      if (msg.kind !== "redo") return pool.tell(msg);
      const { requests, reply } = msg;
      const askedMs = performance.now();
      counts.queued += requests.length;
      pool.tell({
        ...msg,
        reply: {
          answer: (results) => {
            counts.queued -= requests.length;
            meters.redoNs.record((performance.now() - askedMs) * 1e6);
            counts.pages += results.length;
            for (const result of results) if (!result.ok) counts.failures++;
            reply.answer(results);
          },
        },
      });
    },
  };
}

export interface StatusFacts {
  readonly state: Status["state"];
  readonly startedAt: string;
  readonly uptimeMs: number;
  readonly dataDir: string;
  readonly pageService: string;
  readonly http: string;
  readonly budget: OpenBudget;
  readonly redoProcesses: number;
  readonly redoCounts: RedoCounts;
  readonly directory: Directory;
  readonly tree: readonly TreeNode[];
  readonly backup: Backup | undefined;
}

export function statusOf(facts: StatusFacts): Status {
  const timelines = [...facts.directory.tenants.values()].flatMap((tenant) =>
    [...tenant.timelines.values()].map((timeline) => {
      const info = timelineInfo(tenant, timeline);
      return {
        tenant_id: info.tenant_id,
        timeline_id: info.timeline_id,
        name: info.name,
        ...(info.ancestor_name !== undefined && { ancestor_name: info.ancestor_name }),
        state: info.state,
        positions: info.positions,
        ...(info.backup !== undefined && { backup: info.backup }),
        source: sourceInfo(timeline),
        ...(info.damaged_layers !== undefined && { damaged_layers: info.damaged_layers }),
      };
    }),
  );
  return {
    id: 1,
    version: VERSION,
    state: facts.state,
    pid: process.pid,
    started_at: facts.startedAt,
    uptime_ms: facts.uptimeMs,
    data_dir: facts.dataDir,
    page_service: facts.pageService,
    http: facts.http,
    rss_bytes: process.memoryUsage.rss(),
    open_layers_bytes: facts.budget.bytes,
    redo: { processes: facts.redoProcesses, ...facts.redoCounts },
    ...(facts.backup !== undefined && { layers: layerTraffic(facts.backup) }),
    alarms: [...alarmsOf(facts.directory), ...shortOf(facts.backup)],
    timelines,
    tree: facts.tree.map((node) => ({
      path: node.path,
      state: node.state,
      restarts: node.restarts,
      ...(node.lastCrash !== undefined && { last_crash: node.lastCrash }),
      since: formatTime(node.sinceMs * 1000),
    })),
  };
}

const shortOf = (backup: Backup | undefined): readonly string[] =>
  backup?.eviction.short === undefined ? [] : [backup.eviction.short];

function layerTraffic({ eviction, fetcher, warmUps }: Backup): NonNullable<Status["layers"]> {
  const { fetched, bytes, failed } = fetcher.counts;
  return {
    ...{ evicted: eviction.layers, evicted_bytes: eviction.bytes },
    ...{ fetched, fetched_bytes: bytes, fetch_failures: failed },
    warm_ups: [...warmUps].map(([tenant_id, one]) => ({
      ...{ tenant_id, layers: one.layers, bytes: one.bytes, failed: one.failed },
      ...{ done_layers: one.doneLayers, done_bytes: one.doneBytes },
    })),
  };
}

/** Tenants that cannot be opened or may not be backed up, WAL that waits (a full disk) or comes no more (a source that refuses), merges that fail, backups that a restore drill found damaged. */
export function alarmsOf({ tenants, unusable }: Directory): readonly string[] {
  const alarms = [...unusable].map(([id, why]) => `tenant ${id}: ${why}`);
  for (const tenant of tenants.values()) {
    const { id, timelines } = tenant;
    for (const { backup } of timelines.values()) {
      const { state, reason } = backup?.() ?? {};
      if (state !== "fenced") continue;
      alarms.push(`tenant ${id}: its backup has ended: ${reason}`);
      break;
    }
    for (const { entry, facts, merge, backup } of timelines.values()) {
      const { stalled, phase, receiver } = facts;
      const lost = receiver?.connection === "refused" ? receiver.reason : undefined;
      const source = lost && `its WAL source: ${lost}`;
      const broken = phase.kind === "broken" ? phase.reason : undefined;
      const drill = backup?.() === undefined ? undefined : drillAlarmOf(tenant, entry.id);
      for (const why of [broken, stalled, source, merge?.().failure, drill]) {
        if (why !== undefined) alarms.push(`timeline "${entry.name}": ${why}`);
      }
    }
  }
  return alarms;
}
