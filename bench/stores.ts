// Data directories of benchmark page servers: a cluster is imported once, and every measurement
// begins on its own copy of what that gave.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { type TimelineId, parseTimelineId } from "../src/core/ids.ts";
import { catalogPath } from "../src/store/data-dir.ts";
import { Child } from "./child.ts";
import type { ServerCommand } from "./page-server-process.ts";
import { TENANT } from "./tenant.ts";

/** The timeline of every imported cluster. */
export const TIMELINE: TimelineId = parseTimelineId("a".repeat(32));

export type ServerProcess = Child<ServerCommand>;

export class Stores {
  private readonly home = fs.mkdtempSync(path.join(os.tmpdir(), "bench-store-"));
  private made = 0;

  /** A store into which the cluster was imported; gives its data directory and the seconds it took. */
  async imported(from: string): Promise<{ readonly dataDir: string; readonly seconds: number }> {
    const dataDir = this.name();
    const server = await this.start(dataDir);
    try {
      const started = performance.now();
      await server.process.ask({ do: "import", timeline: TIMELINE, from });
      const seconds = (performance.now() - started) / 1000;
      await server.process.ask({ do: "settle", timeline: TIMELINE });
      await server.process.ask({ do: "stop" });
      return { dataDir, seconds };
    } finally {
      await server.process.end();
    }
  }

  /** A page server on a copy of a store, which `change` may change before it starts. */
  async serve(
    dataDir: string,
    change: (copy: string) => void = () => undefined,
  ): Promise<RunningServer> {
    const copy = this.copy(dataDir);
    change(copy);
    const started = performance.now();
    const server = await this.start(copy);
    await server.process.ask({ do: "await", timeline: TIMELINE });
    await server.process.ask({ do: "await-all" });
    return { ...server, seconds: (performance.now() - started) / 1000 };
  }

  /** A copy of a store that nobody serves. */
  copy(dataDir: string): string {
    const copy = this.name();
    // Sealed layers never change: links to them will do.
    execFileSync("cp", ["-al", dataDir, copy]);
    const catalog = catalogPath(copy, TENANT);
    fs.rmSync(catalog);
    fs.copyFileSync(catalogPath(dataDir, TENANT), catalog);
    return copy;
  }

  private async start(dataDir: string): Promise<RunningServer> {
    const server: ServerProcess = new Child("page-server-process", ["--expose-gc"]);
    const port = await server.ask({ do: "start", dataDir });
    return {
      process: server,
      port,
      seconds: 0,
      end: async () => {
        await server.end();
        fs.rmSync(dataDir, { recursive: true, force: true });
      },
    };
  }

  private name(): string {
    return path.join(this.home, `store-${++this.made}`);
  }

  cleanup(): void {
    fs.rmSync(this.home, { recursive: true, force: true });
  }
}

export interface RunningServer {
  readonly process: ServerProcess;
  readonly port: number;
  /** From the start of the process until all of its timelines could be read. */
  readonly seconds: number;
  /** Ends the process and removes its data. */
  readonly end: () => Promise<void>;
}
