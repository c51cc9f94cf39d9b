// `npm run bench`: measures what the project promises, one table at the end; with --json one array. Each
// ratio is of two things measured in turns in the same run. docs/benchmarks.md says what is timed.
//
//   npm run bench -- [--quick] [--json] [--scale N] [--start-gb N] [--lost-gb N]
//     [--overwrite-pages N] [--only PART,…]
//
// Parts: ingest-records, ingest-images, getpage, redo, branch, scale, space, compute-reads, compute-scan,
// compute-writes, compute-start, merging, amplification, collect, backup.

import { parseArgs } from "node:util";
import { measureBackup } from "./backup.ts";
import { measureBranches } from "./branch.ts";
import { ComputeBench } from "./compute.ts";
import { type Base, Corpora } from "./corpus.ts";
import { RECORDS_A_PAGE, measureImages, measureRedo } from "./getpage.ts";
import { imageResults, measureIngest, memoryResults, recordResults } from "./ingest.ts";
import { type Result, table } from "./result.ts";
import { measureAmplification, measureBesideMerge, measureCollect } from "./retention.ts";
import { measureScale } from "./scale.ts";
import { measureSpace } from "./space.ts";
import { Stores } from "./stores.ts";

interface Sizes {
  readonly scale: number;
  /** Of each of pgbench's eight clients. */
  readonly transactions: number;
  /** Of pgbench while it is backed up. */
  readonly backupSeconds: number;
  /** Of the tenant that is lost and attached again. */
  readonly lostPages: number;
  readonly rounds: number;
  /** One load of GetPage. */
  readonly seconds: number;
  readonly redoPages: number;
  readonly timelines: number;
  readonly tenants: number;
  /** Of a table of random bytes. */
  readonly noisePages: number;
  /** Connections that wait. */
  readonly idle: number;
  /** Of the large database whose compute is started. */
  readonly startPages: number;
  /** Of a table that is written ten times over. */
  readonly overwritePages: number;
  /** That each hold a moment, and the pages of their database. */
  readonly branches: number;
  readonly heldPages: number;
}

/** 1 GB of database, 1 GB of WAL with images, a million records without. */
const FULL: Sizes = {
  scale: 70,
  transactions: 25_000,
  backupSeconds: 20,
  lostPages: 655_360,
  rounds: 3,
  seconds: 4,
  redoPages: 60_000,
  timelines: 10_000,
  tenants: 1_000,
  noisePages: 25_000,
  idle: 200,
  startPages: 655_360,
  overwritePages: 12_800,
  branches: 1_000,
  heldPages: 5_000,
};
/** For tests: that everything runs, not what it says. */
const QUICK: Sizes = {
  scale: 1,
  transactions: 500,
  backupSeconds: 2,
  lostPages: 2_000,
  rounds: 1,
  seconds: 0.5,
  redoPages: 1_000,
  timelines: 50,
  tenants: 10,
  noisePages: 5_000,
  idle: 20,
  startPages: 2_000,
  overwritePages: 500,
  branches: 20,
  heldPages: 500,
};

const PARTS = [
  "ingest-records",
  "ingest-images",
  "getpage",
  "redo",
  "branch",
  "scale",
  "space",
  "compute-reads",
  "compute-scan",
  "compute-writes",
  "compute-start",
  "merging",
  "amplification",
  "collect",
  "backup",
] as const;
type Part = (typeof PARTS)[number];

class Run {
  private readonly corpora = new Corpora();
  private readonly stores = new Stores();
  private readonly sizes: Sizes;
  private readonly wanted: ReadonlySet<Part>;
  private readonly results: Result[] = [];
  private tables: ReturnType<Run["pgbench"]> | undefined;

  constructor(sizes: Sizes, wanted: ReadonlySet<Part>) {
    this.sizes = sizes;
    this.wanted = wanted;
  }

  async all(): Promise<readonly Result[]> {
    await this.ingest("ingest-records");
    await this.ingest("ingest-images");
    await this.part("getpage", "GetPage with an image", async () => {
      const { base, store } = await this.pgbench();
      return measureImages(this.stores, store, base, this.sizes);
    });
    await this.part("redo", `GetPage with ${RECORDS_A_PAGE} records to apply`, () =>
      this.redo(this.sizes.redoPages),
    );
    await this.part("branch", "branches", async () =>
      measureBranches(this.stores, await this.empty(), (await this.pgbench()).store),
    );
    await this.part("scale", "many timelines, many tenants", async () =>
      measureScale(this.stores, await this.empty(), this.sizes),
    );
    await this.part("space", "space", async () => {
      const { store } = await this.pgbench();
      return measureSpace(this.stores, store, this.corpora, this.sizes.noisePages);
    });
    const computes = new ComputeBench(this.stores, this.corpora, this.sizes);
    await this.loads("compute-reads", "reads", (...on) => computes.reads(...on));
    await this.loads("compute-scan", "scans", (...on) => computes.scans(...on));
    await this.loads("compute-writes", "writes", (...on) => computes.writes(...on));
    await this.part("compute-start", "starts of computes", () => computes.starts());
    await this.retention();
    await this.part("backup", "upload, attach, restore", () => this.backup());
    return this.results;
  }

