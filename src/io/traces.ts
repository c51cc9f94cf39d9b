// Traces on demand: spans of page batches, redo batches, merges and uploads, told to whatever OpenTelemetry
// SDK the process was started with (docs/operations.md). Only its API package is used here: without an SDK,
// or while traces are off, nothing is made and nothing is kept.

import { type Attributes, SpanStatusCode, type Tracer, trace } from "@opentelemetry/api";

/** What has spans. */
export type SpanName = "page batch" | "redo batch" | "merge" | "upload";

/** A span that has begun. Ends once. */
export interface OpenSpan {
  /** `failure`: why what it stands for came to nothing. */
  readonly end: (failure?: string) => void;
}

let tracer: Tracer | undefined;

/** Off until it is called with "on". */
export function setTraces(how: "on" | "off"): void {
  tracer = how === "on" ? trace.getTracer("pageserver") : undefined;
}

/** Begins a span; undefined while traces are off. `attributes` is called only when they are on. */
export function openSpan(name: SpanName, attributes: () => Attributes): OpenSpan | undefined {
  if (tracer === undefined) return undefined;
  const span = tracer.startSpan(name, { attributes: attributes() });
  return {
    end: (failure) => {
      if (failure !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: failure });
      span.end();
    },
  };
}

/** A span over a promise. */
export function traced<T>(
  name: SpanName,
  attributes: () => Attributes,
  work: () => Promise<T>,
): Promise<T> {
  const span = openSpan(name, attributes);
  const done = work();
  if (span !== undefined) {
    const failed = (error: unknown): void =>
      span.end(error instanceof Error ? error.message : String(error));
    done.then(() => span.end(), failed);
  }
  return done;
}
