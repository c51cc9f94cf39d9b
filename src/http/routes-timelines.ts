// /v1/tenant/:tenant/timeline: list, show, create (bootstrap or branch), sealing, time and LSN, leases,
// one page.

import Type from "typebox";
import { MalformedInput } from "../core/assert.ts";
import { parseTimelineId } from "../core/ids.ts";
import { Lsn } from "../core/lsn.ts";
import { err, ok } from "../core/result.ts";
import { formatTime, parseTime } from "../core/time-text.ts";
import {
  CreateTimelineRequest,
  CreatedTimeline,
  LeaseAnswer,
  LeaseRequest,
  LsnByTimestamp,
  PageDump,
  TimeText,
  TimelineInfo,
} from "../protocol/api.ts";
import { route } from "./describe.ts";
import { answer } from "./errors.ts";
import type { CreateTimeline, Management, TimelineRef } from "./management.ts";
import { pageDump } from "./page-dump.ts";
import { parseDumpTarget, parseMoment, parseTenantRef, parseTimelineRef } from "./params.ts";
import type { App } from "./server.ts";

const TENANT = "/v1/tenant/:tenant/timeline";
const TIMELINE = `${TENANT}/:timeline` as const;
const TenantParams = Type.Object({ tenant: Type.String() });
const Params = Type.Object({ tenant: Type.String(), timeline: Type.String() });

const Detail = Type.Object({ sizes: Type.Optional(Type.Boolean()) });

export function timelineRoutes(app: App, management: Management): void {
  app.get(
    TENANT,
    {
      schema: { params: TenantParams },
      config: route("read", "timelines of a tenant", Type.Array(TimelineInfo)),
    },
    async (request, reply) =>
      answer(reply, await management.listTimelines(parseTenantRef(request.params.tenant))),
  );

  app.get(
    TIMELINE,
    {
      schema: { params: Params, querystring: Detail },
      config: route("read", "a timeline; with its sizes if asked to", TimelineInfo),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      const detail = request.query.sizes === true ? "sizes" : "brief";
      return answer(reply, await management.getTimeline(tenant, timeline, detail));
    },
  );

  app.post(
    TENANT,
    {
      schema: { params: TenantParams, body: CreateTimelineRequest },
      config: route(
        "change",
        "makes a timeline: a branch if an ancestor is named, else by initdb; idempotent with an id",
        CreatedTimeline,
        201,
      ),
    },
    async (request, reply) => {
      const started = performance.now();
      const tenant = parseTenantRef(request.params.tenant);
      const created = await management.createTimeline(tenant, parseCreate(request.body));
      if (!created.ok) return answer(reply, created);
      const serverMs = Math.round((performance.now() - started) * 1000) / 1000;
      const body: CreatedTimeline = { ...created.value, server_ms: serverMs };
      return answer(reply, ok(body), 201);
    },
  );

  // As Neon's page server has it.
  app.put(
    `${TIMELINE}/checkpoint`,
    {
      schema: { params: Params },
      config: route("change", "seals what a timeline holds in memory", TimelineInfo),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      return answer(reply, await management.checkpoint(tenant, timeline));
    },
  );

  timeRoutes(app, management);
  pageRoute(app, management);
}

function timeRoutes(app: App, management: Management): void {
  const AtTime = Type.Object({
    timestamp: Type.String(),
    with_lease: Type.Optional(Type.Boolean()),
  });
  app.get(
    `${TIMELINE}/get_lsn_by_timestamp`,
    {
      schema: { params: Params, querystring: AtTime },
      config: route("read", "the LSN that shows a timeline as it was at a moment", LsnByTimestamp),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      const unixUs = parseTime(request.query.timestamp);
      const found = await management.lsnByTimestamp(tenant, timeline, unixUs);
      if (!found.ok || request.query.with_lease !== true) return answer(reply, found);
      const until = await management.lease(tenant, timeline, Lsn.parse(found.value.lsn));
      if (!until.ok) return answer(reply, until);
      return answer(reply, ok({ ...found.value, ...validUntil(until.value) }));
    },
  );

  const AtLsn = Type.Object({ lsn: Type.String() });
  app.get(
    `${TIMELINE}/get_timestamp_of_lsn`,
    {
      schema: { params: Params, querystring: AtLsn },
      config: route("read", "when the newest commit at or before an LSN happened", TimeText),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      const found = await management.timestampOfLsn(tenant, timeline, Lsn.parse(request.query.lsn));
      if (!found.ok) return answer(reply, found);
      if (found.value === undefined) {
        const message = `no commit is known at or before ${request.query.lsn}`;
        return answer(reply, err({ kind: "precondition", message }));
      }
      // A bare JSON string, as Neon sends it.
      return reply.type("application/json").send(JSON.stringify(formatTime(found.value)));
    },
  );

  app.post(
    `${TIMELINE}/lsn_lease`,
    {
      schema: { params: Params, body: LeaseRequest },
      config: route("read", "keeps history readable at an LSN for a while", LeaseAnswer),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      const until = await management.lease(tenant, timeline, Lsn.parse(request.body.lsn));
      if (!until.ok) return answer(reply, until);
      return answer(reply, ok(validUntil(until.value)));
    },
  );
}

const validUntil = (unixMs: number): LeaseAnswer => ({
  valid_until: new Date(unixMs).toISOString(),
});

function pageRoute(app: App, management: Management): void {
  const Query = Type.Object({
    rel: Type.Optional(Type.String()),
    block: Type.Optional(Type.String()),
    key: Type.Optional(Type.String()),
    lsn: Type.Optional(Type.String()),
  });
  app.get(
    `${TIMELINE}/page`,
    {
      schema: { params: Params, querystring: Query },
      config: route("read", "one page with its versions and where they lie", PageDump),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      const { rel, block, key, lsn } = request.query;
      const target = parseDumpTarget(rel, block, key);
      const at = lsn === undefined ? undefined : Lsn.parse(lsn);
      const dumped = await management.dumpPage(tenant, timeline, target, at);
      return answer(reply, dumped.ok ? ok(pageDump(target, dumped.value)) : dumped);
    },
  );
}

function parse(params: { readonly tenant: string; readonly timeline: string }) {
  return { tenant: parseTenantRef(params.tenant), timeline: parseTimelineRef(params.timeline) };
}

function parseCreate(body: CreateTimelineRequest): CreateTimeline {
  const common = {
    timelineId:
      body.new_timeline_id === undefined ? undefined : parseTimelineId(body.new_timeline_id),
    name: body.name,
  };
  const ancestor = parseAncestor(body);
  const at = parseMoment(
    {
      lsn: body.ancestor_start_lsn,
      timestamp: body.ancestor_start_timestamp,
      snapshot: body.ancestor_start_snapshot,
    },
    "ancestor_start_",
  );
  if (ancestor !== undefined) {
    if (body.pg_version !== undefined) {
      throw new MalformedInput("a branch has its ancestor's pg_version; leave it out");
    }
    return { kind: "branch", ...common, ancestor, at };
  }
  if (at.kind !== "latest") {
    throw new MalformedInput("a branch point needs ancestor_timeline_id or ancestor_name");
  }
  return { kind: "bootstrap", ...common, pgVersion: body.pg_version };
}

function parseAncestor(body: CreateTimelineRequest): TimelineRef | undefined {
  const { ancestor_timeline_id: id, ancestor_name: name } = body;
  if (id !== undefined && name !== undefined) {
    throw new MalformedInput("give either ancestor_timeline_id or ancestor_name");
  }
  if (id !== undefined) return { kind: "id", id: parseTimelineId(id) };
  return name === undefined ? undefined : { kind: "name", name };
}
