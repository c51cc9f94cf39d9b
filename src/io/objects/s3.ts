// Object storage in S3 and what speaks its protocol. One request each, no retries here: retried.ts has
// them all. Large objects go in parts; an upload that was cut short is found again by its name, and
// the parts that are there already are not sent again.

import { createHash } from "node:crypto";
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  type CompletedPart,
  CreateMultipartUploadCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import {
  OBJECT_BYTES_MAX,
  OBJECT_CONNECT_MS_MAX,
  OBJECT_DELETES_MAX,
  OBJECT_LIST_MAX,
  OBJECT_PART_BYTES,
  OBJECT_SILENCE_MS_MAX,
} from "../../core/limits.ts";
import {
  type ByteSource,
  type ListPage,
  ObjectError,
  type ObjectStorage,
  type ObjectVersion,
  type StoredObject,
  checkObjectName,
  isObjectError,
} from "../../core/object-storage.ts";
import { s3Error } from "./s3-errors.ts";

// The SDK is pinned; what it says of Node.js is known (docs/backup.md).
process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";

export interface S3Options {
  readonly bucket: string;
  /** "" or words that end in "/". */
  readonly prefix: string;
  readonly region: string;
  /** Undefined: Amazon's. Any other is spoken to in path style. */
  readonly endpoint: string | undefined;
  /** Undefined: as the SDK finds them (environment, profile, the machine's role). */
  readonly credentials?:
    { readonly accessKeyId: string; readonly secretAccessKey: string } | undefined;
  /** Whether If-Match is sent with the quotes that the ETag came with. Ceph RGW wants none. */
  readonly etagQuotes: "quoted" | "unquoted";
  /** Encryption by the server: AES256, or aws:kms with a key of the account or one that is named. */
  readonly encryption?:
    { readonly kind: "AES256" | "aws:kms"; readonly keyId?: string } | undefined;
  /** For tests. */
  readonly clockOffsetMs?: number;
}

export class S3Storage implements ObjectStorage {
  readonly place: string;
  private readonly client: S3Client;
  private readonly options: S3Options;

  constructor(options: S3Options) {
    const { endpoint, region, credentials } = options;
    this.options = options;
    this.place = `s3://${options.bucket}/${options.prefix}`.replace(/\/$/, "");
    this.client = new S3Client({
      region,
      ...(endpoint !== undefined && { endpoint, forcePathStyle: true }),
      ...(credentials !== undefined && { credentials }),
      ...(options.clockOffsetMs !== undefined && { systemClockOffset: options.clockOffsetMs }),
      maxAttempts: 1,
      // A body that is a stream would be sent with trailing checksums, which not every server takes.
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
      requestHandler: {
        connectionTimeout: OBJECT_CONNECT_MS_MAX,
        requestTimeout: OBJECT_SILENCE_MS_MAX,
        throwOnRequestTimeout: true,
        socketTimeout: OBJECT_SILENCE_MS_MAX,
      },
    });
  }

  put(name: string, bytes: Uint8Array): Promise<ObjectVersion> {
    return this.putObject(name, bytes, {});
  }

  putIfAbsent(name: string, bytes: Uint8Array): Promise<ObjectVersion> {
    return this.putObject(name, bytes, { IfNoneMatch: "*" });
  }

  compareAndSwap(name: string, bytes: Uint8Array, expected: ObjectVersion): Promise<ObjectVersion> {
    const { etagQuotes } = this.options;
    const etag = etagQuotes === "quoted" ? expected : expected.replace(/^"|"$/g, "");
    return this.putObject(name, bytes, { IfMatch: etag });
  }

  async putStream(name: string, source: ByteSource): Promise<void> {
    const parts = inParts(source());
    const first = await parts.next();
    const second = await parts.next();
    if (second.done === true) {
      await this.put(name, first.done === true ? new Uint8Array(0) : first.value);
      return;
    }
    const all = async function* (): AsyncIterable<Uint8Array> {
      yield first.value!;
      yield second.value;
      yield* parts;
    };
    await this.putParts(name, all());
  }

  async get(name: string): Promise<StoredObject> {
    const { body, etag, length } = await this.open(name, undefined);
    if (length > OBJECT_BYTES_MAX) {
      throw new ObjectError("failed", `${name} has ${length} bytes: too many to be read whole`);
    }
    const bytes = Buffer.concat(await this.all(name, body));
    if (bytes.length !== length) throw truncated(name, bytes.length, length);
    return { bytes, version: etag };
  }

