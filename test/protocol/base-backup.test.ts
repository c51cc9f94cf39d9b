// What is in the archive, from a made-up source. That PostgreSQL starts from it: test/io.

import { describe, expect, test } from "vitest";
import type { BackupSource } from "../../src/core/backup-source.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES, RELSEG_BLOCKS, type RelTag } from "../../src/core/page.ts";
import { baseBackupTar, fullBackupTar } from "../../src/protocol/base-backup.ts";
import { parseOrigins, withoutCrc } from "../../src/protocol/backup/state-files.ts";
import { readTar } from "../../src/protocol/backup/tar.ts";
import { buildCheckPoint, buildControlFile } from "../../src/protocol/control-file.ts";
import { CHECKPOINT, CONTROL } from "../support/control.ts";

const OPTIONS = { timeS: 1_700_000_000 };

interface Relation {
  readonly rel: number;
  readonly fork: number;
  readonly blocks: number;
}

/** One database, 5. Every page begins with its fork and its block number. */
function sourceOf(
  relations: readonly Relation[],
  change: Partial<BackupSource> = {},
): BackupSource {
  return {
    lsn: Lsn.parse("0/3001000"),
    prevLsn: Lsn.parse("0/3000F00"),
    pgVersion: 15,
    tli: 1,
    databases: async () => [
      { spc: 1664, db: 0, relmap: new Uint8Array(512).fill(1) },
      { spc: 1663, db: 5, relmap: new Uint8Array(512).fill(2) },
    ],
    relations: async (_spc, db) => (db === 5 ? relations : []),
    pages: async (rel: RelTag, from, count) => {
      const bytes = new Uint8Array(count * PAGE_BYTES);
      const view = new DataView(bytes.buffer);
      for (let i = 0; i < count; i++) {
        view.setUint32(i * PAGE_BYTES, rel.fork);
        view.setUint32(i * PAGE_BYTES + 4, from + i);
      }
      return bytes;
    },
    slruSegments: async () => [],
    slruSegment: async () => new Uint8Array(0),
    twoPhase: async () => [],
    origins: async () => [],
    control: async () => buildControlFile(CONTROL, 15),
    checkpoint: async () => buildCheckPoint(CHECKPOINT, 15),
    ...change,
  };
}

interface Member {
  readonly size: number;
  /** First bytes. */
  readonly head: Buffer;
  /** Fork and block in each page, as far as they differ from what is expected by their order. */
  readonly outOfOrder: number;
}

async function unpack(
  archive: AsyncIterable<Uint8Array>,
  firstBlock = (_path: string): number => 0,
): Promise<Map<string, Member>> {
  const members = new Map<string, Member>();
  for await (const { path, kind, size, body } of readTar(archive)) {
    let head = Buffer.alloc(0);
    let at = 0;
    let outOfOrder = 0;
    for await (const piece of body) {
      if (head.length < 4096) head = Buffer.concat([head, piece]);
      const buffer = Buffer.from(piece.buffer, piece.byteOffset, piece.length);
      for (let page = (PAGE_BYTES - (at % PAGE_BYTES)) % PAGE_BYTES; page + 8 <= piece.length;) {
        const block = firstBlock(path) + (at + page) / PAGE_BYTES;
        if (buffer.readUInt32BE(page + 4) !== block) outOfOrder++;
        page += PAGE_BYTES;
      }
      at += piece.length;
    }
    expect(at).toBe(size);
    members.set(kind === "directory" ? `${path}/` : path, { size, head, outOfOrder });
  }
  return members;
}

