// One client of the torture: transfers between accounts with all that makes pages hard to give back
// (savepoints, row locks, cursors, temporary tables, indexes of every kind built under writes). It keeps
// its own account of what was acknowledged, and checks the sum of all balances whenever it reads them.

import pg from "pg";
import type { Random } from "./random.ts";

export const ACCOUNTS = 3_000;
export const TOTAL = ACCOUNTS * 100;
/** deadlock_detected, serialization_failure, lock_not_available: the transaction is tried again. */
const AGAIN = new Set(["40P01", "40001", "55P03"]);
const INDEXES = [
  "btree (word)",
  "hash (word)",
  "gin (tags)",
  "gist (place)",
  "spgist (place)",
  "brin (id)",
];

export const SETUP = [
  "CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL, pad text)",
  `INSERT INTO accounts SELECT g, 100, repeat('p', 200) FROM generate_series(1, ${ACCOUNTS}) g`,
  "CREATE TABLE ledger (writer int, n int, PRIMARY KEY (writer, n))",
  "CREATE TABLE things (id int, word text, tags int[], place point)",
  `INSERT INTO things SELECT g, md5(g::text), ARRAY[g % 10, g % 7], point(g % 100, g % 90)
     FROM generate_series(1, 4000) g`,
];

export class TortureClient {
  readonly writer: number;
  /** Of the ledger's rows of this writer: those it was told of, and those it has tried. */
  acknowledged = 0;
  attempted = 0;
  transactions = 0;
  readonly problems: string[] = [];
  private readonly random: Random;
  private stopping = false;

  constructor(writer: number, random: Random) {
    this.writer = writer;
    this.random = random;
  }

  /** Works until stop(), or until the server is gone. Other failures are problems. */
  async work(uri: string, isDown: () => boolean): Promise<void> {
    const client = new pg.Client(uri);
    // A connection that breaks between two queries says so here.
    client.on("error", () => undefined);
    this.stopping = false;
    try {
      await client.connect();
      while (!this.stopping) await this.once(client);
    } catch (error) {
      if (!isDown()) this.problems.push(`writer ${this.writer}: ${String(error)}`);
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  stop(): void {
    this.stopping = true;
  }

  private async once(client: pg.Client): Promise<void> {
    try {
      const dice = this.random.next();
      if (dice < 0.75) await this.transfer(client);
      else if (dice < 0.85) await this.look(client);
      else if (dice < 0.9) await this.borrow(client);
      else await this.rebuild(client);
      this.transactions++;
    } catch (error) {
      const code = error instanceof pg.DatabaseError ? error.code : undefined;
      if (code === undefined || !AGAIN.has(code)) throw error;
      await client.query("ROLLBACK");
    }
  }

  private async transfer(client: pg.Client): Promise<void> {
    const { random } = this;
    const [from, to] = [random.between(1, ACCOUNTS + 1), random.between(1, ACCOUNTS + 1)];
    const n = this.acknowledged + 1;
    const move = (id: number, by: number): Promise<unknown> =>
      client.query("UPDATE accounts SET balance = balance + $2 WHERE id = $1", [id, by]);
    await client.query("BEGIN");
    await client.query("SELECT id FROM accounts WHERE id = ANY ($1) ORDER BY id FOR UPDATE", [
      [from, to],
    ]);
    await move(from, -1);
    await client.query("SAVEPOINT a");
    await move(to, 1_000);
    await client.query("ROLLBACK TO a");
    await move(to, 1);
    this.attempted = n;
    await client.query("INSERT INTO ledger VALUES ($1, $2)", [this.writer, n]);
    await client.query("COMMIT");
    this.acknowledged = n;
  }

  /** All balances, by a cursor, while others write. */
  private async look(client: pg.Client): Promise<void> {
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
    await client.query("DECLARE c CURSOR FOR SELECT balance FROM accounts");
    let sum = 0;
    let count = 0;
    for (;;) {
      const { rows } = await client.query<{ balance: number }>("FETCH 500 FROM c");
      for (const { balance } of rows) sum += balance;
      count += rows.length;
      if (rows.length === 0) break;
    }
    await client.query("COMMIT");
    if (sum !== TOTAL || count !== ACCOUNTS) {
      this.problems.push(`writer ${this.writer} saw ${count} accounts with ${sum} in all`);
    }
  }

  /** A temporary table, and a statement that must not see its own rows. */
  private async borrow(client: pg.Client): Promise<void> {
    // Left by an attempt that met a deadlock.
    await client.query("DROP TABLE IF EXISTS pg_temp.mine");
    await client.query("CREATE TEMP TABLE mine AS SELECT * FROM things WHERE id % 20 = 0");
    const { rowCount } = await client.query(
      "INSERT INTO things SELECT id, word || '!', tags, place FROM mine",
    );
    await client.query("DELETE FROM things WHERE word LIKE '%!' AND id % 20 = 0");
    await client.query("DROP TABLE mine");
    if (rowCount === 0) this.problems.push(`writer ${this.writer} found nothing to borrow`);
  }

  /** Indexes are made by one of them, the others write meanwhile. */
  private async rebuild(client: pg.Client): Promise<void> {
    const { random } = this;
    if (this.writer > 0) {
      await client.query("UPDATE things SET word = md5(word), tags = tags || 3 WHERE id = $1", [
        random.between(1, 4_000),
      ]);
      return;
    }
    const at = random.between(0, INDEXES.length);
    const concurrently = random.chance(0.5) ? "CONCURRENTLY" : "";
    await client.query(`DROP INDEX IF EXISTS things_${at}`);
    await client.query(`CREATE INDEX ${concurrently} things_${at} ON things USING ${INDEXES[at]}`);
    if (random.chance(0.3)) await client.query("VACUUM things");
  }
}
