// Who may write a tenant's backup: the server of the highest generation, and of those that have it the
// one whose claim the tenant's object carries. Everybody else is fenced: it uploads and deletes nothing
// any more, and says so.

import type { TenantId, TimelineId } from "../ids.ts";
import { Lsn } from "../lsn.ts";
import { type Manifest, type TenantManifest, uploadedLsn } from "./manifest.ts";

/**
 * This server's backup of a tenant has ended for good; the message says why and what to do. "taken": another
 * server has the tenant, so this one takes in no WAL of it either; "astray": what is there is not what this
 * server made, and nobody is known to have taken it over.
 */
export class BackupFenced extends Error {
  override readonly name = "BackupFenced";
  readonly how: "taken" | "astray";

  constructor(how: BackupFenced["how"], message: string) {
    super(message);
    this.how = how;
  }
}

const TAKE_BACK =
  "stop this one, or take it back (tenant delete --keep-backup, then tenant attach)";

/** What a data directory remembers of its attachment; in the catalog's settings as "backup". */
export interface Attachment {
  readonly generation: number;
  readonly claim: string;
  /** A claim that is not known to have been written yet. */
  readonly begun?: true;
}

/** Checks the tenant's object against what this data directory remembers. Throws BackupFenced. */
export function checkTenantClaim(
  found: TenantManifest | undefined,
  mine: Attachment | undefined,
  tenant: TenantId,
  place: string,
): void {
  if (found === undefined) {
    if (mine === undefined || mine.begun === true) return;
    throw new BackupFenced(
      "astray",
      `the backup of tenant ${tenant} is not in ${place}, though this data directory has made one; ` +
        `correct the backup settings, or bring back what was there`,
    );
  }
  if (mine?.generation === found.generation && mine.claim === found.claim) return;
  if (mine === undefined || mine.begun === true) {
    throw new BackupFenced(
      "astray",
      `${place} holds a backup of tenant ${tenant} that another data directory made; attach it on an ` +
        `empty machine, or give this server a place of its own`,
    );
  }
  throw new BackupFenced(
    "taken",
    `tenant ${tenant} is attached to another server since ${new Date(found.attachedAtMs).toISOString()} ` +
      `(generation ${found.generation}, this is ${mine.generation}); ${TAKE_BACK}`,
  );
}

/** Checks a timeline's manifest that this process has not written itself. Throws BackupFenced. */
export function checkManifest(
  found: Manifest,
  mine: { readonly generation: number; readonly durable: Lsn },
): void {
  const what = `timeline ${found.timeline.id}`;
  if (found.generation > mine.generation) {
    throw new BackupFenced(
      "taken",
      `${what} is written by another server (generation ${found.generation}, this is ` +
        `${mine.generation}); ${TAKE_BACK}`,
    );
  }
  const uploaded = uploadedLsn(found);
  if (uploaded <= mine.durable) return;
  throw new BackupFenced(
    "taken",
    `the backup of ${what} is at ${Lsn.format(uploaded)}, this data directory at ` +
      `${Lsn.format(mine.durable)}: it is an old copy; remove it and attach the tenant anew`,
  );
}

/** A manifest that this process wrote last is another one now. */
export const manifestTaken = (tenant: TenantId, timeline: TimelineId): BackupFenced =>
  new BackupFenced(
    "taken",
    `another server has written the manifest of timeline ${timeline}: tenant ${tenant} was attached ` +
      `elsewhere; ${TAKE_BACK}`,
  );
