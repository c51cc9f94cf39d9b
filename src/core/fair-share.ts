// Fair shares of page reads between tenants. While one tenant alone asks, it is not held back. When
// others ask too, each has only so many requests at work at a time, and the rest waits its turn here:
// what one tenant piles up, another does not stand behind. What waits for WAL soon counts no more.
//
// Besides, each tenant has a bound on all its requests, so that memory is bounded; connections ask
// `room` before they take more in.

import {
  TENANT_ACTIVE_MS,
  TENANT_REQUESTS_MAX,
  TENANT_SHARE_REQUESTS,
  TENANT_WORK_MS,
} from "./limits.ts";

interface Work {
  readonly requests: number;
  readonly begin: () => void;
  startedMs: number;
  state: "waiting" | "working" | "ended";
}

interface Tenant {
  lastMs: number;
  /** All that are not answered: waiting and working. */
  requests: number;
  readonly waiting: Work[];
  readonly working: Set<Work>;
  /** Who wants to hear of room. */
  readonly hungry: Set<() => void>;
}

/** One for all connections. Mutable. `now` in ms, steady. */
export class FairShare {
  private readonly tenants = new Map<string, Tenant>();
  private readonly now: () => number;

  constructor(now: () => number) {
    this.now = now;
  }

  /** Tenants of which something waits its turn. */
  get waiting(): number {
    let waiting = 0;
    for (const { waiting: works } of this.tenants.values()) waiting += works.length;
    return waiting;
  }

  /** Requests that a tenant may still add. */
  room(tenant: string): number {
    return TENANT_REQUESTS_MAX - (this.tenants.get(tenant)?.requests ?? 0);
  }

  /** `wake` is called once, when the tenant has room again. */
  whenRoom(tenant: string, wake: () => void): void {
    this.of(tenant).hungry.add(wake);
  }

  /** Begins the work, now or when it is its turn. What is given back has to be called at its end, once. */
  add(name: string, requests: number, begin: () => void): () => void {
    const tenant = this.of(name);
    const nowMs = (tenant.lastMs = this.now());
    const work: Work = { requests, begin, startedMs: nowMs, state: "waiting" };
    tenant.requests += requests;
    tenant.waiting.push(work);
    this.turn(tenant, nowMs);
    return () => this.ended(name, tenant, work);
  }

  /** To be called now and then while something waits: work that began long ago is not waited for. */
  tick(): void {
    const nowMs = this.now();
    for (const tenant of this.tenants.values()) this.turn(tenant, nowMs);
  }

  private ended(name: string, tenant: Tenant, work: Work): void {
    if (work.state === "ended") return;
    if (work.state === "waiting") tenant.waiting.splice(tenant.waiting.indexOf(work), 1);
    work.state = "ended";
    tenant.working.delete(work);
    tenant.requests -= work.requests;
    this.turn(tenant, this.now());
    if (tenant.requests < TENANT_REQUESTS_MAX && tenant.hungry.size > 0) {
      const hungry = [...tenant.hungry];
      tenant.hungry.clear();
      for (const wake of hungry) wake();
    }
    if (tenant.requests === 0 && tenant.hungry.size === 0) this.forget(name, tenant);
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
      tenant.working.add(work);
      work.begin();
    }
  }

  private mayBegin(tenant: Tenant, nowMs: number): boolean {
    if (tenant.working.size === 0 || !this.contended(tenant, nowMs)) return true;
    let requests = 0;
    for (const work of tenant.working) {
      if (nowMs - work.startedMs < TENANT_WORK_MS) requests += work.requests;
    }
    return requests < TENANT_SHARE_REQUESTS;
  }

  /** Whether another tenant has asked lately. */
  private contended(tenant: Tenant, nowMs: number): boolean {
    if (this.tenants.size === 1) return false;
    for (const other of this.tenants.values()) {
      if (other !== tenant && nowMs - other.lastMs < TENANT_ACTIVE_MS) return true;
    }
    return false;
  }

  private of(name: string): Tenant {
    let tenant = this.tenants.get(name);
    if (tenant === undefined) {
      const fresh = { waiting: [], working: new Set<Work>(), hungry: new Set<() => void>() };
      tenant = { ...fresh, lastMs: this.now(), requests: 0 };
      this.tenants.set(name, tenant);
    }
    return tenant;
  }
}
