// What a walk over object storage finds, and what may be done about it. A report is bounded; counts are
// of everything. Nothing is deleted because of a list alone: see actors/scrub.ts.

import type { TenantId } from "../ids.ts";
import { SCRUB_PROBLEMS_LISTED_MAX } from "../limits.ts";
import { type Manifest, uploadedLsn } from "./manifest.ts";
import { type Generation, layerName, walSegmentName } from "./names.ts";
import { segmentEnd } from "./object-names.ts";

export type ProblemKind =
  /** A manifest (or the tenant's list) names it, and it is not there. */
  | "missing"
  /** It is not what was written. */
  | "corrupt"
  /** No manifest names it. */
  | "orphaned"
  /** Of another server than the one that has the tenant. */
  | "wrong-generation"
  /** Not ours at all. */
  | "foreign";

/** too-young: no manifest names it yet; it may be about to. */
export type ProblemOutcome = "remains" | "repaired" | "deleted" | "too-young";

export interface ScrubProblem {
  readonly kind: ProblemKind;
  readonly name: string;
  /** What is wrong, and the remedy where there is one. */
  readonly detail: string;
  readonly outcome: ProblemOutcome;
}

const KINDS: readonly ProblemKind[] = [
  ...(["missing", "corrupt", "orphaned", "wrong-generation", "foreign"] as const),
];
const OUTCOMES: readonly ProblemOutcome[] = ["remains", "repaired", "deleted", "too-young"];

const zeros = <K extends string>(keys: readonly K[]): Record<K, number> =>
  Object.fromEntries(keys.map((key) => [key, 0])) as Record<K, number>;

/** Filled while the walk goes on. */
export class ScrubReport {
  tenants = 0;
  timelines = 0;
  objects = 0;
  /** Read and compared. */
  bytes = 0;
  readonly kinds = zeros(KINDS);
  readonly outcomes = zeros(OUTCOMES);
  /** The first ones. */
  readonly problems: ScrubProblem[] = [];

  add(problem: ScrubProblem): void {
    this.kinds[problem.kind]++;
    this.outcomes[problem.outcome]++;
    if (this.problems.length < SCRUB_PROBLEMS_LISTED_MAX) this.problems.push(problem);
  }
}

/** One object that a manifest names; `name` relative to the timeline's prefix. */
export type NamedByManifest<M extends Manifest> =
  | { readonly kind: "layer"; readonly name: string; readonly layer: M["layers"][number] }
  | { readonly kind: "wal"; readonly name: string; readonly wal: M["wal"][number] }
  | {
      readonly kind: "archive";
      readonly name: string;
      readonly tli: number;
      readonly segment: number;
    };

/** Everything that a manifest names and that must be there. */
export function* namedObjects<M extends Manifest>(manifest: M): Generator<NamedByManifest<M>> {
  for (const layer of manifest.layers) yield { kind: "layer", name: layer.object!.name, layer };
  for (const wal of manifest.wal) yield { kind: "wal", name: wal.name, wal };
  for (const { generation, tli, first, last } of manifest.archive) {
    const folder = `wal/${generation.toString(16).padStart(8, "0")}/`;
    for (let segment = first; segment <= last; segment++) {
      yield { kind: "archive", name: folder + walSegmentName(tli, segment), tli, segment };
    }
  }
}

/** What a manifest names, and what it has on its list of what is to be deleted. */
export const knownNames = (manifest: Manifest): Set<string> =>
  new Set([...[...namedObjects(manifest)].map(({ name }) => name), ...manifest.garbage]);

export interface Ages {
  /** Both by the clock of the back end, Unix ms. */
  readonly nowMs: number;
  readonly modifiedMs: number;
  readonly safeMs: number;
}

/** What an object is that no manifest names. `generation`: of the manifest, and of the object. */
export function judgeUnnamed(
  generation: { readonly manifest: Generation; readonly object: Generation },
  ages: Ages,
): {
  readonly kind: "orphaned" | "wrong-generation";
  readonly detail: string;
  readonly purge: "may" | "too-young" | "never";
} {
  const { manifest, object } = generation;
  const old = ages.nowMs - ages.modifiedMs >= ages.safeMs;
  const purge = old ? "may" : "too-young";
  if (object > manifest) {
    const detail = `written with generation ${object}, the manifest has ${manifest}: it may be a newer server's`;
    return { kind: "wrong-generation", detail, purge: "never" };
  }
  if (object < manifest) {
    const detail = `left by a server of generation ${object}; the manifest has ${manifest} and does not name it`;
    return { kind: "wrong-generation", detail, purge };
  }
  return { kind: "orphaned", detail: "no manifest names it", purge };
}

/**
 * Of names that a scrub wants deleted, those that no later manifest can name: no layer that is here has
 * the name, and for WAL what is uploaded has left its segment.
 */
export function purgeable(
  wanted: readonly string[],
  facts: {
    readonly manifest: Manifest | undefined;
    readonly layers: Manifest["layers"];
    readonly generation: Generation;
  },
): readonly string[] {
  const { manifest, layers, generation } = facts;
  if (manifest === undefined) return [];
  const mine = new Set(layers.map((layer) => layerName(layer, generation)));
  const known = knownNames(manifest);
  const uploaded = uploadedLsn(manifest);
  return wanted.filter((name) => {
    const end = segmentEnd(name);
    return !known.has(name) && !mine.has(name) && (end === undefined || end <= uploaded);
  });
}

/** Who must be asked to delete something of a tenant that is not this server's. */
export const notOurs = (tenant: TenantId): string =>
  `purge on the server that has tenant ${tenant}`;
