// A tenant's one object in object storage: which generation may write, and which timelines there are.
// Read once; changed by conditional writes, one after the other. A refused one means that someone else
// has taken the tenant over.

import { type Attachment, BackupFenced, checkTenantClaim } from "../core/backup/fence.ts";
import type { TenantManifest } from "../core/backup/manifest.ts";
import { tenantName } from "../core/backup/names.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import {
  ObjectError,
  type ObjectStorage,
  type ObjectVersion,
  isObjectError,
} from "../core/object-storage.ts";
import type { Catalog } from "../store/catalog.ts";
import type { SettingValue } from "../store/catalog-entries.ts";
import type { Owner } from "./backup-remove.ts";
import { decodeTenant, encodeTenant } from "../store/manifest.ts";

const SETTING = "backup";
/** Settings that are about the tenant, not about this server. */
const CARRIED = ["retention"];

export interface TenantBackupParts {
  readonly storage: ObjectStorage;
  readonly tenant: TenantId;
  readonly catalog: Catalog;
  readonly nowMs: () => number;
  readonly randomWord: () => string;
  /** Resolves when the back end was found fit. */
  readonly ready: () => Promise<void>;
}

interface Known {
  readonly manifest: TenantManifest;
  readonly version: ObjectVersion;
}

export class TenantBackup {
  private readonly parts: TenantBackupParts;
  private known: Known | undefined;
  private fence: BackupFenced | undefined;
  private last: Promise<unknown> = Promise.resolve();

  constructor(parts: TenantBackupParts) {
    this.parts = parts;
  }

  /** Why this server may not write the tenant's backup; undefined: as far as is known it may. */
  get fenced(): BackupFenced | undefined {
    return this.fence;
  }

  /** The generation that this server writes with. Rejects with BackupFenced, ObjectError, ManifestUnusable. */
  generation(): Promise<number> {
    return this.inTurn(async () => (await this.open()).manifest.generation);
  }

  /** Somebody else was met: this server writes nothing more. */
  endWith(fence: BackupFenced): void {
    this.fence ??= fence;
  }

  /**
   * The object lists `added`, and of those that it has the ones that the catalog has too: looked at here,
   * because other timelines come and go beside. Rejects as generation() does.
   */
  list(added?: TimelineId): Promise<void> {
    return this.inTurn(async () => {
      const { manifest } = await this.open();
      const here = new Set(this.parts.catalog.timelines().map(({ id }) => id));
      const listed = new Set([...manifest.timelines, ...(added === undefined ? [] : [added])]);
      const wanted = [...listed].filter((id) => here.has(id)).sort();
      const settings = this.settings();
      const same =
        JSON.stringify([manifest.timelines, manifest.settings]) ===
        JSON.stringify([wanted, settings]);
      if (!same) await this.write({ ...manifest, timelines: wanted, settings });
    });
  }

  /** Reads who has the tenant now: a server that writes nothing finds out, too, that it was replaced. */
  async look(): Promise<void> {
    await this.inTurn(() => this.fresh()).catch(() => undefined); // `fenced` says what counts of it
  }

  /** To remove timelines: as it is now, whatever is known of it. Rejects as generation() does. */
  async owner(): Promise<Owner> {
    const generation = await this.generation();
    return {
      generation,
      verify: () => this.inTurn(async () => void (await this.fresh())),
      unlist: (isGone) =>
        this.inTurn(async () => {
          const { manifest } = await this.fresh();
          const timelines = manifest.timelines.filter((id) => !isGone(id));
          if (timelines.length === manifest.timelines.length) return;
          await this.write({ ...manifest, timelines });
        }),
    };
  }

  private inTurn<T>(action: () => Promise<T>): Promise<T> {
    const next = this.last.then(async () => {
      if (this.fence !== undefined) throw this.fence;
      return action();
    });
    this.last = next.catch((error: unknown) => {
      if (error instanceof BackupFenced) this.fence ??= error;
    });
    return next;
  }

  private fresh(): Promise<Known> {
    this.known = undefined;
    return this.open();
  }

  private async open(): Promise<Known> {
    if (this.known !== undefined) return this.known;
    const { storage, tenant, catalog, ready } = this.parts;
    await ready();
    const name = tenantName(tenant);
    let mine = attachmentOf(catalog);
    const found = await this.read();
    checkTenantClaim(found?.manifest, mine, tenant, storage.place);
    if (found !== undefined) {
      this.remember(found.manifest);
      return (this.known = found);
    }
    if (mine === undefined) {
      mine = { generation: 1, claim: this.parts.randomWord(), begun: true };
      putAttachment(catalog, mine);
    }
    const manifest = this.first(mine);
    try {
      const version = await storage.putIfAbsent(name, encodeTenant(manifest));
      this.remember(manifest);
      return (this.known = { manifest, version });
    } catch (error) {
      if (!isObjectError(error, "exists")) throw error;
      checkTenantClaim((await this.read())?.manifest, mine, tenant, storage.place);
      throw error;
    }
  }

  private first({ generation, claim }: Attachment): TenantManifest {
    const nowMs = this.parts.nowMs();
    const { tenant } = this.parts;
    const times = { createdAtMs: nowMs, attachedAtMs: nowMs };
    return { tenant, generation, claim, ...times, timelines: [], settings: this.settings() };
  }

  private remember({ generation, claim }: TenantManifest): void {
    const { catalog } = this.parts;
    if (attachmentOf(catalog)?.begun !== undefined) putAttachment(catalog, { generation, claim });
  }

  private async read(): Promise<Known | undefined> {
    const { storage, tenant } = this.parts;
    const name = tenantName(tenant);
    try {
      const { bytes, version } = await storage.get(name);
      return { manifest: decodeTenant(bytes, `${storage.place}/${name}`), version };
    } catch (error) {
      if (isObjectError(error, "not-found")) return undefined;
      throw error;
    }
  }

  private async write(manifest: TenantManifest): Promise<void> {
    const { storage, tenant, catalog } = this.parts;
    const known = this.known!;
    this.known = undefined; // until it is certain what is there
    try {
      const bytes = encodeTenant(manifest);
      const version = await storage.compareAndSwap(tenantName(tenant), bytes, known.version);
      this.known = { manifest, version };
    } catch (error) {
      if (!isObjectError(error, "changed")) throw error;
      const now = await this.read();
      checkTenantClaim(now?.manifest, attachmentOf(catalog), tenant, storage.place);
      // A write of ours that was given up came late, or a copy of this data directory is at work: that one
      // and we meet at the manifests, where one of us ends.
      const message = `${tenantName(tenant)} has changed meanwhile; it is read again`;
      throw new ObjectError("unavailable", message, error);
    }
  }

  private settings(): TenantManifest["settings"] {
    const found = CARRIED.map((name) => [name, this.parts.catalog.setting(name)] as const);
    return Object.fromEntries(found.filter(([, value]) => value !== undefined));
  }
}

/** What the catalog remembers of the tenant's attachment. */
export const attachmentOf = (catalog: Catalog): Attachment | undefined =>
  parseAttachment(catalog.setting(SETTING));

/** Undefined: it is none. */
export function parseAttachment(value: SettingValue | undefined): Attachment | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const { generation, claim, begun } = value as { readonly [key: string]: SettingValue };
  if (typeof generation !== "number" || typeof claim !== "string") return undefined;
  return { generation, claim, ...(begun === true && { begun }) };
}

export function putAttachment(catalog: Catalog, attachment: Attachment): void {
  catalog.change((change) => change.putSetting(SETTING, { ...attachment }));
}
