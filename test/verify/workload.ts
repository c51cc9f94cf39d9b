// SQL that makes PostgreSQL write every kind of WAL record a page server must understand, in
// phases. Each phase is one script for psql; phases that need several sessions or databases say
// so. Deterministic for a seed but for PostgreSQL's own background work.

export interface Phase {
  readonly name: string;
  readonly db: string;
  readonly sql: string;
}

const EXTENSIONS = ["btree_gin", "pg_trgm", "hstore", "bloom", "amcheck", "pg_visibility"];

/** Once, before anything follows the primary. */
export function setup(): Phase {
  return {
    name: "setup",
    db: "postgres",
    sql: [
      ...EXTENSIONS.map((name) => `CREATE EXTENSION IF NOT EXISTS ${name};`),
      tables(),
      "CREATE TABLE before_backup AS SELECT g AS id, repeat(md5(g::text), 3) AS t FROM generate_series(1, 20000) g;",
      "CREATE INDEX ON before_backup (id);",
    ].join("\n"),
  };
}

function tables(): string {
  return `
CREATE TABLE heap (id int PRIMARY KEY, k int, v text, t text, arr int[], p point, r int4range, ts timestamptz DEFAULT now());
CREATE INDEX heap_k ON heap (k);
CREATE INDEX heap_hash ON heap USING hash (k);
CREATE INDEX heap_gin ON heap USING gin (arr);
CREATE INDEX heap_gin_trgm ON heap USING gin (v gin_trgm_ops);
CREATE INDEX heap_gin_btree ON heap USING gin (k);
CREATE INDEX heap_gist ON heap USING gist (p);
CREATE INDEX heap_gist_r ON heap USING gist (r);
CREATE INDEX heap_gist_trgm ON heap USING gist (v gist_trgm_ops);
CREATE INDEX heap_spgist ON heap USING spgist (p);
CREATE INDEX heap_spgist_t ON heap USING spgist (v);
CREATE INDEX heap_brin ON heap USING brin (id) WITH (pages_per_range = 4, autosummarize = on);
CREATE INDEX heap_bloom ON heap USING bloom (k, id);
CREATE TABLE toasty (id serial PRIMARY KEY, big text, h hstore);
ALTER TABLE toasty ALTER big SET STORAGE external;
CREATE SEQUENCE seq INCREMENT 3 CACHE 1;
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, v text);
CREATE UNLOGGED SEQUENCE unlogged_seq;
CREATE TABLE hot (id int PRIMARY KEY, n int) WITH (fillfactor = 50);
INSERT INTO hot SELECT g, 0 FROM generate_series(1, 500) g;`;
}

const fill = (from: number, count: number): string => `
INSERT INTO heap SELECT g, (g * 7919) % 1000, 'word' || (g % 97) || ' ' || md5(g::text), repeat('x', g % 200),
  ARRAY[g % 13, g % 29, g], point((g * 31) % 1000, (g * 17) % 1000), int4range(g % 500, g % 500 + 10)
FROM generate_series(${from}, ${from + count - 1}) g;`;

