// SQL that makes PostgreSQL write every kind of WAL record that this program reads, a little of each.

const images = (method: string): string => `
  set wal_compression = ${method};
  create index images_${method} on still (t, n);`;

/** Database and text, in order. */
export const WORKLOAD: readonly (readonly [db: string, sql: string])[] = [
  [
    "postgres",
    `
    create table wide (n int, t text);
    insert into wide select i, md5(i::text) || repeat('x', i % 40) from generate_series(1, 4000) i;
    create table still as select * from wide;
    ${["off", "pglz", "lz4", "zstd"].map(images).join("")}
    checkpoint;
    set wal_compression = lz4;
    update wide set n = n + 1 where n % 10 = 0;
    checkpoint;
    set wal_compression = zstd;
    delete from wide where n % 7 = 0;
    vacuum wide;
    update wide set t = t || 'y' where n % 11 = 0;
    set wal_compression = pglz;
    checkpoint;
    select count(*) from wide;
    set wal_consistency_checking = 'heap,btree';
    insert into wide values (-1, 'checked');
    reset wal_consistency_checking;
    `,
  ],
  [
    "postgres",
    `
    create table m (id int primary key, v int);
    insert into m select i, 0 from generate_series(1, 50) i;
    vacuum freeze m;
    insert into m values (100, 1);
    begin; select * from m where id = 1 for key share;
    savepoint s; update m set v = 1 where id = 1; release s; commit;
    vacuum freeze m;
    begin; select * from m where id = 2 for update; commit;
    vacuum freeze m;
    update m set v = 2 where id = 3;
    vacuum freeze m;
    delete from m where id = 4;
    create table gone (id serial primary key, t text);
    insert into gone (t) select repeat('z', 3000) from generate_series(1, 30);
    begin; savepoint a; insert into gone (t) values ('1'); rollback to a;
    savepoint b; insert into gone (t) values ('2'); release b; commit;
    begin; create table never (i int); insert into never values (1); rollback;
    truncate gone;
    insert into gone (t) values ('3');
    create table shrunk as select i from generate_series(1, 3000) i;
    delete from shrunk where i > 10; vacuum shrunk;
    drop table gone;
    copy m from program 'printf "201\\t1\\n202\\t2\\n"';
    cluster m using m_pkey;
    vacuum full pg_class;
    `,
  ],
  [
    "postgres",
    `
    begin; insert into m values (301, 0); create table prepared_rel (i int);
    savepoint q; insert into m values (302, 0); release q;
    prepare transaction 'a gid: with colon';
    commit prepared 'a gid: with colon';
    begin; insert into m values (303, 0); create table prepared_gone (i int);
    prepare transaction 'second';
    rollback prepared 'second';
    begin; drop table prepared_rel; prepare transaction 'third'; commit prepared 'third';
    select pg_replication_origin_create('one'), pg_replication_origin_create('two');
    select pg_replication_origin_advance('two', '1/AABBCC08');
    select pg_replication_origin_session_setup('one');
    begin; select pg_replication_origin_xact_setup('5/12345678', '2020-02-02 02:02:02.020202+00');
    insert into m values (304, 0); commit;
    begin; select pg_replication_origin_xact_setup('5/22345678', '2020-02-02 02:02:03+00');
    insert into m values (305, 0);
    prepare transaction 'from elsewhere';
    select pg_replication_origin_xact_setup('5/32345678', '2020-02-02 02:02:04+00');
    commit prepared 'from elsewhere';
    select pg_replication_origin_session_reset();
    select pg_replication_origin_drop('two');
    select pg_logical_emit_message(true, 'prefix', 'hello'), pg_logical_emit_message(false, '', '');
    select pg_create_restore_point('a point');
    select pg_backup_start('label', true); select pg_backup_stop();
    `,
  ],
  ["postgres", "alter system set full_page_writes = off; select pg_reload_conf(); checkpoint;"],
  ["postgres", "alter system reset full_page_writes; select pg_reload_conf(); checkpoint;"],
  ["postgres", "create database copied strategy file_copy;"],
  ["postgres", "create database logged strategy wal_log;"],
  ["logged", "create table t (i int); insert into t values (1);"],
  ["postgres", "drop database copied; drop database logged; select pg_switch_wal();"],
  [
    "postgres",
    `
    do $$ begin for i in 1..34000 loop
      begin insert into m values (i + 1000, 0); if i % 1000 = 0 then raise exception 'x'; end if;
      exception when others then null; end;
    end loop; end $$;
    truncate m;
    `,
  ],
];

/** After a restart with another max_connections. */
export const afterRestart = "create table last (i int); insert into last values (1);";

/** Records that the workload must have made, as pg_waldump names them. */
export const REQUIRED_KINDS: readonly string[] = [
  "XLOG CHECKPOINT_SHUTDOWN",
  "XLOG CHECKPOINT_ONLINE",
  "XLOG NEXTOID",
  "XLOG SWITCH",
  "XLOG BACKUP_END",
  "XLOG PARAMETER_CHANGE",
  "XLOG RESTORE_POINT",
  "XLOG FPW_CHANGE",
  "XLOG FPI",
  "XLOG FPI_FOR_HINT",
  "Transaction COMMIT",
  "Transaction ABORT",
  "Transaction PREPARE",
  "Transaction COMMIT_PREPARED",
  "Transaction ABORT_PREPARED",
  "Transaction ASSIGNMENT",
  "Storage CREATE",
  "Storage TRUNCATE",
  "CLOG ZEROPAGE",
  "Database CREATE_FILE_COPY",
  "Database CREATE_WAL_LOG",
  "Database DROP",
  "MultiXact CREATE_ID",
  "RelMap UPDATE",
  "Standby RUNNING_XACTS",
  "Heap2 VISIBLE",
  "Heap2 MULTI_INSERT",
  "Heap INSERT",
  "Heap DELETE",
  "Heap UPDATE",
  "Heap HOT_UPDATE",
  "Heap LOCK",
  "ReplicationOrigin SET",
  "ReplicationOrigin DROP",
  "LogicalMessage MESSAGE",
];
