// The management API over HTTP: Neon's paths where they make sense, ours beside them. Parses,
// asks Management, prints. Who may use what: authorize.ts. Without tokens a web page in the
// operator's browser must not be able to reach it either: foreign origins and host names are refused.

import http from "node:http";
import https from "node:https";
import { type TypeBoxTypeProvider, TypeBoxValidatorCompiler } from "@fastify/type-provider-typebox";
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyRequest,
  type FastifyServerFactory,
  type RawReplyDefaultExpression,
  type RawRequestDefaultExpression,
  type RawServerDefault,
} from "fastify";
import { type AuditEntry, type CheckToken, type RouteInfo, authorize } from "./authorize.ts";
import { type StaticFiles, dashboardRoutes } from "./dashboard.ts";
import { HTTP_CONNECTIONS_MAX } from "../core/limits.ts";
import { described } from "./describe.ts";
import { errorBody, thrownToHttp } from "./errors.ts";
import type { Management } from "./management.ts";
import { holdsRoutes } from "./routes-holds.ts";
import { compatRoutes } from "./routes-compat.ts";
import { retentionRoutes } from "./routes-retention.ts";
import { statusRoutes } from "./routes-status.ts";
import { tenantRoutes } from "./routes-tenants.ts";
import { timelineRoutes } from "./routes-timelines.ts";
import { backupRoutes } from "./routes-backup.ts";
import { workRoutes } from "./routes-work.ts";

/** Our largest request is a connection string; bytes. */
const BODY_BYTES_MAX = 64 * 1024;
/** A client that is slower than this at sending its request is cut off, ms. */
const REQUEST_TIMEOUT_MS = 30_000;

export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

export interface HttpOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Hears of every 500: our bugs. */
  readonly onUnexpected: (error: unknown, request: string) => void;
  /** Undefined: HTTP without TLS. */
  readonly tls?: HttpTls;
  /** Undefined: nobody has to show a token. */
  readonly checkToken?: CheckToken;
  readonly audit?: (entry: AuditEntry) => void;
  readonly onRoute?: (route: RouteInfo) => void;
  /** The dashboard; none: it was not built. */
  readonly files?: StaticFiles;
}

/** Certificate and key, and how one hears that they have changed. */
export interface HttpTls {
  readonly material: SecureMaterial;
  changed(listener: (material: SecureMaterial) => void): void;
}

export interface SecureMaterial {
  readonly cert: string;
  readonly key: string;
  readonly minVersion: "TLSv1.2";
  readonly secureOptions: number;
}

export interface HttpServer {
  /** http://host:port, or https:// */
  readonly url: string;
  close(): Promise<void>;
}

/** Starts listening. Rejects if the address is taken. */
export async function startHttp(management: Management, options: HttpOptions): Promise<HttpServer> {
  const app = buildApp(management, options);
  const url = await app.listen({ host: options.host, port: options.port });
  const scheme = options.tls === undefined ? "http" : "https";
  return { url: url.replace(/^https?/, scheme), close: () => app.close() };
}

/** Node's HTTP server, inside TLS if there is a certificate; then requests in clear are cut off. */
function createServer(tls: HttpTls | undefined, handler: http.RequestListener): http.Server {
  const limits = { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS };
  if (tls === undefined) return bounded(http.createServer(limits, handler));
  const secure = { ...tls.material, handshakeTimeout: REQUEST_TIMEOUT_MS };
  const server = https.createServer({ ...limits, ...secure }, handler);
  tls.changed((material) => server.setSecureContext(material));
  return bounded(server);
}

function bounded(server: http.Server): http.Server {
  server.maxConnections = HTTP_CONNECTIONS_MAX;
  return server;
}

/** The routes without a socket, for tests. */
export function buildApp(management: Management, options: Omit<HttpOptions, "port">): App {
  const serverFactory: FastifyServerFactory = (handler) => createServer(options.tls, handler);
  const app = Fastify({
    bodyLimit: BODY_BYTES_MAX,
    serverFactory,
    // Paths that no route is looked up for: too long, or no text.
    frameworkErrors: (error, _request, { raw }) => {
      raw.writeHead(error.statusCode ?? 400, { "content-type": "application/json; charset=utf-8" });
      raw.end(JSON.stringify(errorBody(`not a path of ours (${error.code})`)));
    },
    forceCloseConnections: true,
    routerOptions: { ignoreTrailingSlash: true },
  })
    .withTypeProvider<TypeBoxTypeProvider>()
    .setValidatorCompiler(TypeBoxValidatorCompiler)
    // What the program answers goes out whole: a schema describes it, and drops nothing.
    .setSerializerCompiler(() => (body) => JSON.stringify(body));

  app.addHook("onRequest", async (request, reply) => {
    const refusal = foreign(request, options.host);
    if (refusal !== undefined) await reply.code(403).send(errorBody(refusal));
  });
  const ignore = (): void => undefined;
  const { checkToken, audit = ignore, onRoute = ignore } = options;
  authorize(app, management, { checkToken, audit, onRoute });
  app.setErrorHandler((error, request, reply) => {
    const { status, msg } = thrownToHttp(error);
    if (status >= 500) options.onUnexpected(error, `${request.method} ${request.url}`);
    return reply.code(status).send(errorBody(msg));
  });
  app.setNotFoundHandler((request, reply) =>
    reply.code(404).send(errorBody(`no such path: ${request.method} ${request.url}`)),
  );

  described(app, (scope) => {
    statusRoutes(scope, management);
    tenantRoutes(scope, management);
    timelineRoutes(scope, management);
    retentionRoutes(scope, management);
    holdsRoutes(scope, management);
    backupRoutes(scope, management);
    workRoutes(scope, management);
    compatRoutes(scope, management);
    dashboardRoutes(scope, options.files ?? new Map());
  });
  return app;
}

const LOOPBACK: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "::1"]);

/** Why a request is not from here; undefined: it is. */
function foreign(request: FastifyRequest, listenHost: string): string | undefined {
  // A page that rebinds its own name to 127.0.0.1 still sends that name.
  const name = request.hostname.replace(/^\[|\]$/g, "");
  if (LOOPBACK.has(listenHost) && !LOOPBACK.has(name)) {
    return `host "${request.hostname}" is not this server; use 127.0.0.1`;
  }
  const origin = request.headers.origin;
  const here = `${request.protocol}://${request.host}`;
  if (origin === undefined || origin === here) return undefined;
  return `requests from the web page ${origin} are refused`;
}
