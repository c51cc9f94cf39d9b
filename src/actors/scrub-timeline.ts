// One timeline of a scrub: its manifest, what that names, and what is there besides.

import {
  type NamedByManifest,
  type ProblemKind,
  type ScrubReport,
  judgeUnnamed,
  knownNames,
  namedObjects,
  notOurs,
} from "../core/backup/scrub.ts";
import type { TenantManifest } from "../core/backup/manifest.ts";
import { timelinePrefix } from "../core/backup/names.ts";
import { type NamedObject, parseObjectName } from "../core/backup/object-names.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { SCRUB_READS_MAX, SCRUB_UNNAMED_MAX } from "../core/limits.ts";
import { type ListedObject, type ObjectStorage, isObjectError } from "../core/object-storage.ts";
import { ManifestUnusable, type TimelineManifest } from "../store/manifest.ts";
import { readManifest } from "./backup-turn.ts";
import { type LocalTenant, repair, wrongWith } from "./scrub-object.ts";

export interface ScrubParts {
  readonly storage: ObjectStorage;
  /** Undefined: another server's, or nobody's. */
  readonly local: (tenant: TenantId) => Promise<LocalTenant | undefined>;
  readonly report: ScrubReport;
  /** Now, by the clock of the back end, Unix ms. */
  readonly nowMs: number;
  readonly safeMs: number;
  readonly purge: "purge" | "keep";
  readonly signal: AbortSignal;
  readonly onProgress: (tenant: TenantId, timeline: TimelineId | undefined) => void;
}

/** The tenant that a timeline is of. */
export interface TenantWalkFacts {
  readonly parts: ScrubParts;
  readonly tenant: TenantId;
  /** Undefined: it cannot be read. */
  readonly list: TenantManifest | undefined;
  readonly local: LocalTenant | undefined;
}

interface Unnamed {
  readonly object: Extract<NamedObject, { kind: "layer" | "wal" }>;
  readonly modifiedMs: number;
}

export class TimelineWalk {
  readonly id: TimelineId;
  private readonly of: TenantWalkFacts;
  private readonly prefix: string;
  private manifest: TimelineManifest | undefined;
  /** Manifest and list cannot be judged: nothing is said about the rest. */
  private unknown = false;
  private names = new Set<string>();
  private readonly unnamed: Unnamed[] = [];
  private manifestMs: number | undefined;

  constructor(of: TenantWalkFacts, id: TimelineId) {
    this.of = of;
    this.id = id;
    this.prefix = timelinePrefix(of.tenant, id);
  }

  async open(): Promise<void> {
    const { parts, list } = this.of;
    const name = `${this.prefix}manifest.json`;
    try {
      this.manifest = await this.read();
    } catch (error) {
      const unreadable = isObjectError(error, "corrupt") || isObjectError(error, "no-key");
      if (!unreadable && !(error instanceof ManifestUnusable)) throw error;
      this.unknown = true;
      return this.found("corrupt", name, error.message);
    }
    const { manifest } = this;
    if (manifest === undefined) {
      if (list?.timelines.includes(this.id) !== true) return;
      this.unknown = true;
      const detail = "the tenant's list has the timeline: restore it from an older version of it";
      return this.found("missing", name, detail);
    }
    this.names = new Set([...namedObjects(manifest)].map((one) => one.name));
    if (list === undefined || manifest.generation === list.generation) return;
    // An attach takes the tenant first, then its timelines: perhaps it is at work now.
    const again = await this.read();
    const { generation } = again ?? manifest;
    if (generation === list.generation) return;
    const detail = `generation ${generation}, the tenant has ${list.generation}: attach the tenant anew`;
    parts.report.add({ kind: "wrong-generation", name, detail, outcome: "remains" });
  }

  listed(
    found: Extract<NamedObject, { timeline: TimelineId }>,
    { modifiedMs }: ListedObject,
  ): void {
    if (found.kind === "manifest") {
      this.manifestMs = modifiedMs;
      return;
    }
    if (this.unknown || this.names.has(found.name)) return;
    if (this.unnamed.length < SCRUB_UNNAMED_MAX) this.unnamed.push({ object: found, modifiedMs });
  }

  /** Everything that is listed has been told. */
  async finish(): Promise<void> {
    if (this.unknown) return;
    const { list, local } = this.of;
    const listed = list?.timelines.includes(this.id) === true;
    if (list !== undefined && !listed && local?.hasTimeline(this.id) !== true) {
      return this.judgeUnlisted();
    }
    if (this.manifest !== undefined) await this.checkNamed(this.manifest);
    await this.judgeUnnamed();
  }

