// Rules of the import on made-up directories; a real one is imported in test/io/compute.test.ts.

import { describe, expect, test } from "vitest";
import { KIND } from "../../src/core/key.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES, RELSEG_BLOCKS } from "../../src/core/page.ts";
import { formatOrigins, withCrc } from "../../src/protocol/backup/state-files.ts";
import { type ControlFile, DB_STATE, buildControlFile } from "../../src/protocol/control-file.ts";
import { DataDirImport, type ImportResult } from "../../src/protocol/import-data-dir.ts";
import { CHECKPOINT, CONTROL } from "../support/control.ts";
import { ImageSink } from "../support/image-source.ts";

const BASE = Lsn.parse("0/1511A28");

function controlFile(change: Partial<ControlFile> = {}): Uint8Array {
  const checkPointCopy = { ...CHECKPOINT, redo: BASE, tli: 4, nextXid: 800 };
  const shutDown = { ...CONTROL, state: DB_STATE.SHUTDOWNED, checkPoint: BASE, checkPointCopy };
  return buildControlFile({ ...shutDown, ...change }, 15);
}

function relmap(): Uint8Array {
  const map = new Uint8Array(512);
  map.set(withCrc(new Uint8Array(504).fill(3)));
  return map;
}

type Files = Record<string, Uint8Array | number>;

const whole = (): Files => ({
  "global/pg_control": controlFile(),
  "global/pg_filenode.map": relmap(),
  "base/5/pg_filenode.map": relmap(),
});

/** Numbers stand for files of that many bytes, each page begins with its number + 1. */
async function importAll(
  files: Files,
  state: "exact" | "fuzzy" = "exact",
): Promise<{ readonly sink: ImageSink; readonly result: ImportResult }> {
  const sink = new ImageSink();
  const job = new DataDirImport(sink, { baseLsn: BASE, state });
  for (const [path, content] of Object.entries(files)) {
    const size = typeof content === "number" ? content : content.length;
    await job.entry({ path, kind: "file", size, body: bodyOf(content) });
  }
  return { sink, result: job.finish() };
}

async function* bodyOf(content: Uint8Array | number): AsyncGenerator<Uint8Array> {
  if (typeof content !== "number") return yield content;
  const chunk = new Uint8Array(64 * PAGE_BYTES);
  for (let at = 0; at < content; at += chunk.length) {
    for (let i = 0; i < 64; i++) chunk[i * PAGE_BYTES] = at / PAGE_BYTES + i + 1;
    yield chunk.subarray(0, content - at);
  }
}

const size = (sink: ImageSink, rel: number, fork = 0): number | undefined => {
  const value = sink.value(KIND.REL_SIZE, 1663, 5, rel, fork);
  return value && new DataView(value.buffer).getUint32(0, true);
};