  async getRange(name: string, from: number, length: number): Promise<Uint8Array> {
    if (length === 0) return new Uint8Array(0);
    try {
      const range = `bytes=${from}-${from + length - 1}`;
      const { body, length: coming } = await this.open(name, range);
      const bytes = Buffer.concat(await this.all(name, body));
      if (bytes.length !== coming) throw truncated(name, bytes.length, coming);
      return bytes;
    } catch (error) {
      if (isPastEnd(error)) return new Uint8Array(0);
      throw error;
    }
  }

  async *getStream(name: string, from: number): AsyncIterable<Uint8Array> {
    let got = 0;
    try {
      const { body, length } = await this.open(name, from === 0 ? undefined : `bytes=${from}-`);
      try {
        for await (const piece of body) {
          got += piece.length;
          yield piece;
        }
      } catch (cause) {
        throw this.errorOf(name, cause);
      }
      if (got !== length) throw truncated(name, got, length);
    } catch (error) {
      if (!isPastEnd(error)) throw error;
    }
  }

  async list(prefix: string, after?: string): Promise<ListPage> {
    const { prefix: own } = this.options;
    const page = await this.ask(prefix, () =>
      this.client.send(
        new ListObjectsV2Command({
          Bucket: this.options.bucket,
          Prefix: own + prefix,
          MaxKeys: OBJECT_LIST_MAX,
          ...(after !== undefined && { StartAfter: own + after }),
        }),
      ),
    );
    const objects = (page.Contents ?? []).map(({ Key, Size, LastModified }) => ({
      name: Key!.slice(own.length),
      bytes: Size ?? 0,
      modifiedMs: LastModified?.getTime() ?? 0,
    }));
    return { objects, after: page.IsTruncated === true ? objects.at(-1)?.name : undefined };
  }

  async deleteMany(names: readonly string[]): Promise<void> {
    for (let i = 0; i < names.length; i += OBJECT_DELETES_MAX) {
      const some = names.slice(i, i + OBJECT_DELETES_MAX);
      const { Errors: errors } = await this.ask(some[0]!, () =>
        this.client.send(
          new DeleteObjectsCommand({
            Bucket: this.options.bucket,
            Delete: { Objects: some.map((name) => ({ Key: this.key(name) })), Quiet: true },
          }),
        ),
      );
      const failed = errors?.find(({ Code }) => Code !== "NoSuchKey");
      if (failed !== undefined) {
        const { Key, Code, Message } = failed;
        throw new ObjectError("unavailable", `deleting ${Key}: ${Code} ${Message}`);
      }
    }
  }

  async close(): Promise<void> {
    this.client.destroy();
  }

  private key(name: string): string {
    checkObjectName(name);
    return this.options.prefix + name;
  }

  private get serverSide() {
    const { encryption } = this.options;
    if (encryption === undefined) return {};
    const { kind, keyId } = encryption;
    return { ServerSideEncryption: kind, ...(keyId !== undefined && { SSEKMSKeyId: keyId }) };
  }

  private async putObject(
    name: string,
    bytes: Uint8Array,
    condition: { readonly IfNoneMatch?: string; readonly IfMatch?: string },
  ): Promise<ObjectVersion> {
    const { ETag } = await this.ask(name, () =>
      this.client.send(
        new PutObjectCommand({
          ...{ Bucket: this.options.bucket, Key: this.key(name), Body: bytes },
          ...{ ContentLength: bytes.length, ...condition, ...this.serverSide },
        }),
      ),
    ).catch((error: unknown) => {
      if (condition.IfNoneMatch !== undefined && isObjectError(error, "changed")) {
        throw new ObjectError("exists", `${name} exists already`, error);
      }
      // A swap of an object that is gone: S3 says 404 then.
      if (condition.IfMatch !== undefined && isObjectError(error, "not-found")) {
        throw new ObjectError("changed", `${name} is gone`, error);
      }
      throw error;
    });
    return etagOf(name, ETag);
  }

  private async open(name: string, range: string | undefined) {
    const { Body, ETag, ContentLength } = await this.ask(name, () =>
      this.client.send(
        new GetObjectCommand({
          Bucket: this.options.bucket,
          Key: this.key(name),
          ...(range !== undefined && { Range: range }),
        }),
      ),
    );
    if (Body === undefined || ContentLength === undefined) {
      throw new ObjectError(
        "failed",
        `${this.place}: the answer for ${name} has no body or length`,
      );
    }
    // On Node.js it is a stream of buffers.
    const body = Body as unknown as AsyncIterable<Uint8Array>;
    return { body, etag: etagOf(name, ETag), length: ContentLength };
  }

