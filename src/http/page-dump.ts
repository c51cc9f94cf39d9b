// What a page looks like to a person: its key, its decoded header, its bytes.

import { KEY_BYTES, KIND, writeKey } from "../core/key.ts";
import { Lsn } from "../core/lsn.ts";
import { formatRel } from "../core/page.ts";
import type { PageDump, PageHeaderInfo } from "../protocol/api.ts";
import type { DumpTarget, Dumped } from "./management.ts";

/** sizeof(PageHeaderData) without line pointers, and sizeof(ItemIdData): bufpage.h, itemid.h. */
const PAGE_HEADER_BYTES = 24;
const ITEM_ID_BYTES = 4;
/** PD_HAS_FREE_LINES, PD_PAGE_FULL, PD_ALL_VISIBLE of bufpage.h, from bit 0. */
const FLAG_NAMES = ["has_free_lines", "page_full", "all_visible"] as const;

export function pageDump(target: DumpTarget, dumped: Dumped): PageDump {
  const page = dumped.page;
  const allZero = page !== undefined && page.every((byte) => byte === 0);
  const header =
    page === undefined || allZero || !hasPageHeader(target) ? undefined : decodePageHeader(page);
  return {
    tenant_id: dumped.tenantId,
    timeline_id: dumped.timelineId,
    key: keyHex(target),
    ...(target.kind === "rel" && { rel: formatRel(target.rel) }),
    block: target.block,
    lsn: Lsn.format(dumped.lsn),
    ...(dumped.relBlocks !== undefined && { rel_blocks: dumped.relBlocks }),
    all_zero: allZero,
    ...(header !== undefined && { header }),
    ...(page !== undefined && { page_base64: Buffer.from(page).toString("base64") }),
    versions: dumped.versions,
  };
}

/** PageHeaderData, little-endian (bufpage.h of PostgreSQL 15). */
export function decodePageHeader(page: Uint8Array): PageHeaderInfo {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  const u16 = (at: number): number => view.getUint16(at, true);
  const u32 = (at: number): number => view.getUint32(at, true);
  const flags = u16(10);
  const lower = u16(12);
  return {
    lsn: Lsn.format(Lsn.fromParts(u32(0), u32(4))),
    checksum: u16(8),
    flags: FLAG_NAMES.filter((_, bit) => (flags & (1 << bit)) !== 0),
    lower,
    upper: u16(14),
    special: u16(16),
    page_size: u16(18) & 0xff00,
    layout_version: u16(18) & 0x00ff,
    prune_xid: u32(20),
    items: Math.max(0, Math.floor((lower - PAGE_HEADER_BYTES) / ITEM_ID_BYTES)),
  };
}

function hasPageHeader(target: DumpTarget): boolean {
  return target.kind === "rel" || target.group.kind === KIND.PAGE;
}

function keyHex(target: DumpTarget): string {
  const bytes = Buffer.alloc(KEY_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, KEY_BYTES);
  if (target.kind === "key") writeKey(view, 0, target.group, target.block);
  else {
    const { spc, db, rel, fork } = target.rel;
    writeKey(view, 0, { kind: KIND.PAGE, a: spc, b: db, c: rel, d: fork }, target.block);
  }
  return bytes.toString("hex");
}
