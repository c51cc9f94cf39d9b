// `pageserver tenant`: one customer's cluster each; most programs have one and never need this.

import { Command } from "commander";
import type { TenantInfo } from "../protocol/api.ts";
import { contextOf } from "./context.ts";
import { attachCommand, restoreCommand } from "./tenant-attach.ts";
import { formatBytes, formatMs, parseBytes, parseDuration, table } from "./format.ts";

const HELP = `
A tenant holds timelines that share nothing with another tenant's. Without --tenant, commands use the
only one there is; the first timeline makes it.

Examples:
  pageserver tenant list
  pageserver tenant create
  pageserver --tenant 0102…1e1f timeline create main
  pageserver tenant delete 0102030405060708090a0b0c0d0e0f10 --recursive`;

interface DeleteOptions {
  readonly recursive?: true;
  readonly keepBackup?: true;
}

export function tenantCommand(): Command {
  const tenant = new Command("tenant")
    .description("list, create and delete tenants")
    .addHelpText("after", HELP);
  tenant.addCommand(
    new Command("list")
      .description("all tenants")
      .action(async (_options: unknown, command: Command) => {
        const context = contextOf(command);
        const tenants = await context.client.tenants();
        context.print(tenants, () => tenantTable(tenants));
      }),
  );
  tenant.addCommand(
    new Command("show")
      .description("one tenant (default: the only one there is)")
      .argument("[id]", "32 hex digits")
      .action(async (id: string | undefined, _options: unknown, command: Command) => {
        const { client, print } = contextOf(command);
        const info = await (id === undefined ? client.tenant() : client.of(id).tenant());
        print(info, () => tenantTable([info]));
      }),
  );
  tenant.addCommand(
    new Command("create")
      .description("a tenant without timelines; one that exists already is left as it is")
      .argument("[id]", "32 hex digits (default: chosen by the server)")
      .action(async (id: string | undefined, _options: unknown, command: Command) => {
        const context = contextOf(command);
        const made = await context.client.createTenant(id);
        context.print(made, () => `tenant ${made.id}`);
      }),
  );
  tenant.addCommand(attachCommand());
  tenant.addCommand(restoreCommand());
  tenant.addCommand(
    new Command("delete")
      .description("delete a tenant, for good")
      .argument("<id>", "32 hex digits")
      .option("--recursive", "with its timelines and their history")
      .option("--keep-backup", "here only: what object storage has of it stays, to be attached")
      .addHelpText("after", HELP)
      .action(async (id: string, options: DeleteOptions, command: Command) => {
        const context = contextOf(command);
        const backup = options.keepBackup === true ? "keep" : "remove";
        const gone = await context.client.deleteTenant(id, options.recursive === true, backup);
        context.print(gone, () =>
          [
            `deleted tenant ${gone.deleted}`,
            ...gone.timelines.map((name) => `  with "${name}"`),
          ].join("\n"),
        );
      }),
  );
  tenant.addCommand(retentionCommand());
  return tenant;
}

function retentionCommand(): Command {
  return new Command("retention")
    .description("how long history is readable: show it, or change it with the options")
    .option("--window <duration>", "everything younger is readable, e.g. 7d, 12h")
    .option("--wal <bytes>", "and at least so much WAL, whatever its age, e.g. 64M")
    .addHelpText("after", "\nExample:\n  pageserver tenant retention --window 14d --wal 1G")
    .action(async (options: { window?: string; wal?: string }, command: Command) => {
      const context = contextOf(command);
      const { window, wal } = options;
      const policy = await context.client.retentionPolicy({
        ...(window !== undefined && { window_ms: parseDuration("--window", window) }),
        ...(wal !== undefined && { wal_bytes: parseBytes(wal) }),
      });
      context.print(policy, () => {
        const { window_ms: ms, wal_bytes: bytes } = policy;
        return `everything of the last ${formatMs(ms)}, and at least ${formatBytes(bytes)} of WAL`;
      });
    });
}

function tenantTable(tenants: readonly TenantInfo[]): string {
  if (tenants.length === 0) return "no tenants; the first timeline makes one";
  return table(
    ["ID", "STATE", "TIMELINES", "SIZE"],
    tenants.map(({ id, state, timelines, current_physical_size: bytes }) => [
      id,
      state.data === undefined ? state.slug : `${state.slug}: ${state.data.reason}`,
      String(timelines.length),
      formatBytes(bytes),
    ]),
  );
}