/** One round of phases; \`round\` keeps names and keys apart. */
export function phases(round: number): readonly Phase[] {
  const from = round * 10_000 + 1;
  const on = (name: string, sql: string, db = "postgres"): Phase => ({ name, db, sql });
  return [
    on("insert into every index type", fill(from, 4_000)),
    on(
      "HOT updates, key updates, deletes",
      `UPDATE hot SET n = n + 1; UPDATE hot SET n = n + 1 WHERE id % 3 = 0; UPDATE hot SET n = n + 1;
       UPDATE heap SET k = k + 1, v = v || 'u' WHERE id BETWEEN ${from} AND ${from + 800};
       UPDATE heap SET p = point(id % 77, id % 33) WHERE id % 11 = 0;
       DELETE FROM heap WHERE id BETWEEN ${from + 1000} AND ${from + 1600};`,
    ),
    on(
      "TOAST and hstore",
      `INSERT INTO toasty (big, h) SELECT repeat(md5(g::text), 400), hstore('a', g::text) FROM generate_series(1, 60) g;
       UPDATE toasty SET big = big || 'more' WHERE id % 4 = 0; DELETE FROM toasty WHERE id % 5 = 0;`,
    ),
    on(
      "sequences and unlogged tables",
      `SELECT count(nextval('seq')) FROM generate_series(1, 100); SELECT setval('seq', 5000 + ${round});
       INSERT INTO unlogged SELECT g, 'u' FROM generate_series(1, 300) g ON CONFLICT DO NOTHING; SELECT nextval('unlogged_seq');`,
    ),
    on("VACUUM", "VACUUM heap; VACUUM hot; VACUUM toasty;"),
    on("visibility after vacuum: clear by insert, update, delete, lock", visibility(from)),
    on("VACUUM FREEZE", "VACUUM (FREEZE, ANALYZE) heap; VACUUM (FREEZE) before_backup;"),
    on("row locks on frozen pages, multixacts", multixacts()),
    on("subtransactions", subtransactions(round)),
    on("TRUNCATE, drop, create in one transaction", truncates(round)),
    on("large objects", largeObjects()),
    on("CLUSTER, VACUUM FULL, rewrites, REINDEX", rewrites(round)),
    on("COPY with multi-insert and freeze", copyFreeze(round)),
    on("prepared transactions", prepared(round)),
    on("database by WAL", `CREATE DATABASE wal_${round} TEMPLATE template1 STRATEGY wal_log;`),
    on(
      "database by file copy",
      `CREATE DATABASE copy_${round} TEMPLATE template1 STRATEGY file_copy;`,
    ),
    on("write in the copied database", inCopy(), `copy_${round}`),
    on("write in the logged database", inCopy(), `wal_${round}`),
    on(
      "copy of a copy",
      `CREATE DATABASE copy2_${round} TEMPLATE copy_${round} STRATEGY file_copy;`,
    ),
    on(
      "write in the copy of a copy",
      `UPDATE c SET v = v || 'second'; DELETE FROM c WHERE id < 50;`,
      `copy2_${round}`,
    ),
    on(
      "drop databases",
      round > 0
        ? `DROP DATABASE IF EXISTS copy_${round - 1}; DROP DATABASE IF EXISTS wal_${round - 1};`
        : "SELECT 1;",
    ),
    on("shrink by vacuum truncation", shrink(round)),
    on(
      "index page deletion",
      `DELETE FROM heap WHERE id BETWEEN ${from + 1600} AND ${from + 3000}; VACUUM heap;`,
    ),
    on("explicit checkpoint and segment switch", "CHECKPOINT; SELECT pg_switch_wal();"),
    on("after the switch", fill(from + 5_000, 500)),
    on(
      "logical message, restore point",
      "SELECT pg_logical_emit_message(false, 'p', 'm'); SELECT pg_create_restore_point('rp');",
    ),
  ];
}

const visibility = (from: number): string => `
INSERT INTO heap (id, k, v) VALUES (${from + 9000}, 1, 'one');
UPDATE heap SET t = 'v' WHERE id IN (${from}, ${from + 1}, ${from + 50});
DELETE FROM heap WHERE id = ${from + 3};
VACUUM before_backup;
UPDATE before_backup SET t = 'changed' WHERE id % 997 = 0;
DELETE FROM before_backup WHERE id % 1999 = 5;`;

const multixacts = (): string => `
CREATE TABLE IF NOT EXISTS locked (id int PRIMARY KEY, v int);
INSERT INTO locked SELECT g, g FROM generate_series(1, 300) g ON CONFLICT DO NOTHING;
VACUUM (FREEZE) locked;
BEGIN; SELECT count(*) FROM (SELECT * FROM locked WHERE id <= 200 FOR SHARE) s;
SAVEPOINT a; SELECT count(*) FROM (SELECT * FROM locked WHERE id <= 150 FOR UPDATE) s; SAVEPOINT b;
UPDATE locked SET v = v + 1 WHERE id <= 20; ROLLBACK TO b; UPDATE locked SET v = v + 2 WHERE id <= 10; COMMIT;
BEGIN; SELECT count(*) FROM (SELECT * FROM locked FOR KEY SHARE) s; SAVEPOINT c;
UPDATE locked SET v = v + 1 WHERE id > 250; RELEASE c; COMMIT;`;

const subtransactions = (round: number): string => `
CREATE TABLE IF NOT EXISTS subs (id int, v text);
DO $$ BEGIN FOR i IN 1..300 LOOP
  BEGIN INSERT INTO subs VALUES (i, 'r${round}'); IF i % 7 = 0 THEN RAISE EXCEPTION 'undo'; END IF;
  EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$;
BEGIN; INSERT INTO subs VALUES (-1, 'aborted'); SAVEPOINT x; INSERT INTO subs VALUES (-2, 'aborted'); ROLLBACK;`;

