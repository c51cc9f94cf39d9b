// What the catalog remembers of a timeline's compute, as a setting: JSON, validated when read.

import { z } from "zod";
import type { Lsn } from "../core/lsn.ts";

const schema = z.strictObject({
  dir: z.string(),
  port: z.number().int(),
  /** Commits wait until the page server has fsynced them. */
  synchronous: z.boolean(),
  /** It reads its pages from us when it needs them. Older records do not say. */
  diskless: z.boolean().default(false),
  /** Where it was booted. */
  startLsn: z
    .number()
    .transform((lsn) => lsn as Lsn)
    .optional(),
  startedAtMs: z.number().optional(),
});

const lsn = z.number().transform((value) => value as Lsn);

/** Of a compute that shows one moment. */
const fixed = z.strictObject({
  dir: z.string(),
  port: z.number().int(),
  diskless: z.boolean(),
  /** The moment, which no other of its timeline shows. */
  lsn,
  startedAtMs: z.number(),
});

export type FixedComputeRecord = Readonly<z.infer<typeof fixed>>;

/** Throws ZodError for what we have not written. */
export const parseFixedComputeRecords = (setting: unknown): readonly FixedComputeRecord[] =>
  setting === undefined ? [] : z.array(fixed).parse(setting);

export type ComputeRecord = Readonly<z.infer<typeof schema>>;

/** Undefined when there is none. Throws ZodError for what we have not written. */
export function parseComputeRecord(setting: unknown): ComputeRecord | undefined {
  return setting === undefined ? undefined : schema.parse(setting);
}
