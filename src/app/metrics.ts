// Metrics in Prometheus's text format, gathered when they are asked for: what the hot paths counted,
// and the same facts that `pageserver status` shows. Timelines have gauges, never histograms.

import { statfsSync } from "node:fs";
import { Counter, Gauge, Registry, collectDefaultMetrics } from "prom-client";
import { type Directory, sealedOf } from "../actors/directory.ts";
import type { TreeNode } from "../actors/runtime.ts";
import { Lsn } from "../core/lsn.ts";
import { behindMs } from "../core/wal-lag.ts";
import { type Distribution, type Tally, meters } from "../io/meters.ts";
import type { Status } from "../protocol/api-status.ts";

const QUANTILES = [0.5, 0.9, 0.99, 0.999] as const;
const PREFIX = "pageserver_";

/** Name, help, numbers, and how many of their unit are one of the metric's. */
const DISTRIBUTIONS: readonly (readonly [string, string, Distribution | Tally, number])[] = [
  ["read_seconds", "From a batch of page reads to its answers", meters.readNs, 1e9],
  [
    ...(["read_batch_requests", "Page reads that were asked for and read together"] as const),
    ...([meters.readBatch, 1] as const),
  ],
  ["read_layers", "Layers that a read of a page looked into", meters.readLayers, 1],
  [
    ...(["read_records", "WAL records that redo applied for a read of a page"] as const),
    ...([meters.readRecords, 1] as const),
  ],
  ["lsn_wait_seconds", "Reads that waited for WAL", meters.lsnWaitNs, 1e9],
  ["redo_seconds", "From asking for pages to be rebuilt to having them", meters.redoNs, 1e9],
];

/** What no status shows. */
export interface LiveFacts {
  readonly directory: Directory;
  readonly tree: () => readonly TreeNode[];
  readonly nowMs: () => number;
  /** The end of the certificate's validity, Unix ms; undefined: there is none. */
  readonly certificateEndsMs: () => number | undefined;
}

/** Answers the text of all metrics. */
export function metricsSource(status: () => Status, live: LiveFacts): () => Promise<string> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const setStatus = statusMetrics(registry);
  processCounters(registry);
  for (const [name, help, of, unit] of DISTRIBUTIONS) {
    distribution(registry, name, help, { of, unit });
  }
  const setLive = liveMetrics(registry, live);
  return () => {
    setStatus(status());
    setLive();
    return registry.metrics();
  };
}

/** A summary whose numbers are counted elsewhere. */
function distribution(
  registry: Registry,
  name: string,
  help: string,
  { of, unit }: { readonly of: Distribution | Tally; readonly unit: number },
): void {
  const quantiles = new Gauge({
    name: `${PREFIX}${name}`,
    help: `${help}: quantiles of the last minutes`,
    labelNames: ["quantile"],
    registers: [registry],
    collect: () => {
      quantiles.reset();
      for (const q of QUANTILES) {
        const value = of.percentile(q * 100);
        if (value !== undefined) quantiles.set({ quantile: `${q}` }, value / unit);
      }
    },
  });
  counted(registry, `${name}_count`, `${help}: how many`, () => of.count);
  counted(registry, `${name}_sum`, `${help}: their sum`, () => of.sum / unit);
}

/** A counter of which somebody else keeps the value. */
function counted(registry: Registry, name: string, help: string, value: () => number): void {
  const counter = new Counter({
    ...{ name: `${PREFIX}${name}`, help, registers: [registry] },
    collect: () => {
      counter.reset();
      counter.inc(value());
    },
  });
}

function processCounters(registry: Registry): void {
  const of: readonly [string, string, () => number][] = [
    ["read_errors_total", "Page reads answered with an error", () => meters.readErrors],
    ["page_cache_hits_total", "Reads of pages still there from before", () => meters.pageCacheHits],
    ["page_cache_misses_total", "Reads of pages from layers", () => meters.pageCacheMisses],
    ["connections_total", "Links of computes that were taken", () => meters.connectionsOpened],
    ["connections_refused_total", "Links above the limit", () => meters.connectionsRefused],
    ["tokens_accepted_total", "Tokens found good, both ports", () => meters.tokensAccepted],
    ["tokens_refused_total", "Tokens refused, both ports", () => meters.tokensRefused],
  ];
  for (const [name, help, value] of of) counted(registry, name, help, value);
}

