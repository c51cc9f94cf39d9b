// `pageserver timeline lsn-at|time-at|checkpoint`: moments to LSNs and back, and sealing.

import { Command } from "commander";
import { MalformedInput } from "../core/assert.ts";
import { Lsn } from "../core/lsn.ts";
import type { LsnByTimestamp } from "../protocol/api.ts";
import { contextOf } from "./context.ts";
import { momentFields } from "./moment.ts";
import { waiting } from "./progress.ts";

export function lsnAtCommand(): Command {
  return new Command("lsn-at")
    .description("the LSN at which exactly the commits up to a moment are visible")
    .argument("<timeline>", "name or id")
    .argument("<time>", "e.g. 2026-01-31T10:20:30Z; without a zone: this machine's")
    .addHelpText("after", '\nExample:\n  pageserver timeline lsn-at prod "2026-01-31 10:19:59"')
    .action(async (nameOrId: string, time: string, _options: unknown, command: Command) => {
      const { timestamp } = momentFields(time);
      if (timestamp === undefined) throw new MalformedInput(`not a time: "${time}"`);
      const context = contextOf(command);
      const found = await context.client.lsnByTimestamp(nameOrId, timestamp);
      context.print(found, () => lsnWords(found));
    });
}

const WORDS: Readonly<Record<LsnByTimestamp["kind"], string>> = {
  present: "",
  future: "  (no later commit is known: this is the newest)",
  past: "  (no commit that old is kept: this is the oldest that can be read)",
  nodata: "  (no commit is known yet)",
};

const lsnWords = ({ lsn, kind }: LsnByTimestamp): string => `${lsn}${WORDS[kind]}`;

export function timeAtCommand(): Command {
  return new Command("time-at")
    .description("when the newest commit at or before an LSN was made")
    .argument("<timeline>", "name or id")
    .argument("<lsn>", "e.g. 0/16B3748")
    .addHelpText("after", "\nExample:\n  pageserver timeline time-at prod 0/16B3748")
    .action(async (nameOrId: string, lsn: string, _options: unknown, command: Command) => {
      const context = contextOf(command);
      const at = await context.client.timestampOfLsn(nameOrId, Lsn.format(Lsn.parse(lsn)));
      context.print(at, () => at);
    });
}

export function checkpointCommand(): Command {
  return new Command("checkpoint")
    .description("seal what the timeline holds in memory; ends when that is on disk")
    .argument("<timeline>", "name or id")
    .addHelpText("after", "\nExample:\n  pageserver timeline checkpoint prod")
    .action(async (nameOrId: string, _options: unknown, command: Command) => {
      const context = contextOf(command);
      const info = await waiting(context, "sealing", context.client.checkpoint(nameOrId));
      context.print(info, () => `"${info.name}" is sealed up to ${info.positions.durable}`);
    });
}
