// Links of each tenant, counted, so that one tenant's cannot take the places of all others.

import type { TenantId } from "./ids.ts";

/** One for all connections. Mutable. */
export class LinkCounts {
  /** Links that one tenant may have at once. */
  readonly max: number;
  private readonly counts = new Map<TenantId, number>();

  constructor(max: number) {
    this.max = max;
  }

  /** Counts one more link. Gives what is to be called once when it goes; undefined: there is no place. */
  enter(tenant: TenantId): (() => void) | undefined {
    const count = this.counts.get(tenant) ?? 0;
    if (count >= this.max) return undefined;
    this.counts.set(tenant, count + 1);
    return () => this.leave(tenant);
  }

  private leave(tenant: TenantId): void {
    const left = (this.counts.get(tenant) ?? 0) - 1;
    if (left > 0) this.counts.set(tenant, left);
    else this.counts.delete(tenant);
  }
}

/** The place of one link: among those of the tenant that it was used for last. */
export class LinkPlace {
  private readonly counts: LinkCounts;
  private tenant: TenantId | undefined;
  private leaveTenant: (() => void) | undefined;

  constructor(counts: LinkCounts) {
    this.counts = counts;
  }

  /** Takes a place; gives the reason if there is none. */
  take(tenant: TenantId): string | undefined {
    if (this.tenant === tenant) return undefined;
    const leave = this.counts.enter(tenant);
    if (leave === undefined) {
      return `more than ${this.counts.max} connections of tenant ${tenant} (tenant_connections)`;
    }
    this.leave();
    this.tenant = tenant;
    this.leaveTenant = leave;
    return undefined;
  }

  leave(): void {
    this.leaveTenant?.();
    this.leaveTenant = undefined;
    this.tenant = undefined;
  }
}
