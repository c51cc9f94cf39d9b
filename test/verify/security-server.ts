// A page server in a process of its own, with settings from a file: what it writes is kept, what it uses
// can be looked at.

import { type ChildProcess, spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { buildPgext } from "../support/redo.ts";

export class SecureServer {
  readonly api: string;
  readonly port: number;
  private readonly child: ChildProcess;
  private readonly written: readonly Buffer[];

  private constructor(child: ChildProcess, written: readonly Buffer[], api: string, port: number) {
    this.child = child;
    this.written = written;
    this.api = api;
    this.port = port;
  }

  static async start(dir: string, settings: readonly string[]): Promise<SecureServer> {
    buildPgext();
    const file = path.join(dir, "settings.toml");
    const own = [`data_dir = "${dir}/data"`, "listen_port = 0", "http_port = 0"];
    fs.writeFileSync(file, [...own, ...settings].join("\n"));
    const main = new URL("../../src/main.ts", import.meta.url).href;
    const script = `const { serve } = await import(${JSON.stringify(main)}); await serve({});`;
    const args = ["--import", "tsx", "--input-type=module", "--eval", script];
    const child = spawn(process.execPath, args, {
      env: { ...process.env, PAGESERVER_CONFIG: file },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const written: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => written.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => written.push(chunk));
    for (;;) {
      const serving = /"http":"(\S+?)","port":(\d+)/.exec(Buffer.concat(written).toString());
      if (serving !== null)
        return new SecureServer(child, written, serving[1]!, Number(serving[2]));
      if (child.exitCode !== null) throw new Error(Buffer.concat(written).toString());
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  output(): string {
    return Buffer.concat([...this.written]).toString();
  }

  /** Open descriptors and resident memory. Throws when the process is gone. */
  usage(): { readonly descriptors: number; readonly rssMiB: number } {
    const { pid } = this.child;
    const rss = /^VmRSS:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"));
    return {
      descriptors: fs.readdirSync(`/proc/${pid}/fd`).length,
      rssMiB: Math.round(Number(rss![1]) / 1024),
    };
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null) return;
    const gone = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill("SIGTERM");
    await gone;
  }
}
