// The page service's listener as an actor: parent of one actor a link. It counts them, refuses more
// than the limit, and when it stops every link is told so (57P01) by its own actor. The port is
// opened before, by whoever starts the tree, so that a port in use is an error of the start.

import { unreachable } from "../core/assert.ts";
import { FairShare } from "../core/fair-share.ts";
import {
  CLOSE_GRACE_MS,
  CONNECTIONS_MAX,
  LOGINS_MAX,
  SLAB_POOL_BYTES_MAX,
  TENANT_CONNECTIONS_MAX,
  TENANT_WORK_MS,
} from "../core/limits.ts";
import { LinkCounts } from "../core/link-counts.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import { SlabPool } from "../core/slab-pool.ts";
import { meters } from "../io/meters.ts";
import type { Link, Listener } from "../io/listener.ts";
import type { Log } from "../io/log.ts";
import type { LinkTls } from "../io/tls.ts";
import { type Authenticate, Handshake } from "../protocol/pg-handshake.ts";
import { SQLSTATE } from "../protocol/pg-messages.ts";
import type { ServeBackup } from "./backup-copy.ts";
import { type ConnectionDeadlines, DEADLINES, spawnConnection } from "./connection.ts";
import type { ResolveTimeline } from "./page-stream.ts";
import { type ActorRef, type Reply, type Scope, after, spawn } from "./runtime.ts";

export type ConnectionsMsg =
  | { readonly kind: "accepted"; readonly link: Link }
  | { readonly kind: "gone"; readonly of: Incarnation }
  | { readonly kind: "count"; readonly reply: Reply<number> };

export interface ConnectionsDeps {
  readonly listener: Listener;
  readonly resolve: ResolveTimeline;
  readonly serveBackup: ServeBackup;
  readonly authenticate: Authenticate;
  readonly tls?: LinkTls | undefined;
  readonly log: Log;
  readonly connectionsMax?: number;
  readonly tenantConnectionsMax?: number;
  readonly loginsMax?: number;
  readonly deadlines?: ConnectionDeadlines;
}

/** Links of one life of the actor; after a restart those of the life before are not counted. */
interface Incarnation {
  live: number;
  /** Those that have not logged in, oldest first. */
  readonly logins: Set<Link>;
}

/** Starts taking links from `deps.listener`. */
export function spawnConnections(
  parent: Scope,
  restart: RestartPolicy,
  deps: ConnectionsDeps,
): ActorRef<ConnectionsMsg> {
  const connection = {
    ...deps,
    slabs: new SlabPool(SLAB_POOL_BYTES_MAX),
    fair: new FairShare(() => performance.now()),
    links: new LinkCounts(deps.tenantConnectionsMax ?? TENANT_CONNECTIONS_MAX),
    deadlines: deps.deadlines ?? DEADLINES,
  };
  const limit = deps.connectionsMax ?? CONNECTIONS_MAX;

  let accepted = 0;
  const onAccepted = (state: Incarnation, link: Link, self: ActorRef<ConnectionsMsg>): void => {
    if (state.live >= limit) {
      meters.connectionsRefused++;
      deps.log.warn({ peer: link.peer }, `more than ${limit} connections; one is refused`);
      return refuse(link, `more than ${limit} connections`);
    }
    state.live++;
    meters.connectionsOpened++;
    state.logins.add(link);
    const onLoggedIn = (): void => void state.logins.delete(link);
    const linkDeps = { ...connection, onLoggedIn };
    spawnConnection(self.scope, `connection-${++accepted}`, link, linkDeps, () => {
      state.logins.delete(link);
      meters.connectionsClosed++;
      self.tell({ kind: "gone", of: state });
    });
    cutOldestLogin(state, deps);
  };

  return spawn<Incarnation, ConnectionsMsg>(parent, {
    name: "connections",
    restart,
    init: (self) => {
      deps.listener.setHandler((link) => {
        if (self.stopped()) link.destroy();
        else self.tell({ kind: "accepted", link });
      });
      const tick = (): void => {
        if (self.stopped()) return;
        connection.fair.tick();
        after(TENANT_WORK_MS, tick);
      };
      tick();
      return { live: 0, logins: new Set() };
    },
    handle: (state, msg, self) => {
      switch (msg.kind) {
        case "accepted":
          onAccepted(state, msg.link, self);
          return state;
        case "gone":
          msg.of.live--;
          return state;
        case "count":
          msg.reply.answer(state.live);
          return state;
        default:
          return unreachable(msg);
      }
    },
    afterStop: () => deps.listener.setHandler(undefined),
  });
}

/** Who holds many links without ever logging in keeps nobody out. */
function cutOldestLogin({ logins }: Incarnation, { log, loginsMax }: ConnectionsDeps): void {
  if (logins.size <= (loginsMax ?? LOGINS_MAX)) return;
  const [oldest] = logins;
  if (oldest === undefined) return;
  logins.delete(oldest);
  meters.connectionsRefused++;
  log.warn({ peer: oldest.peer }, "too many connections without a login; the oldest is cut");
  oldest.destroy();
}

/**
 * Answers the login with an error: libpq shows no error that comes before it. Such a link is not
 * counted and has no actor, so it is cut after a little while, whatever it does.
 */
function refuse(link: Link, text: string): void {
  const refusal = { kind: "refuse", state: SQLSTATE.tooManyConnections, text } as const;
  const handshake = new Handshake(() => refusal);
  const cancel = after(CLOSE_GRACE_MS, () => link.destroy());
  let done = false;
  link.start({
    onBytes: (chunk) => {
      if (done) return;
      try {
        const step = handshake.push(chunk);
        link.write(step.bytes, () => undefined);
        done = step.kind !== "more";
      } catch {
        // Not even a login. It is being refused anyway.
        done = true;
      }
      if (done) link.endSoon();
    },
    onEnd: () => link.endSoon(),
    onClosed: cancel,
  });
}
