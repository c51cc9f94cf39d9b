// Management API: what tools written for Neon's page server ask for, in its shapes (its
// libs/pageserver_api/src/models.rs): locations and configuration of tenants, key ranges, waiting.

import Type from "typebox";
import { type Api, Hex32, LsnText } from "./api.ts";

/** What of Neon's tenant configuration has a meaning here. Unknown fields are refused. */
export const TenantConfig = Type.Object(
  {
    /** Bytes of WAL that stay readable whatever their age. */
    gc_horizon: Type.Optional(Type.Integer({ minimum: 0 })),
    /** How long history stays readable: "7days", "1h 30m", "90s". */
    pitr_interval: Type.Optional(Type.String({ maxLength: 64 })),
  },
  { additionalProperties: false },
);
export type TenantConfig = Api<typeof TenantConfig>;

export const TenantConfigRequest = Type.Object(
  { tenant_id: Hex32, ...TenantConfig.properties },
  { additionalProperties: false },
);

export const TenantConfigInfo = Type.Object({
  /** What was set for this tenant. */
  tenant_specific_overrides: TenantConfig,
  /** What counts. */
  effective_config: Type.Object({ gc_horizon: Type.Number(), pitr_interval: Type.String() }),
});
export type TenantConfigInfo = Api<typeof TenantConfigInfo>;

const Mode = Type.Union([
  Type.Literal("AttachedSingle"),
  Type.Literal("AttachedMulti"),
  Type.Literal("AttachedStale"),
  Type.Literal("Secondary"),
  Type.Literal("Detached"),
]);

export const LocationConfig = Type.Object(
  {
    mode: Mode,
    generation: Type.Optional(Type.Union([Type.Integer({ minimum: 0 }), Type.Null()])),
    secondary_conf: Type.Optional(Type.Unknown()),
    shard_number: Type.Optional(Type.Integer({ minimum: 0 })),
    shard_count: Type.Optional(Type.Integer({ minimum: 0 })),
    shard_stripe_size: Type.Optional(Type.Integer({ minimum: 0 })),
    tenant_conf: TenantConfig,
  },
  { additionalProperties: false },
);
export type LocationConfig = Api<typeof LocationConfig>;

/** Of an attached tenant its one shard; of a detached one nothing. */
export const LocationConfigAnswer = Type.Union([
  Type.Object({
    shards: Type.Array(Type.Object({ shard_id: Type.String(), node_id: Type.Number() })),
    stripe_size: Type.Null(),
  }),
  Type.Null(),
]);

export const Locations = Type.Object({
  tenant_shards: Type.Array(Type.Tuple([Type.String(), LocationConfig])),
});

export const Keyspace = Type.Object({
  at_lsn: LsnText,
  /** Pairs of keys, 36 hex digits each: from the first, up to but without the second. */
  keys: Type.Array(Type.Tuple([Type.String(), Type.String()])),
});
export type Keyspace = Api<typeof Keyspace>;

/** LSNs by timeline id, and how long to wait at most. */
export const WaitLsnRequest = Type.Object(
  {
    timeout: Type.Optional(
      Type.Object({
        secs: Type.Integer({ minimum: 0, maximum: 3600 }),
        nanos: Type.Integer({ minimum: 0, maximum: 999_999_999 }),
      }),
    ),
  },
  { additionalProperties: LsnText },
);
