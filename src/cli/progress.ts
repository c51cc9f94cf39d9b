// Shows a job while it runs: on a terminal a bar with bytes and rate, elsewhere plain lines, with
// --json nothing. Ends with the job; a failed job throws its sentence.

import cliProgress from "cli-progress";
import type { Job, JobStep } from "../protocol/api-work.ts";
import { CommandFailed, type Context } from "./context.ts";
import { formatBytes, formatMs } from "./format.ts";

/** How often the job is asked for, ms. */
const POLL_MS = 200;
/** Between two lines about one step when there is no terminal, ms. */
const PLAIN_LINE_MS = 5_000;
/** Without a screen nobody looks: a longer poll is kinder to the server, ms. */
const QUIET_POLL_MS = 5_000;

interface View {
  update(job: Job): void;
  close(): void;
}

/** Waits for the job's end. Throws CommandFailed if it fails. */
export async function watchJob(context: Context, first: Job): Promise<Job> {
  const view = context.json ? QUIET : process.stderr.isTTY ? terminalView() : plainView();
  const pollMs = context.json ? QUIET_POLL_MS : POLL_MS;
  let job = first;
  try {
    view.update(job);
    while (job.state === "running") {
      job = await context.client.job(job.id, pollMs);
      view.update(job);
    }
  } finally {
    view.close();
  }
  if (job.state !== "done") {
    throw new CommandFailed(job.error ?? `job ${job.id} failed without saying why`);
  }
  return job;
}

const QUIET: View = { update: () => undefined, close: () => undefined };

/** A line for each ended step, and now and then one for the step that runs. */
function plainView(): View {
  let ended = 0;
  let lastLineMs = performance.now();
  const line = (text: string): void => {
    process.stderr.write(`${text}\n`);
    lastLineMs = performance.now();
  };
  return {
    update: (job) => {
      for (; ended < job.steps.length; ended++) {
        const step = job.steps[ended]!;
        if (step.state === "running") break;
        line(stepLine(step));
      }
      const running = job.steps[ended];
      if (running !== undefined && performance.now() - lastLineMs >= PLAIN_LINE_MS) {
        line(stepLine(running));
      }
    },
    close: () => undefined,
  };
}

/** The same lines, with a bar under them for the step that runs. */
function terminalView(): View {
  let ended = 0;
  let bar: cliProgress.SingleBar | undefined;
  const stopBar = (): void => {
    bar?.stop();
    bar = undefined;
  };
  return {
    update: (job) => {
      for (; ended < job.steps.length; ended++) {
        const step = job.steps[ended]!;
        if (step.state === "running") break;
        stopBar();
        process.stderr.write(`${stepLine(step)}\n`);
      }
      const running = job.steps[ended];
      if (running === undefined) return;
      bar ??= newBar(running);
      const total = running.bytes_total ?? 0;
      bar.setTotal(Math.max(total, running.bytes_done ?? 0, 1));
      bar.update(running.bytes_done ?? 0, { text: stepLine(running), total_known: total > 0 });
    },
    close: stopBar,
  };
}

function newBar(step: JobStep): cliProgress.SingleBar {
  const bar = new cliProgress.SingleBar({
    stream: process.stderr,
    clearOnComplete: true,
    hideCursor: true,
    format: (options, params, payload: { text: string; total_known: boolean }) => {
      if (!payload.total_known) return payload.text;
      const format = cliProgress.Format.BarFormat;
      const percent = Math.floor(params.progress * 100);
      return `${payload.text}  [${format(params.progress, options)}] ${percent}%`;
    },
    barCompleteChar: "=",
    barIncompleteChar: " ",
    barsize: 30,
  });
  bar.start(1, 0, { text: stepLine(step), total_known: false });
  return bar;
}

/** Waits for an answer that has no steps; on a terminal the time that it takes is seen. */
export async function waiting<T>(context: Context, what: string, answer: Promise<T>): Promise<T> {
  if (context.json || !process.stderr.isTTY) return answer;
  const begun = performance.now();
  const timer = setInterval(() => {
    process.stderr.write(`\r  ${MARK.running}  ${what}  ${formatMs(performance.now() - begun)} `);
  }, POLL_MS);
  try {
    return await answer;
  } finally {
    clearInterval(timer);
    process.stderr.write("\r\x1b[K");
  }
}

const MARK: Readonly<Record<JobStep["state"], string>> = {
  running: "..",
  done: "ok",
  failed: "!!",
};

/** "  ok  base backup  1.2 GiB  350 MiB/s  3.4 s" */
export function stepLine(step: JobStep): string {
  const parts = [`  ${MARK[step.state]}`, step.name];
  if (step.bytes_done !== undefined) {
    const total =
      step.bytes_total === undefined || step.state !== "running"
        ? ""
        : ` of ${formatBytes(step.bytes_total)}`;
    parts.push(`${formatBytes(step.bytes_done)}${total}`);
    if (step.ms > 0) parts.push(`${formatBytes((step.bytes_done * 1000) / step.ms)}/s`);
  }
  if (step.detail !== undefined) parts.push(step.detail);
  parts.push(formatMs(step.ms));
  return parts.join("  ");
}
