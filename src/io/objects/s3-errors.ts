// What S3, its imitations and the network say, as ObjectErrors with the remedy.

import { ObjectError, type ObjectErrorKind } from "../../core/object-storage.ts";

export interface Asked {
  readonly place: string;
  readonly bucket: string;
  readonly name: string;
}

const BY_NAME: Readonly<Record<string, ObjectErrorKind>> = {
  NoSuchKey: "not-found",
  NotFound: "not-found",
  NoSuchUpload: "unavailable", // ended by someone else; the next try begins a new one
  InvalidPart: "unavailable",
  NoSuchBucket: "no-bucket",
  PreconditionFailed: "changed",
  ConditionalRequestConflict: "changed",
  RequestTimeTooSkewed: "clock-skew",
  AccessDenied: "denied",
  InvalidAccessKeyId: "denied",
  SignatureDoesNotMatch: "denied",
  ExpiredToken: "denied",
  InvalidToken: "denied",
  CredentialsProviderError: "denied",
  NotImplemented: "unsupported",
  SlowDown: "unavailable",
  RequestTimeout: "unavailable",
  TimeoutError: "unavailable",
  InternalError: "unavailable",
  ServiceUnavailable: "unavailable",
};

/** Gives what is no error of S3 or the network back as it is. */
export function s3Error(cause: unknown, { place, bucket, name }: Asked): unknown {
  if (cause instanceof ObjectError || !(cause instanceof Error)) return cause;
  const status = statusOf(cause);
  const kind = kindOf(cause, status);
  if (kind === undefined) return cause;
  const said = [cause.name, status, cause.message].filter((part) => part !== undefined).join(" ");
  const sentence: Readonly<Record<ObjectErrorKind, string>> = {
    "not-found": `${name} is not in ${place}`,
    exists: `${name} exists already`,
    changed: `${name} was changed by someone else`,
    unavailable: `${place} does not answer as it should: ${said}`,
    truncated: `${name} did not come whole: ${said}`,
    "clock-skew": `${place} says that this machine's clock is wrong: set it (${said})`,
    denied: `${place} refuses these credentials: ${said}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key that may read, write, list and delete there`,
    "no-bucket": `there is no bucket "${bucket}": make it, or correct backup_bucket and backup_endpoint`,
    unsupported: `${place} does not implement what a backup needs: ${said}`,
    foreign: said,
    corrupt: said,
    "no-key": said,
    failed: `${place}: ${said}`,
  };
  return new ObjectError(kind, sentence[kind], cause);
}

function kindOf(cause: Error, status: number | undefined): ObjectErrorKind | undefined {
  const known = BY_NAME[cause.name];
  if (known !== undefined) return known;
  const code = "code" in cause ? cause.code : undefined;
  if (typeof code === "string" && /^(E[A-Z]+|ERR_STREAM|ABORT)/.test(code)) return "unavailable";
  if (/socket hang up|aborted|timed? ?out/i.test(cause.message)) return "unavailable";
  if (status === undefined) return undefined;
  if (status === 404) return "not-found";
  if (status === 412 || status === 409) return "changed";
  if (status === 401 || status === 403) return "denied";
  if (status === 429 || status >= 500) return status === 501 ? "unsupported" : "unavailable";
  return "failed";
}

function statusOf(cause: Error): number | undefined {
  if (!("$metadata" in cause)) return undefined;
  const metadata = cause.$metadata;
  if (typeof metadata !== "object" || metadata === null) return undefined;
  if (!("httpStatusCode" in metadata)) return undefined;
  const { httpStatusCode } = metadata;
  return typeof httpStatusCode === "number" ? httpStatusCode : undefined;
}
