// Files of a data directory, in any order, to changes at one LSN: the first versions of a
// timeline. They come from a cleanly shut down cluster ("exact": base LSN = its checkpoint) or from
// an online backup ("fuzzy": base LSN = the backup's start; WAL from there repairs what is torn,
// PostgreSQL's own rule). Names that mean nothing to history are passed over, user tablespaces
// refused. Unlogged relations keep only their init fork: nothing else of them is in the WAL.

import { MalformedInput, assert } from "../core/assert.ts";
import type { ChangeSink } from "../core/change.ts";
import { KIND } from "../core/key.ts";
import { STATE_FILE_BYTES_MAX } from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import {
  FORK_INIT,
  RELSEG_BLOCKS,
  type RelTag,
  SLRU_SEGMENT_BLOCKS,
  SPC_GLOBAL,
  formatRel,
} from "../core/page.ts";
import { parseOrigins, withoutCrc } from "./backup/state-files.ts";
import { ByteWriter } from "./bytes.ts";
import { type ControlFile, buildCheckPoint } from "./control-file.ts";
import { type DataDirFileKind, parseDataDirPath } from "./data-dir-names.ts";
import { type ImportedControl, importControl } from "./import-control.ts";
import { PageWriter, eachPage } from "./import-pages.ts";
import type { PgVersion } from "./wal/format.ts";

/** One member of a data directory; io/data-dir.ts and backup/tar.ts give them. */
export interface DataDirEntry {
  /** Relative to the data directory, with "/". */
  readonly path: string;
  readonly kind: "file" | "directory" | "symlink";
  readonly size: number;
  /** Exactly `size` bytes, in chunks of any size; each is used up before the next is asked for. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface ImportOptions {
  /** All versions get this LSN: the checkpoint's redo, or the start of the online backup. */
  readonly baseLsn: Lsn;
  /** "exact": a clean shutdown, every irregularity is an error. "fuzzy": an online backup. */
  readonly state: "exact" | "fuzzy";
  /** Awaited between chunks, so that layers can be sealed while a large directory comes in. */
  readonly pressure?: () => Promise<void>;
  /** Told after every chunk: bytes taken in so far, and the file at hand. */
  readonly progress?: (bytes: number, path: string) => void;
}

export interface ImportResult {
  readonly baseLsn: Lsn;
  readonly systemId: bigint;
  readonly pgVersion: PgVersion;
  readonly tli: number;
  readonly control: ControlFile;
  readonly relations: number;
  readonly pages: number;
  readonly bytes: number;
}

/** Segments of one relation fork seen so far. */
interface RelationFiles {
  readonly rel: RelTag;
  readonly group: number;
  readonly segments: Map<number, number>;
}

export class DataDirImport {
  private readonly sink: ChangeSink;
  private readonly options: ImportOptions;
  private readonly pageWriter: PageWriter;
  private readonly relations = new Map<string, RelationFiles>();
  private readonly databases = new Set<string>();
  private imported: ImportedControl | undefined;
  private pages = 0;
  private bytes = 0;
  private finished = false;

  constructor(sink: ChangeSink, options: ImportOptions) {
    this.sink = sink;
    this.options = options;
    this.pageWriter = new PageWriter(sink, options.baseLsn);
  }

  /** Takes in one member; those without meaning are passed over. Throws MalformedInput. */
  async entry(entry: DataDirEntry): Promise<void> {
    assert(!this.finished, "import: an entry after finish()");
    const meaning = parseDataDirPath(entry.path);
    if (meaning.kind === "tablespace") throw refusedTablespace(entry.path);
    if (entry.kind === "file") await this.file(entry, meaning);
  }

