// Fair shares of page reads between tenants. While one tenant alone asks, it is not held back. When
// others ask too, what one tenant asks for goes to work in small pieces, a few at a time; the rest
// waits its turn here, up to a bound, and then its sockets are not read: what one tenant piles up,
// another does not stand behind. What waits for WAL soon counts no more.
//
// Besides, each tenant has a bound on all its requests, so that memory is bounded; connections ask
// `room` before they take more in.

import { LINK_BOUNDS, type LinkBounds, SHARED_LINK_BOUNDS } from "./connection.ts";
import {
  TENANT_ACTIVE_MS,
  TENANT_BATCH_REQUESTS,
  TENANT_QUEUE_REQUESTS,
  TENANT_REQUESTS_MAX,
  TENANT_SHARE_REQUESTS,
  TENANT_WORK_MS,
} from "./limits.ts";

interface Work {
  readonly requests: number;
  readonly begin: () => void;
  startedMs: number;
  /** late: it works for so long that it holds nobody back. */
  state: "waiting" | "working" | "late" | "ended";
}

interface Tenant {
  lastMs: number;
  /** All that are not answered: waiting and working. */
  requests: number;
  /** Of these, those that wait their turn. */
  queued: number;
  /** Of these, those that work and hold others back. */
  working: number;
  readonly waiting: Work[];
  // Arrays, not sets: what a set has let go of lives on in its former tables until a full collection.
  /** In the order in which they began; ended ones leave when they are first. */
  readonly begun: Work[];
  /** Who wants to hear of room, longest first. */
  readonly hungry: (() => void)[];
}

/** One for all connections. Mutable. `now` in ms, steady. */
export class FairShare {
  private readonly tenants = new Map<string, Tenant>();
  private readonly now: () => number;
  /** Whether more than one tenant has asked lately. */
  private shared = false;
  private waking = false;

  constructor(now: () => number) {
    this.now = now;
  }

  /** Pieces of work that wait their turn. */
  get waiting(): number {
    let waiting = 0;
    for (const { waiting: works } of this.tenants.values()) waiting += works.length;
    return waiting;
  }

  /** Requests that one piece of work should hold at most. */
  get batchMax(): number {
    return this.shared ? TENANT_BATCH_REQUESTS : Infinity;
  }

  /** What one link may have under way. */
  get linkBounds(): LinkBounds {
    return this.shared ? SHARED_LINK_BOUNDS : LINK_BOUNDS;
  }

  /** Requests that a tenant may still add. */
  room(name: string): number {
    const tenant = this.tenants.get(name);
    if (tenant === undefined) return TENANT_REQUESTS_MAX;
    const room = TENANT_REQUESTS_MAX - tenant.requests;
    return this.shared ? Math.min(room, TENANT_QUEUE_REQUESTS - tenant.queued) : room;
  }

  /** `wake` is called once, when the tenant has room again. */
  whenRoom(tenant: string, wake: () => void): void {
    this.of(tenant).hungry.push(wake);
  }

  /** Begins the work, now or when it is its turn. What is given back has to be called at its end, once. */
  add(name: string, requests: number, begin: () => void): () => void {
    const tenant = this.of(name);
    const nowMs = (tenant.lastMs = this.now());
    const work: Work = { requests, begin, startedMs: nowMs, state: "waiting" };
    if (!this.shared && this.tenants.size > 1) this.look(nowMs);
    tenant.requests += requests;
    tenant.queued += requests;
    tenant.waiting.push(work);
    this.turn(tenant, nowMs);
    return () => this.ended(name, tenant, work);
  }

  /** To be called now and then while something waits: work that began long ago is not waited for. */
  tick(): void {
    const nowMs = this.now();
    this.look(nowMs);
    for (const [name, tenant] of this.tenants) {
      this.turn(tenant, nowMs);
      this.wake(name, tenant);
    }
  }

  private ended(name: string, tenant: Tenant, work: Work): void {
    if (work.state === "ended") return;
    if (work.state === "waiting") {
      tenant.waiting.splice(tenant.waiting.indexOf(work), 1);
      tenant.queued -= work.requests;
    }
    if (work.state === "working") tenant.working -= work.requests;
    work.state = "ended";
    tenant.requests -= work.requests;
    this.turn(tenant, this.now());
    this.wake(name, tenant);
    if (tenant.requests === 0 && tenant.hungry.length === 0) this.forget(name, tenant);
  }

  /** Tells those who want room one after the other, as long as there is some. */
  private wake(name: string, { hungry }: Tenant): void {
    if (this.waking) return;
    this.waking = true;
    while (hungry.length > 0 && this.room(name) > 0) hungry.shift()!();
    this.waking = false;
  }

  /** One that rests is forgotten when it would not count as active any more. */
  private forget(name: string, tenant: Tenant): void {
    if (this.tenants.size === 1 || this.now() - tenant.lastMs < TENANT_ACTIVE_MS) return;
    this.tenants.delete(name);
  }

  /** Begins what may begin. */
  private turn(tenant: Tenant, nowMs: number): void {
    while (tenant.waiting.length > 0 && this.mayBegin(tenant, nowMs)) {
      const work = tenant.waiting.shift()!;
      work.startedMs = nowMs;
      work.state = "working";
      tenant.queued -= work.requests;
      tenant.working += work.requests;
      tenant.begun.push(work);
      work.begin();
    }
  }

  private mayBegin(tenant: Tenant, nowMs: number): boolean {
    const { begun } = tenant;
    for (let first = begun[0]; first !== undefined; first = begun[0]) {
      if (first.state !== "ended") {
        if (nowMs - first.startedMs < TENANT_WORK_MS) break;
        first.state = "late";
        tenant.working -= first.requests;
      }
      begun.shift();
    }
    return !this.shared || tenant.working < TENANT_SHARE_REQUESTS;
  }

  /** Looks who has asked lately. */
  private look(nowMs: number): void {
    let active = 0;
    for (const { lastMs } of this.tenants.values()) {
      if (nowMs - lastMs < TENANT_ACTIVE_MS) active++;
    }
    this.shared = active > 1;
  }

  private of(name: string): Tenant {
    let tenant = this.tenants.get(name);
    if (tenant === undefined) {
      const fresh = { waiting: [], begun: [], hungry: [] };
      tenant = { ...fresh, lastMs: this.now(), requests: 0, queued: 0, working: 0 };
      this.tenants.set(name, tenant);
    }
    return tenant;
  }
}