/** Gauges that are set from one status; what is gone from it is gone from them. */
function statusMetrics(registry: Registry): (status: Status) => void {
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge<L>({ name: `${PREFIX}${name}`, help, labelNames, registers: [registry] });
  const open = gauge("connections", "Links of computes now");
  const layers = gauge("open_layers_bytes", "Memory of open and frozen layers");
  const queued = gauge("redo_queued", "Pages that wait for redo or are in it");
  const timelines = gauge("timelines", "Timelines by state", ["state"]);
  const positions = gauge("wal_position_bytes", "WAL positions as byte offsets", [
    ...["tenant", "timeline", "position"],
  ]);
  const lag = gauge("wal_lag_bytes", "WAL that the source has and we have not", [
    ...["tenant", "timeline"],
  ]);
  const streaming = gauge(
    "wal_source_streaming",
    "Of timelines that follow a primary: 1 while WAL streams, else 0",
    ["tenant", "timeline"],
  );
  const diskFree = gauge("disk_free_bytes", "Room where the data is, for us");
  const disk = gauge("disk_bytes", "Size of the file system where the data is");
  const damaged = gauge("damaged_layers", "Sealed layers that fail their checksums");
  const backupLag = gauge("backup_lag_bytes", "WAL that is durable and not in object storage", [
    ...["tenant", "timeline"],
  ]);
  const backupBad = gauge("backup_failing", "1: the backup fails or is fenced", [
    ...["tenant", "timeline"],
  ]);
  const restarts = gauge("actor_restarts", "Restarts of actors that live now");
  const redo = { pages: 0, failures: 0 };
  counted(registry, "redo_pages_total", "Pages rebuilt by redo", () => redo.pages);
  counted(
    registry,
    "redo_failures_total",
    "Pages that redo could not rebuild",
    () => redo.failures,
  );
  const others = [residenceMetrics(registry), drillMetrics(registry)];
  return (status) => {
    for (const set of others) set(status);
    open.set(meters.connectionsOpened - meters.connectionsClosed);
    layers.set(status.open_layers_bytes);
    queued.set(status.redo.queued);
    damaged.set(status.timelines.reduce((n, one) => n + (one.damaged_layers?.length ?? 0), 0));
    redo.pages = status.redo.pages;
    redo.failures = status.redo.failures;
    restarts.set(status.tree.reduce((sum, node) => sum + node.restarts, 0));
    const { bavail, blocks, bsize } = statfsSync(status.data_dir);
    diskFree.set(bavail * bsize);
    disk.set(blocks * bsize);
    for (const one of [backupLag, backupBad, timelines, positions, lag, streaming]) one.reset();
    for (const info of status.timelines) {
      timelines.inc({ state: typeof info.state === "string" ? info.state : "Broken" });
      const labels = { tenant: info.tenant_id, timeline: info.timeline_id };
      for (const [position, lsn] of Object.entries(info.positions)) {
        positions.set({ ...labels, position }, Lsn.parse(lsn));
      }
      if (info.backup !== undefined) {
        backupLag.set(labels, info.backup.lag_bytes);
        backupBad.set(labels, info.backup.state === "backing-up" ? 0 : 1);
      }
      const { source } = info;
      if (source.kind === "follow") {
        streaming.set(labels, source.connection === "streaming" ? 1 : 0);
      }
      if ("lag_bytes" in source && source.lag_bytes !== undefined)
        lag.set(labels, source.lag_bytes);
    }
  };
}

/** Which layers are on the local disk; those that left it and came back. */
function residenceMetrics(registry: Registry): (status: Status) => void {
  const gauge = (name: string, help: string) =>
    new Gauge({
      ...{ name: `${PREFIX}${name}`, help, labelNames: ["tenant", "timeline"] },
      registers: [registry],
    });
  const local = gauge("layer_local_bytes", "Sealed layers on the local disk");
  const remote = gauge("layer_remote_bytes", "Sealed layers in object storage only");
  let now: Status["layers"];
  const of: readonly [string, string, Exclude<keyof NonNullable<Status["layers"]>, "warm_ups">][] =
    [
      ["layers_evicted_total", "Layers that left the local disk", "evicted"],
      ["layers_evicted_bytes_total", "Bytes of layers that left the local disk", "evicted_bytes"],
      ["layers_fetched_total", "Layers that came from object storage", "fetched"],
      ["layers_fetched_bytes_total", "Bytes of objects that came for them", "fetched_bytes"],
      ["layers_fetch_failures_total", "Layers that could not be had", "fetch_failures"],
    ];
  for (const [name, help, key] of of) counted(registry, name, help, () => now?.[key] ?? 0);
  return ({ layers, timelines }) => {
    now = layers;
    local.reset();
    remote.reset();
    for (const { tenant_id: tenant, timeline_id: timeline, backup } of timelines) {
      if (backup === undefined) continue;
      local.set({ tenant, timeline }, backup.local_bytes);
      remote.set({ tenant, timeline }, backup.remote_bytes);
    }
  };
}

