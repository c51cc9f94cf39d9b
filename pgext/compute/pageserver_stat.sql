-- Views of what a compute without disks does with pages. Run it in a database of the compute:
--   psql URI -f pgext/compute/pageserver_stat.sql
-- They stay in the history of the branch; on a server that is no such compute they are empty.

CREATE SCHEMA IF NOT EXISTS pageserver_stat;

-- One row for each number since the server's start.
CREATE OR REPLACE VIEW pageserver_stat.counters AS
  SELECT key AS name, value::bigint AS value
    FROM json_each_text(nullif(current_setting('pageserver.stat', true), '')::json);

-- Reads of pages: where from, how often asked ahead with success, how long waited for.
CREATE OR REPLACE VIEW pageserver_stat.reads AS
  SELECT (s ->> 'pages_read_remotely')::bigint AS read_remotely,
         (s ->> 'pages_read_from_store')::bigint AS read_locally,
         (s ->> 'pages_read_as_zeros')::bigint AS read_as_zeros,
         round((s ->> 'pages_read_from_store')::numeric
               / nullif((s ->> 'pages_read_from_store')::numeric
                        + (s ->> 'pages_read_remotely')::numeric, 0), 3) AS hit_ratio,
         (s ->> 'pages_prefetched')::bigint AS prefetched,
         (s ->> 'prefetched_pages_used')::bigint AS prefetched_used,
         (s ->> 'waited_us')::bigint / 1000.0 AS waited_ms,
         (s ->> 'lag_bytes')::bigint AS lag_bytes
    FROM (SELECT nullif(current_setting('pageserver.stat', true), '')::json) AS stat (s)
   WHERE s IS NOT NULL;

-- What the local store must keep at the moment, and why; the rest of it is a cache.
CREATE OR REPLACE VIEW pageserver_stat.kept AS
  SELECT substr(name, 12) AS reason, value AS bytes
    FROM pageserver_stat.counters WHERE name LIKE 'kept\_bytes\_%';

-- WAL that the page server has not taken in yet; from `bytes_max` on writers wait, as they have so far.
CREATE OR REPLACE VIEW pageserver_stat.lag AS
  SELECT (s ->> 'lag_bytes')::bigint AS bytes,
         (s ->> 'lag_bytes_max')::bigint AS bytes_max,
         (s ->> 'writers_waited_us')::bigint / 1000.0 AS writers_waited_ms
    FROM (SELECT nullif(current_setting('pageserver.stat', true), '')::json) AS stat (s)
   WHERE s IS NOT NULL;
