// The part of the management interface that tools written for Neon's page server need: a tenant's
// configuration, the ranges of keys, waiting for LSNs.

import { setTimeout as sleep } from "node:timers/promises";
import type { TimelineHandle } from "../actors/directory.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import { retentionPolicy } from "../actors/timeline-cutoff.ts";
import type { AdminError } from "../core/admin-error.ts";
import { formatDuration, parseDuration } from "../core/duration-text.ts";
import { KEY_BYTES, KIND, writeKey } from "../core/key.ts";
import { RETENTION_MS, RETENTION_WAL_BYTES, WAIT_LSN_POLL_MS } from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import { type Result, ok } from "../core/result.ts";
import type { Management } from "../http/management.ts";
import type { Keyspace, TenantConfig } from "../protocol/api-compat.ts";
import type { Catalog } from "../store/catalog.ts";
import { StoreFull } from "../store/store-errors.ts";
import { type Finder, refuse } from "./finder.ts";
import { notLoaded } from "./moments.ts";
import { changedPolicy } from "./retention.ts";

export function compatManagement(
  { clock }: TenantShared,
  finder: Finder,
): Pick<Management, "tenantConfig" | "setTenantConfig" | "keyspace" | "waitLsn"> {
  return {
    tenantConfig: (ref) =>
      finder.withTenant(ref, ({ catalog }) => {
        const { windowMs, walBytes } = retentionPolicy(catalog);
        return ok({
          tenant_specific_overrides: overrides(catalog),
          effective_config: { gc_horizon: walBytes, pitr_interval: formatDuration(windowMs) },
        });
      }),
    setTenantConfig: (ref, config, how) =>
      finder.withTenant(ref, ({ catalog }) => {
        const next = how === "patch" ? { ...overrides(catalog), ...config } : config;
        const { gc_horizon: walBytes, pitr_interval: interval } = next;
        const policy = {
          window_ms: interval === undefined ? RETENTION_MS : parseDuration(interval),
          wal_bytes: walBytes ?? RETENTION_WAL_BYTES,
        };
        return orFull(() => changedPolicy(catalog, policy));
      }),
    keyspace: (ref, timelineRef, at) =>
      finder.withTimeline(ref, timelineRef, (_tenant, timeline) => keyspace(timeline, at)),
    waitLsn: (ref, wanted, waitMs) =>
      finder.withTenant(ref, async (tenant) => {
        for (const { timeline } of wanted) {
          if (tenant.timelines.has(timeline)) continue;
          return refuse({ kind: "not-found", what: `timeline ${timeline}` });
        }
        const come = (): boolean =>
          wanted.every(({ timeline, lsn }) => {
            const visible = tenant.timelines.get(timeline)?.facts.positions.visible;
            return visible !== undefined && visible >= lsn;
          });
        for (const end = clock.steadyMs() + waitMs; !come();) {
          if (clock.steadyMs() >= end) return ok(false);
          await sleep(WAIT_LSN_POLL_MS);
        }
        return ok(true);
      }),
  };
}

/** A full disk is no bug of ours: the answer says so. */
function orFull(change: () => unknown): Result<undefined, AdminError> {
  try {
    change();
    return ok(undefined);
  } catch (error) {
    if (!(error instanceof StoreFull)) throw error;
    return refuse({ kind: "unavailable", message: error.message });
  }
}

/** What differs from the defaults. */
function overrides(catalog: Catalog): TenantConfig {
  const { windowMs, walBytes } = retentionPolicy(catalog);
  return {
    ...(walBytes !== RETENTION_WAL_BYTES && { gc_horizon: walBytes }),
    ...(windowMs !== RETENTION_MS && { pitr_interval: formatDuration(windowMs) }),
  };
}

/** Every page of every relation that exists at an LSN. */
function keyspace(timeline: TimelineHandle, asked: Lsn | undefined): Result<Keyspace, AdminError> {
  const { readFrom, facts } = timeline;
  if (readFrom === undefined) return refuse(notLoaded(timeline));
  const { visible } = facts.positions;
  const at = asked ?? visible;
  if (at > visible) {
    const message = `${Lsn.format(at)} is above the last record, ${Lsn.format(visible)}`;
    return refuse({ kind: "bad-request", message });
  }
  const { relations } = readFrom.pages;
  const keys: [string, string][] = [];
  for (const { spc, db } of relations.databases(at)) {
    for (const { rel, fork, blocks } of relations.relations(spc, db, at)) {
      if (blocks === 0) continue;
      const group = { kind: KIND.PAGE, a: spc, b: db, c: rel, d: fork };
      keys.push([keyHex(group, 0), keyHex(group, blocks)]);
    }
  }
  return ok({ at_lsn: Lsn.format(at), keys });
}

function keyHex(group: Parameters<typeof writeKey>[2], block: number): string {
  const bytes = Buffer.alloc(KEY_BYTES);
  writeKey(new DataView(bytes.buffer, bytes.byteOffset, KEY_BYTES), 0, group, block);
  return bytes.toString("hex");
}
