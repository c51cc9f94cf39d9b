import { expect, test } from "vitest";
import { ENDED_JOBS_MAX, JobBook } from "../../src/http/jobs.ts";

function bookAt(start: number) {
  const clock = { ms: start };
  return { book: new JobBook(() => clock.ms), clock };
}

test("steps take their time, and a new step ends the one before", () => {
  const { book, clock } = bookAt(1_000);
  const job = book.start("follow", "prod");
  job.step("connect");
  clock.ms += 30;
  job.step("base backup");
  job.progress(5, 10);
  clock.ms += 70;
  expect(book.get(job.id)).toMatchObject({
    state: "running",
    ms: 100,
    started_at: "1970-01-01T00:00:01.000Z",
    steps: [
      { name: "connect", state: "done", ms: 30 },
      { name: "base backup", state: "running", ms: 70, bytes_done: 5, bytes_total: 10 },
    ],
  });
  job.done({});
  clock.ms += 1_000;
  expect(book.get(job.id)).toMatchObject({ state: "done", ms: 100 });
});

test("an ended job does not change any more", () => {
  const { book } = bookAt(0);
  const job = book.start("compute-start", "main");
  job.step("boot");
  job.failed("port 5 is taken");
  const ended = book.get(job.id);
  job.step("another");
  job.progress(1, 2);
  job.detail("late");
  job.done({});
  expect(book.get(job.id)).toEqual(ended);
  expect(ended).toMatchObject({ state: "failed", error: "port 5 is taken" });
});

test("a running job is found by kind and target, an ended one is not", () => {
  const { book } = bookAt(0);
  const job = book.start("follow", "prod");
  expect(book.running("follow", "prod")?.id).toBe(job.id);
  expect(book.running("follow", "other")).toBeUndefined();
  expect(book.running("compute-start", "prod")).toBeUndefined();
  job.done({});
  expect(book.running("follow", "prod")).toBeUndefined();
});

test("the oldest ended jobs are forgotten, running ones never", () => {
  const { book } = bookAt(0);
  const running = book.start("follow", "prod");
  const ids = Array.from({ length: ENDED_JOBS_MAX + 5 }, (_, i) => {
    const job = book.start("compute-stop", `t${i}`);
    job.done({});
    return job.id;
  });
  expect(book.list()).toHaveLength(ENDED_JOBS_MAX + 1);
  expect(book.get(running.id)).toBeDefined();
  expect(book.get(ids[4]!)).toBeUndefined();
  expect(book.get(ids[5]!)).toBeDefined();
});

test("all who wait for one job hear of its end", async () => {
  const { book } = bookAt(0);
  const job = book.start("follow", "prod");
  const waits = [1, 2, 3].map(() => book.wait(job.id, 30_000));
  job.done({});
  expect((await Promise.all(waits)).map((one) => one?.state)).toEqual(["done", "done", "done"]);
  expect(await book.wait("unknown", 30_000)).toBeUndefined();
});
