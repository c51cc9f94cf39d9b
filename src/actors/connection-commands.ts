// Commands of one compute link: simple queries and the unnamed half of the extended protocol, from
// text to answer. The link's phase belongs to connection.ts; this says when it changes.

import type { AdminError } from "../core/admin-error.ts";
import { MalformedInput, unreachable } from "../core/assert.ts";
import type { FrontendKind } from "../core/connection.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import type { Lsn } from "../core/lsn.ts";
import { type Claims, NOBODY, type Need, checkPermission } from "../core/permission.ts";
import type { Result } from "../core/result.ts";
import { gzipped } from "../io/gzip.ts";
import type { Log } from "../io/log.ts";
import { type PageServiceCommand, parseCommand } from "../protocol/page-service-command.ts";
import {
  SQLSTATE,
  type SqlState,
  bindComplete,
  closeComplete,
  commandComplete,
  decodeBind,
  decodeExecute,
  decodeParse,
  decodeQuery,
  decodeTarget,
  errorResponse,
  noData,
  noParameters,
  parseComplete,
  readyForQuery,
  textColumn,
  textRow,
} from "../protocol/pg-messages.ts";
import { type BackupCommand, type ServeBackup, checkSource, copyOut } from "./backup-copy.ts";
import type { Outbox } from "./outbox.ts";
import type { ResolveTimeline } from "./page-stream.ts";
import type { ActorRef } from "./runtime.ts";
import type { TimelineMsg } from "./timeline-messages.ts";

export interface CommandHost {
  readonly outbox: Outbox;
  readonly deps: { readonly resolve: ResolveTimeline; readonly serveBackup: ServeBackup };
  readonly log: Log;
  /** Runs work that a callback brings, unless the link is closed. */
  readonly guarded: (work: () => void) => void;
  /** A command runs; no message is handled until `idle` or `skip`. */
  readonly busy: () => void;
  readonly idle: () => void;
  /** An extended-protocol step failed: nothing is handled until Sync. */
  readonly skip: () => void;
  /** False: the tenant has too many links, and this one is closed. */
  readonly admit: (tenant: TenantId) => boolean;
  readonly stream: (command: Extract<PageServiceCommand, { kind: "pagestream" }>) => void;
  readonly closeNow: (state: SqlState, text: string) => void;
}

/**
 * What a command needs; undefined: anybody who logged in may use it. Leases are readers' business: a
 * compute at a fixed LSN cannot do without.
 */
export function commandNeed(command: PageServiceCommand): Need | undefined {
  switch (command.kind) {
    case "pagestream":
    case "basebackup":
    case "fullbackup":
    case "lease-lsn":
      return { kind: "read", tenant: command.tenant, timeline: command.timeline };
    case "set":
      return undefined;
    default:
      return unreachable(command);
  }
}

export class CommandRunner {
  claims: Claims = NOBODY;
  /** Since when a command waits for its timeline or its backup's next bytes, ms. */
  waitingSinceMs: number | undefined;
  private readonly host: CommandHost;
  private statement: string | undefined;
  /** The command that runs came by Execute: Sync brings its ReadyForQuery. */
  private extended = false;

  constructor(host: CommandHost) {
    this.host = host;
  }

  /** Handles a message between commands. Throws MalformedInput. */
  onMessage(kind: FrontendKind, body: Uint8Array): void {
    const { outbox } = this.host;
    this.extended = kind !== "query" && kind !== "sync";
    switch (kind) {
      case "query":
        return this.run(decodeQuery(body));
      case "parse": {
        const { name, text } = decodeParse(body);
        if (name !== "") return this.fail("only the unnamed statement is supported");
        this.statement = text;
        return outbox.send(parseComplete());
      }
      case "bind": {
        const { portal, name, parameters } = decodeBind(body);
        if (portal !== "" || name !== "") return this.fail("only the unnamed portal is supported");
        if (parameters > 0) return this.fail("commands take no parameters of the protocol");
        return outbox.send(bindComplete());
      }
      case "describe":
        decodeTarget(body);
        return outbox.send(noParameters(), noData());
      case "execute": {
        const portal = decodeExecute(body);
        if (portal !== "") return this.fail("only the unnamed portal is supported");
        if (this.statement === undefined) return this.fail("there is no statement to execute");
        return this.run(this.statement);
      }
      case "close":
        decodeTarget(body);
        return outbox.send(closeComplete());
      case "sync":
        outbox.send(readyForQuery());
        return this.host.idle();
      default:
        throw new MalformedInput(`unexpected message ${kind}`);
    }
  }

