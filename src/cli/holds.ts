// `pageserver snapshot` and `pageserver lease`: moments that stay readable whatever the retention, until
// they are deleted (snapshots) or until a time (leases).

import { Command } from "commander";
import { MalformedInput } from "../core/assert.ts";
import { Lsn } from "../core/lsn.ts";
import type { LeaseInfo } from "../protocol/api-holds.ts";
import { contextOf } from "./context.ts";
import { parseDuration, table } from "./format.ts";
import { momentFields } from "./moment.ts";

const SNAPSHOT_HELP = `
A snapshot keeps one moment of a timeline under a name. It costs nothing when it is made; later it
keeps what only it still needs (pageserver timeline retention shows how much).

Examples:
  pageserver snapshot create prod before-migration
  pageserver snapshot create prod monday --at "2026-01-26 09:00"
  pageserver branch prod try-again --at snapshot:before-migration`;

export function snapshotCommand(): Command {
  const snapshot = new Command("snapshot")
    .description("keep moments of a timeline under a name")
    .addHelpText("after", SNAPSHOT_HELP);
  snapshot.addCommand(
    new Command("create")
      .description("keep a moment, now or an earlier one that is still readable")
      .argument("<timeline>", "name or id")
      .argument("<name>", "name of the snapshot")
      .option("--at <lsn|timestamp|now>", "which moment", "now")
      .addHelpText("after", SNAPSHOT_HELP)
      .action(async (timeline: string, name: string, options: { at: string }, command: Command) => {
        const context = contextOf(command);
        const request = { name, ...momentFields(options.at) };
        const made = await context.client.createSnapshot(timeline, request);
        context.print(made, () =>
          [
            `snapshot "${made.name}" of "${made.timeline_name}" at ${made.lsn}`,
            `  branch it:  pageserver branch ${made.timeline_name} <name> --at snapshot:${made.name}`,
          ].join("\n"),
        );
      }),
  );
  snapshot.addCommand(
    new Command("list")
      .description("the snapshots of a timeline")
      .argument("<timeline>", "name or id")
      .action(async (timeline: string, _options: unknown, command: Command) => {
        const context = contextOf(command);
        const found = await context.client.snapshots(timeline);
        context.print(found, () =>
          found.length === 0
            ? `no snapshots; make one: pageserver snapshot create ${timeline} <name>`
            : table(
                ["NAME", "LSN", "CREATED"],
                found.map(({ name, lsn, created_at }) => [name, lsn, created_at]),
              ),
        );
      }),
  );
  snapshot.addCommand(
    new Command("delete")
      .description("let go of a snapshot; what only it kept goes when layers are merged")
      .argument("<timeline>", "name or id")
      .argument("<name>", "name of the snapshot")
      .action(async (timeline: string, name: string, _options: unknown, command: Command) => {
        const context = contextOf(command);
        const deleted = await context.client.deleteSnapshot(timeline, name);
        context.print(deleted, () => `deleted snapshot "${name}"`);
      }),
  );
  return snapshot;
}

const LEASE_HELP = `
A lease keeps one LSN readable until a time. The same owner and LSN again renews it.

Examples:
  pageserver lease acquire prod --owner report-7 --at 0/16B3748 --for 2h
  pageserver lease list prod
  pageserver lease release prod --owner report-7`;

export function leaseCommand(): Command {
  const lease = new Command("lease")
    .description("keep moments of a timeline readable until a time")
    .addHelpText("after", LEASE_HELP);
  lease.addCommand(acquireCommand());
  lease.addCommand(
    new Command("list")
      .description("the leases of a timeline that have not ended")
      .argument("<timeline>", "name or id")
      .action(async (timeline: string, _options: unknown, command: Command) => {
        const context = contextOf(command);
        const found = await context.client.leases(timeline);
        context.print(found, () => (found.length === 0 ? "no leases" : leaseTable(found)));
      }),
  );
  lease.addCommand(
    new Command("release")
      .description("end leases before their time: those of an owner, at an LSN, or both")
      .argument("<timeline>", "name or id")
      .option("--owner <name>", "whose")
      .option("--lsn <lsn>", "at which LSN")
      .addHelpText("after", LEASE_HELP)
      .action(
        async (timeline: string, options: { owner?: string; lsn?: string }, command: Command) => {
          const context = contextOf(command);
          const { owner, lsn } = options;
          if (owner === undefined && lsn === undefined) {
            throw new MalformedInput("say which leases to release: --owner, --lsn, or both");
          }
          if (lsn !== undefined) Lsn.parse(lsn);
          const { released } = await context.client.releaseLeases(timeline, { owner, lsn });
          context.print({ released }, () => `released\n${leaseTable(released)}`);
        },
      ),
  );
  return lease;
}

function acquireCommand(): Command {
  return new Command("acquire")
    .description("keep a moment readable until a time, or renew that")
    .argument("<timeline>", "name or id")
    .requiredOption("--owner <name>", "who needs it: letters, digits, _ . : @ -")
    .option("--at <lsn|timestamp|now>", "which moment", "now")
    .option("--for <duration>", "how long, e.g. 30m, 2h (at most 24h)")
    .addHelpText("after", LEASE_HELP)
    .action(
      async (
        timeline: string,
        options: { owner: string; at: string; for?: string },
        command: Command,
      ) => {
        const context = contextOf(command);
        const made = await context.client.acquireLease(timeline, {
          owner: options.owner,
          ...momentFields(options.at),
          ...(options.for !== undefined && { duration_ms: parseDuration("--for", options.for) }),
        });
        context.print(made, () => `leased ${made.lsn} to ${made.owner} until ${made.expires_at}`);
      },
    );
}

const leaseTable = (leases: readonly LeaseInfo[]): string =>
  table(
    ["LSN", "OWNER", "UNTIL"],
    leases.map(({ lsn, owner, expires_at }) => [lsn, owner, expires_at]),
  );
