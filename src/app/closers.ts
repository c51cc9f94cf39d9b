// What was opened and must be closed again, the latest first: the orderly stop, and the way back when
// a start fails in the middle.

import type { Log } from "../io/log.ts";

interface Closer {
  readonly what: string;
  readonly close: () => Promise<void>;
}

export class Closers {
  private readonly log: Log;
  private readonly all: Closer[] = [];
  private closing: Promise<void> | undefined;

  constructor(log: Log) {
    this.log = log;
  }

  get isClosing(): boolean {
    return this.closing !== undefined;
  }

  add(what: string, close: () => Promise<void>): void {
    this.all.push({ what, close });
  }

  /** Closes all; one that fails does not keep the others open. Called again: the same end. */
  closeAll(): Promise<void> {
    this.closing ??= this.closeEach();
    return this.closing;
  }

  private async closeEach(): Promise<void> {
    for (const { what, close } of this.all.splice(0).reverse()) {
      try {
        await close();
      } catch (error) {
        this.log.error({ err: error, what }, "could not be closed");
      }
    }
  }
}
