// `pageserver timeline retention|gc|compact|delete`: why history is kept, and letting it go.

import { Command } from "commander";
import type { PinInfo, RetentionInfo } from "../protocol/api-retention.ts";
import { contextOf } from "./context.ts";
import { formatBytes } from "./format.ts";
import { waiting } from "./progress.ts";

export function retentionCommand(): Command {
  return new Command("retention")
    .description("why history is kept: the cutoff, what pins older moments, and what it costs")
    .argument("<timeline>", "name or id")
    .option(
      "--fetch",
      "fetch layers that are in object storage only, to say what each reason costs",
    )
    .addHelpText("after", "\nExample:\n  pageserver timeline retention prod")
    .action(async (nameOrId: string, options: { fetch?: true }, command: Command) => {
      const context = contextOf(command);
      const asked = context.client.retentionBytes(nameOrId, options.fetch === true);
      const info = await waiting(context, "walking layers", asked);
      context.print(info, () => retentionWords(info));
    });
}

export function gcCommand(): Command {
  return new Command("gc")
    .description("move the cutoff now: by the tenant's policy, or to so many bytes of WAL")
    .argument("<timeline>", "name or id")
    .option("--horizon <bytes>", "WAL that stays readable, whatever its age")
    .addHelpText("after", "\nExample:\n  pageserver timeline gc test --horizon 0")
    .action(async (nameOrId: string, options: { horizon?: string }, command: Command) => {
      const context = contextOf(command);
      const { horizon } = options;
      const request = horizon === undefined ? {} : { gc_horizon: Number(horizon) };
      const info = await context.client.gc(nameOrId, request);
      context.print(info, () => retentionWords(info));
    });
}

export function compactCommand(): Command {
  return new Command("compact")
    .description("seal and merge all layers now")
    .argument("<timeline>", "name or id")
    .addHelpText("after", "\nExample:\n  pageserver timeline compact test")
    .action(async (nameOrId: string, _options: unknown, command: Command) => {
      const context = contextOf(command);
      const info = await waiting(context, "merging", context.client.compact(nameOrId));
      context.print(info, () => retentionWords(info));
    });
}

export function deleteCommand(): Command {
  return new Command("delete")
    .description("delete a timeline and its history, for good")
    .argument("<timeline>", "name or id")
    .option("--recursive", "its branches, too")
    .addHelpText("after", "\nExample:\n  pageserver timeline delete experiment")
    .action(async (nameOrId: string, options: { recursive?: true }, command: Command) => {
      const context = contextOf(command);
      const { deleted } = await context.client.deleteTimeline(nameOrId, options.recursive === true);
      context.print({ deleted }, () => deleted.map((name) => `deleted "${name}"`).join("\n"));
    });
}

function retentionWords(info: RetentionInfo): string {
  const days = (info.window_ms / 86_400_000).toFixed(1);
  const rows: (readonly [string, string])[] = [
    ["name", info.name],
    ["readable from", info.cutoff_lsn],
    ["last record", info.last_record_lsn],
    ["policy", `${days} days, and at least ${formatBytes(info.wal_bytes)} of WAL`],
    ["logical size", formatBytes(info.logical_size)],
    ["stored", `${formatBytes(info.physical_size)} in ${info.tiers} tiers`],
  ];
  const { kept } = info;
  if (kept !== undefined) {
    rows.push(["  window", `${formatBytes(kept.window)} for every moment since the cutoff`]);
    rows.push([
      "  superseded",
      `${formatBytes(kept.superseded)} for nobody; merging lets go of it`,
    ]);
  }
  const { remote_layers: away = 0, remote_size: bytes = 0 } = info;
  if (kept === undefined && away > 0) {
    const look = `pageserver timeline retention ${info.name} --fetch`;
    rows.push(["  remote", `${formatBytes(bytes)} in ${away} layers; to know for what: ${look}`]);
  }
  if (info.merging) rows.push(["merging", "now"]);
  if (info.failure !== undefined) rows.push(["failure", info.failure]);
  for (const pin of info.pins) {
    const { bytes, alone_bytes: alone = 0 } = pin;
    const cost = bytes === undefined ? "" : `${formatBytes(bytes)}, `;
    const goes = alone === 0 ? "" : ` (${formatBytes(alone)} go with it)`;
    rows.push(["  pinned", `${cost}${pin.lsn} for ${holder(pin)}${goes}`]);
  }
  return rows.map(([name, value]) => `${name.padEnd(14)} ${value}`).join("\n");
}

function holder(pin: PinInfo): string {
  switch (pin.reason) {
    case "branch":
      return `branch "${pin.timeline_name ?? pin.timeline_id}"`;
    case "lease":
      return `lease of ${pin.owner}, until ${pin.expires_at}`;
    case "snapshot":
      return `snapshot "${pin.snapshot}"`;
    case "reader":
      return "a backup that is being read";
  }
}
