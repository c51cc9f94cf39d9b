// One process's side of a backup in the simulator: turns and uploads of layers as actors begin them, with
// each call to object storage held until the simulator lets it go, in any order, with any fault. When the
// process dies, what was under way is done later, or never.

import { BackupFenced } from "../../src/core/backup/fence.ts";
import { type LayerObject, uploadedLsn } from "../../src/core/backup/manifest.ts";
import { layerName, timelinePrefix } from "../../src/core/backup/names.ts";
import { layersToUpload } from "../../src/core/backup/plan.ts";
import type { TimelineId } from "../../src/core/ids.ts";
import type { Lsn } from "../../src/core/lsn.ts";
import { ObjectError } from "../../src/core/object-storage.ts";
import { TenantBackup } from "../../src/actors/backup-tenant.ts";
import { type KnownManifest, type LocalFacts, backupTurn } from "../../src/actors/backup-turn.ts";
import { layerSource } from "../../src/io/objects/layer-object.ts";
import type { Catalog } from "../../src/store/catalog.ts";
import type { LayerEntry } from "../../src/store/catalog-entries.ts";
import { StoreFull, isMissing } from "../../src/store/store-errors.ts";
import { type Fault, FaultyStorage } from "../support/faulty-storage.ts";
import { TENANT } from "../support/timeline-world.ts";
import type { WatchedStorage } from "./watched-storage.ts";

interface Call {
  readonly what: string;
  readonly go: () => void;
}

/** The backup part of one life of a timeline. */
interface Of {
  known: KnownManifest | undefined;
  deleted: ReadonlySet<string>;
  readonly put: Map<string, LayerObject>;
  turning: boolean;
  uploading: boolean;
}

export interface LifeParts {
  readonly objects: WatchedStorage;
  readonly catalog: Catalog;
  readonly writer: string;
  readonly nowMs: () => number;
  readonly local: (id: TimelineId, put: LocalFacts["put"]) => LocalFacts | undefined;
  readonly copyWal: (id: TimelineId, from: Lsn, to: Lsn) => Uint8Array;
  readonly pathOf: (layer: LayerEntry) => string;
  /** A manifest is written: everything up to here is promised. */
  readonly onUploaded: (id: TimelineId, lsn: Lsn) => void;
}

export class BackupLife {
  /** Calls to object storage that wait to be let go. */
  readonly waiting: Call[] = [];
  readonly counts = { turns: 0, layers: 0, failures: 0 };
  /** Somebody else has the tenant: it found out. */
  fenced: BackupFenced | undefined;
  /** What ends the process. */
  fatal: unknown;
  private readonly parts: LifeParts;
  private readonly storage: FaultyStorage;
  private readonly tenant: TenantBackup;
  private readonly lines = new Map<TimelineId, Of>();
  private fault: Fault = "none";
  private reading = 0;

  constructor(parts: LifeParts) {
    this.parts = parts;
    this.storage = new FaultyStorage(parts.objects);
    this.storage.before = (call, name) =>
      new Promise((go) => this.waiting.push({ what: `${call} ${name}`, go }));
    this.storage.decide = () => this.fault;
    this.tenant = new TenantBackup({
      ...{ storage: this.storage, tenant: TENANT, catalog: parts.catalog, nowMs: parts.nowMs },
      randomWord: () => parts.writer,
      ready: () => Promise.resolve(),
    });
  }

  /** A call that waits is let go; gives what it is. Resolves when all wait again. */
  async release(index: number, fault: Fault): Promise<string> {
    const [call] = this.waiting.splice(index, 1);
    this.fault = fault;
    call!.go();
    await this.quiet();
    return `${fault} ${call!.what}`;
  }

  async quiet(): Promise<void> {
    for (let still = 0; still < 3; still = this.reading > 0 ? 0 : still + 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  private of(id: TimelineId): Of {
    let of = this.lines.get(id);
    if (of === undefined) {
      const none = { known: undefined, deleted: new Set<string>() };
      of = { ...none, put: new Map(), turning: false, uploading: false };
      this.lines.set(id, of);
    }
    return of;
  }

  /** Begins a turn, as a timeline does when one is due. */
  beginTurn(id: TimelineId): void {
    const of = this.of(id);
    if (of.turning || this.fenced !== undefined) return;
    of.turning = true;
    const { writer, nowMs, local, copyWal } = this.parts;
    backupTurn({
      ...{ storage: this.storage, tenant: TENANT, timeline: id, of: this.tenant, writer, nowMs },
      ...{ known: of.known, deleted: of.deleted },
      local: () => local(id, new Map(of.put)),
      copyWal: (from, to) => Promise.resolve(copyWal(id, from, to)),
    }).then(
      (done) => {
        of.turning = false;
        this.counts.turns++;
        if (done === undefined) return;
        of.known = done.known;
        of.deleted = done.deleted;
        const { manifest } = done.known;
        if (manifest === undefined) return;
        const settled = new Set(manifest.garbage);
        for (const { object } of manifest.layers) settled.add(object!.name);
        for (const [file, { name }] of of.put) if (settled.has(name)) of.put.delete(file);
        this.parts.onUploaded(id, uploadedLsn(manifest));
      },
      (error: unknown) => {
        of.turning = false;
        this.failed(of, error);
      },
    );
  }

  /** Begins to put the next layer that is not in object storage. */
  beginLayer(id: TimelineId): void {
    const of = this.of(id);
    if (of.uploading || of.known === undefined || this.fenced !== undefined) return;
    const stored = new Map(of.put);
    for (const { file, object } of of.known.manifest?.layers ?? []) stored.set(file, object!);
    const [next] = layersToUpload({ layers: this.parts.catalog.layers(id), stored });
    if (next === undefined) return;
    of.uploading = true;
    this.putLayer(id, next).then(
      (object) => {
        of.uploading = false;
        of.put.set(next.file, object);
        this.counts.layers++;
      },
      (error: unknown) => {
        of.uploading = false;
        if (!isMissing(error)) this.failed(of, error);
      },
    );
  }

  private async putLayer(id: TimelineId, layer: LayerEntry): Promise<LayerObject> {
    const name = layerName(layer, await this.tenant.generation());
    let bytes = 0;
    const source = layerSource(this.parts.pathOf(layer), (more) => (bytes += more));
    await this.storage.putStream(timelinePrefix(TENANT, id) + name, () => this.counted(source()));
    return { name, bytes };
  }

  /** Files are read beside: not all waits while one is. */
  private async *counted(pieces: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    this.reading++;
    try {
      yield* pieces;
    } finally {
      this.reading--;
    }
  }

  private failed(of: Of, error: unknown): void {
    of.known = undefined;
    if (error instanceof BackupFenced) this.fenced = error;
    else if (error instanceof ObjectError || error instanceof StoreFull) this.counts.failures++;
    else this.fatal ??= error;
  }
}
