// Management API: the state of the whole program, and the outcome of a check of its store.

import Type from "typebox";
import {
  type Api,
  BackupInfo,
  DamagedLayers,
  Hex32,
  PositionsInfo,
  SourceInfo,
  TimeText,
  TimelineState,
} from "./api.ts";

/** One actor of the live tree. The order is that of spawning; `path` says who is whose child. */
export const TreeNodeInfo = Type.Object({
  path: Type.String(),
  state: Type.Union([Type.Literal("running"), Type.Literal("backing-off"), Type.Literal("broken")]),
  restarts: Type.Number(),
  last_crash: Type.Optional(Type.String()),
  since: TimeText,
});
export type TreeNodeInfo = Api<typeof TreeNodeInfo>;

export const TimelineSummary = Type.Object({
  tenant_id: Hex32,
  timeline_id: Hex32,
  name: Type.String(),
  ancestor_name: Type.Optional(Type.String()),
  state: TimelineState,
  positions: PositionsInfo,
  backup: Type.Optional(BackupInfo),
  source: SourceInfo,
  damaged_layers: Type.Optional(DamagedLayers),
});
export type TimelineSummary = Api<typeof TimelineSummary>;

export const Status = Type.Object({
  /** Node id, as Neon's status has it. */
  id: Type.Number(),
  version: Type.String(),
  state: Type.Union([Type.Literal("starting"), Type.Literal("running"), Type.Literal("stopping")]),
  pid: Type.Number(),
  started_at: TimeText,
  uptime_ms: Type.Number(),
  data_dir: Type.String(),
  /** host:port */
  page_service: Type.String(),
  /** http://host:port */
  http: Type.String(),
  rss_bytes: Type.Number(),
  open_layers_bytes: Type.Number(),
  redo: Type.Object({
    processes: Type.Number(),
    queued: Type.Number(),
    pages: Type.Number(),
    failures: Type.Number(),
  }),
  /** Layers that left the local disk and came back, since the start; absent where no backup is configured. */
  layers: Type.Optional(
    Type.Object({
      evicted: Type.Number(),
      evicted_bytes: Type.Number(),
      fetched: Type.Number(),
      fetched_bytes: Type.Number(),
      fetch_failures: Type.Number(),
      /** What attaching fetches, or has fetched, before anybody asks. */
      warm_ups: Type.Array(
        Type.Object({
          tenant_id: Hex32,
          layers: Type.Number(),
          bytes: Type.Number(),
          done_layers: Type.Number(),
          done_bytes: Type.Number(),
          failed: Type.Number(),
        }),
      ),
    }),
  ),
  /** What somebody has to see to: one sentence each, with the timeline, the reason and the remedy. */
  alarms: Type.Array(Type.String()),
  timelines: Type.Array(TimelineSummary),
  tree: Type.Array(TreeNodeInfo),
});
export type Status = Api<typeof Status>;

/** What anybody may see of a server that asks for tokens: that it is there. */
export const Alive = Type.Object({ id: Type.Number() });
export type Alive = Api<typeof Alive>;

/** Names of settings that are not what they were when the server was started. */
export const SettingsReload = Type.Object({
  /** These count from now on. */
  applied: Type.Array(Type.String()),
  /** These count when the server is started again. */
  need_restart: Type.Array(Type.String()),
});
export type SettingsReload = Api<typeof SettingsReload>;

export const Reloaded = Type.Object({
  /** Public keys in use. */
  keys: Type.Number(),
  /** The end of the certificate's validity, if there is one. */
  certificate_not_after: Type.Optional(TimeText),
  settings: Type.Optional(SettingsReload),
});
export type Reloaded = Api<typeof Reloaded>;

export const CheckReport = Type.Object({
  layers: Type.Number(),
  versions: Type.Number(),
  /** Layers that are in object storage only, of which nothing was read. */
  remote_layers: Type.Number(),
  ms: Type.Number(),
  /** One sentence each, with the invariant's number. Empty is clean. */
  problems: Type.Array(Type.String()),
});
export type CheckReport = Api<typeof CheckReport>;
