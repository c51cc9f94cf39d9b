// What computes ask of their tenant and timeline: questions to actors, with the refusals as errors for a
// job, and what the catalog has of them.

import { readdir } from "node:fs/promises";
import type { TenantHandle, TimelineHandle } from "../actors/directory.ts";
import { type Reply, ask } from "../actors/runtime.ts";
import type { TenantMsg } from "../actors/tenant.ts";
import type { TimelineMsg } from "../actors/timeline-messages.ts";
import { type AdminError, adminErrorText } from "../core/admin-error.ts";
import type { BackupSource } from "../core/backup-source.ts";
import { type ReadError, readErrorText } from "../core/errors.ts";
import { WAIT_LSN_MS_MAX } from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import { type Result, err } from "../core/result.ts";
import { PostgresProblem } from "../io/postgres.ts";
import type { WalSource } from "../store/catalog-entries.ts";
import { type ComputeRecord, parseComputeRecord } from "./compute-record.ts";

export const conflict = (message: string): Result<never, AdminError> =>
  err({ kind: "conflict", message });

export async function requireEmpty(dir: string): Promise<void> {
  const [first] = await readdir(dir).catch(() => []);
  if (first === undefined) return;
  throw new PostgresProblem(`${dir} is not empty (${first} …); remove it first, or name another`);
}

export const recordOf = (
  tenant: TenantHandle,
  timeline: TimelineHandle,
): ComputeRecord | undefined =>
  parseComputeRecord(tenant.catalog.setting(`compute/${timeline.entry.id}`));

export const setSource = (
  tenant: TenantHandle,
  timeline: TimelineHandle,
  source: WalSource | undefined,
): Promise<undefined> =>
  askTenant<undefined>(tenant, (reply) => ({
    kind: "set-source",
    timeline: timeline.entry.id,
    source,
    reply,
  }));

/** From now on nothing that a former compute of the timeline does counts; gives the generation of the next. */
export const nextCompute = (tenant: TenantHandle, timeline: TimelineHandle): Promise<number> =>
  askTenant<number>(tenant, (reply) => ({
    kind: "next-compute",
    timeline: timeline.entry.id,
    reply,
  }));

async function askTenant<T>(
  tenant: TenantHandle,
  build: (reply: Reply<Result<T, AdminError>>) => TenantMsg,
): Promise<T> {
  const answer = await ask<TenantMsg, Result<T, AdminError>>(tenant.ref, build, WAIT_LSN_MS_MAX);
  if (answer === "timed-out") throw new Error("the tenant did not answer");
  if (!answer.ok) throw new Error(adminErrorText(answer.error));
  return answer.value;
}

/** Throws with a sentence. `lsn` undefined: at the last record. */
export async function backupSourceOf(timeline: TimelineHandle, lsn?: Lsn): Promise<BackupSource> {
  const source = await ask<TimelineMsg, Result<BackupSource, ReadError>>(
    timeline.ref,
    (reply) => ({ kind: "backup-source", lsn, reply }),
    WAIT_LSN_MS_MAX,
  );
  if (source === "timed-out") throw new Error(`timeline "${timeline.entry.name}" did not answer`);
  if (!source.ok) throw new Error(readErrorText(source.error));
  return source.value;
}