describe("the archive of a full backup", () => {
  test("cuts relations at 1 GiB, every block in its place", async () => {
    const source = sourceOf([
      { rel: 70, fork: 0, blocks: RELSEG_BLOCKS + 300 },
      { rel: 71, fork: 0, blocks: 0 },
      { rel: 72, fork: 2, blocks: 1 },
    ]);
    const members = await unpack(fullBackupTar(source, OPTIONS), (path) =>
      path.endsWith(".1") ? RELSEG_BLOCKS : 0,
    );
    expect(members.get("base/5/70")).toMatchObject({ size: 2 ** 30, outOfOrder: 0 });
    expect(members.get("base/5/70.1")).toMatchObject({ size: 300 * PAGE_BYTES, outOfOrder: 0 });
    expect(members.get("base/5/71")).toMatchObject({ size: 0 });
    expect(members.get("base/5/72_vm")).toMatchObject({ size: PAGE_BYTES });
    expect([...members.keys()].filter((path) => /\/7\d/.test(path)).length).toBe(4);
  });

  test("a relation of exactly one segment has one file", async () => {
    const source = sourceOf([{ rel: 70, fork: 1, blocks: RELSEG_BLOCKS }]);
    const members = await unpack(fullBackupTar(source, OPTIONS));
    expect([...members.keys()].filter((path) => path.includes("/70"))).toEqual(["base/5/70_fsm"]);
  });

  test("an unlogged relation is what its init fork is, and nothing more", async () => {
    const source = sourceOf([
      { rel: 80, fork: 0, blocks: 9 },
      { rel: 80, fork: 1, blocks: 3 },
      { rel: 80, fork: 3, blocks: 1 },
    ]);
    for (const archive of [fullBackupTar(source, OPTIONS), baseBackupTar(source, OPTIONS)]) {
      const members = await unpack(archive);
      const files = [...members.keys()].filter((path) => path.includes("/80"));
      expect(files.sort()).toEqual(["base/5/80", "base/5/80_init"]);
      expect(members.get("base/5/80")?.size).toBe(PAGE_BYTES);
      expect(members.get("base/5/80")?.head.readUInt32BE(0)).toBe(3);
    }
  });

  test("carries transaction state, versions and settings", async () => {
    const body = new TextEncoder().encode("prepared");
    const source = sourceOf([], {
      twoPhase: async () => [{ xid: 0x2ab, body }],
      origins: async () => [
        { id: 3, lsn: Lsn.of(0) },
        { id: 4, lsn: Lsn.of(99) },
      ],
      slruSegments: async (slru) => (slru === 0 ? [0] : []),
      slruSegment: async () => new Uint8Array(3 * PAGE_BYTES).fill(5),
    });
    const members = await unpack(fullBackupTar(source, OPTIONS));
    const text = (path: string): string => members.get(path)?.head.toString() ?? "missing";
    const bytes = (path: string): Uint8Array => new Uint8Array(members.get(path)?.head ?? []);
    expect(withoutCrc(bytes("pg_twophase/000002AB"), "x")).toEqual(body);
    expect(parseOrigins(bytes("pg_logical/replorigin_checkpoint"))).toEqual([{ id: 4, lsn: 99 }]);
    expect(members.get("pg_xact/0000")?.size).toBe(3 * PAGE_BYTES);
    // nextMulti and nextMultiOffset are in the middle of pages that have not been stored.
    expect(members.get("pg_multixact/offsets/0000")?.size).toBe(PAGE_BYTES);
    expect(members.get("pg_multixact/members/0000")?.size).toBe(PAGE_BYTES);
    expect(text("PG_VERSION")).toBe("15\n");
    expect(text("base/5/PG_VERSION")).toBe("15\n");
    expect(members.get("base/5/pg_filenode.map")?.head[0]).toBe(2);
    expect(text("postgresql.conf")).toContain("max_prepared_transactions = 1\n");
    expect(text("pg_hba.conf")).not.toMatch(/0\.0\.0\.0|::\/0|samenet/);
    expect(text("neon.signal")).toBe("PREV LSN: 0/3000F00");
    expect(members.get("pg_wal/000000010000000000000003")?.size).toBe(16 * 1024 * 1024);
    expect(members.has("pg_tblspc/")).toBe(true);
    expect([...members.keys()].at(-1)).toBe("global/pg_control");
  });

  test("pages are asked for only when the archive is read", async () => {
    let asked = 0;
    const plain = sourceOf([{ rel: 70, fork: 0, blocks: 100_000 }]);
    const source: BackupSource = {
      ...plain,
      pages: (rel, from, count) => {
        asked += count;
        return plain.pages(rel, from, count);
      },
    };
    const archive = fullBackupTar(source, OPTIONS);
    for (let read = 0; read < 10_000_000;) {
      const next = await archive.next();
      read += next.done === true ? Infinity : next.value.length;
    }
    expect(asked * PAGE_BYTES).toBeLessThan(13_000_000);
    await archive.return();
  });

  test("a source that gives too few pages is our bug, not a short file", async () => {
    const source = sourceOf([{ rel: 70, fork: 0, blocks: 4 }], {
      pages: async () => new Uint8Array(PAGE_BYTES),
    });
    await expect(unpack(fullBackupTar(source, OPTIONS))).rejects.toThrow("8192 bytes for 4 pages");
  });
});
