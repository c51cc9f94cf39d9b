// Management API: jobs (long work with visible steps), following a primary, computes.

import Type from "typebox";
import { DrillInfo, RotatedKeys, ScrubInfo } from "./api-backup.ts";
import { CheckReport } from "./api-status.ts";
import { type Api, Hex32, LsnText, Name, TimeText, TimelineInfo } from "./api.ts";

export const FollowRequest = Type.Object(
  {
    /** postgres://user:password@host:port/dbname or key=value pairs. Never echoed with its password. */
    conninfo: Type.String({ minLength: 1, maxLength: 4096 }),
    name: Name,
    new_timeline_id: Type.Optional(Hex32),
    /** Bytes a second of the base backup; unlimited without. */
    max_rate_bytes: Type.Optional(Type.Integer({ minimum: 32_768, maximum: 1_073_741_824 })),
    /** Name of the physical slot; made from tenant and timeline name without. */
    slot: Type.Optional(Type.String({ pattern: "^[a-z0-9_]{1,63}$" })),
  },
  { additionalProperties: false },
);
export type FollowRequest = Api<typeof FollowRequest>;

export const ComputeInfo = Type.Object({
  tenant_id: Hex32,
  timeline_id: Hex32,
  /** The timeline's name. */
  timeline: Type.String(),
  state: Type.Union([
    Type.Literal("starting"),
    Type.Literal("running"),
    Type.Literal("stopping"),
    Type.Literal("stopped"),
    Type.Literal("failed"),
  ]),
  port: Type.Number(),
  /** Data directory; disposable. */
  dir: Type.String(),
  pid: Type.Optional(Type.Number()),
  started_at: Type.Optional(TimeText),
  /** It shows the moment at start_lsn, and nothing can be written to it. */
  read_only: Type.Optional(Type.Boolean()),
  /** The LSN it was booted at. */
  start_lsn: Type.Optional(LsnText),
  /** For psql. */
  uri: Type.String(),
  /** Path of PostgreSQL's log. */
  log: Type.String(),
  reason: Type.Optional(Type.String()),
});
export type ComputeInfo = Api<typeof ComputeInfo>;

export const StartComputeRequest = Type.Object(
  {
    /** Name or id. */
    timeline: Type.String({ minLength: 1, maxLength: 63 }),
    /** A free port without. */
    port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
    /** Absolute; must be empty or absent. */
    dir: Type.Optional(Type.String({ pattern: "^/", maxLength: 1024 })),
    /** False: commits do not wait for the page server (faster; the last moments can be lost). */
    synchronous: Type.Optional(Type.Boolean()),
    /** False: all pages are copied first; otherwise they are read from the page server when needed. */
    diskless: Type.Optional(Type.Boolean()),
    /** Takes the place of a compute that runs there: that one is ended, and what it does counts no more. */
    replace: Type.Optional(Type.Boolean()),
    /** Shows one moment and takes no writes: the last record, or one of the following. */
    read_only: Type.Optional(Type.Boolean()),
    lsn: Type.Optional(LsnText),
    timestamp: Type.Optional(Type.String({ maxLength: 64 })),
    snapshot: Type.Optional(Name),
    /** PostgreSQL settings; they win over ours. */
    settings: Type.Optional(
      Type.Record(Type.String({ maxLength: 63 }), Type.String({ maxLength: 1024 })),
    ),
  },
  { additionalProperties: false },
);
export type StartComputeRequest = Api<typeof StartComputeRequest>;

export const JobStep = Type.Object({
  name: Type.String(),
  state: Type.Union([Type.Literal("running"), Type.Literal("done"), Type.Literal("failed")]),
  /** Time so far, or in all. */
  ms: Type.Number(),
  bytes_done: Type.Optional(Type.Number()),
  bytes_total: Type.Optional(Type.Number()),
  detail: Type.Optional(Type.String()),
});
export type JobStep = Api<typeof JobStep>;

/** Long work. Jobs live in memory: after a restart of the server a job's id is unknown. */
export const Job = Type.Object({
  id: Type.String(),
  kind: Type.Union([
    Type.Literal("follow"),
    Type.Literal("compute-start"),
    Type.Literal("compute-stop"),
    Type.Literal("attach"),
    Type.Literal("restore"),
    Type.Literal("scrub"),
    Type.Literal("drill"),
    Type.Literal("rotate-keys"),
    Type.Literal("checkpoint"),
    Type.Literal("compact"),
    Type.Literal("check"),
    Type.Literal("delete"),
  ]),
  /** What it works on: a timeline's name, or a tenant's id. */
  target: Type.String(),
  state: Type.Union([
    Type.Literal("running"),
    Type.Literal("done"),
    Type.Literal("failed"),
    Type.Literal("cancelled"),
  ]),
  started_at: TimeText,
  ms: Type.Number(),
  steps: Type.Array(JobStep),
  error: Type.Optional(Type.String()),
  result: Type.Optional(
    Type.Object({
      timeline: Type.Optional(TimelineInfo),
      compute: Type.Optional(ComputeInfo),
      scrub: Type.Optional(ScrubInfo),
      drill: Type.Optional(DrillInfo),
      keys: Type.Optional(RotatedKeys),
      check: Type.Optional(CheckReport),
      /** Names of the timelines that are gone. */
      deleted: Type.Optional(Type.Array(Type.String())),
    }),
  ),
});
export type Job = Api<typeof Job>;