  private async retention(): Promise<void> {
    const { overwritePages, branches, heldPages, seconds } = this.sizes;
    await this.part("merging", "ingest and reads beside a merge", async () => {
      const { base, store } = await this.pgbench();
      const crashed = await this.corpora.pgbench(base, this.sizes, "off");
      const figures = await measureBesideMerge(this.stores, store, base, crashed, seconds);
      this.corpora.remove(crashed.dataDir);
      return figures;
    });
    await this.part("amplification", "a table that is written ten times over", () =>
      measureAmplification(this.stores, this.corpora, overwritePages),
    );
    await this.part("collect", "letting history go", () =>
      measureCollect(this.stores, this.corpora, { pages: heldPages, branches }),
    );
  }

  /** pgbench's tables and the store they were imported into; made once, if some part needs them. */
  private pgbench(): Promise<{ readonly base: Base; readonly store: string }> {
    const { scale } = this.sizes;
    const says = `pgbench's tables at scale ${scale}, and importing them`;
    return (this.tables ??= this.step(says, async () => {
      const base = await this.corpora.pgbenchBase(scale);
      const { dataDir } = await this.stores.imported(base.dataDir);
      return { base, store: dataDir };
    }));
  }

  private async loads(
    name: Part,
    says: string,
    measure: (store: string, base: Base) => Promise<readonly Result[]>,
  ): Promise<void> {
    await this.part(name, `${says} of a compute`, async () => {
      const { base, store } = await this.pgbench();
      return measure(store, base);
    });
  }

  /** A store of an empty cluster. */
  private async empty(): Promise<string> {
    const { dataDir } = await this.corpora.emptyBase();
    return (await this.stores.imported(dataDir)).dataDir;
  }

  private async ingest(part: "ingest-records" | "ingest-images"): Promise<void> {
    const images = part === "ingest-images";
    const fullPageWrites = images ? "on" : "off";
    await this.part(part, `ingest, full_page_writes ${fullPageWrites}`, async () => {
      const { base, store } = await this.pgbench();
      const crashed = await this.corpora.pgbench(base, this.sizes, fullPageWrites);
      const { rounds } = this.sizes;
      const figures = await measureIngest(this.stores, store, base, crashed, rounds);
      this.corpora.remove(crashed.dataDir);
      if (!images) return recordResults(figures);
      return [...imageResults(figures), ...memoryResults(figures)];
    });
  }

  private async redo(pages: number): Promise<readonly Result[]> {
    const base = await this.corpora.roomyBase(pages);
    const { dataDir: store } = await this.stores.imported(base.dataDir);
    const crashed = await this.corpora.updates(base, RECORDS_A_PAGE);
    return measureRedo(this.stores, store, base, crashed, this.sizes.rounds);
  }

  private async backup(): Promise<readonly Result[]> {
    const { lostPages, backupSeconds } = this.sizes;
    const { store } = await this.pgbench();
    const says = `a tenant of ${(lostPages * 8192) / 1e9} GB, and importing it`;
    const lost = await this.step(says, async () => {
      const { dataDir, table } = await this.corpora.denseBase(lostPages);
      const imported = await this.stores.imported(dataDir);
      this.corpora.remove(dataDir);
      return { store: imported.dataDir, table };
    });
    return measureBackup(this.stores, store, lost, backupSeconds);
  }

  private async part(
    part: Part,
    says: string,
    measure: () => Promise<readonly Result[]>,
  ): Promise<void> {
    if (this.wanted.has(part)) this.results.push(...(await this.step(says, measure)));
  }

  private async step<T>(says: string, work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    process.stderr.write(`${says} ...`);
    const result = await work();
    process.stderr.write(` ${((performance.now() - started) / 1000).toFixed(0)} s\n`);
    return result;
  }

  cleanup(): void {
    this.corpora.cleanup();
    this.stores.cleanup();
  }
}

function wantedParts(only: string | undefined): ReadonlySet<Part> {
  if (only === undefined) return new Set(PARTS);
  const wanted = only.split(",").map((name) => PARTS.find((part) => part === name.trim()));
  if (wanted.includes(undefined)) throw new Error(`--only takes some of ${PARTS.join(", ")}`);
  return new Set(wanted.filter((part) => part !== undefined));
}

const pagesOf = (gb: string): number => Math.round((Number(gb) * 1024 ** 3) / 8192);

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    /** Of pgbench's tables. */
    scale: { type: "string" },
    "start-gb": { type: "string" },
    "overwrite-pages": { type: "string" },
    "lost-gb": { type: "string" },
  },
});
const startGb = values["start-gb"];
const lostGb = values["lost-gb"];
const overwritePages = values["overwrite-pages"];
const sizes = {
  ...(values.quick ? QUICK : FULL),
  ...(values.scale !== undefined && { scale: Number(values.scale) }),
  ...(startGb !== undefined && { startPages: pagesOf(startGb) }),
  ...(lostGb !== undefined && { lostPages: pagesOf(lostGb) }),
  ...(overwritePages !== undefined && { overwritePages: Number(overwritePages) }),
};
const run = new Run(sizes, wantedParts(values.only));
// Children end when their channel to this process closes.
process.on("SIGINT", () => process.exit(130));
process.on("SIGTERM", () => process.exit(143));
process.on("exit", () => run.cleanup());
const results = await run.all();
process.stdout.write(`${values.json ? JSON.stringify(results, undefined, 1) : table(results)}\n`);
if (!values.quick && results.some(({ ok }) => ok === false)) process.exitCode = 1;
