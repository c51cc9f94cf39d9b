// Management API: the backup as a whole.

import Type from "typebox";
import { type Api, DrillProblemInfo, Hex32, LsnText } from "./api.ts";

export const ScrubRequest = Type.Object(
  {
    /** All tenants of the place without. */
    tenant_id: Type.Optional(Hex32),
    /** Delete what no manifest names and is older than backup_purge_age. */
    purge: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
);
export type ScrubRequest = Api<typeof ScrubRequest>;

export const ScrubProblemInfo = Type.Object({
  kind: Type.Union([
    Type.Literal("missing"),
    Type.Literal("corrupt"),
    Type.Literal("orphaned"),
    Type.Literal("wrong-generation"),
    Type.Literal("foreign"),
  ]),
  /** Of the object. */
  name: Type.String(),
  detail: Type.String(),
  outcome: Type.Union([
    Type.Literal("remains"),
    Type.Literal("repaired"),
    Type.Literal("deleted"),
    /** No manifest names it yet: it is younger than backup_purge_age. */
    Type.Literal("too-young"),
  ]),
});
export type ScrubProblemInfo = Api<typeof ScrubProblemInfo>;

export const ScrubInfo = Type.Object({
  place: Type.String(),
  tenants: Type.Number(),
  timelines: Type.Number(),
  objects: Type.Number(),
  /** Read and compared. */
  bytes: Type.Number(),
  repaired: Type.Number(),
  deleted: Type.Number(),
  too_young: Type.Number(),
  /** Problems that are still there: 0 is a clean backup. */
  remaining: Type.Number(),
  /** The first 1,000. */
  problems: Type.Array(ScrubProblemInfo),
});
export type ScrubInfo = Api<typeof ScrubInfo>;

export const DrillRequest = Type.Object(
  {
    /** All tenants of this server without. */
    tenant_id: Type.Optional(Hex32),
    /** Repeats the choices of another drill; chance without. */
    seed: Type.Optional(Type.Integer({ minimum: 0, maximum: 4_294_967_295 })),
  },
  { additionalProperties: false },
);
export type DrillRequest = Api<typeof DrillRequest>;

export const DrilledTimeline = Type.Object({
  tenant_id: Hex32,
  timeline_id: Hex32,
  name: Type.String(),
  /** Compared and equal, each as of one LSN; and those that could not be compared. */
  pages: Type.Number(),
  skipped: Type.Number(),
  layers: Type.Number(),
  bytes: Type.Number(),
  /** Of the last drill that compared something and found nothing wrong; absent: there was none. */
  verified_lsn: Type.Optional(LsnText),
  problems: Type.Array(DrillProblemInfo),
});
export type DrilledTimeline = Api<typeof DrilledTimeline>;

export const DrillInfo = Type.Object({
  place: Type.String(),
  seed: Type.Number(),
  /** Of restored layers. */
  bytes: Type.Number(),
  /** 0: what was sampled is as it must be. */
  problems: Type.Number(),
  timelines: Type.Array(DrilledTimeline),
});
export type DrillInfo = Api<typeof DrillInfo>;

/** Tenants by what became of their keys. */
export const RotatedKeys = Type.Object({
  /** Of the master key that wraps them now. */
  master: Type.String(),
  rotated: Type.Number(),
  /** Had it already. */
  unchanged: Type.Number(),
  /** Have no key: their objects are in the clear. */
  not_encrypted: Type.Number(),
});
export type RotatedKeys = Api<typeof RotatedKeys>;
