// Computes without disks against stock PostgreSQL on the same data with the same settings, in turns: reads
// from a warm cache, a cold sequential scan, cold random reads, commits; and what a start takes.

import fs from "node:fs";
import pg from "pg";
import { runPg, startPostgres, type TestPostgres } from "../test/support/postgres.ts";
import type { Base, Corpora } from "./corpus.ts";
import { PageServerProgram, type Sql, pgbench, query } from "./program.ts";
import { type Result, figure, goal } from "./result.ts";
import type { Stores } from "./stores.ts";
import { median } from "./wait.ts";

export interface ComputeSizes {
  readonly rounds: number;
  /** One load of pgbench. */
  readonly seconds: number;
  /** Connections of the compute that wait, for the memory that one costs. */
  readonly idle: number;
  /** Of the large database whose compute is started. */
  readonly startPages: number;
}

const QUIET = { autovacuum: "off" };
/** All of the data finds room, also by a scan: one of more than a quarter of the buffers would use few. Checkpoints stay away. */
const WARM = { ...QUIET, shared_buffers: "5GB", max_wal_size: "8GB", checkpoint_timeout: "1h" };
const SCAN = { ...QUIET, shared_buffers: "16MB", max_parallel_workers_per_gather: "0" };
/** Next to nothing finds room. */
const TINY = { ...QUIET, shared_buffers: "1MB" };
const SCAN_TEXT = "SELECT sum(abalance) FROM pgbench_accounts";
const BYTES_TEXT = "SELECT pg_relation_size('pgbench_accounts')";
/** The table, then its index. */
const WARM_UP = [
  "SELECT sum(abalance), count(filler) FROM pgbench_accounts",
  "SET enable_seqscan = off; SELECT count(aid) FROM pgbench_accounts",
];
const WARM_SECONDS = 2;
const IDLE_SETTLE_MS = 3_000;

type Pair = readonly [compute: number, stock: number];

/** Medians of what both gave in turns. */
async function inTurns(
  rounds: number,
  compute: () => Promise<number>,
  stock: () => Promise<number>,
): Promise<Pair> {
  const got: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    got[0].push(await compute());
    got[1].push(await stock());
  }
  return [median(got[0]), median(got[1])];
}

export class ComputeBench {
  private readonly stores: Stores;
  private readonly corpora: Corpora;
  private readonly sizes: ComputeSizes;

  constructor(stores: Stores, corpora: Corpora, sizes: ComputeSizes) {
    this.stores = stores;
    this.corpora = corpora;
    this.sizes = sizes;
  }

  /** Warm and random reads, and connections; `store` has `base` as it was imported. */
  reads(store: string, base: Base): Promise<readonly Result[]> {
    return this.served(store, async (program) => [
      ...(await this.warm(program, base)),
      ...(await this.random(program, base)),
      ...(await this.connections(program)),
    ]);
  }

  scans(store: string, base: Base): Promise<readonly Result[]> {
    return this.served(store, (program) => this.scan(program, base));
  }

  writes(store: string, base: Base): Promise<readonly Result[]> {
    return this.served(store, (program) => this.commits(program, base));
  }

  private async served<T>(
    store: string,
    measure: (program: PageServerProgram) => Promise<T>,
  ): Promise<T> {
    const program = new PageServerProgram(this.stores.copy(store));
    try {
      await program.start();
      return await measure(program);
    } finally {
      await program.cleanup();
    }
  }

  private async warm(program: PageServerProgram, base: Base): Promise<readonly Result[]> {
    const compute = await program.boot(WARM);
    const [tps, of] = await this.besideStock(base, WARM, async (stock) => {
      for (const server of [compute, stock]) {
        for (const text of WARM_UP) await query(server, text);
        await pgbench(server, WARM_SECONDS, ["-S"]);
      }
      return inTurns(
        this.sizes.rounds,
        () => pgbench(compute, this.sizes.seconds, ["-S"]),
        () => pgbench(stock, this.sizes.seconds, ["-S"]),
      );
    });
    await program.halt();
    return [
      figure("pgbench -S, a compute with a warm cache", tps, "/s"),
      figure("  stock PostgreSQL", of, "/s"),
      goal("  ratio", tps / of, "", ">=", 0.95),
    ];
  }

  private async scan(program: PageServerProgram, base: Base): Promise<readonly Result[]> {
    const mbOf = async (server: Sql): Promise<number> => {
      const bytes = Number(await query(server, BYTES_TEXT));
      const begun = performance.now();
      await query(server, SCAN_TEXT);
      return bytes / 1e3 / (performance.now() - begun);
    };
    const [mb, of] = await this.besideStock(base, SCAN, async (stock) => {
      await query(stock, SCAN_TEXT);
      const cold = async (): Promise<number> => {
        const found = await mbOf(await program.boot(SCAN));
        await program.halt();
        return found;
      };
      return inTurns(this.sizes.rounds, cold, () => mbOf(stock));
    });
    return [
      figure("cold sequential scan", mb, "MB/s"),
      figure("  stock PostgreSQL, from the page cache", of, "MB/s"),
      goal("  ratio", mb / of, "", ">=", 0.5),
    ];
  }

