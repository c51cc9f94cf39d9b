import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import { SPC_DEFAULT, SPC_GLOBAL } from "../../src/core/page.ts";
import {
  parseDataDirPath,
  relationPath,
  slruPath,
  twoPhasePath,
  walFileName,
} from "../../src/protocol/data-dir-names.ts";

const oid = fc.integer({ min: 1, max: 0xffff_ffff });

describe("names in a data directory", () => {
  test("a relation's path and back", () => {
    const fork = fc.integer({ min: 0, max: 3 });
    const segment = fc.integer({ min: 0, max: 32_767 });
    fc.assert(
      fc.property(oid, oid, fork, segment, fc.boolean(), (db, rel, f, s, shared) => {
        const tag = shared
          ? { spc: SPC_GLOBAL, db: 0, rel, fork: f }
          : { spc: SPC_DEFAULT, db, rel, fork: f };
        expect(parseDataDirPath(relationPath(tag, s))).toEqual({
          kind: "relation",
          rel: tag,
          segment: s,
        });
      }),
    );
  });

  test("an SLRU segment's and a prepared transaction's path and back", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 0x1ffff }), (k, s) => {
        expect(parseDataDirPath(slruPath(k, s))).toEqual({ kind: "slru", slru: k, segment: s });
      }),
    );
    expect(twoPhasePath(0x2ab)).toBe("pg_twophase/000002AB");
    expect(parseDataDirPath("pg_twophase/000002AB")).toEqual({ kind: "two-phase", xid: 0x2ab });
  });

  test.each([
    ["relations by name", "base/5/1259_vm.3", "relation"],
    ["the shared relation map", "global/pg_filenode.map", "relmap"],
    ["a database's relation map", "base/16384/pg_filenode.map", "relmap"],
    ["pg_control", "global/pg_control", "control"],
    ["replication origins", "pg_logical/replorigin_checkpoint", "origins"],
    ["a link of a tablespace", "pg_tblspc/16400", "tablespace"],
    ["a file of a tablespace", "pg_tblspc/16400/PG_15_202209061/5/16401", "tablespace"],
    ["an archive of a tablespace", "PG_15_202209061/5/16401", "tablespace"],
  ])("%s", (_what, path, kind) => {
    expect(parseDataDirPath(path).kind).toBe(kind);
  });

  test.each([
    "base/5/t3_16384",
    "base/5/t3_16384_fsm.1",
    "base/5/pg_internal.init",
    "base/5/1259.0",
    "base/5/01259",
    "base/5/1259_xyz",
    "base/5/4294967296",
    "base/pgsql_tmp/pgsql_tmp77.0",
    "base/5/sub/1259",
    "global/pg_internal.init",
    "pg_wal/000000010000000000000001",
    "pg_xact/xyz",
    "pg_multixact/0000",
    "pg_stat/pgstat.stat",
    "postgresql.conf",
    "server.key",
    "pg_tblspc",
    "",
  ])("%s means nothing", (path) => {
    expect(parseDataDirPath(path)).toEqual({ kind: "ignored" });
  });

  test("WAL files are named as PostgreSQL names them", () => {
    expect(walFileName(1, Lsn.parse("16/B374D848"))).toBe("0000000100000016000000B3");
    expect(walFileName(11, Lsn.parse("0/0"))).toBe("0000000B0000000000000000");
    expect(walFileName(1, Lsn.parse("1/FFFFFFFF"))).toBe("0000000100000001000000FF");
  });
});
