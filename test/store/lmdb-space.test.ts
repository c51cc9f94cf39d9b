// What is made sure of before LMDB is let at a disk that may be full.

import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import type { Lsn } from "../../src/core/lsn.ts";
import { layersPath } from "../../src/store/data-dir.ts";
import { lmdbWriteError, makeLockFile } from "../../src/store/lmdb-space.ts";
import { StoreFailed, StoreFull } from "../../src/store/store-errors.ts";
import { inScratch } from "./scratch.ts";
import { StoreFixture, seal } from "./store-fixture.ts";

const hasBlock = (file: string): boolean => fs.statSync(file).blocks > 0;

describe("the lock file", () => {
  test("has real bytes, also one that a killed process has left sparse; one in use is left alone", () =>
    inScratch((directory) => {
      const file = `${directory}/layer`;
      makeLockFile(file);
      expect(hasBlock(`${file}-lock`)).toBe(true);
      fs.writeFileSync(`${file}-lock`, "in use");
      makeLockFile(file);
      expect(fs.readFileSync(`${file}-lock`, "utf8")).toBe("in use");
      fs.rmSync(`${file}-lock`);
      fs.writeFileSync(`${file}-lock`, "");
      fs.truncateSync(`${file}-lock`, 464);
      expect(hasBlock(`${file}-lock`)).toBe(false);
      makeLockFile(file);
      expect(hasBlock(`${file}-lock`)).toBe(true);
    }));

  test("of a sealed layer is there when it is sealed: reading needs no space", () =>
    inScratch(async (directory) => {
      const fixture = new StoreFixture(directory);
      const store = fixture.create(0);
      store.sink.putZeroPage(store.sink.groups.id(1, 1663, 5, 16_384, 0), 0, 100);
      store.freeze(100 as Lsn, 0 as Lsn);
      await seal(store);
      const layers = layersPath(fixture.timelineDirectory(0));
      const names = fs.readdirSync(layers).sort();
      expect(names).toHaveLength(2);
      expect(names[1]).toBe(`${names[0]}-lock`);
      expect(hasBlock(`${layers}/${names[1]}`)).toBe(true);
      expect(hasBlock(`${directory}/catalog-lock`)).toBe(true);
      await fixture.close();
    }));
});

test("LMDB's EIO is a full disk's when the disk is full, else a failure", () =>
  inScratch((directory) => {
    const eio = Object.assign(new Error("Input/output error"), { code: 5 });
    const at = `${directory}/layer`;
    expect(lmdbWriteError(at, "writing", eio)).toBeInstanceOf(StoreFailed);
    const real = fs.statfsSync;
    Object.assign(fs, { statfsSync: () => ({ bavail: 3, bsize: 4_096 }) });
    try {
      expect(lmdbWriteError(at, "writing", eio)).toBeInstanceOf(StoreFull);
    } finally {
      Object.assign(fs, { statfsSync: real });
    }
    const enospc = Object.assign(new Error("No space left on device"), { code: 28 });
    expect(lmdbWriteError(at, "writing", enospc)).toBeInstanceOf(StoreFull);
  }));

test("a layer and a catalog that cannot begin are errors, and the process lives", () =>
  inScratch((directory) => {
    const library = `${directory}/full-disk.so`;
    const source = path.join(import.meta.dirname, "../support/full-disk.c");
    execFileSync("cc", ["-shared", "-fPIC", "-o", library, source, "-ldl"]);
    fs.writeFileSync(`${directory}/full`, "");
    const root = path.resolve(import.meta.dirname, "../..");
    const script = `
      import { Catalog } from "${root}/src/store/catalog.ts";
      import { LayerWriter } from "${root}/src/store/layer-writer.ts";
      for (const open of [
        () => new Catalog("${directory}/disk/catalog"),
        () => new LayerWriter("${directory}/disk/layer", "t", 10, 1000, 100),
      ]) {
        try { open(); console.log("opened"); } catch (error) { console.log(error.name); }
      }`;
    fs.mkdirSync(`${directory}/disk`);
    const ran = spawnSync(
      process.execPath,
      ["--import", "tsx", "--input-type=module", "--eval", script],
      {
        cwd: root,
        encoding: "utf8",
        env: {
          ...process.env,
          LD_PRELOAD: library,
          FULL_DISK_DIR: `${directory}/disk`,
          FULL_DISK_FLAG: `${directory}/full`,
        },
      },
    );
    expect([ran.stdout, ran.signal, ran.status]).toEqual(["StoreFull\nStoreFull\n", null, 0]);
  }));
