// What a timeline's backup does next: which layers to upload, which WAL, and the manifest that makes
// it count. Pure; a turn of it is bounded, so a timeline that is far behind takes many.
//
// Layers of a manifest are a prefix of the timeline's tiers, oldest first, all of them uploaded: it
// holds everything up to where the prefix ends, and WAL from there on makes it whole. The position
// never goes back: until a merged layer is uploaded, the manifest names what it was merged from.

import { assert } from "../assert.ts";
import {
  BACKUP_ARCHIVE_TRIM_MAX,
  BACKUP_PARTS_MAX,
  BACKUP_WAL_PIECES_MAX,
  HEAT_WRITE_MS,
} from "../limits.ts";
import { LSN_INVALID, LSN_MAX, type Lsn, WAL_SEGMENT_BYTES } from "../lsn.ts";
import {
  type BackedLayer,
  type BackedTimeline,
  type LayerHeat,
  type LayerObject,
  type Manifest,
  type WalArchive,
  type WalObject,
  uploadedLsn,
} from "./manifest.ts";
import { type Generation, partObject, segmentObject } from "./names.ts";
import { purgeable } from "./scrub.ts";

export interface BackupFacts<
  T extends BackedTimeline = BackedTimeline,
  L extends BackedLayer = BackedLayer,
  S = unknown,
> {
  readonly tenant: Manifest["tenant"];
  readonly generation: Generation;
  readonly writer: string;
  readonly nowMs: number;
  /** The last one that was written; undefined: none is there. */
  readonly manifest: Manifest<T, L, S> | undefined;
  /** As the catalog has them at one moment. */
  readonly timeline: T;
  readonly layers: readonly L[];
  readonly snapshots: readonly S[];
  /** Of layers that are read, by file. */
  readonly heat?: ReadonlyMap<string, number> | undefined;
  /** Layers that are in object storage, by file, whether a manifest names them or not. */
  readonly stored: ReadonlyMap<string, LayerObject>;
  /** WAL files hold everything from here to `durable`. */
  readonly walFrom: Lsn;
  readonly durable: Lsn;
  /** Whole segments from this LSN on are kept for restore_command; LSN_MAX: none. */
  readonly archiveFrom: Lsn;
  /** Names that a scrub found that no manifest has, and wants deleted. */
  readonly purge: readonly string[];
}

/** WAL to be put: read from the files at [from, to), or the whole file of the segment. */
export interface WalPut extends Omit<WalObject, "crc"> {
  readonly segment: number;
}

const segmentOf = (lsn: number): number => Math.floor(lsn / WAL_SEGMENT_BYTES);

/** Layers that are not in object storage, oldest first: what to upload next. */
export function layersToUpload<L extends BackedLayer>(
  facts: Pick<BackupFacts<BackedTimeline, L>, "layers" | "stored">,
): readonly L[] {
  return facts.layers
    .filter(({ file }) => !facts.stored.has(file))
    .sort((x, y) => x.sequence - y.sequence);
}

interface Held<L> {
  readonly layers: readonly L[];
  readonly sealedLsn: Lsn;
  readonly sealedPrev: Lsn;
  /** I14: of this position, not of the catalog's. */
  readonly sealedLogicalSize: number | undefined;
  /** All tiers that there are. */
  readonly whole: boolean;
}

/** The longest prefix of tiers that is in object storage; undefined: not even the oldest is. */
function storedPrefix<L extends BackedLayer>(
  facts: BackupFacts<BackedTimeline, L>,
): Held<L> | undefined {
  const { timeline, stored } = facts;
  const oldest = [...facts.layers].sort((x, y) => x.sequence - y.sequence);
  const missing = oldest.find(({ file }) => !stored.has(file));
  const withObject = (layer: L): L => ({ ...layer, object: stored.get(layer.file)! });
  if (missing === undefined) {
    const { sealedLsn, sealedPrev, sealedLogicalSize } = timeline;
    const layers = oldest.map(withObject);
    return { layers, sealedLsn, sealedPrev, sealedLogicalSize, whole: true };
  }
  const below = oldest.filter(({ sequence }) => sequence < missing.sequence);
  if (below.length === 0) return undefined;
  // Every version above is in a newer layer or in WAL. Where the last record began is not known here.
  const ends = below.map(({ lastLsn }) => lastLsn);
  const sealedLsn = Math.max(...ends, timeline.ancestor?.lsn ?? LSN_INVALID) as Lsn;
  const sealedPrev = LSN_INVALID;
  const layers = below.map(withObject);
  return { layers, sealedLsn, sealedPrev, sealedLogicalSize: undefined, whole: false };
}