  private async all(name: string, body: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
    const pieces: Uint8Array[] = [];
    try {
      for await (const piece of body) pieces.push(piece);
    } catch (cause) {
      throw this.errorOf(name, cause);
    }
    return pieces;
  }

  private async putParts(name: string, parts: AsyncIterable<Uint8Array>): Promise<void> {
    const target = { Bucket: this.options.bucket, Key: this.key(name) };
    const known = await this.uploadUnderWay(name);
    const uploadId = known?.id ?? (await this.beginUpload(name));
    const done: CompletedPart[] = [];
    try {
      for await (const part of parts) {
        const number = done.length + 1;
        const sum = createHash("md5").update(part).digest();
        let etag = known?.parts.get(number);
        if (etag?.replaceAll('"', "") !== sum.toString("hex")) {
          ({ ETag: etag } = await this.ask(name, () =>
            this.client.send(
              new UploadPartCommand({
                ...{ ...target, UploadId: uploadId, PartNumber: number, Body: part },
                ...{ ContentLength: part.length, ContentMD5: sum.toString("base64") },
              }),
            ),
          ));
        }
        done.push({ PartNumber: number, ETag: etag });
      }
      await this.ask(name, () =>
        this.client.send(
          new CompleteMultipartUploadCommand({
            ...{ ...target, UploadId: uploadId, MultipartUpload: { Parts: done } },
          }),
        ),
      );
    } catch (error) {
      // What may pass is tried again, and goes on with the parts that are there.
      const lasting = error instanceof ObjectError && error.kind !== "unavailable";
      if (lasting) await this.abort(name, uploadId);
      throw error;
    }
  }

  private async beginUpload(name: string): Promise<string> {
    const { UploadId } = await this.ask(name, () =>
      this.client.send(
        new CreateMultipartUploadCommand({
          ...{ Bucket: this.options.bucket, Key: this.key(name), ...this.serverSide },
        }),
      ),
    );
    if (UploadId === undefined) throw new ObjectError("failed", `no upload was begun of ${name}`);
    return UploadId;
  }

  private async uploadUnderWay(name: string) {
    const target = { Bucket: this.options.bucket, Key: this.key(name) };
    const { Uploads } = await this.ask(name, () =>
      this.client.send(
        new ListMultipartUploadsCommand({ Bucket: target.Bucket, Prefix: target.Key }),
      ),
    );
    const id = Uploads?.find(({ Key }) => Key === target.Key)?.UploadId;
    if (id === undefined) return undefined;
    const { Parts } = await this.ask(name, () =>
      this.client.send(new ListPartsCommand({ ...target, UploadId: id })),
    );
    return { id, parts: new Map((Parts ?? []).map(({ PartNumber, ETag }) => [PartNumber, ETag])) };
  }

  private async abort(name: string, uploadId: string): Promise<void> {
    const target = { Bucket: this.options.bucket, Key: this.key(name), UploadId: uploadId };
    await this.client.send(new AbortMultipartUploadCommand(target)).catch(() => undefined);
  }

  private async ask<T>(name: string, send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (cause) {
      throw this.errorOf(name, cause);
    }
  }

  private errorOf(name: string, cause: unknown): unknown {
    return s3Error(cause, { place: this.place, bucket: this.options.bucket, name });
  }
}

function etagOf(name: string, etag: string | undefined): ObjectVersion {
  if (etag === undefined) throw new ObjectError("failed", `the answer for ${name} has no ETag`);
  return etag as ObjectVersion;
}

const truncated = (name: string, got: number, length: number): ObjectError =>
  new ObjectError(
    "truncated",
    `${name}: ${got} of ${length} bytes came, then the connection ended`,
  );

/** A range that begins at or behind the end. */
const isPastEnd = (error: unknown): boolean =>
  error instanceof ObjectError &&
  error.cause instanceof Error &&
  error.cause.name === "InvalidRange";

/** Joins pieces to parts of OBJECT_PART_BYTES; the last may be shorter. */
async function* inParts(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  let waiting: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of pieces) {
    let rest = piece;
    while (bytes + rest.length >= OBJECT_PART_BYTES) {
      const cut = OBJECT_PART_BYTES - bytes;
      yield Buffer.concat([...waiting, rest.subarray(0, cut)]);
      waiting = [];
      bytes = 0;
      rest = rest.subarray(cut);
    }
    if (rest.length === 0) continue;
    waiting.push(rest);
    bytes += rest.length;
  }
  if (bytes > 0) yield Buffer.concat(waiting);
  return undefined;
}
