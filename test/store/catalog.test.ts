import { open } from "lmdb";
import { expect, test } from "vitest";
import type { Lsn } from "../../src/core/lsn.ts";
import { Catalog } from "../../src/store/catalog.ts";
import type { LayerEntry, LeaseEntry } from "../../src/store/catalog-entries.ts";
import { listTenants, openDataDirectory, tenantPath } from "../../src/store/data-dir.ts";
import { parseTenantId } from "../../src/core/ids.ts";
import fs from "node:fs";
import { inScratch } from "./scratch.ts";
import { timelineEntry, timelineId } from "./store-fixture.ts";

const key = "00".repeat(18);

function layerEntry(timeline: number, sequence: number): LayerEntry {
  return {
    file: `${sequence}.layer`,
    timeline: timelineId(timeline),
    sequence,
    firstLsn: 1 as Lsn,
    lastLsn: 2 as Lsn,
    firstKey: key,
    lastKey: key,
    bytes: 1,
    crc: 1,
    keys: 1,
    runs: 1,
    versions: 1,
    kinds: 1,
    createdAtMs: 0,
  };
}

function leaseEntry(timeline: number, lsn: number): LeaseEntry {
  return { timeline: timelineId(timeline), lsn: lsn as Lsn, owner: "me", expiresAtMs: 5 };
}

async function withCatalog(use: (catalog: Catalog, path: string) => Promise<void>): Promise<void> {
  await inScratch(async (directory) => {
    const path = `${directory}/catalog`;
    const catalog = new Catalog(path);
    await use(catalog, path);
  });
}

test("entries come back as they were put, after the catalog was opened again", () =>
  withCatalog(async (catalog, path) => {
    const tenant = { id: parseTenantId("ab".repeat(16)), createdAtMs: 7 };
    const source = { kind: "primary", conninfo: "postgres://u:p@h/d", slot: "s" } as const;
    const main = timelineEntry(1, { source, sealedLsn: 0x1_2345_6789 as Lsn });
    const branch = timelineEntry(2, { ancestor: { id: main.id, lsn: 77 as Lsn } });
    const done = catalog.change((change) => {
      change.putTenant(tenant);
      change.putTimeline(branch);
      change.putTimeline(main);
      for (const sequence of [2, 10, 1]) change.putLayer(layerEntry(1, sequence));
      change.putLayer(layerEntry(2, 1));
      change.putLease(leaseEntry(1, 256));
      change.putLease(leaseEntry(1, 16));
      change.putSetting("limits", { a: [1, "x", null] });
    });
    expect(done.ok).toBe(true);
    await catalog.close();
    const again = new Catalog(path);
    expect(again.tenant()).toEqual(tenant);
    expect(again.timelines()).toEqual([main, branch]);
    expect(again.timeline(branch.id)).toEqual(branch);
    expect(again.timeline(timelineId(3))).toBeUndefined();
    expect(again.layers(main.id).map(({ sequence }) => sequence)).toEqual([10, 2, 1]);
    expect(again.leases(main.id).map(({ lsn }) => lsn)).toEqual([16, 256]);
    expect(again.setting("limits")).toEqual({ a: [1, "x", null] });
    await again.close();
  }));

test("two timelines cannot have one name; a renamed one frees its own", () =>
  withCatalog(async (catalog) => {
    catalog.change((change) => change.putTimeline(timelineEntry(1, { name: "main" })));
    const refused = catalog.change((change) => {
      change.putTimeline(timelineEntry(2, { name: "main" }));
      change.putSetting("seen", true);
    });
    expect(refused).toEqual({ ok: false, error: { kind: "name-taken", by: timelineId(1) } });
    expect(catalog.timelines()).toHaveLength(1);
    expect(catalog.setting("seen")).toBeUndefined();
    const swapped = catalog.change((change) => {
      change.putTimeline(timelineEntry(1, { name: "old" }));
      change.putTimeline(timelineEntry(2, { name: "main" }));
    });
    expect(swapped.ok).toBe(true);
    expect(catalog.change((c) => c.putTimeline(timelineEntry(2, { name: "old" }))).ok).toBe(false);
    await catalog.close();
  }));