/** What the next manifest holds in layers: at least as far as the last one. */
function nextHeld<L extends BackedLayer>(
  facts: BackupFacts<BackedTimeline, L>,
): Held<L> | undefined {
  const { manifest } = facts;
  const found = storedPrefix(facts);
  if (manifest === undefined) return found;
  const { sealedLsn, sealedPrev, sealedLogicalSize } = manifest.timeline;
  if (found !== undefined) {
    if (found.sealedLsn > sealedLsn || (found.whole && found.sealedLsn === sealedLsn)) return found;
  }
  return { layers: manifest.layers, sealedLsn, sealedPrev, sealedLogicalSize, whole: false };
}

/** WAL that can be put now, in order: what follows `uploaded`, as far as it is durable. */
export function walToPut(facts: BackupFacts): readonly WalPut[] {
  const { manifest, generation, durable, walFrom } = facts;
  const held = nextHeld(facts);
  if (held === undefined) return [];
  const { tli } = facts.timeline;
  const old = manifest?.wal ?? [];
  let at = Math.max(held.sealedLsn, uploadedLsn(manifest));
  if (at < walFrom) return []; // let go already: layers must come first
  const puts: WalPut[] = [];
  while (at < durable && puts.length < BACKUP_WAL_PIECES_MAX) {
    const segment = segmentOf(at);
    const end = (segment + 1) * WAL_SEGMENT_BYTES;
    const before = old.filter((one) => one.kind === "part" && segmentOf(one.from) === segment);
    const first = before[0]?.from ?? (at as Lsn);
    if (end <= durable) {
      const name = segmentObject(tli, segment, generation);
      const from = Math.max(Math.min(first, at), walFrom) as Lsn;
      puts.push({ name, from, to: end as Lsn, kind: "segment", segment });
      at = end;
    } else {
      const all = before.length >= BACKUP_PARTS_MAX && first >= walFrom;
      const from = all ? first : (at as Lsn);
      const name = partObject(tli, segment, generation, from, durable);
      puts.push({ name, from, to: durable, kind: "part", segment });
      at = durable;
    }
  }
  return puts;
}

/**
 * The manifest that names what has been put; undefined when it would say nothing new, or nothing can
 * be restored yet. `deleted`: names of the last one's garbage that are gone.
 */
export function nextManifest<T extends BackedTimeline, L extends BackedLayer, S>(
  facts: BackupFacts<T, L, S>,
  put: readonly WalObject[],
  deleted: ReadonlySet<string>,
): Manifest<T, L, S> | undefined {
  const { manifest: last, tenant, generation, writer, timeline, snapshots } = facts;
  const held = nextHeld(facts);
  if (held === undefined) return undefined;
  const joined = joinWal(last?.wal ?? [], put);
  const { wal, archive, dropped, moved } = dropWal(facts, joined, held.sealedLsn);
  checkWal(wal, held.sealedLsn);
  const named = new Set([...held.layers.map(({ object }) => object!.name), ...names(wal)]);
  const before = [
    ...(last?.layers ?? []).map(({ object }) => object!.name),
    ...names(last?.wal ?? []),
  ];
  const stale = (last?.garbage ?? []).filter((name) => !deleted.has(name));
  const gone = [...before, ...dropped].filter((name) => !named.has(name) && !moved.has(name));
  const asked = purgeable(facts.purge, { ...facts, generation }).filter((one) => !named.has(one));
  const garbage = [...new Set([...stale, ...gone, ...overtaken(facts, named), ...asked])];
  assert(
    garbage.every((name) => !named.has(name)),
    "I17: nothing that is named is deleted",
  );
  const next: Manifest<T, L, S> = {
    ...{ tenant, generation, writer, writtenAtMs: facts.nowMs, garbage },
    sequence: (last?.sequence ?? 0) + 1,
    timeline: {
      ...timeline,
      ...{ sealedLsn: held.sealedLsn, sealedPrev: held.sealedPrev },
      sealedLogicalSize: held.sealedLogicalSize,
    },
    ...{ layers: held.layers, wal, archive, snapshots },
    heat: heatOf(held.layers, facts.heat),
  };
  assert(uploadedLsn(next) >= uploadedLsn(last), "I17: what is uploaded stays so");
  if (last === undefined || !saysTheSame(last, next)) return next;
  const cooled = JSON.stringify(last.heat ?? []) !== JSON.stringify(next.heat);
  return cooled && facts.nowMs - last.writtenAtMs >= HEAT_WRITE_MS ? next : undefined;
}

