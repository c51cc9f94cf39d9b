// What a base backup is made from: a timeline's store at one LSN. History at an LSN never changes,
// so it is read while the timeline goes on, without messages to its actor.

import type { BackupSource } from "../core/backup-source.ts";
import type { Boundary } from "../core/boundaries.ts";
import { type ReadError, readErrorText } from "../core/errors.ts";
import type { Lsn } from "../core/lsn.ts";
import { PAGE_BYTES, type RelTag } from "../core/page.ts";
import type { PageAnswer, PageBatch, PageRequest } from "../core/page-batch.ts";
import { type ReadFrom, answerBatch } from "./timeline-reads.ts";

/** A timeline cannot give what a backup needs; the message is a ReadError's sentence or names what is missing. */
export class BackupFailed extends Error {
  override readonly name = "BackupFailed";
}

/** The source at a record boundary: `at.start` is where the next record begins. */
export function backupSource(
  from: ReadFrom,
  at: Boundary,
  timeline: { readonly pgVersion: number; readonly tli: number },
): BackupSource {
  const { pages } = from;
  const { relations } = pages;
  const lsn = at.start;
  const required = (value: Uint8Array | undefined, what: string): Promise<Uint8Array> =>
    value === undefined
      ? Promise.reject(new BackupFailed(`the timeline has no ${what}`))
      : Promise.resolve(value);
  return {
    lsn,
    prevLsn: at.prev,
    pgVersion: timeline.pgVersion,
    tli: timeline.tli,
    databases: () => Promise.resolve(relations.databases(lsn)),
    relations: (spc, db) => Promise.resolve(relations.relations(spc, db, lsn)),
    pages: (rel, first, count) => readPages(from, rel, first, count, lsn),
    slruSegments: (slru) => Promise.resolve(relations.slruSegments(slru, lsn)),
    slruSegment: (slru, segment) => {
      const read = pages.readSlruSegment(slru, segment, lsn);
      return read.ok ? Promise.resolve(read.value) : failed(read.error);
    },
    twoPhase: () => Promise.resolve(relations.twoPhase(lsn)),
    origins: () => Promise.resolve(relations.origins(lsn)),
    control: () => required(relations.control(lsn), "pg_control"),
    checkpoint: () => required(relations.checkpoint(lsn), "checkpoint"),
  };
}

const failed = (error: ReadError): Promise<never> =>
  Promise.reject(new BackupFailed(readErrorText(error)));

/** `count` pages at one LSN, in memory of their own. */
export async function readPages(
  from: ReadFrom,
  rel: RelTag,
  first: number,
  count: number,
  at: Lsn,
): Promise<Uint8Array> {
  const slab = new Uint8Array(count * PAGE_BYTES);
  const requests: PageRequest[] = [];
  const pageOffsets = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    requests.push({ kind: "get-page", rel, block: first + i, lsn: at, notModifiedSince: at });
    pageOffsets[i] = i * PAGE_BYTES;
  }
  const batch: PageBatch = { requests, slab, pageOffsets };
  const answers = await answered(from, batch, at);
  for (const answer of answers) if (answer.kind === "error") return failed(answer.error);
  return slab;
}

/** As often as layers have to be fetched: each time goes deeper. */
async function answered(from: ReadFrom, batch: PageBatch, at: Lsn): Promise<readonly PageAnswer[]> {
  const plans = batch.requests.map(() => at);
  const { fetch } = from;
  for (;;) {
    const found = await new Promise<readonly PageAnswer[] | { readonly absent: readonly string[] }>(
      (resolve) =>
        answerBatch(
          from,
          batch,
          plans,
          { answer: resolve },
          fetch && ((absent) => resolve({ absent })),
        ),
    );
    if (!("absent" in found)) return found;
    await fetch!(found.absent);
  }
}
