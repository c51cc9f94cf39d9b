// Typed client of the management API: the CLI's, the tests' and other programs'. Refusals become
// ApiError with the server's sentence; a server that cannot be reached, ServerUnreachable.

import type {
  CreateTimelineRequest,
  CreatedTimeline,
  ErrorBody,
  LeaseAnswer,
  LsnByTimestamp,
  PageDump,
  TenantInfo,
  TimelineInfo,
} from "../protocol/api.ts";
import type {
  AcquireLeaseRequest,
  CreateSnapshotRequest,
  LeaseInfo,
  ReleasedLeases,
  SnapshotInfo,
} from "../protocol/api-holds.ts";
import type {
  ChangeRetentionPolicy,
  GcRequest,
  RetentionInfo,
  RetentionPolicyInfo,
} from "../protocol/api-retention.ts";
import type { CheckReport, Reloaded, Status } from "../protocol/api-status.ts";
import type { DrillRequest, ScrubRequest } from "../protocol/api-backup.ts";
import type { ComputeInfo, FollowRequest, Job, StartComputeRequest } from "../protocol/api-work.ts";

/** The server refused or failed; `message` is its sentence. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Nobody answers at `url`. */
export class ServerUnreachable extends Error {
  override readonly name = "ServerUnreachable";
  readonly url: string;

  constructor(url: string, reason: string) {
    super(`no page server answers at ${url} (${reason})`);
    this.url = url;
  }
}

type Query = Readonly<Record<string, string | number | undefined>>;

export class Client {
  readonly url: string;
  private readonly tenantPath: string;
  private readonly token: string | undefined;

  /** `url`: http://host:port. `tenant`: an id or "default". `token`: if the server asks for one. */
  constructor(url: string, tenant = "default", token?: string) {
    this.token = token;
    this.url = url.replace(/\/+$/, "");
    this.tenantPath = `/v1/tenant/${encodeURIComponent(tenant)}`;
  }

  /** The same server, another tenant. */
  of = (tenant: string): Client => new Client(this.url, tenant, this.token);

  status = (): Promise<Status> => this.call("GET", "/v1/status");
  shutdown = (): Promise<unknown> => this.call("POST", "/v1/shutdown");
  reload = (): Promise<Reloaded> => this.call("POST", "/v1/reload");
  /** Prometheus's text format. */
  metrics = (): Promise<string> => this.text("GET", "/metrics");

  tenants = (): Promise<readonly TenantInfo[]> => this.call("GET", "/v1/tenant");
  tenant = (): Promise<TenantInfo> => this.call("GET", this.tenantPath);
  createTenant = (id?: string): Promise<TenantInfo> =>
    this.call("POST", "/v1/tenant", id === undefined ? {} : { new_tenant_id: id });

  attachTenant = (id: string, fetch: boolean): Promise<Job> =>
    this.call("POST", `/v1/tenant/${encodeURIComponent(id)}/attach`, undefined, {
      fetch: String(fetch),
    });

  rotateKeys = (): Promise<Job> => this.call("POST", "/v1/backup/rotate-keys");
  drill = (request: DrillRequest): Promise<Job> => this.call("POST", "/v1/backup/drill", request);
  scrub = (request: ScrubRequest): Promise<Job> => this.call("POST", "/v1/backup/scrub", request);

  deleteTenant = (
    id: string,
    recursive: boolean,
    backup: "keep" | "remove" = "remove",
  ): Promise<{ readonly deleted: string; readonly timelines: readonly string[] }> =>
    this.call("DELETE", `/v1/tenant/${encodeURIComponent(id)}`, undefined, {
      ...{ recursive: String(recursive), keep_backup: String(backup === "keep") },
    });

  timelines = (): Promise<readonly TimelineInfo[]> =>
    this.call("GET", `${this.tenantPath}/timeline`);
  timeline = (nameOrId: string): Promise<TimelineInfo> =>
    this.call("GET", this.timelinePath(nameOrId));
  /** With its sizes, which takes longer. */
  timelineSized = (nameOrId: string): Promise<TimelineInfo> =>
    this.call("GET", this.timelinePath(nameOrId), undefined, { sizes: "true" });
  createTimeline = (request: CreateTimelineRequest): Promise<CreatedTimeline> =>
    this.call("POST", `${this.tenantPath}/timeline`, request);

  follow = (request: FollowRequest): Promise<Job> =>
    this.call("POST", `${this.tenantPath}/follow`, request);
  computes = (): Promise<readonly ComputeInfo[]> => this.call("GET", `${this.tenantPath}/compute`);
  startCompute = (request: StartComputeRequest): Promise<Job> =>
    this.call("POST", `${this.tenantPath}/compute`, request);
  /** `lsn`: the one that shows this moment; without, the one that writes. */
  stopCompute = (timeline: string, lsn?: string): Promise<Job> =>
    this.call(
      "DELETE",
      `${this.tenantPath}/compute/${encodeURIComponent(timeline)}`,
      undefined,
      lsn === undefined ? undefined : { lsn },
    );

  jobs = (): Promise<readonly Job[]> => this.call("GET", "/v1/job");
  /** The job when it has ended, at the latest after `waitMs`. */
  job = (id: string, waitMs = 0): Promise<Job> =>
    this.call("GET", `/v1/job/${encodeURIComponent(id)}`, undefined, { wait_ms: waitMs });
  /** Tells it to give up; it ends as "cancelled" when it has. */
  cancelJob = (id: string): Promise<Job> =>
    this.call("POST", `/v1/job/${encodeURIComponent(id)}/cancel`);