const heatOf = (
  layers: readonly BackedLayer[],
  heats: ReadonlyMap<string, number> = new Map(),
): readonly LayerHeat[] =>
  layers.flatMap(({ file }) => {
    const heat = heats.get(file) ?? 0;
    return heat > 0 ? [{ file, heat }] : [];
  });

/** Objects of layers that were merged away before a manifest named them. */
function overtaken(facts: BackupFacts, named: ReadonlySet<string>): readonly string[] {
  const files = new Set(facts.layers.map(({ file }) => file));
  const left = [...facts.stored].filter(([file]) => !files.has(file));
  return left.map(([, { name }]) => name).filter((name) => !named.has(name));
}

/** Old and new WAL; what a larger object holds goes. */
function joinWal(old: readonly WalObject[], put: readonly WalObject[]): readonly WalObject[] {
  const from = put[0]?.from ?? LSN_MAX;
  return [...old.filter((one) => one.from < from), ...put];
}

/** Parts and segments that layers hold go; whole segments stay in the archive as long as wanted. */
function dropWal(facts: BackupFacts, all: readonly WalObject[], sealedLsn: Lsn) {
  const { manifest, archiveFrom } = facts;
  const wal = all.filter(({ to }) => to > sealedLsn);
  const below = all.filter(({ to }) => to <= sealedLsn);
  let archive = manifest?.archive ?? [];
  const dropped: string[] = [];
  const moved = new Set<string>();
  for (const one of below) {
    if (one.kind === "part" || one.to <= archiveFrom) continue; // named before, now by nothing
    archive = archived(archive, one);
    moved.add(one.name);
  }
  const trimmed: WalArchive[] = [];
  let room = BACKUP_ARCHIVE_TRIM_MAX;
  for (const range of archive) {
    const { last, tli, generation } = range;
    const wanted = Math.min(segmentOf(archiveFrom), last + 1);
    let { first } = range;
    for (; first < wanted && room > 0; first++, room--) {
      dropped.push(segmentObject(tli, first, generation));
    }
    if (first <= last) trimmed.push({ ...range, first });
  }
  return { wal, archive: trimmed, dropped, moved };
}

function archived(archive: readonly WalArchive[], one: WalObject): readonly WalArchive[] {
  const segment = segmentOf(one.from);
  const [, generation, name] = one.name.split("/");
  const place = { generation: parseInt(generation!, 16), tli: parseInt(name!.slice(0, 8), 16) };
  const last = archive.at(-1);
  const follows =
    last?.generation === place.generation && last.tli === place.tli && last.last + 1 === segment;
  if (last === undefined || !follows)
    return [...archive, { ...place, first: segment, last: segment }];
  return [...archive.slice(0, -1), { ...last, last: segment }];
}

function checkWal(wal: readonly WalObject[], sealedLsn: Lsn): void {
  wal.forEach((one, i) => {
    const follows = i === 0 ? one.from <= sealedLsn : one.from === wal[i - 1]!.to;
    assert(follows && one.from < one.to, "I17: uploaded WAL has no gap");
  });
}

const names = (wal: readonly WalObject[]): readonly string[] => wal.map(({ name }) => name);

function saysTheSame(a: Manifest, b: Manifest): boolean {
  const essence = ({
    timeline,
    layers,
    wal,
    archive,
    snapshots,
    garbage,
    ...m
  }: Manifest): string =>
    JSON.stringify([m.generation, timeline, layers, wal, archive, snapshots, garbage]);
  return essence(a) === essence(b);
}
