// What the pages show, asked for again and again while somebody looks. One loop for the whole page;
// each round asks for what the route needs, and the next begins when the answers are in, so a slow
// server is never asked faster than it answers. What cannot be had (no permission) is absent.

import { useEffect, useState } from "preact/hooks";
import { ApiError, type Client } from "../http/client.ts";
import type { SnapshotInfo } from "../protocol/api-holds.ts";
import type { RetentionInfo } from "../protocol/api-retention.ts";
import type { Status } from "../protocol/api-status.ts";
import type { ComputeInfo, Job } from "../protocol/api-work.ts";
import type { TenantInfo, TimelineInfo } from "../protocol/api.ts";
import { History } from "./history.ts";
import { clientOf, tenantOfToken } from "./session.ts";

/** Between two rounds, ms; at least so many times what the last one took: looking must cost little. */
const ROUND_MS = 1_000;
const ROUND_REST = 4;
/** Retention walks relation sizes: asked for in every so-manieth round. */
const RETENTION_ROUNDS = 10;
/** Timelines whose retention is asked for. */
const RETENTIONS_MAX = 60;

/** What is kept of a timeline, and the moments that have a name. */
export interface Kept extends RetentionInfo {
  readonly snapshots: readonly SnapshotInfo[];
}

export interface Shown {
  /** "login": the server asks for a token, or for another one. */
  readonly access: "asking" | "login" | "granted";
  /** Undefined for tokens of one tenant. */
  readonly status?: Status;
  readonly jobs?: readonly Job[];
  readonly tenants: readonly TenantInfo[];
  /** The tenant of `timelines`, `retention` and `computes`. */
  readonly tenant?: string;
  readonly timelines: readonly TimelineInfo[];
  /** By timeline. */
  readonly retention: ReadonlyMap<string, Kept>;
  readonly computes: readonly ComputeInfo[];
  /** Why the last round failed; what is shown is older then. */
  readonly problem?: string;
}

const NOTHING: Shown = {
  access: "asking",
  tenants: [],
  timelines: [],
  retention: new Map(),
  computes: [],
};

export class Live {
  readonly history = new History();
  private readonly token: string | undefined;
  private readonly watchers = new Set<() => void>();
  private wanted: string | undefined;
  private round = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private ended = false;
  shown: Shown = NOTHING;

  constructor(token: string | undefined) {
    this.token = token;
    void this.run();
  }

  /** The API, for a tenant. */
  client(tenant = this.shown.tenant): Client {
    return clientOf(this.token, tenant);
  }

  /** From now on this tenant; undefined: the one before, or the default if that is none. */
  watch(named: string | undefined): void {
    const known = this.shown.tenants.some(({ id }) => id === this.wanted);
    const tenant = named ?? (known ? this.wanted : undefined);
    if (tenant === this.wanted) return;
    this.wanted = tenant;
    if (tenant === this.shown.tenant) return;
    const { tenant: _tenant, ...rest } = this.shown;
    this.show({ ...rest, timelines: [], computes: [], retention: new Map() });
    this.refresh();
  }

  /** The next round begins now: something was just changed. */
  refresh(): void {
    this.round = 0;
    if (this.timer === undefined) return;
    clearTimeout(this.timer);
    void this.run();
  }

  subscribe(watcher: () => void): () => void {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  }

  end(): void {
    this.ended = true;
    clearTimeout(this.timer);
  }

  private show(shown: Shown): void {
    this.shown = shown;
    for (const watcher of this.watchers) watcher();
  }

  private async run(): Promise<void> {
    this.timer = undefined;
    const begun = performance.now();
    try {
      if (!document.hidden || this.shown.access !== "granted") await this.ask();
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        return this.show({ ...NOTHING, access: "login", problem: error.message });
      }
      this.show({ ...this.shown, problem: error instanceof Error ? error.message : String(error) });
    }
    const rest = Math.max(ROUND_MS, ROUND_REST * (performance.now() - begun));
    if (!this.ended) this.timer = setTimeout(() => void this.run(), rest);
  }

  private async ask(): Promise<void> {
    const { wanted } = this;
    const all = await this.askServer();
    const tenants = all.tenants;
    const tenant = wanted ?? (tenants.find((one) => one.is_default) ?? tenants[0])?.id;
    const own = await this.askTenant(tenant);
    // Meanwhile somebody chose another tenant: these answers are not what is wanted.
    if (wanted !== this.wanted || this.ended) return;
    this.history.add(own.timelines, Date.now());
    this.show({ access: "granted", ...all, ...own, ...(tenant !== undefined && { tenant }) });
    this.round++;
  }

  private async askServer(): Promise<Pick<Shown, "status" | "jobs" | "tenants">> {
    const client = clientOf(this.token);
    const own = tenantOfToken(this.token);
    // A token of one tenant is refused what belongs to the whole server.
    if (own !== undefined) return { tenants: [await clientOf(this.token, own).tenant()] };
    const tenants = await client.tenants();
    const [status, jobs] = await Promise.all([client.status(), client.jobs()]);
    return { tenants, status, jobs };
  }

  private async askTenant(
    tenant: string | undefined,
  ): Promise<Pick<Shown, "timelines" | "computes" | "retention">> {
    if (tenant === undefined) return { timelines: [], computes: [], retention: new Map() };
    const client = clientOf(this.token, tenant);
    const [timelines, computes] = await Promise.all([client.timelines(), client.computes()]);
    if (this.round % RETENTION_ROUNDS !== 0) {
      return { timelines, computes, retention: this.shown.retention };
    }
    const found = await Promise.all(
      timelines.slice(0, RETENTIONS_MAX).map((one) =>
        // One that is loading or broken has none just now.
        keptOf(client, one.timeline_id).catch(() => undefined),
      ),
    );
    const known = found.filter((one) => one !== undefined);
    const retention = new Map(known.map((one) => [one.timeline_id as string, one]));
    return { timelines, computes, retention };
  }
}

async function keptOf(client: Client, timeline: string): Promise<Kept> {
  const [retention, snapshots] = await Promise.all([
    client.retention(timeline),
    client.snapshots(timeline),
  ]);
  return { ...retention, snapshots };
}

/** What is shown now; the component is drawn again when that changes. */
export function useShown(live: Live): Shown {
  const [, redraw] = useState(0);
  useEffect(() => {
    const draw = (): void => redraw((n) => n + 1);
    const end = live.subscribe(draw);
    draw(); // the first answers may have come before anybody listened
    return end;
  }, [live]);
  return live.shown;
}
