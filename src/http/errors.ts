// Refusals and failures to HTTP: a status and Neon's body {"msg": "..."}.

import type { FastifyError, FastifyReply } from "fastify";
import { type AdminError, adminErrorText } from "../core/admin-error.ts";
import { MalformedInput } from "../core/assert.ts";
import type { Result } from "../core/result.ts";
import type { ErrorBody } from "../protocol/api.ts";

/** The statuses are those that Neon's page server gives for the same refusals. */
export function httpStatus(error: AdminError): number {
  switch (error.kind) {
    case "bad-request":
      return 400;
    case "not-found":
      return 404;
    case "bad-ancestor":
      return 406;
    case "conflict":
      return 409;
    case "precondition":
      return 412;
    case "internal":
      return 500;
    case "unavailable":
      return 503;
  }
}

/** Sends a value with `status`, or the refusal with its own. */
export function answer<T>(
  reply: FastifyReply,
  result: Result<T, AdminError>,
  status = 200,
): FastifyReply {
  if (result.ok) return reply.code(status).send(result.value);
  return reply.code(httpStatus(result.error)).send(errorBody(adminErrorText(result.error)));
}

export const errorBody = (msg: string): ErrorBody => ({ msg });

/** Thrown errors: what the client did wrong gets its 4xx; everything else is our bug and a 500. */
export function thrownToHttp(error: unknown): { readonly status: number; readonly msg: string } {
  if (error instanceof MalformedInput) return { status: 400, msg: error.message };
  const { validation, validationContext, statusCode, message } = error as Partial<FastifyError>;
  if (validation !== undefined) {
    const [first] = validation;
    const where = `${validationContext ?? "request"}${first?.instancePath ?? ""}`;
    return { status: 400, msg: `${where}: ${first?.message ?? "not as expected"}${extra(first)}` };
  }
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return { status: statusCode, msg: message ?? "bad request" };
  }
  return { status: 500, msg: `internal error: ${message ?? String(error)}` };
}

function extra(failure: { readonly params?: Record<string, unknown> } | undefined): string {
  const names = failure?.params?.["additionalProperties"];
  return Array.isArray(names) ? ` (${names.join(", ")})` : "";
}
