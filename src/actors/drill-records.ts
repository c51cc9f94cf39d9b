// What restore drills have found, timeline by timeline: in the catalog of the tenant, so that it outlives
// a restart, and in memory beside it, so that showing it costs no read.

import { type DrillRecord, keptRecords } from "../core/backup/drill.ts";
import type { TimelineId } from "../core/ids.ts";
import type { Log } from "../io/log.ts";
import type { Catalog } from "../store/catalog.ts";
import { type SettingValue, drillRecords as schema } from "../store/catalog-entries.ts";
import { StoreFull } from "../store/store-errors.ts";
import type { TenantHandle } from "./directory.ts";

const SETTING = "drills";
const known = new WeakMap<Catalog, Map<TimelineId, DrillRecord>>();

/** Undefined: there was none yet. */
export const drillRecord = (
  { catalog }: Pick<TenantHandle, "catalog">,
  timeline: TimelineId,
): DrillRecord | undefined => recordsOf(catalog).get(timeline);

/** Where the disk is full it is remembered until the program ends. */
export function noteDrill(
  { catalog, timelines }: TenantHandle,
  timeline: TimelineId,
  record: DrillRecord,
  log: Log,
): void {
  const records = recordsOf(catalog);
  records.set(timeline, record);
  const kept = keptRecords(records, new Set(timelines.keys()));
  try {
    catalog.change((change) => change.putSetting(SETTING, kept as unknown as SettingValue));
  } catch (error) {
    if (!(error instanceof StoreFull)) throw error;
    log.warn({ reason: error.message }, "what a restore drill has found cannot be kept now");
  }
}

function recordsOf(catalog: Catalog): Map<TimelineId, DrillRecord> {
  let records = known.get(catalog);
  if (records !== undefined) return records;
  let setting: SettingValue | undefined;
  try {
    setting = catalog.setting(SETTING);
  } catch {
    return new Map(); // of a tenant that was given up: status must still be shown
  }
  // What another version has written counts as nothing: the next drill is due.
  const stored = schema.safeParse(setting ?? {});
  const entries = stored.success ? Object.entries(stored.data) : [];
  records = new Map(entries.map(([id, record]) => [id as TimelineId, record]));
  known.set(catalog, records);
  return records;
}
