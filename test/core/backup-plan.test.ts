import { expect, test } from "vitest";
import type { BackedLayer, BackedTimeline } from "../../src/core/backup/manifest.ts";
import { type BackupFacts, nextManifest } from "../../src/core/backup/plan.ts";
import { LSN_INVALID, LSN_MAX, Lsn } from "../../src/core/lsn.ts";
import { MAIN, TENANT } from "../support/timeline-world.ts";

const layer = (sequence: number, lastLsn: number): BackedLayer => ({
  ...{ file: `${sequence}.layer`, bytes: 1, sequence, crc: 1, firstKey: "00", lastKey: "ff" },
  ...{ firstLsn: Lsn.of(100), lastLsn: Lsn.of(lastLsn) },
});

const timeline = (sealedLsn: number, sealedLogicalSize: number): BackedTimeline => ({
  ...{ id: MAIN, tli: 1, sealedLsn: Lsn.of(sealedLsn), sealedPrev: LSN_INVALID, sealedLogicalSize },
});

/** Layers are stored that are in `stored`; there is no WAL behind them. */
function facts(at: BackedTimeline, layers: BackedLayer[], stored: BackedLayer[]): BackupFacts {
  const objects = stored.map(({ file }) => [file, { name: `layers/${file}`, bytes: 1 }] as const);
  return {
    ...{ tenant: TENANT, generation: 1, writer: "a", nowMs: 0, manifest: undefined, purge: [] },
    ...{ timeline: at, layers, snapshots: [], stored: new Map(objects) },
    ...{ walFrom: Lsn.of(100), durable: at.sealedLsn, archiveFrom: LSN_MAX },
  };
}

test("the logical size in a manifest is of where its layers end (I14)", () => {
  const [first, second] = [layer(1, 200), layer(2, 300)];
  const one = nextManifest(facts(timeline(200, 8192), [first], [first]), [], new Set())!;
  expect(one.timeline).toMatchObject({ sealedLsn: 200, sealedLogicalSize: 8192 });
  const late = facts(timeline(300, 16_384), [first, second], [first]);
  expect(nextManifest({ ...late, manifest: one }, [], new Set())).toBeUndefined();
  const unknown = nextManifest(late, [], new Set())!;
  expect(unknown.timeline).toMatchObject({ sealedLsn: 200, sealedLogicalSize: undefined });
  const both = facts(timeline(300, 16_384), [first, second], [first, second]);
  const two = nextManifest({ ...both, manifest: one }, [], new Set())!;
  expect(two.timeline).toMatchObject({ sealedLsn: 300, sealedLogicalSize: 16_384 });
});
