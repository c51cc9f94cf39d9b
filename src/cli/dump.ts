// `pageserver dump page`: one page as it was, its header, and where each of its versions lies.

import { Command } from "commander";
import { MalformedInput } from "../core/assert.ts";
import type { PageDump, PageVersionInfo } from "../protocol/api.ts";
import { contextOf } from "./context.ts";
import { formatBytes, table } from "./format.ts";

/** Versions shown of a page that has many: a screenful. */
const VERSIONS_SHOWN_MAX = 20;

const HELP = `
A relation is tablespace/database/relfilenode[.fork], or what pg_relation_filepath() prints;
fork is main (the default), vm, fsm or init.

Examples:
  pageserver dump page main 1663/5/16384 0
  pageserver dump page main base/5/16384_vm 0 --at 0/16B3748
  pageserver dump page main "$(psql -Atc "select pg_relation_filepath('t')")" 7 --json`;

export function dumpCommand(): Command {
  const dump = new Command("dump").description("look at what is stored");
  dump.addCommand(
    new Command("page")
      .description("a page at an LSN: decoded header, and where each version comes from")
      .argument("<timeline>", "name or id")
      .argument("<relation>", "spc/db/rel[.fork] or pg_relation_filepath()")
      .argument("<block>", "block number")
      .option("--at <lsn>", "as it was at this LSN (default: the last record)")
      .option("--hex", "the page's bytes too")
      .option("--all", `all versions, not only the newest ${VERSIONS_SHOWN_MAX - 1} and the oldest`)
      .addHelpText("after", HELP)
      .action(
        async (
          timeline: string,
          rel: string,
          block: string,
          options: { at?: string; hex?: boolean; all?: boolean },
          command: Command,
        ) => {
          const context = contextOf(command);
          const target = { rel, block: parseBlock(block) };
          const page = await context.client.page(timeline, target, options.at);
          const versionsMax = options.all === true ? Infinity : VERSIONS_SHOWN_MAX;
          context.print(page, () => {
            const words = pageWords(page, versionsMax);
            return options.hex === true ? `${words}\n\n${pageHex(page)}` : words;
          });
        },
      ),
  );
  return dump;
}

function parseBlock(text: string): number {
  const block = /^\d{1,10}$/.test(text) ? Number(text) : NaN;
  if (!(block <= 4_294_967_294)) throw new MalformedInput(`not a block number: "${text}"`);
  return block;
}

function pageWords(page: PageDump, versionsMax: number): string {
  const size = page.rel_blocks === undefined ? "" : ` of ${page.rel_blocks}`;
  const lines = [`page ${page.rel ?? page.key} block ${page.block}${size} at ${page.lsn}`];
  const { header } = page;
  if (page.all_zero) lines.push("  all zeros");
  if (header !== undefined) {
    lines.push(
      `  lsn ${header.lsn}, checksum ${header.checksum}, flags ${header.flags.join(" ") || "none"}`,
      `  lower ${header.lower}, upper ${header.upper}, special ${header.special}, ` +
        `${header.items} line pointers, prune xid ${header.prune_xid}, ` +
        `layout ${header.layout_version}, size ${header.page_size}`,
    );
  }
  lines.push("", versionTable(page.versions, versionsMax));
  return lines.join("\n");
}

const pageHex = (page: PageDump): string => hexDump(Buffer.from(page.page_base64 ?? "", "base64"));

/** Newest first; of many the newest and the oldest, which is what the page is built on. */
export function versionTable(versions: readonly PageVersionInfo[], max: number): string {
  if (versions.length === 0) return "no versions stored";
  const rows = versions.map((version) => [
    version.lsn,
    version.will_init ? `${version.type} (init)` : version.type,
    formatBytes(version.length),
    version.timeline,
    version.layer,
    version.detail ?? "",
  ]);
  const hidden = rows.length - max;
  if (hidden > 0) rows.splice(max - 1, hidden, [`… ${hidden} more`, "", "", "", "", ""]);
  return table(["LSN", "TYPE", "BYTES", "TIMELINE", "LAYER", "DETAIL"], rows);
}

/** 16 bytes a line; runs of equal lines shown once, as hexdump does. */
export function hexDump(bytes: Uint8Array): string {
  const lines: string[] = [];
  let previous = "";
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16);
    const hex = Array.from(row, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    if (hex === previous && at + 16 < bytes.length) {
      if (lines.at(-1) !== "*") lines.push("*");
      continue;
    }
    previous = hex;
    const text = Array.from(row, (byte) =>
      byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".",
    ).join("");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${hex.padEnd(47)}  ${text}`);
  }
  return lines.join("\n");
}