  private async random(program: PageServerProgram, base: Base): Promise<readonly Result[]> {
    const compute = await program.boot({ ...TINY, "pageserver.page_store_size": "1MB" });
    const [tps, of] = await this.besideStock(base, TINY, (stock) =>
      inTurns(
        this.sizes.rounds,
        () => pgbench(compute, this.sizes.seconds, ["-S"]),
        () => pgbench(stock, this.sizes.seconds, ["-S"]),
      ),
    );
    await program.halt();
    return [
      figure("pgbench -S, 8 clients, hardly any cache", tps, "/s"),
      figure("  stock PostgreSQL, from the page cache", of, "/s"),
      figure("  ratio", tps / of, ""),
    ];
  }

  /** Each has read a page of its own, and waits. */
  private async connections(program: PageServerProgram): Promise<readonly Result[]> {
    const { idle } = this.sizes;
    const { port } = await program.boot({
      ...{ ...TINY, "pageserver.page_store_size": "1MB" },
      max_connections: `${idle + 20}`,
    });
    const clients: pg.Client[] = [];
    const settled = (): Promise<unknown> => new Promise((done) => setTimeout(done, IDLE_SETTLE_MS));
    try {
      await settled();
      const before = program.memoryBytes();
      for (let i = 0; i < idle; i++) {
        const client = new pg.Client(`postgresql://postgres@127.0.0.1:${port}/postgres`);
        clients.push(client);
        await client.connect();
        await client.query(`SELECT abalance FROM pgbench_accounts WHERE aid = ${1 + i * 300}`);
      }
      await settled();
      const bytes = (program.memoryBytes() - before) / idle;
      return [figure("memory of the page server for an idle connection", bytes / 1024, "KiB")];
    } finally {
      for (const client of clients) await client.end();
      await program.halt();
    }
  }

  private async commits(program: PageServerProgram, base: Base): Promise<readonly Result[]> {
    const compute = await program.boot(WARM);
    const dataDir = this.corpora.copy(base.dataDir);
    const stock = await startPostgres({ dataDir, settings: { ...WARM, ...DURABLE } });
    const standby = await startStandby(stock, this.corpora.name());
    try {
      for (const server of [compute, stock]) {
        for (const text of WARM_UP) await query(server, text);
        await pgbench(server, WARM_SECONDS, []);
      }
      const [tps, of] = await inTurns(
        this.sizes.rounds,
        () => pgbench(compute, this.sizes.seconds, []),
        () => pgbench(stock, this.sizes.seconds, []),
      );
      await program.halt();
      return [
        figure("TPC-B, 8 clients, durable on the page server", tps, "/s"),
        figure("  stock PostgreSQL with a synchronous standby", of, "/s"),
        goal("  ratio", tps / of, "", ">=", 0.8),
      ];
    } finally {
      await standby.cleanup();
      await stock.cleanup();
      for (const dir of [dataDir, standby.dataDir]) this.corpora.remove(dir);
    }
  }

  private async besideStock<T>(
    base: Base,
    settings: Readonly<Record<string, string>>,
    measure: (stock: TestPostgres) => Promise<T>,
  ): Promise<T> {
    const dataDir = this.corpora.copy(base.dataDir);
    const stock = await startPostgres({ dataDir, settings });
    try {
      return await measure(stock);
    } finally {
      await stock.cleanup();
      this.corpora.remove(dataDir);
    }
  }

  /** From the request to the first answer, of a database that has nothing and of a large one. */
  async starts(): Promise<readonly Result[]> {
    const small = await this.starting(await this.corpora.emptyBase());
    const large = await this.starting(await this.corpora.wideBase(this.sizes.startPages));
    const gb = (this.sizes.startPages * 8192) / 1e9;
    return [
      goal("start of a compute, empty database", small, "s", "<=", 3),
      goal(`  a database of ${gb.toPrecision(2)} GB`, large, "s", "<=", 3),
    ];
  }

  private async starting(base: Base): Promise<number> {
    const { dataDir } = await this.stores.imported(base.dataDir);
    this.corpora.remove(base.dataDir);
    const program = new PageServerProgram(dataDir);
    try {
      await program.start();
      const seconds: number[] = [];
      for (let round = 0; round < this.sizes.rounds; round++) {
        seconds.push((await program.boot({})).seconds);
        await program.halt();
      }
      return median(seconds);
    } finally {
      await program.cleanup();
    }
  }
}

/** Commits wait until the standby has them on its disk, as they do for the page server. */
const DURABLE = {
  fsync: "on",
  synchronous_commit: "on",
  synchronous_standby_names: "standby",
  full_page_writes: "off",
  max_wal_senders: "4",
};

async function startStandby(primary: TestPostgres, dataDir: string): Promise<TestPostgres> {
  const conninfo = `host=127.0.0.1 port=${primary.port} user=postgres application_name=standby`;
  await runPg("pg_basebackup", ["-d", conninfo, "-D", dataDir, "-R", "-X", "stream", "-c", "fast"]);
  fs.rmSync(`${dataDir}/postmaster.pid`, { force: true });
  return startPostgres({
    dataDir,
    settings: { ...WARM, fsync: "on", synchronous_standby_names: "", hot_standby: "on" },
  });
}
