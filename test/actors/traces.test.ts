// Spans of the actors' work, as an SDK gets them that was loaded beside the program.

import { SpanStatusCode, trace } from "@opentelemetry/api";
import { afterEach, expect, test } from "vitest";
import { type RedoPoolMsg, spawnRedoPool } from "../../src/actors/redo-pool.ts";
import { ask, startSystem } from "../../src/actors/runtime.ts";
import { spawnUploader, upload } from "../../src/actors/uploader.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import type { RedoResult } from "../../src/core/redo-request.ts";
import { openSpan, setTraces } from "../../src/io/traces.ts";
import { PageClient } from "../support/page-client.ts";
import { TENANT, TIMELINE, pageServiceOfTest } from "../support/page-service.ts";
import { keepSpans } from "../support/spans.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { BASE } from "../support/timeline-world.ts";

const REL = { spc: 1663, db: 5, rel: 16384, fork: 0 };
const ONCE = { crashesMax: 0, windowMs: 1, backOffMs: 0, backOffMsMax: 0 };
const OK = { code: SpanStatusCode.UNSET };
const t = timelineTest();
const { start, service } = pageServiceOfTest();

afterEach(() => {
  setTraces("off");
  trace.disable();
});

async function readPages(count: number): Promise<void> {
  const client = await PageClient.connect({ port: service().port });
  const stream = await client.pagestream(TENANT, TIMELINE, 3);
  for (let block = 0; block < count; block++) await stream.getPage(REL, block);
  await client.close();
}

test("page batches have spans when they are asked for, and none before and after", async () => {
  const spans = keepSpans();
  await start();
  await readPages(1);
  expect(spans).toEqual([]);
  expect(openSpan("merge", () => expect.fail("attributes are not wanted"))).toBeUndefined();
  setTraces("on");
  await readPages(2);
  const attributes = { tenant: TENANT, timeline: TIMELINE, requests: 1 };
  const one = { name: "page batch", attributes, status: OK };
  expect(spans).toEqual([one, one]);
  setTraces("off");
  await readPages(1);
  expect(spans).toHaveLength(2);
});

test("without an SDK they cost nothing and break nothing", async () => {
  setTraces("on");
  await start();
  await readPages(1);
});

test("a merge has one", async () => {
  const spans = keepSpans();
  setTraces("on");
  t.addPages(20);
  await t.takeIn(BASE);
  expect(await t.seal()).toMatchObject({ ok: true });
  expect(await t.world.ask((reply) => ({ kind: "compact", reply }))).toMatchObject({ ok: true });
  const timeline = t.world.main.entry.id;
  const attributes = { tenant: t.world.tenant.id, timeline };
  expect(spans.filter(({ name }) => name === "merge")).toEqual([
    { name: "merge", attributes, status: OK },
  ]);
});

test("what fails says so: redo that cannot start, an upload that is refused", async () => {
  const spans = keepSpans();
  setTraces("on");
  const system = startSystem("traces", () => undefined);
  try {
    const uploader = spawnUploader(system.root, ONCE);
    expect(await upload(uploader, "layer", () => Promise.resolve(1))).toBe(1);
    const refused = upload(uploader, "turn", () => Promise.reject(new Error("full")));
    await expect(refused).rejects.toThrow("full");

    const pool = spawnRedoPool(system.root, {
      processes: 1,
      ...{ restart: ONCE, workerRestart: ONCE },
      open: () => {
        throw new Error("no program");
      },
      onLine: () => undefined,
    });
    const page = { base: undefined, out: new Uint8Array(PAGE_BYTES), steps: [], at: Lsn.of(1) };
    const results = await ask<RedoPoolMsg, readonly RedoResult[]>(
      pool,
      (reply) => ({ kind: "redo", requests: [page], reply }),
      30_000,
    );
    expect(results).toMatchObject([{ ok: false }]);
  } finally {
    system.stop();
  }
  expect(spans).toMatchObject([
    { name: "upload", attributes: { of: "layer" }, status: OK },
    { name: "upload", attributes: { of: "turn" }, status: { message: "full" } },
    { name: "redo batch", attributes: { pages: 1 }, status: { code: SpanStatusCode.ERROR } },
  ]);
});