const truncates = (round: number): string => `
CREATE TABLE IF NOT EXISTS trunc (id int PRIMARY KEY, v text);
INSERT INTO trunc SELECT g, repeat('t', 100) FROM generate_series(1, 2000) g ON CONFLICT DO NOTHING;
VACUUM trunc;
TRUNCATE trunc;
INSERT INTO trunc SELECT g, 'again' FROM generate_series(1, 500) g;
BEGIN; CREATE TABLE born_${round} (id int PRIMARY KEY, v text); INSERT INTO born_${round} SELECT g, 'b' FROM generate_series(1, 800) g;
TRUNCATE born_${round}; INSERT INTO born_${round} SELECT g, 'c' FROM generate_series(1, 300) g; COMMIT;
BEGIN; CREATE TABLE never (id int); INSERT INTO never SELECT generate_series(1, 500); ROLLBACK;
BEGIN; TRUNCATE born_${round}; ROLLBACK;
CREATE TABLE dropped_${round} AS SELECT generate_series(1, 3000) AS id; DROP TABLE dropped_${round};`;

const largeObjects = (): string => `
SELECT lo_from_bytea(0, decode(repeat('ab', 20000), 'hex'));
SELECT lo_put(loid, 5000, decode(repeat('cd', 9000), 'hex')) FROM (SELECT DISTINCT loid FROM pg_largeobject LIMIT 1) l;
SELECT lo_unlink(loid) FROM (SELECT DISTINCT loid FROM pg_largeobject ORDER BY loid DESC LIMIT 1) l
  WHERE (SELECT count(DISTINCT loid) FROM pg_largeobject) > 2;`;

const rewrites = (round: number): string => `
CREATE TABLE IF NOT EXISTS rewritten (id int, v text);
INSERT INTO rewritten SELECT g, md5(g::text) FROM generate_series(1, 1500) g;
CREATE INDEX IF NOT EXISTS rewritten_id ON rewritten (id);
CLUSTER rewritten USING rewritten_id;
VACUUM FULL rewritten;
ALTER TABLE rewritten ADD COLUMN c${round} bigint DEFAULT (random() * 1000)::bigint;
ALTER TABLE rewritten ALTER COLUMN id TYPE bigint;
REINDEX TABLE heap;
CREATE INDEX IF NOT EXISTS heap_gist_late ON heap USING gist (p); DROP INDEX heap_gist_late;
CREATE MATERIALIZED VIEW IF NOT EXISTS mv AS SELECT k, count(*) FROM heap GROUP BY k; REFRESH MATERIALIZED VIEW mv;
VACUUM FULL pg_class;`;

const copyFreeze = (round: number): string => `
BEGIN; CREATE TABLE copied_${round} (id int, v text);
COPY copied_${round} FROM PROGRAM 'seq 1 3000 | sed "s/$/\\tcopied row/"' WITH (FREEZE);
COMMIT;
UPDATE copied_${round} SET v = 'thawed' WHERE id % 500 = 0;`;

const prepared = (round: number): string => `
CREATE TABLE IF NOT EXISTS two (id int, v text);
BEGIN; INSERT INTO two SELECT g, 'committed' FROM generate_series(1, 50) g; SAVEPOINT s; INSERT INTO two VALUES (0, 'sub'); PREPARE TRANSACTION 'commit_${round}';
BEGIN; INSERT INTO two SELECT g, 'aborted' FROM generate_series(1, 50) g; PREPARE TRANSACTION 'abort_${round}';
BEGIN; INSERT INTO two VALUES (${round}, 'left open'); CREATE TABLE pending_${round} (id int); PREPARE TRANSACTION 'open_${round}';
COMMIT PREPARED 'commit_${round}'; ROLLBACK PREPARED 'abort_${round}';${
  round > 0 ? `\nCOMMIT PREPARED 'open_${round - 1}';` : ""
}`;

const inCopy = (): string => `
CREATE TABLE c (id int PRIMARY KEY, v text); INSERT INTO c SELECT g, md5(g::text) FROM generate_series(1, 1500) g;
UPDATE c SET v = 'x' WHERE id % 3 = 0; VACUUM c; VACUUM pg_class; CREATE INDEX ON c (v);`;

const shrink = (round: number): string => `
CREATE TABLE shrink_${round} AS SELECT g AS id, repeat('s', 200) AS v FROM generate_series(1, 6000) g;
VACUUM shrink_${round};
DELETE FROM shrink_${round} WHERE id > 1500; VACUUM shrink_${round};
INSERT INTO shrink_${round} SELECT g, 'regrown' FROM generate_series(1, 4000) g; VACUUM shrink_${round};`;