describe("import of a data directory", () => {
  test("says what it found", async () => {
    const { result } = await importAll({ ...whole(), "base/5/1259": 3 * PAGE_BYTES });
    expect(result).toMatchObject({
      systemId: CONTROL.systemId,
      pgVersion: 15,
      tli: 4,
      relations: 1,
      pages: 3,
    });
    expect(result.bytes).toBe(8192 + 512 + 512 + 3 * PAGE_BYTES);
    expect(result.control.checkPointCopy.nextXid).toBe(800);
  });

  test("segments, in any order, make one relation", async () => {
    const { sink } = await importAll({
      "base/5/77.1": 2 * PAGE_BYTES,
      "base/5/77": RELSEG_BLOCKS * PAGE_BYTES,
      "base/5/77_fsm": 0,
      ...whole(),
    });
    expect(size(sink, 77)).toBe(RELSEG_BLOCKS + 2);
    expect(size(sink, 77, 1)).toBe(0);
    const group = sink.groups.id(KIND.PAGE, 1663, 5, 77, 0);
    expect(sink.page(group, RELSEG_BLOCKS + 1)?.[0]).toBe(2);
  });

  test("an exact directory may have no partial pages and no partial segments", async () => {
    await expect(importAll({ ...whole(), "base/5/77": 9000 })).rejects.toThrow(
      "808 bytes of a page",
    );
    const gap = importAll({ ...whole(), "base/5/77": PAGE_BYTES, "base/5/77.1": PAGE_BYTES });
    await expect(gap).rejects.toThrow("segment 0 has 1 of 131072 pages");
    const orphan = importAll({ ...whole(), "base/6/77": PAGE_BYTES });
    await expect(orphan).rejects.toThrow("pg_filenode.map of database 6 is missing");
  });

  test("a fuzzy one may: WAL brings those pages", async () => {
    const files = { ...whole(), "base/5/77": PAGE_BYTES + 5, "base/5/77.1": PAGE_BYTES };
    const { sink } = await importAll(files, "fuzzy");
    expect(size(sink, 77)).toBe(RELSEG_BLOCKS + 1);
    const group = sink.groups.id(KIND.PAGE, 1663, 5, 77, 0);
    expect(sink.page(group, 0)?.[0]).toBe(1);
    for (const block of [1, 2, RELSEG_BLOCKS - 1]) {
      expect(sink.page(group, block)).toEqual(new Uint8Array(PAGE_BYTES));
    }
    expect(sink.page(group, RELSEG_BLOCKS)?.[0]).toBe(1);
  });

  test("of an unlogged relation only the init fork has history", async () => {
    const { sink } = await importAll({
      "base/5/88": PAGE_BYTES,
      "base/5/88_fsm": PAGE_BYTES,
      "base/5/88_init": 0,
      ...whole(),
    });
    expect([size(sink, 88), size(sink, 88, 1), size(sink, 88, 3)]).toEqual([
      undefined,
      undefined,
      0,
    ]);
  });

  test("transaction state: SLRU segments, prepared transactions, origins", async () => {
    const body = new TextEncoder().encode("prepared");
    const { sink } = await importAll({
      ...whole(),
      "pg_xact/0001": 2 * PAGE_BYTES,
      "pg_multixact/members/000A": PAGE_BYTES,
      "pg_twophase/000002AB": withCrc(body),
      "pg_logical/replorigin_checkpoint": formatOrigins([{ id: 7, lsn: BASE }]),
    });
    expect(sink.value(KIND.SLRU_SIZE, 0, 0, 1)).toEqual(Uint8Array.of(2, 0, 0, 0));
    expect(sink.value(KIND.SLRU_SIZE, 1, 0, 10)).toEqual(Uint8Array.of(1, 0, 0, 0));
    expect(sink.page(sink.groups.id(KIND.SLRU_PAGE, 0, 0, 1, 0), 1)?.[0]).toBe(2);
    expect(sink.value(KIND.TWO_PHASE, 0, 0, 0x2ab)).toEqual(body);
    expect(sink.value(KIND.ORIGIN, 0, 0, 7)).toEqual(
      Uint8Array.of(0x28, 0x1a, 0x51, 1, 0, 0, 0, 0),
    );
    expect(sink.value(KIND.CHECKPOINT)?.length).toBe(88);
  });

  test("a torn prepared transaction is an error, unless WAL has it again", async () => {
    const files = { ...whole(), "pg_twophase/000002AB": new Uint8Array(20).fill(1) };
    await expect(importAll(files)).rejects.toThrow("pg_twophase/000002AB: checksum");
    const { sink } = await importAll(files, "fuzzy");
    expect(sink.list(KIND.TWO_PHASE)).toEqual([]);
  });

  test("a damaged relation map is refused", async () => {
    const map = relmap();
    map[100]! ^= 1;
    await expect(importAll({ ...whole(), "base/5/pg_filenode.map": map }, "fuzzy")).rejects.toThrow(
      "base/5/pg_filenode.map: checksum",
    );
  });

  test.each(["pg_tblspc/16400", "pg_tblspc/16400/PG_15_202209061/5/1", "tablespace_map"])(
    "user tablespaces are refused: %s",
    async (path) => {
      await expect(importAll({ ...whole(), [path]: 10 }, "fuzzy")).rejects.toThrow("tablespace");
    },
  );

  test.each([
    ["a server that runs", { state: DB_STATE.IN_PRODUCTION }, "not shut down cleanly"],
    ["another checkpoint", { checkPoint: Lsn.of(BASE + 8) }, "not shut down cleanly"],
    ["another page size", { blockBytes: 4096 }, "page size is 4096"],
    ["another WAL segment size", { walSegmentBytes: 1 << 20 }, "WAL segment size is 1048576"],
    ["another PostgreSQL", { catalogVersion: 201909212 }, "none of PostgreSQL 14 to 17"],
  ])("refused: %s", async (_what, change, message) => {
    const files = { ...whole(), "global/pg_control": controlFile(change) };
    await expect(importAll(files)).rejects.toThrow(message);
  });

  test("half a directory is refused", async () => {
    const { "global/pg_control": _, ...noControl } = whole();
    await expect(importAll(noControl)).rejects.toThrow("global/pg_control is missing");
    const { "global/pg_filenode.map": __, ...noMap } = whole();
    await expect(importAll(noMap)).rejects.toThrow("global/pg_filenode.map is missing");
  });
});
