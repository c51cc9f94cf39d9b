// The bytes of manifests: JSON that a person can read, with a checksum, parsed strictly and within
// bounds, because they come from outside. A newer format is refused by name and left alone.

import { z } from "zod";
import type { Manifest, TenantManifest } from "../core/backup/manifest.ts";
import { parseTenantId, parseTimelineId, type TenantId, type TimelineId } from "../core/ids.ts";
import {
  BACKUP_LAYERS_LISTED_MAX,
  BACKUP_TIMELINES_MAX,
  BACKUP_WAL_LISTED_MAX,
} from "../core/limits.ts";
import { crc32c } from "../protocol/crc32c.ts";
import {
  type LayerEntry,
  type SnapshotEntry,
  type TimelineEntry,
  layerEntry,
  snapshotEntry,
  timelineEntry,
} from "./catalog-entries.ts";
import { countField, crcField, lsnField } from "./layer-header.ts";

/** The first has no heat of layers: what has none is still written so, for programs that read no other. */
export const MANIFEST_FORMATS = [1, 2] as const;
type ManifestFormat = (typeof MANIFEST_FORMATS)[number];

/** A manifest of a page server's timeline. */
export type TimelineManifest = Manifest<TimelineEntry, LayerEntry, SnapshotEntry>;

/** A manifest that cannot be used; the message names it, what is wrong with it, and the remedy. */
export class ManifestUnusable extends Error {
  override readonly name = "ManifestUnusable";
  readonly reason: "corrupt" | "format";

  constructor(reason: "corrupt" | "format", message: string) {
    super(message);
    this.reason = reason;
  }
}

const generation = z.number().int().min(1).max(0xffff_ffff);
const word = z.string().regex(/^[0-9a-f]{1,64}$/);
const objectName = z
  .string()
  .max(400)
  .regex(/^(layers|wal)\/[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/);

const wal = z.strictObject({
  name: objectName,
  from: lsnField,
  to: lsnField,
  kind: z.enum(["part", "segment"]),
  crc: crcField,
});

const archive = z.strictObject({
  generation,
  tli: countField,
  first: countField,
  last: countField,
});

const tenantId = z.string().transform((text): TenantId => parseTenantId(text));
const timelineId = z.string().transform((text): TimelineId => parseTimelineId(text));

const manifest = z.strictObject({
  tenant: tenantId,
  generation,
  writer: word,
  sequence: countField,
  writtenAtMs: countField,
  timeline: timelineEntry,
  layers: z.array(layerEntry).max(BACKUP_LAYERS_LISTED_MAX),
  wal: z.array(wal).max(BACKUP_WAL_LISTED_MAX),
  archive: z.array(archive).max(BACKUP_WAL_LISTED_MAX),
  snapshots: z.array(snapshotEntry),
  heat: z
    .array(z.strictObject({ file: z.string().min(1).max(400), heat: countField }))
    .max(BACKUP_LAYERS_LISTED_MAX)
    .optional(),
  garbage: z.array(objectName),
});

const tenant = z.strictObject({
  tenant: tenantId,
  generation,
  claim: word,
  createdAtMs: countField,
  attachedAtMs: countField,
  timelines: z.array(timelineId).max(BACKUP_TIMELINES_MAX),
  settings: z.record(z.string(), z.json()),
});

export function encodeManifest(value: TimelineManifest): Uint8Array {
  const { source, ...timeline } = value.timeline;
  const kept = source === undefined ? {} : { source: withoutPassword(source) };
  const { heat = [], ...rest } = value;
  const body = { ...rest, timeline: { ...timeline, ...kept }, ...(heat.length > 0 && { heat }) };
  return encode("timeline", body, heat.length > 0 ? 2 : 1);
}

/** Throws ManifestUnusable. `name`: for the message. */
export function decodeManifest(bytes: Uint8Array, name: string): TimelineManifest {
  const found = decode(bytes, name, "timeline", manifest);
  const bare = found.layers.find(({ object }) => object === undefined);
  if (bare !== undefined) throw corrupt(name, `layer ${bare.file} has no object`);
  const { sealedLsn } = found.timeline;
  found.wal.forEach((one, i) => {
    const follows = i === 0 ? one.from <= sealedLsn : one.from === found.wal[i - 1]!.to;
    if (!follows || one.to <= one.from) throw corrupt(name, "its WAL has a gap");
  });
  return found;
}

export const encodeTenant = (value: TenantManifest): Uint8Array => encode("tenant", value);

/** Throws ManifestUnusable. */
export const decodeTenant = (bytes: Uint8Array, name: string): TenantManifest =>
  decode(bytes, name, "tenant", tenant);

// {"format":1,"what":"timeline","crc":"0123abcd","body":{…}}: the checksum is over the body's text.
function encode(what: string, body: unknown, format: ManifestFormat = 1): Uint8Array {
  const text = JSON.stringify(body);
  const head = `{"format":${format},"what":"${what}","crc":"${sum(text)}","body":`;
  return Buffer.from(`${head}${text}}\n`);
}

const HEAD = /^\{"format":(\d{1,9}),"what":"([a-z]{1,20})",(?:"crc":"([0-9a-f]{8})","body":)?/;

function decode<S extends z.ZodType>(
  bytes: Uint8Array,
  name: string,
  what: string,
  schema: S,
): z.infer<S> {
  const text = Buffer.from(bytes).toString();
  const [head, format, is, crc] = HEAD.exec(text.slice(0, 100)) ?? [];
  if (head === undefined) throw corrupt(name, "it does not begin as one");
  if (!MANIFEST_FORMATS.some((known) => known === Number(format))) {
    throw new ManifestUnusable(
      "format",
      `${name} has format ${format}, this program reads ${MANIFEST_FORMATS.join(" and ")}; use the version of ` +
        `pageserver that wrote it`,
    );
  }
  const body = text.slice(head.length, -2);
  if (is !== what || text.slice(-2) !== "}\n" || sum(body) !== crc) {
    throw corrupt(name, "it fails its checksum");
  }
  const found = schema.safeParse(JSON.parse(body));
  if (!found.success) throw corrupt(name, z.prettifyError(found.error));
  return found.data;
}

const corrupt = (name: string, why: string): ManifestUnusable =>
  new ManifestUnusable(
    "corrupt",
    `${name} is corrupt: ${why}; restore it from an older version of it`,
  );

const sum = (text: string): string => crc32c(Buffer.from(text)).toString(16).padStart(8, "0");

/** What object storage holds is read by more people than the catalog. */
function withoutPassword<S extends { readonly conninfo: string }>(source: S): S {
  const { conninfo } = source;
  const plain = conninfo
    .replace(/^(postgres(?:ql)?:\/\/[^:@/]*):[^@/]*@/, "$1@")
    .replace(/\bpassword\s*=\s*('(?:[^'\\]|\\.)*'|\S+)/gi, "")
    .replace(/([?&])password=[^&]*/gi, "$1")
    .trim();
  return { ...source, conninfo: plain };
}
