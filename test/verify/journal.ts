// A client that keeps its own account of what a PostgreSQL has acknowledged: inserts numbered rows,
// one transaction each, and notes a number when its commit has returned. Whatever copy of that
// server claims to be complete must have every noted row.

import pg from "pg";

/** Rows of one writer: 1 to `acknowledged`, all committed. */
export interface Account {
  readonly writer: number;
  readonly acknowledged: number;
}

export class Journal {
  private readonly table: string;
  private readonly clients: pg.Client[];
  private readonly acknowledged: number[];
  private readonly loops: Promise<void>[] = [];
  private stopping = false;
  private failure: unknown;

  private constructor(clients: pg.Client[], table: string) {
    this.clients = clients;
    this.table = table;
    this.acknowledged = clients.map(() => 0);
  }

  /** Makes the table; `writers` connections write until stop(). */
  static async start(uri: string, writers: number, table = "journal"): Promise<Journal> {
    const clients = Array.from({ length: writers }, () => new pg.Client(uri));
    for (const client of clients) await client.connect();
    await clients[0]!.query(
      `CREATE TABLE ${table} (writer int, n int, at timestamptz DEFAULT clock_timestamp(), PRIMARY KEY (writer, n))`,
    );
    const journal = new Journal(clients, table);
    clients.forEach((_, writer) => {
      journal.loops.push(
        journal.write(writer).catch((error: unknown) => void (journal.failure ??= error)),
      );
    });
    return journal;
  }

  private async write(writer: number): Promise<void> {
    const client = this.clients[writer]!;
    const text = `INSERT INTO ${this.table} (writer, n) VALUES ($1, $2)`;
    while (!this.stopping) {
      const n = this.acknowledged[writer]! + 1;
      await client.query({ name: "note", text, values: [writer, n] });
      this.acknowledged[writer] = n;
    }
  }

  /** What is acknowledged up to now. Throws when a writer has failed. */
  accounts(): readonly Account[] {
    if (this.failure !== undefined) throw new Error("the journal failed", { cause: this.failure });
    return this.acknowledged.map((acknowledged, writer) => ({ writer, acknowledged }));
  }

  /** Lets the commits that are under way end, then disconnects. */
  async stop(): Promise<void> {
    this.stopping = true;
    await Promise.all(this.loops);
    for (const client of this.clients) await client.end();
    this.accounts();
  }

  /** For when things went wrong: no waiting. */
  abandon(): void {
    this.stopping = true;
    for (const client of this.clients) void client.end().catch(() => undefined);
  }
}

/** How many of the acknowledged rows the server at `uri` does not have. */
export async function missingRows(
  uri: string,
  accounts: readonly Account[],
  table = "journal",
): Promise<number> {
  const client = new pg.Client(uri);
  await client.connect();
  try {
    let missing = 0;
    const there = await client.query<{ there: boolean }>(
      `SELECT to_regclass('${table}') IS NOT NULL AS there`,
    );
    if (!there.rows[0]!.there) return accounts.reduce((sum, a) => sum + a.acknowledged, 0);
    for (const { writer, acknowledged } of accounts) {
      const found = await client.query<{ count: string }>(
        `SELECT count(*) FROM ${table} WHERE writer = $1 AND n <= $2`,
        [writer, acknowledged],
      );
      missing += acknowledged - Number(found.rows[0]!.count);
    }
    return missing;
  } finally {
    await client.end();
  }
}