test("a change that throws leaves nothing behind", () =>
  withCatalog(async (catalog) => {
    expect(() =>
      catalog.change((change) => {
        change.putTimeline(timelineEntry(1));
        throw new TypeError("in the middle");
      }),
    ).toThrow("in the middle");
    expect(catalog.timelines()).toEqual([]);
    await catalog.close();
  }));

test("a timeline goes with its layers and leases, and no one else's", () =>
  withCatalog(async (catalog) => {
    catalog.change((change) => {
      for (const n of [1, 2]) {
        change.putTimeline(timelineEntry(n));
        change.putLayer(layerEntry(n, 1));
        change.putLease(leaseEntry(n, 8));
      }
    });
    catalog.change((change) => change.removeTimeline(timelineId(1)));
    expect(catalog.timelines().map(({ id }) => id)).toEqual([timelineId(2)]);
    expect([catalog.layers(timelineId(1)), catalog.leases(timelineId(1))]).toEqual([[], []]);
    expect(catalog.layers(timelineId(2))).toHaveLength(1);
    expect(catalog.leases(timelineId(2))).toHaveLength(1);
    catalog.change((change) => change.removeLease(leaseEntry(2, 8)));
    catalog.change((change) => change.removeLayer(layerEntry(2, 1)));
    expect([catalog.layers(timelineId(2)), catalog.leases(timelineId(2))]).toEqual([[], []]);
    await catalog.close();
  }));

test("snapshots go with their timeline, and a program that does not know them is told to keep off", () =>
  withCatalog(async (catalog, path) => {
    const snapshot = { timeline: timelineId(1), name: "monday", lsn: 8 as Lsn, createdAtMs: 7 };
    catalog.change((change) => {
      for (const n of [1, 2]) {
        change.putTimeline(timelineEntry(n));
        change.putSnapshot({ ...snapshot, timeline: timelineId(n) });
      }
    });
    await catalog.close();
    const again = new Catalog(path);
    expect(again.holds(timelineId(1))).toEqual({ leases: [], snapshots: [snapshot] });
    again.change((change) => change.removeTimeline(timelineId(1)));
    expect(again.snapshots(timelineId(1))).toEqual([]);
    again.change((change) => change.removeSnapshot({ timeline: timelineId(2), name: "monday" }));
    expect(again.snapshots(timelineId(2))).toEqual([]);
    await again.close();
    const raw = open<string, string>({ path, noSubdir: true, encoding: "string", pageSize: 4096 });
    expect(raw.get("format")).toMatch(/ 2$/);
    await raw.close();
  }));

test("an entry that does not fit its description is refused when it is read", () =>
  withCatalog(async (catalog) => {
    catalog.change((change) => change.putLayer({ ...layerEntry(1, 1), bytes: -5 }));
    expect(() => catalog.layers(timelineId(1))).toThrow(/layer\/.*bytes/s);
    await catalog.close();
  }));

test("a data directory is made, recognised, and refused when it is not ours", () =>
  inScratch((directory) => {
    const root = `${directory}/a/b`;
    openDataDirectory(root);
    openDataDirectory(root);
    expect(listTenants(root)).toEqual([]);
    const tenant = parseTenantId("cd".repeat(16));
    fs.mkdirSync(tenantPath(root, tenant));
    fs.mkdirSync(`${root}/tenants/lost+found`);
    expect(listTenants(root)).toEqual([tenant]);
    fs.writeFileSync(`${root}/FORMAT`, "pageserver data 2\n");
    expect(() => openDataDirectory(root)).toThrow("use the version of pageserver that wrote it");
    fs.rmSync(`${root}/FORMAT`);
    expect(() => openDataDirectory(root)).toThrow("no FORMAT file");
  }));