  private async file(entry: DataDirEntry, meaning: DataDirFileKind): Promise<void> {
    switch (meaning.kind) {
      case "relation":
        return this.relationFile(entry, meaning.rel, meaning.segment);
      case "slru":
        return this.slruFile(entry, meaning.slru, meaning.segment);
      case "relmap":
        return this.relmapFile(entry, meaning.spc, meaning.db);
      case "two-phase":
        return this.twoPhaseFile(entry, meaning.xid);
      case "origins":
        for (const origin of parseOrigins(await this.whole(entry))) {
          const value = new ByteWriter(8).lsnle(origin.lsn).done();
          this.value(this.sink.groups.id(KIND.ORIGIN, 0, 0, origin.id, 0), value);
        }
        return;
      case "control":
        return this.controlFile(entry);
      case "tablespace-map":
        if (entry.size > 0) throw refusedTablespace(entry.path);
        return;
      case "version":
      case "tablespace":
      case "ignored":
        return;
    }
  }

  private async relationFile(entry: DataDirEntry, rel: RelTag, segment: number): Promise<void> {
    const group = this.sink.groups.id(KIND.PAGE, rel.spc, rel.db, rel.rel, rel.fork);
    const blocks = await this.pagesOf(entry, group, segment * RELSEG_BLOCKS, RELSEG_BLOCKS);
    const name = formatRel(rel);
    const known = this.relations.get(name);
    if (known === undefined) {
      this.relations.set(name, { rel, group, segments: new Map([[segment, blocks]]) });
    } else {
      known.segments.set(segment, blocks);
    }
  }

  private async slruFile(entry: DataDirEntry, slru: number, segment: number): Promise<void> {
    const group = this.sink.groups.id(KIND.SLRU_PAGE, slru, 0, segment, 0);
    const blocks = await this.pagesOf(entry, group, 0, SLRU_SEGMENT_BLOCKS);
    this.value(this.sink.groups.id(KIND.SLRU_SIZE, slru, 0, segment, 0), u32(blocks));
  }

  /** Puts a file's pages from `firstBlock` on; gives how many. */
  private async pagesOf(
    entry: DataDirEntry,
    group: number,
    firstBlock: number,
    blocksMax: number,
  ): Promise<number> {
    const { pages, left } = await eachPage(
      entry.body,
      (block, bytes, at) => {
        if (block >= blocksMax) {
          throw new MalformedInput(`${entry.path}: more than ${blocksMax} pages in one file`);
        }
        this.pageWriter.put(group, firstBlock + block, bytes, at);
      },
      (bytes) => this.took(entry, bytes),
    );
    // A server that is being backed up may be extending the file: WAL has that page whole.
    if (left > 0 && this.options.state === "exact") {
      throw new MalformedInput(`${entry.path}: ends with ${left} bytes of a page`);
    }
    this.pages += pages;
    return pages;
  }

  private async relmapFile(entry: DataDirEntry, spc: number, db: number): Promise<void> {
    const map = await this.whole(entry);
    if (map.length !== RELMAP_BYTES) {
      throw new MalformedInput(`${entry.path}: ${map.length} bytes, expected ${RELMAP_BYTES}`);
    }
    // RelMapFile: magic, mappings, crc at 504, padding.
    withoutCrc(map.subarray(0, RELMAP_CRC_END), entry.path);
    this.value(this.sink.groups.id(KIND.RELMAP, spc, db, 0, 0), map);
    this.databases.add(databaseName(spc, db));
  }

  private async twoPhaseFile(entry: DataDirEntry, xid: number): Promise<void> {
    const file = await this.whole(entry);
    let body: Uint8Array;
    try {
      body = withoutCrc(file, entry.path);
    } catch (error) {
      // Written while it was copied, so by a later checkpoint than the backup's: WAL has its PREPARE.
      if (this.options.state === "fuzzy") return;
      throw error;
    }
    this.value(this.sink.groups.id(KIND.TWO_PHASE, 0, 0, xid, 0), body);
  }

  private async controlFile(entry: DataDirEntry): Promise<void> {
    const file = await this.whole(entry);
    this.imported = importControl(file, this.options);
    const { checkPointCopy } = this.imported.control;
    const checkpoint = buildCheckPoint(checkPointCopy, this.imported.pgVersion);
    this.value(this.sink.groups.id(KIND.CONTROL, 0, 0, 0, 0), file);
    this.value(this.sink.groups.id(KIND.CHECKPOINT, 0, 0, 0, 0), checkpoint);
  }

