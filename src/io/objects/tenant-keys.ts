// Keys of tenants: one data key each, random, made when something is first written, kept in object
// storage wrapped by a master key (tenants/<tenant>/key.json). Without that object what the tenant has
// there is noise: deleting it erases the tenant. Rotating a master key wraps the same data key anew.
//
//   {"format":1,"what":"tenant key","tenant":…,"id":…,"master":…,"wrapped":base64(nonce:12|key:32|tag:16)}

import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { keyName, timelinesPrefix } from "../../core/backup/names.ts";
import type { TenantId } from "../../core/ids.ts";
import { TENANT_KEYS_MAX } from "../../core/limits.ts";
import {
  ObjectError,
  type ObjectStorage,
  type ObjectVersion,
  isObjectError,
} from "../../core/object-storage.ts";
import { KEY_ID_BYTES } from "../../protocol/encrypted-object.ts";
import type { MasterKey, MasterKeys } from "./master-keys.ts";
import { type DataKey, KEY_BYTES } from "./object-cipher.ts";

const FORMAT = 1;
const ALGORITHM = "aes-256-gcm";
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES;
const ROTATE_TRIES_MAX = 5;

/** Whether objects that are not encrypted may be read though there is a key. */
export type PlainObjects = "refused" | "read";

interface WrappedKey {
  readonly id: string;
  readonly master: string;
  readonly wrapped: Buffer;
  readonly version: ObjectVersion;
}

export class TenantKeys {
  readonly plain: PlainObjects;
  readonly masters: MasterKeys;
  private readonly storage: ObjectStorage;
  private readonly known = new Map<TenantId, Promise<DataKey | undefined>>();
  /** Without master keys: tenants that were found to have no key. */
  private readonly inTheClear = new Set<TenantId>();

  /** `storage`: the one below encryption. */
  constructor(storage: ObjectStorage, masters: MasterKeys, plain: PlainObjects) {
    this.storage = storage;
    this.masters = masters;
    this.plain = plain;
  }

  /** Undefined: it is not encrypted. Rejects with ObjectError, "no-key" for a person. */
  async forWriting(tenant: TenantId): Promise<DataKey | undefined> {
    if (this.inTheClear.has(tenant)) return undefined;
    const found = await this.find(tenant);
    if (found !== undefined) return found;
    const { newest } = this.masters;
    if (newest !== undefined) return this.remember(tenant, this.create(tenant, newest));
    this.inTheClear.add(tenant);
    return undefined;
  }

  /** The tenant's key of this id. Rejects with ObjectError, "no-key" for a person. */
  async forReading(tenant: TenantId, id: string, name: string): Promise<DataKey> {
    const known = await this.find(tenant);
    if (known?.id === id) return known;
    this.forget(tenant);
    const key = await this.find(tenant);
    if (key?.id === id) return key;
    const { place } = this.storage;
    throw noKey(
      `${name} in ${place} is encrypted with key ${id} of the tenant, and ${keyName(tenant)} has it no ` +
        `more: the tenant was erased, or restore that object from an older version of it`,
    );
  }

  /** What was known of the tenant's key counts no more. */
  forget(tenant: TenantId): void {
    this.known.delete(tenant);
    this.inTheClear.delete(tenant);
  }

  /** Wraps the tenant's key with the newest master key. Rejects with ObjectError. */
  async rotate(tenant: TenantId): Promise<"rotated" | "newest already" | "not encrypted"> {
    const { newest } = this.masters;
    if (newest === undefined) throw noKey("there is no master key: set backup_key_file");
    for (let tries = 1; ; tries++) {
      const found = await this.read(tenant);
      if (found === undefined) return "not encrypted";
      const key = this.unwrap(tenant, found);
      if (found.master === newest.id) return "newest already";
      try {
        const bytes = encode(tenant, key, newest);
        await this.storage.compareAndSwap(keyName(tenant), bytes, found.version);
        return "rotated";
      } catch (error) {
        if (!isObjectError(error, "changed") || tries >= ROTATE_TRIES_MAX) throw error;
      }
    }
  }

  /** The tenant's key, when it has one. */
  private find(tenant: TenantId): Promise<DataKey | undefined> {
    const known = this.known.get(tenant);
    if (known !== undefined) return known;
    const finding = this.read(tenant).then((found) => found && this.unwrap(tenant, found));
    this.remember(tenant, finding);
    void finding.then(
      (key) => key === undefined && this.known.get(tenant) === finding && this.forget(tenant),
      () => undefined,
    );
    return finding;
  }

  /** Until it fails. */
  private remember<T extends DataKey | undefined>(
    tenant: TenantId,
    getting: Promise<T>,
  ): Promise<T> {
    if (this.known.size >= TENANT_KEYS_MAX) this.known.clear();
    this.known.set(tenant, getting);
    getting.catch(() => this.known.get(tenant) === getting && this.forget(tenant));
    return getting;
  }

