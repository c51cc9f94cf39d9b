// A benchmark's process beside this one, spoken to over Node's channel: one command, one answer.

import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Sources run as they are while one works on them, compiled ones otherwise. */
const ENDING = import.meta.url.endsWith(".ts") ? ".ts" : ".js";

interface Answer {
  readonly value?: number;
  readonly error?: string;
}

export class Child<Command> {
  readonly pid: number;
  private readonly process: ChildProcess;
  private readonly waiting: { resolve: (value: number) => void; reject: (error: Error) => void }[] =
    [];

  /**
   * Starts `program`, a file of this folder without its ending. `nodeArgs`: for profiles. `environment`:
   * more of it.
   */
  constructor(
    program: string,
    nodeArgs: readonly string[] = [],
    environment: Readonly<Record<string, string>> = {},
  ) {
    this.process = fork(fileURLToPath(new URL(program + ENDING, import.meta.url)), [], {
      execArgv: [...process.execArgv, ...nodeArgs],
      env: { ...process.env, ...environment },
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.pid = this.process.pid!;
    this.process.on("message", (answer: Answer) => {
      const next = this.waiting.shift();
      if (answer.error === undefined) next?.resolve(answer.value ?? 0);
      else next?.reject(new Error(answer.error));
    });
    this.process.on("exit", (code, signal) => {
      const error = new Error(`${program} ended (${code ?? signal})`);
      for (const { reject } of this.waiting.splice(0)) reject(error);
    });
  }

  ask(command: Command & object): Promise<number> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.process.send(command, (error) => error !== null && reject(error));
    });
  }

  /** Ends it: of its own accord when the channel closes, else by force. */
  async end(): Promise<void> {
    const { process: child } = this;
    if (child.exitCode !== null || child.signalCode !== null) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
      child.once("exit", () => {
        clearTimeout(timer);
        resolve();
      });
      if (child.connected) child.disconnect();
    });
  }
}
