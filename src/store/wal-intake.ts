// WAL bytes to changes in the open layer: decoder and ingest, kept in step when the open layer is
// frozen and replaced. The same path serves live WAL and the replay of WAL files at a restart.

import type { ChangeSink, MetadataView } from "../core/change.ts";
import { LSN_MAX, type Lsn } from "../core/lsn.ts";
import { PAGE_BYTES } from "../core/page.ts";
import { WalIngest } from "../protocol/ingest/ingest.ts";
import { WalDecoder } from "../protocol/wal/decoder.ts";
import { type WalCorrupt, parsePgVersion } from "../protocol/wal/format.ts";

export interface WalIntakeOptions {
  /** Major version, system identifier (decimal) and timeline id that the WAL must carry. */
  readonly pgVersion: number;
  readonly systemId: string;
  readonly tli: number;
  readonly sink: ChangeSink;
  readonly meta: MetadataView;
  /** End of the last record taken in, and that record's start. */
  readonly last: Lsn;
  readonly prev: Lsn;
  /** Bytes of all relations as of `last`, if known. */
  readonly logicalSize?: number | undefined;
}

export class WalIntake {
  readonly ingest: WalIngest;
  private readonly options: WalIntakeOptions;
  private sink: ChangeSink;
  private decoder: WalDecoder;
  private ingesting = false;
  /** Bytes of all relations where this intake began. */
  private startBytes: number | undefined;

  /** Throws MalformedInput for a version that cannot be followed. */
  constructor(options: WalIntakeOptions) {
    this.options = options;
    this.sink = options.sink;
    const { sink, meta, last, prev } = options;
    const version = parsePgVersion(options.pgVersion);
    this.ingest = new WalIngest({ version, sink, meta, last, prev });
    this.decoder = this.decodeFrom(last, "throw");
    this.startBytes = options.logicalSize;
  }

  /** End of the last record taken in. */
  get visible(): Lsn {
    return this.ingest.lastLsn;
  }

  /** Start of that record. */
  get prev(): Lsn {
    return this.ingest.prevLsn;
  }

  /** Bytes of all relations as of the last record; undefined while nobody knows: see learnLogicalSize. */
  get logicalSize(): number | undefined {
    return this.startBytes === undefined ? undefined : this.startBytes + this.grownBytes;
  }

  /** What a walk of all sizes as of the last record has found; from now on it is kept. */
  learnLogicalSize(bytes: number): number {
    this.startBytes = bytes - this.grownBytes;
    return bytes;
  }

  private get grownBytes(): number {
    return this.ingest.growth * PAGE_BYTES;
  }

  /** LSN of the next byte that `take` expects. */
  get position(): Lsn {
    return this.decoder.position;
  }

  /**
   * True when a sound record could not be followed: a part of its changes may be in the sink, stamped
   * with its end, which is above `visible`. Nothing more may be taken in, and nothing be frozen.
   */
  get failed(): boolean {
    return this.ingesting;
  }

  /** Takes in bytes that continue at `position`. Throws what is wrong with them; then see `failed`, and `restart`. */
  take(bytes: Uint8Array): void {
    this.decoder.feed(bytes);
  }

  /**
   * Takes in what WAL files hold, up to where they stop being WAL or, at the latest, to the end of
   * the record that ends at `limit`. Gives the reason why they stop being WAL. Throws what ingest does.
   */
  async replay(
    pieces: AsyncIterable<{ readonly bytes: Uint8Array }>,
    afterPiece: () => Promise<void>,
    limit: Lsn = LSN_MAX,
  ): Promise<WalCorrupt | undefined> {
    if (this.visible >= limit) return undefined;
    this.decoder = this.decodeFrom(this.visible, "stop", limit);
    for await (const { bytes } of pieces) {
      this.decoder.feed(bytes);
      if (this.decoder.ended || this.visible >= limit) break;
      await afterPiece();
    }
    const reason = this.visible >= limit ? undefined : this.decoder.endReason;
    this.restart();
    return reason;
  }

  /** Forgets a partly received record: bytes come again from the end of the last whole one. */
  restart(): void {
    this.decoder = this.decodeFrom(this.visible, "throw");
  }

  /** Before the open layer is frozen: what is pending goes into it. */
  beforeFreeze(): void {
    this.ingest.beforeFreeze();
  }

  /** After it was: changes go into the new open layer. */
  moveTo(sink: ChangeSink): void {
    this.sink = sink;
    this.ingest.moveTo(sink);
    this.decoder.moveTo(sink.arena);
  }

  private decodeFrom(start: Lsn, atEnd: "throw" | "stop", limit = LSN_MAX): WalDecoder {
    const { pgVersion, systemId, tli } = this.options;
    return new WalDecoder({
      version: parsePgVersion(pgVersion),
      start,
      arena: this.sink.arena,
      systemId: BigInt(systemId),
      tli,
      previous: this.prev,
      atEnd,
      onRecord: (record) => {
        if (this.visible >= limit) return;
        this.ingesting = true;
        this.ingest.ingest(record);
        this.ingesting = false;
      },
    });
  }
}
