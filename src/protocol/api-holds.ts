// Management API: what is held of a timeline besides its window. Snapshots have a name and stay until
// they are deleted; leases have an owner and an end.

import Type from "typebox";
import { type Api, Hex32, LsnText, Name, TimeText } from "./api.ts";

export const SnapshotInfo = Type.Object({
  timeline_id: Hex32,
  timeline_name: Type.String(),
  name: Type.String(),
  /** The record boundary that reads and branches get. */
  lsn: LsnText,
  created_at: TimeText,
});
export type SnapshotInfo = Api<typeof SnapshotInfo>;

/** The name of what is gone. */
export const DeletedSnapshot = Type.Object({ deleted: Type.String() });

/** Neither LSN nor timestamp: now. */
export const CreateSnapshotRequest = Type.Object(
  { name: Name, lsn: Type.Optional(LsnText), timestamp: Type.Optional(TimeText) },
  { additionalProperties: false },
);
export type CreateSnapshotRequest = Api<typeof CreateSnapshotRequest>;

/** Who holds a lease: what the holder wants to be known by. "-" is whoever did not say. */
const Owner = Type.String({ pattern: "^[A-Za-z0-9_.:@-]{1,100}$" });

export const LeaseInfo = Type.Object({
  timeline_id: Hex32,
  timeline_name: Type.String(),
  lsn: LsnText,
  owner: Type.String(),
  expires_at: TimeText,
});
export type LeaseInfo = Api<typeof LeaseInfo>;

/** The same owner and LSN again: the lease is renewed. */
export const AcquireLeaseRequest = Type.Object(
  {
    owner: Owner,
    lsn: Type.Optional(LsnText),
    timestamp: Type.Optional(TimeText),
    /** Default: as long as a compute's. */
    duration_ms: Type.Optional(Type.Integer({ minimum: 1_000 })),
  },
  { additionalProperties: false },
);
export type AcquireLeaseRequest = Api<typeof AcquireLeaseRequest>;

/** All that match are released. */
export const ReleaseLeasesQuery = Type.Object({
  owner: Type.Optional(Type.String()),
  lsn: Type.Optional(LsnText),
});

export const ReleasedLeases = Type.Object({ released: Type.Array(LeaseInfo) });
export type ReleasedLeases = Api<typeof ReleasedLeases>;