  private async create(tenant: TenantId, master: MasterKey): Promise<DataKey> {
    const { storage } = this;
    if (this.plain === "refused") {
      const { objects } = await storage.list(timelinesPrefix(tenant));
      if (objects.length > 0) {
        throw noKey(
          `tenant ${tenant} has objects in ${storage.place} and no ${keyName(tenant)}: if they were ` +
            `written before there was a key, set backup_plain_objects = true; if not, restore that ` +
            `object from an older version of it`,
        );
      }
    }
    const key = {
      id: randomBytes(KEY_ID_BYTES).toString("hex"),
      bytes: randomBytes(KEY_BYTES),
    };
    try {
      await storage.putIfAbsent(keyName(tenant), encode(tenant, key, master));
      return key;
    } catch (error) {
      if (!isObjectError(error, "exists")) throw error;
      return this.unwrap(tenant, (await this.read(tenant))!); // another server was quicker
    }
  }

  private async read(tenant: TenantId): Promise<WrappedKey | undefined> {
    try {
      const { bytes, version } = await this.storage.get(keyName(tenant));
      return { ...decode(tenant, bytes, this.storage.place), version };
    } catch (error) {
      if (isObjectError(error, "not-found")) return undefined;
      throw error;
    }
  }

  private unwrap(tenant: TenantId, { id, master, wrapped }: WrappedKey): DataKey {
    const { place } = this.storage;
    const what = `the backup of tenant ${tenant} in ${place} is encrypted with master key "${master}"`;
    const key = this.masters.find(master);
    if (key === undefined) {
      const { ids } = this.masters;
      const given = ids.length === 0 ? "none was given" : `those given are ${ids.join(", ")}`;
      throw noKey(`${what}, and ${given}: name it in backup_key_file or PAGESERVER_BACKUP_KEY`);
    }
    const decipher = createDecipheriv(ALGORITHM, key.bytes, wrapped.subarray(0, NONCE_BYTES));
    const end = WRAPPED_BYTES - TAG_BYTES;
    decipher.setAAD(bound(tenant, id)).setAuthTag(wrapped.subarray(end));
    try {
      const opened = [decipher.update(wrapped.subarray(NONCE_BYTES, end)), decipher.final()];
      return { id, bytes: Buffer.concat(opened) };
    } catch {
      throw noKey(`${what}, and the key given by that name is another one: give the one it was`);
    }
  }
}

const noKey = (message: string): ObjectError => new ObjectError("no-key", message);

/** What a wrapped key is authenticated with: it opens for no other tenant and under no other id. */
const bound = (tenant: TenantId, id: string): Buffer =>
  Buffer.from(`pageserver tenant key ${FORMAT}\n${tenant}\n${id}`);

function encode(tenant: TenantId, key: DataKey, master: MasterKey): Uint8Array {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(ALGORITHM, master.bytes, nonce);
  cipher.setAAD(bound(tenant, key.id));
  const sealed = [cipher.update(key.bytes), cipher.final(), cipher.getAuthTag()];
  const wrapped = Buffer.concat([nonce, ...sealed]).toString("base64");
  const body = {
    format: FORMAT,
    what: "tenant key",
    tenant,
    id: key.id,
    master: master.id,
    wrapped,
  };
  return Buffer.from(`${JSON.stringify(body)}\n`);
}

function decode(tenant: TenantId, bytes: Uint8Array, place: string): Omit<WrappedKey, "version"> {
  const name = `${place}/${keyName(tenant)}`;
  let found: Partial<Record<"format" | "tenant" | "id" | "master" | "wrapped", unknown>> = {};
  try {
    const parsed: unknown = JSON.parse(Buffer.from(bytes).toString());
    if (typeof parsed === "object" && parsed !== null) found = parsed;
  } catch {
    // Not even JSON: refused below.
  }
  const { format, id, master, wrapped } = found;
  if (typeof format === "number" && format !== FORMAT) {
    throw new ObjectError(
      "unsupported",
      `${name} has format ${format}, this program reads ${FORMAT}; use the version of pageserver that wrote it`,
    );
  }
  const sound = typeof id === "string" && typeof master === "string" && /^[0-9a-f]{16}$/.test(id);
  const raw = typeof wrapped === "string" ? Buffer.from(wrapped, "base64") : Buffer.alloc(0);
  if (!sound || found.tenant !== tenant || raw.length !== WRAPPED_BYTES) {
    const remedy = "restore it from an older version of it";
    throw new ObjectError("corrupt", `${name} is corrupt: it is no tenant's key; ${remedy}`);
  }
  return { id, master, wrapped: raw };
}
