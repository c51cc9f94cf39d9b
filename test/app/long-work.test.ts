import { expect, test } from "vitest";
import { checkTenant } from "../../src/app/check.ts";
import { asJob, unlessCancelled } from "../../src/app/long-work.ts";
import { err, ok } from "../../src/core/result.ts";
import { JobBook, type JobReporter } from "../../src/http/jobs.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { BASE } from "../support/timeline-world.ts";

const t = timelineTest();

test("the outcome of work is its answer and its job's", async () => {
  const jobs = new JobBook(() => 0);
  const work = async (job: JobReporter) => {
    job.step("seal");
    expect(jobs.list()).toMatchObject([{ kind: "delete", target: "main", state: "running" }]);
    return ok(["main"]);
  };
  const deleted = await asJob(jobs, "delete", "main", work, (names) => ({ deleted: names }));
  expect(deleted).toEqual(ok(["main"]));
  expect(jobs.list()).toMatchObject([{ state: "done", result: { deleted: ["main"] } }]);

  const refusal = err({ kind: "not-found", what: "tenant x" } as const);
  const refused = await asJob(
    jobs,
    "check",
    "x",
    async () => refusal,
    () => ({}),
  );
  expect(refused).toEqual(refusal);
  expect(jobs.list()[1]).toMatchObject({ state: "failed", error: "tenant x does not exist" });

  const thrown = asJob(
    jobs,
    "check",
    "y",
    () => Promise.reject(new Error("a bug")),
    () => ({}),
  );
  await expect(thrown).rejects.toThrow("a bug");
  expect(jobs.list()[2]).toMatchObject({ state: "failed", error: "a bug" });
});

test("work that gives up is a conflict to whoever asked, and cancelled in the book", async () => {
  const jobs = new JobBook(() => 0);
  const work = async (job: JobReporter) => {
    expect(jobs.cancel(job.id)).toMatchObject({ state: "running" });
    unlessCancelled(job);
    return ok(undefined);
  };
  const stopped = await asJob(jobs, "compact", "main", work, () => ({}));
  expect(stopped).toMatchObject({ ok: false, error: { kind: "conflict" } });
  expect(jobs.list()).toMatchObject([{ state: "cancelled", error: "cancelled on request" }]);
});

test("a check says how far it is, and ends when it is cancelled", async () => {
  t.addPages(300);
  await t.takeIn(BASE);
  expect(await t.seal()).toMatchObject({ ok: true });
  const { shared, tenant } = t.world;
  const jobs = new JobBook(() => 0);
  const check = (watch: (job: JobReporter) => JobReporter) =>
    asJob(
      ...([jobs, "check", tenant.id] as const),
      (job) => checkTenant(shared, tenant, "count", watch(job)),
      (report) => ({ check: report }),
    );
  expect(await check((job) => job)).toMatchObject({ ok: true, value: { problems: [] } });
  const bytes = tenant.catalog.layers(t.world.main.entry.id).reduce((sum, l) => sum + l.bytes, 0);
  const step = { name: "layers", state: "done", bytes_done: bytes, bytes_total: bytes };
  expect(jobs.list()[0]).toMatchObject({ state: "done", steps: [step] });

  const stopped = await check((job) => {
    jobs.cancel(job.id);
    return job;
  });
  expect(stopped).toMatchObject({ ok: false, error: { kind: "conflict" } });
  expect(jobs.list()[1]).toMatchObject({ state: "cancelled" });
});