  private run(query: string): void {
    const parsed = parseCommand(query);
    if (!parsed.ok) return this.fail(parsed.error);
    const command = parsed.value;
    const need = commandNeed(command);
    if (need !== undefined) {
      const permitted = checkPermission(this.claims, need);
      if (!permitted.ok) {
        this.host.log.warn({ command: command.kind, reason: permitted.error }, "refused");
        return this.fail("JWT authentication error");
      }
    }
    if (command.kind === "set") return this.complete();
    if (!this.host.admit(command.tenant)) return;
    switch (command.kind) {
      case "pagestream":
        return this.host.stream(command);
      case "lease-lsn":
        return this.lease(command);
      case "basebackup":
      case "fullbackup":
        return this.backup(command);
      default:
        return unreachable(command);
    }
  }

  private lease(command: {
    readonly tenant: TenantId;
    readonly timeline: TimelineId;
    readonly shard: string | undefined;
    readonly lsn: Lsn;
  }): void {
    // Shard 0 of none or of one is the whole tenant; there are no others.
    const whole =
      command.shard === undefined || command.shard === "0000" || command.shard === "0001";
    if (!whole) return this.fail("not found");
    const timeline = this.find(command.tenant, command.timeline);
    if (timeline === undefined) return;
    this.wait();
    const answer = (until: Result<number, AdminError>): void => {
      this.waitingSinceMs = undefined;
      const text = until.ok ? String(Math.floor(until.value)) : undefined;
      this.complete(textColumn("valid_until"), textRow(text));
    };
    timeline.tell({
      kind: "lease",
      lsn: command.lsn,
      reply: { answer: (until) => this.host.guarded(() => answer(until)) },
    });
  }

  private backup(command: BackupCommand): void {
    const timeline = this.find(command.tenant, command.timeline);
    if (timeline === undefined) return;
    this.wait();
    timeline.tell({
      kind: "backup-source",
      lsn: command.lsn,
      reply: {
        answer: (source) =>
          this.host.guarded(() => {
            this.waitingSinceMs = undefined;
            if (!source.ok && source.error.kind === "shutting-down") {
              return this.host.closeNow(SQLSTATE.adminShutdown, "shutdown");
            }
            const checked = checkSource(command, source);
            if (!checked.ok) return this.fail(checked.error);
            const options = {
              replica: command.kind === "basebackup" && command.replica,
              prevLsn: command.kind === "fullbackup" ? command.prevLsn : undefined,
            };
            const tar = this.host.deps.serveBackup(checked.value, command.kind, options);
            this.copyOut(command, tar);
          }),
      },
    });
  }

  private copyOut(command: BackupCommand, tar: AsyncIterable<Uint8Array>): void {
    const { host } = this;
    const { tenant, timeline, kind } = command;
    let linkFailed = false;
    const send = async (pieces: readonly Uint8Array[]): Promise<void> => {
      this.waitingSinceMs = undefined;
      await host.outbox.sent(pieces).catch((error: unknown) => {
        linkFailed = true;
        throw error;
      });
      // From here on it is the source that is waited for.
      this.waitingSinceMs = Date.now();
    };
    const zipped = command.kind === "basebackup" && command.gzip;
    copyOut(zipped ? gzipped(tar) : tar, send).then(
      () =>
        host.guarded(() => {
          this.waitingSinceMs = undefined;
          this.complete();
        }),
      (error: unknown) => {
        this.waitingSinceMs = undefined;
        if (linkFailed) {
          host.log.debug({ tenant, timeline, err: error }, `${kind}: the client left`);
          return;
        }
        host.log.error({ tenant, timeline, err: error }, `${kind} failed`);
        host.guarded(() => this.fail(error instanceof Error ? error.message : String(error)));
      },
    );
  }

  /** The timeline, or undefined with the answer given. */
  private find(tenant: TenantId, timeline: TimelineId): ActorRef<TimelineMsg> | undefined {
    const found = this.host.deps.resolve(tenant, timeline);
    if (!("error" in found)) return found;
    switch (found.error.kind) {
      case "not-found":
        this.fail("not found");
        return undefined;
      case "not-active":
        this.host.closeNow(SQLSTATE.connectionFailure, "reconnect");
        return undefined;
      case "shutting-down":
        this.host.closeNow(SQLSTATE.adminShutdown, "shutdown");
        return undefined;
      default:
        return unreachable(found.error.kind);
    }
  }

  private wait(): void {
    this.waitingSinceMs = Date.now();
    this.host.busy();
  }

  private complete(...rows: readonly Uint8Array[]): void {
    const ready = this.extended ? [] : [readyForQuery()];
    this.host.outbox.send(...rows, commandComplete(), ...ready);
    this.host.idle();
  }

  private fail(text: string): void {
    const ready = this.extended ? [] : [readyForQuery()];
    this.host.outbox.send(errorResponse(SQLSTATE.internalError, text), ...ready);
    if (this.extended) this.host.skip();
    else this.host.idle();
  }
}