  page = (
    timeline: string,
    target: { readonly rel: string; readonly block: number } | { readonly key: string },
    lsn?: string,
  ): Promise<PageDump> =>
    this.call("GET", `${this.timelinePath(timeline)}/page`, undefined, { ...target, lsn });
  lsnByTimestamp = (timeline: string, timestamp: string): Promise<LsnByTimestamp> =>
    this.call("GET", `${this.timelinePath(timeline)}/get_lsn_by_timestamp`, undefined, {
      timestamp,
    });
  timestampOfLsn = (timeline: string, lsn: string): Promise<string> =>
    this.call("GET", `${this.timelinePath(timeline)}/get_timestamp_of_lsn`, undefined, { lsn });
  lease = (timeline: string, lsn: string): Promise<LeaseAnswer> =>
    this.call("POST", `${this.timelinePath(timeline)}/lsn_lease`, { lsn });
  snapshots = (timeline: string): Promise<readonly SnapshotInfo[]> =>
    this.call("GET", `${this.timelinePath(timeline)}/snapshot`);
  createSnapshot = (timeline: string, request: CreateSnapshotRequest): Promise<SnapshotInfo> =>
    this.call("POST", `${this.timelinePath(timeline)}/snapshot`, request);
  deleteSnapshot = (timeline: string, name: string): Promise<{ readonly deleted: string }> =>
    this.call("DELETE", `${this.timelinePath(timeline)}/snapshot/${encodeURIComponent(name)}`);
  leases = (timeline: string): Promise<readonly LeaseInfo[]> =>
    this.call("GET", `${this.timelinePath(timeline)}/lease`);
  /** The same owner and LSN again renews it. */
  acquireLease = (timeline: string, request: AcquireLeaseRequest): Promise<LeaseInfo> =>
    this.call("POST", `${this.timelinePath(timeline)}/lease`, request);
  releaseLeases = (
    timeline: string,
    which: { readonly owner?: string | undefined; readonly lsn?: string | undefined },
  ): Promise<ReleasedLeases> =>
    this.call("DELETE", `${this.timelinePath(timeline)}/lease`, undefined, which);
  /** Seals what the timeline holds in memory. */
  checkpoint = (timeline: string): Promise<TimelineInfo> =>
    this.call("PUT", `${this.timelinePath(timeline)}/checkpoint`);
  retention = (timeline: string): Promise<RetentionInfo> =>
    this.call("GET", `${this.timelinePath(timeline)}/retention`);
  /** With bytes by reason: all layers are walked, when all are here, or are to be fetched. */
  retentionBytes = (timeline: string, fetch = false): Promise<RetentionInfo> =>
    this.call("GET", `${this.timelinePath(timeline)}/retention`, undefined, {
      bytes: "true",
      fetch: String(fetch),
    });
  /** What holds; after the change, if there is one. */
  retentionPolicy = (change: ChangeRetentionPolicy = {}): Promise<RetentionPolicyInfo> =>
    Object.keys(change).length === 0
      ? this.call("GET", `${this.tenantPath}/retention`)
      : this.call("PUT", `${this.tenantPath}/retention`, change);
  gc = (timeline: string, request: GcRequest): Promise<RetentionInfo> =>
    this.call("PUT", `${this.timelinePath(timeline)}/do_gc`, request);
  compact = (timeline: string): Promise<RetentionInfo> =>
    this.call("PUT", `${this.timelinePath(timeline)}/compact`);
  /** A tar of a whole data directory. What comes may end with an error. */
  fullBackup = async (
    timeline: string,
    use: "start" | "recovery",
    lsn?: string,
  ): Promise<AsyncIterable<Uint8Array>> => {
    const url = new URL(`${this.url}${this.timelinePath(timeline)}/fullbackup`);
    if (lsn !== undefined) url.searchParams.set("lsn", lsn);
    if (use === "recovery") url.searchParams.set("recovery", "true");
    const response = await this.send(url, "GET", undefined);
    if (!response.ok) throw apiError(response.status, await response.text());
    return response.body ?? (async function* (): AsyncIterable<Uint8Array> {})();
  };
  deleteTimeline = (
    timeline: string,
    recursive: boolean,
  ): Promise<{ readonly deleted: readonly string[] }> =>
    this.call("DELETE", this.timelinePath(timeline), undefined, { recursive: String(recursive) });
  check = (fetch = false): Promise<CheckReport> =>
    this.call("POST", `${this.tenantPath}/check`, undefined, { fetch: String(fetch) });

  private timelinePath(nameOrId: string): string {
    return `${this.tenantPath}/timeline/${encodeURIComponent(nameOrId)}`;
  }

  private async call<T>(method: string, path: string, body?: object, query?: Query): Promise<T> {
    // The server is ours and of the same version: its answers are taken as the API says they are.
    return parseJson(await this.text(method, path, body, query)) as T;
  }

  private async text(
    method: string,
    path: string,
    body?: object,
    query: Query = {},
  ): Promise<string> {
    const url = new URL(this.url + path);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const response = await this.send(url, method, body);
    const text = await response.text();
    if (response.ok) return text;
    throw apiError(response.status, text);
  }

  private async send(url: URL, method: string, body: object | undefined): Promise<Response> {
    try {
      return await fetch(url, {
        method,
        headers: {
          ...(body !== undefined && { "content-type": "application/json" }),
          ...(this.token !== undefined && { authorization: `Bearer ${this.token}` }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
      const { code, message } = cause as Error & { readonly code?: string };
      throw new ServerUnreachable(this.url, code ?? message);
    }
  }
}

function apiError(status: number, text: string): ApiError {
  const body = parseJson(text) as Partial<ErrorBody> | undefined;
  return new ApiError(status, body?.msg ?? text.slice(0, 500));
}

function parseJson(text: string): unknown {
  if (text === "") return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