  private async read(): Promise<TimelineManifest | undefined> {
    const { parts, tenant } = this.of;
    return (await readManifest(parts.storage, tenant, this.id)).manifest;
  }

  private found(kind: ProblemKind, name: string, detail: string): void {
    this.of.parts.report.add({ kind, name, detail, outcome: "remains" });
  }

  // ---- what a manifest names

  private async checkNamed(manifest: TimelineManifest): Promise<void> {
    const all = namedObjects(manifest);
    const worker = async (): Promise<void> => {
      for (const one of all) await this.checkOne(manifest, one);
    };
    await Promise.all(Array.from({ length: SCRUB_READS_MAX }, worker));
  }

  private async checkOne(
    manifest: TimelineManifest,
    one: NamedByManifest<TimelineManifest>,
  ): Promise<void> {
    const { parts } = this.of;
    const written = parseObjectName(this.prefix + one.name);
    if (written === undefined || !("generation" in written)) {
      return this.found(
        "foreign",
        this.prefix + one.name,
        "a manifest names it, and it has no name of ours",
      );
    }
    if (written.generation > manifest.generation) {
      const detail = `of generation ${written.generation}, named by a manifest of ${manifest.generation}`;
      this.found("wrong-generation", this.prefix + one.name, detail);
    }
    const checked = {
      ...{ storage: parts.storage, signal: parts.signal, manifest, one },
      onBytes: (bytes: number) => void (parts.report.bytes += bytes),
    };
    const wrong = await wrongWith(checked);
    if (wrong === undefined) return;
    const now = await this.read();
    if (now === undefined || ![...namedObjects(now)].some(({ name }) => name === one.name)) return;
    const { local } = this.of;
    const repaired = local !== undefined && (await repair(checked, local));
    const outcome = repaired ? "repaired" : "remains";
    parts.report.add({ ...wrong, name: this.prefix + one.name, outcome });
  }

  // ---- what none names

  private async judgeUnnamed(): Promise<void> {
    if (this.unnamed.length === 0) return;
    const { parts, local, tenant } = this.of;
    const { nowMs, safeMs, report } = parts;
    const now = await this.read();
    const known = now === undefined ? new Set<string>() : knownNames(now);
    const generation = now?.generation ?? this.of.list?.generation ?? 0;
    const judged = this.unnamed
      .filter(({ object }) => !known.has(object.name))
      .map(({ object, modifiedMs }) => ({
        ...{ name: object.name },
        ...judgeUnnamed(
          { manifest: generation, object: object.generation },
          { nowMs, modifiedMs, safeMs },
        ),
      }));
    const wanted = judged.filter(({ purge }) => purge === "may").map(({ name }) => name);
    const gone =
      parts.purge === "purge" && local !== undefined && wanted.length > 0
        ? await local.purge(this.id, wanted)
        : new Set<string>();
    for (const { name, kind, detail, purge } of judged) {
      const outcome = gone.has(name) ? "deleted" : purge === "too-young" ? purge : "remains";
      const hint = parts.purge === "purge" && local === undefined ? `; ${notOurs(tenant)}` : "";
      report.add({ kind, name: this.prefix + name, detail: detail + hint, outcome });
    }
  }

  /** All of a timeline that the tenant has no more, or not yet. */
  private async judgeUnlisted(): Promise<void> {
    const { parts, local, tenant } = this.of;
    const { nowMs, safeMs, report, storage } = parts;
    const { manifestMs } = this;
    const all = [
      ...(manifestMs === undefined ? [] : [{ name: "manifest.json", modifiedMs: manifestMs }]),
      ...[...this.names].map((name) => ({ name, modifiedMs: manifestMs ?? 0 })),
      ...this.unnamed.map(({ object: { name }, modifiedMs }) => ({ name, modifiedMs })),
    ];
    const young = all.some(({ modifiedMs }) => nowMs - modifiedMs < safeMs);
    const purge = parts.purge === "purge" && local !== undefined && !young;
    // The manifest first: what is left after a crash is named by none.
    if (purge) await storage.deleteMany(all.map(({ name }) => this.prefix + name));
    for (const { name } of all) {
      report.add({
        ...{ kind: "orphaned", name: this.prefix + name },
        detail: `the tenant has no timeline ${this.id}${local === undefined ? `; ${notOurs(tenant)}` : ""}`,
        outcome: purge ? "deleted" : young ? "too-young" : "remains",
      });
    }
  }
}
