// A connection to a PostgreSQL (or a Neon safekeeper) for physical replication: who are you, a
// slot, a base backup, WAL. One command at a time; after startReplication only streaming.

import type { Conninfo } from "../protocol/conninfo.ts";
import type { BaseBackupOptions, SystemIdentity } from "../protocol/replication.ts";
import { type BaseBackup, startBaseBackup } from "./replication/base-backup.ts";
import { type SlotState, dropSlot, ensureSlot, identify, show } from "./replication/commands.ts";
import { type ConnectOptions, login } from "./replication/connect.ts";
import {
  type StreamFrom,
  type StreamHandlers,
  type WalStream,
  startStream,
} from "./replication/streaming.ts";

export interface ReplicationConnection {
  /** From the login, e.g. "15.20 (Debian 15.20-0+deb12u1)". */
  readonly serverVersion: string | undefined;
  identify(): Promise<SystemIdentity>;
  /** SHOW: e.g. "wal_segment_size" gives "16MB". */
  show(setting: string): Promise<string>;
  /** Makes sure a physical slot of that name exists; a new one reserves WAL from now on. */
  ensureSlot(name: string): Promise<SlotState>;
  /** Waits until nobody uses it; fine if there is none. */
  dropSlot(name: string): Promise<void>;
  baseBackup(options: BaseBackupOptions): Promise<BaseBackup>;
  startReplication(from: StreamFrom, handlers: StreamHandlers): WalStream;
  /**
   * Says good-bye. What is under way rejects with ConnectionLost; stream handlers hear nothing
   * more.
   */
  close(): void;
}

/**
 * Connects and logs in. Throws ServerError (the server refuses), ConnectionLost, or Error for an
 * unreadable certificate file.
 */
export async function connectReplication(
  conninfo: Conninfo,
  options: ConnectOptions,
): Promise<ReplicationConnection> {
  const { wire, parameters } = await login(conninfo, options);
  return {
    serverVersion: parameters.get("server_version"),
    identify: () => identify(wire),
    show: (setting) => show(wire, setting),
    ensureSlot: (name) => ensureSlot(wire, name),
    dropSlot: (name) => dropSlot(wire, name),
    baseBackup: (backup) => startBaseBackup(wire, backup),
    startReplication: (from, handlers) => startStream(wire, from, handlers),
    close: () => wire.close(),
  };
}