  /** A small file as one piece. */
  private async whole(entry: DataDirEntry): Promise<Uint8Array> {
    const writer = new ByteWriter(Math.min(entry.size, STATE_FILE_BYTES_MAX));
    for await (const chunk of entry.body) {
      if (writer.length + chunk.length > STATE_FILE_BYTES_MAX) {
        throw new MalformedInput(`${entry.path}: longer than ${STATE_FILE_BYTES_MAX} bytes`);
      }
      writer.raw(chunk);
      await this.took(entry, chunk.length);
    }
    return writer.done();
  }

  private async took(entry: DataDirEntry, bytes: number): Promise<void> {
    this.bytes += bytes;
    this.options.progress?.(this.bytes, entry.path);
    await this.options.pressure?.();
  }

  private value(group: number, value: Uint8Array): void {
    this.sink.putValue(group, 0, this.options.baseLsn, value);
  }

  /** Puts relation sizes, after the last entry. Throws MalformedInput when something is missing. */
  finish(): ImportResult {
    assert(!this.finished, "import: finish() twice");
    this.finished = true;
    if (this.imported === undefined) throw missing("global/pg_control");
    const { control, pgVersion } = this.imported;
    if (!this.databases.has(databaseName(SPC_GLOBAL, 0))) throw missing("global/pg_filenode.map");
    let relations = 0;
    for (const files of this.relations.values()) if (this.relationSize(files)) relations++;
    return {
      baseLsn: this.options.baseLsn,
      systemId: control.systemId,
      pgVersion,
      tli: control.checkPointCopy.tli,
      control,
      relations,
      pages: this.pages,
      bytes: this.bytes,
    };
  }

  /** Puts the size of a relation fork; false for one that has no history (main fork of an unlogged one). */
  private relationSize({ rel, group, segments }: RelationFiles): boolean {
    if (rel.fork !== FORK_INIT && this.relations.has(formatRel({ ...rel, fork: FORK_INIT }))) {
      return false;
    }
    const exact = this.options.state === "exact";
    if (exact && !this.databases.has(databaseName(rel.spc, rel.db))) {
      throw missing(`pg_filenode.map of database ${rel.db}`);
    }
    const last = Math.max(...segments.keys());
    for (let segment = 0; segment < last; segment++) {
      const have = segments.get(segment) ?? 0;
      if (have === RELSEG_BLOCKS) continue;
      if (exact) {
        throw new MalformedInput(
          `relation ${formatRel(rel)}: segment ${segment} has ${have} of ${RELSEG_BLOCKS} pages, ` +
            `and there is a segment ${last}`,
        );
      }
      // It grew while it was copied. WAL writes those pages anew; until then they must be something.
      for (let block = have; block < RELSEG_BLOCKS; block++) {
        this.sink.putZeroPage(group, segment * RELSEG_BLOCKS + block, this.options.baseLsn);
      }
    }
    const blocks = last * RELSEG_BLOCKS + (segments.get(last) ?? 0);
    const { spc, db, rel: number, fork } = rel;
    this.value(this.sink.groups.id(KIND.REL_SIZE, spc, db, number, fork), u32(blocks));
    return true;
  }
}

/** Bytes of pg_filenode.map (relmapper.c of PostgreSQL 15), and where its checksum ends. */
const RELMAP_BYTES = 512;
const RELMAP_CRC_END = 508;

const u32 = (value: number): Uint8Array => new ByteWriter(4).u32le(value).done();
const databaseName = (spc: number, db: number): string => `${spc}/${db}`;

const missing = (what: string): MalformedInput =>
  new MalformedInput(`not a whole data directory: ${what} is missing`);

const refusedTablespace = (path: string): MalformedInput =>
  new MalformedInput(
    `${path}: user tablespaces are not supported; move its tables with ` +
      `ALTER TABLE … SET TABLESPACE pg_default, drop the tablespace, and try again`,
  );
