// The dashboard's files: anybody may have them, they hold no data. Every path is looked up among the
// files that were read at the start, so there is no path that leads elsewhere. The headers allow the
// pages scripts, styles and connections of this server and nothing else.

import type { FastifyReply } from "fastify";
import { errorBody } from "./errors.ts";
import type { App } from "./server.ts";

export interface StaticFile {
  readonly body: Uint8Array;
  /** Content-Type. */
  readonly type: string;
  /** Quoted, as HTTP wants it. */
  readonly etag: string;
  /** Its name contains a hash of its content: it may be kept for ever. */
  readonly immutable: boolean;
}

/** By path below /ui/. */
export type StaticFiles = ReadonlyMap<string, StaticFile>;

const PAGE = "index.html";

const HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
};

export function dashboardRoutes(app: App, files: StaticFiles): void {
  const open = { config: { permission: "open" } } as const;
  app.get("/", open, (_request, reply) => reply.redirect("/ui/", 302));
  app.get("/ui", open, (request, reply) =>
    send(reply, files.get(PAGE), request.headers["if-none-match"]),
  );
  app.get("/ui/*", open, (request, reply) => {
    const { "*": path } = request.params as { readonly "*": string };
    const file = files.get(path === "" ? PAGE : path);
    return send(reply, file, request.headers["if-none-match"]);
  });
}

function send(
  reply: FastifyReply,
  file: StaticFile | undefined,
  known: string | undefined,
): FastifyReply {
  if (file === undefined) {
    const what = "there is no such file of the dashboard; it is built by: npm run build:dashboard";
    return reply.code(404).send(errorBody(what));
  }
  const kept = file.immutable ? "public, max-age=31536000, immutable" : "no-cache";
  reply.headers({ ...HEADERS, etag: file.etag, "cache-control": kept });
  if (known === file.etag) return reply.code(304).send();
  return reply.type(file.type).send(file.body);
}
