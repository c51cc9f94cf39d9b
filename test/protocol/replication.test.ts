import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MalformedInput } from "../../src/core/assert.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { ByteReader, ByteWriter } from "../../src/protocol/bytes.ts";
import {
  baseBackupSql,
  buildQuery,
  buildStandbyStatus,
  createSlotSql,
  parseBackupMessage,
  parseCopyMessage,
  parseDataRow,
  parseIdentity,
  parseServerError,
  parseTli,
  startReplicationSql,
} from "../../src/protocol/replication.ts";

const lsn = fc.nat({ max: Number.MAX_SAFE_INTEGER - 1 }).map(Lsn.of);

describe("replication messages", () => {
  test("WAL data: positions and a view of the bytes", () => {
    fc.assert(
      fc.property(lsn, lsn, fc.uint8Array(), (at, end, payload) => {
        const body = new ByteWriter().u8(0x77).lsn(at).lsn(end).i64(-5n).raw(payload).done();
        const message = parseCopyMessage(body);
        expect(message).toMatchObject({ kind: "wal", at, end });
        if (message.kind !== "wal") throw new Error("not WAL");
        expect([...message.bytes]).toEqual([...payload]);
        expect(message.bytes.buffer).toBe(body.buffer);
      }),
    );
  });

  test("keepalive, and every truncation of it is malformed", () => {
    const body = new ByteWriter().u8(0x6b).lsn(Lsn.parse("16/B374D848")).i64(0n).u8(1).done();
    expect(parseCopyMessage(body)).toEqual({
      kind: "keepalive",
      end: Lsn.parse("16/B374D848"),
      replyRequested: true,
    });
    for (let n = 0; n < body.length; n++) {
      expect(() => parseCopyMessage(body.subarray(0, n))).toThrow(MalformedInput);
    }
    expect(() => parseCopyMessage(Uint8Array.of(...body, 0))).toThrow(/too many/);
  });

  test("unknown and interpreted messages are named", () => {
    expect(() => parseCopyMessage(Uint8Array.of(0x71))).toThrow(/0x71/);
    expect(() => parseCopyMessage(Uint8Array.of(0x30))).toThrow(/interpreted/);
  });

  test("status update: CopyData of 34 bytes, microseconds since 2000", () => {
    const status = {
      write: Lsn.of(0x1_0000_0003),
      flush: Lsn.of(2),
      apply: Lsn.of(1),
      replyRequested: true,
    };
    const frame = buildStandbyStatus(status, Date.UTC(2000, 0, 1, 0, 0, 1));
    const reader = new ByteReader(frame);
    expect(reader.u8("type")).toBe("d".charCodeAt(0));
    expect(reader.u32("length")).toBe(4 + 34);
    expect(reader.u8("kind")).toBe("r".charCodeAt(0));
    expect(reader.lsn("write")).toBe(status.write);
    expect(reader.lsn("flush")).toBe(status.flush);
    expect(reader.lsn("apply")).toBe(status.apply);
    expect(reader.i64("time")).toBe(1_000_000n);
    expect(reader.u8("reply")).toBe(1);
    reader.end("status");
  });

  test("errors carry severity, SQLSTATE, message and detail", () => {
    const body = new ByteWriter();
    for (const [type, text] of Object.entries({
      S: "FEHLER",
      V: "ERROR",
      C: "58P01",
      M: "weg",
      D: "d",
    })) {
      body.u8(type.charCodeAt(0)).cstring(text);
    }
    expect(parseServerError(body.u8(0).done())).toMatchObject({
      severity: "ERROR",
      code: "58P01",
      message: "weg",
      detail: "d",
    });
    expect(() => parseServerError(Uint8Array.of(0x4d, 0x61))).toThrow(MalformedInput);
  });

  test("rows, identity, timeline ids", () => {
    const row = new ByteWriter().u16(4);
    row.u32(19).text("7123456789012345678").u32(1).text("3").u32(9).text("0/15D6A00").i32(-1);
    const parsed = parseDataRow(row.done());
    expect(parsed).toEqual(["7123456789012345678", "3", "0/15D6A00", null]);
    expect(parseIdentity(parsed)).toEqual({
      systemId: "7123456789012345678",
      tli: 3,
      xlogpos: Lsn.parse("0/15D6A00"),
    });
    expect(() => parseIdentity(undefined)).toThrow(/IDENTIFY_SYSTEM/);
    expect(() => parseIdentity(["x", "1", "0/0"])).toThrow(/IDENTIFY_SYSTEM/);
    expect(parseTli("4294967295")).toBe(4294967295);
    for (const bad of ["0", "-1", "4294967296", "1.5", "", null, undefined]) {
      expect(() => parseTli(bad)).toThrow(MalformedInput);
    }
    expect(() => parseDataRow(new ByteWriter().u16(1).i32(-2).done())).toThrow(MalformedInput);
  });

  test("base backup payloads", () => {
    expect(
      parseBackupMessage(new ByteWriter().u8(0x6e).cstring("base.tar").cstring("").done()),
    ).toEqual({ kind: "archive", name: "base.tar", location: "" });
    expect(parseBackupMessage(new ByteWriter().u8(0x70).i64(77n).done())).toEqual({
      kind: "progress",
      doneBytes: 77,
    });
    expect(parseBackupMessage(Uint8Array.of(0x6d))).toEqual({ kind: "manifest" });
    expect(parseBackupMessage(Uint8Array.of(0x64, 1, 2))).toEqual({
      kind: "data",
      bytes: Uint8Array.of(1, 2),
    });
    expect(() => parseBackupMessage(Uint8Array.of(0x7a))).toThrow(/0x7a/);
  });

  test("commands quote what they are given", () => {
    expect(startReplicationSql({ slot: "s_1", lsn: Lsn.parse("1/AB"), tli: 2 })).toBe(
      'START_REPLICATION SLOT "s_1" PHYSICAL 1/AB TIMELINE 2',
    );
    expect(startReplicationSql({ slot: undefined, lsn: Lsn.of(0x10), tli: undefined })).toBe(
      "START_REPLICATION PHYSICAL 0/10",
    );
    for (const bad of ['a"b', "A", "", "x".repeat(64), "a b"]) {
      expect(() => createSlotSql(bad)).toThrow(/cannot name a replication slot/);
    }
    expect(baseBackupSql({ label: "it's", checkpoint: "fast", maxRateKiB: 64 })).toContain(
      "LABEL 'it''s'",
    );
    expect([...buildQuery("X")]).toEqual([0x51, 0, 0, 0, 6, 0x58, 0]);
  });
});