/** What restore drills have found; nothing of a timeline before its first. */
function drillMetrics(registry: Registry): (status: Status) => void {
  const gauge = (name: string, help: string) =>
    new Gauge({
      ...{ name: `${PREFIX}backup_drill_${name}`, help, labelNames: ["tenant", "timeline"] },
      registers: [registry],
    });
  const lsn = gauge("verified_lsn", "Position of the last restore drill that found nothing wrong");
  const age = gauge(
    "age_seconds",
    "Since the end of the last restore drill that found nothing wrong",
  );
  const problems = gauge("problems", "What the last restore drill found wrong");
  const pages = gauge("pages", "Pages that the last restore drill compared and found equal");
  const failing = gauge("failing", "1: the last restore drill was not brought to its end");
  return ({ timelines }) => {
    for (const one of [lsn, age, problems, pages, failing]) one.reset();
    for (const { tenant_id: tenant, timeline_id: timeline, backup } of timelines) {
      const drill = backup?.drill;
      if (drill === undefined) continue;
      const labels = { tenant, timeline };
      problems.set(labels, drill.problems.length);
      pages.set(labels, drill.pages);
      failing.set(labels, drill.failure === undefined ? 0 : 1);
      if (drill.verified_lsn !== undefined) lsn.set(labels, Lsn.parse(drill.verified_lsn));
      if (drill.age_seconds !== undefined) age.set(labels, drill.age_seconds);
    }
  };
}

/** Gauges of what the live tree knows. */
function liveMetrics(registry: Registry, live: LiveFacts): () => void {
  const { directory, nowMs, certificateEndsMs } = live;
  const labelNames = ["tenant", "timeline"];
  const gauge = (name: string, help: string) =>
    new Gauge({ name: `${PREFIX}${name}`, help, labelNames, registers: [registry] });
  const layers = gauge("layers", "Sealed layers");
  const bytes = gauge("layer_bytes", "Bytes of sealed layers");
  const silent = gauge("wal_source_silent_seconds", "Since the WAL source was last heard");
  const lag = new Gauge({
    ...{ name: `${PREFIX}wal_lag_seconds`, registers: [registry] },
    help: "For how long the source has had WAL beyond a position of ours",
    labelNames: [...labelNames, "position"],
  });
  const queues = queueMetrics(registry);
  const certificate = new Gauge({
    ...{ name: `${PREFIX}certificate_end_seconds`, help: "End of the certificate, Unix time" },
    registers: [registry],
  });
  return () => {
    for (const one of [layers, bytes, silent, lag]) one.reset();
    queues(live.tree());
    for (const [tenant, { timelines }] of directory.tenants) {
      for (const [timeline, handle] of timelines) {
        const labels = { tenant, timeline };
        if (handle.store !== undefined || handle.asleep !== undefined) {
          const sealed = sealedOf(handle);
          layers.set(labels, sealed.layers);
          bytes.set(labels, sealed.bytes);
        }
        const { receiver, positions } = handle.facts;
        const heardMs = receiver?.lastMessageMs;
        for (const position of ["received", "visible", "durable"] as const) {
          if (receiver === undefined) break;
          const ms = behindMs(receiver.ends, positions[position], nowMs());
          lag.set({ ...labels, position }, ms / 1000);
        }
        if (heardMs !== undefined) silent.set(labels, Math.max(0, nowMs() - heardMs) / 1000);
      }
    }
    certificate.set((certificateEndsMs() ?? 0) / 1000);
  };
}

/** Messages that wait, by kind of actor: the last word of a path without the number or id of this one. */
function queueMetrics(registry: Registry): (tree: readonly TreeNode[]) => void {
  const gauge = (name: string, help: string) =>
    new Gauge({ name: `${PREFIX}${name}`, help, labelNames: ["actor"], registers: [registry] });
  const all = gauge("actor_queued_messages", "Messages that actors have not handled yet");
  const longest = gauge("actor_queue_longest_messages", "The longest queue of one actor");
  return (tree) => {
    const most = new Map<string, number>();
    all.reset();
    longest.reset();
    for (const { path, queued } of tree) {
      const actor = path.slice(path.lastIndexOf("/") + 1).replace(/-[0-9a-f]*[0-9][0-9a-f]*$/, "");
      all.inc({ actor }, queued);
      most.set(actor, Math.max(most.get(actor) ?? 0, queued));
    }
    for (const [actor, queued] of most) longest.set({ actor }, queued);
  };
}
