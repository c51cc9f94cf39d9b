// A tar that comes in pieces, unpacked by the system's tar into a directory that was empty before.

import { spawn } from "node:child_process";
import fs from "node:fs";
import { pipeline } from "node:stream/promises";

/** The sentence names the directory and what to do. */
export class UnpackFailed extends Error {
  override readonly name = "UnpackFailed";
}

/** Makes a directory that nobody else may look into: PostgreSQL starts in no other. Throws UnpackFailed when something is in it. */
export function makeEmpty(directory: string): void {
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
  const [found] = fs.readdirSync(directory);
  if (found !== undefined) {
    throw new UnpackFailed(`${directory} is not empty (${found}): name another directory`);
  }
  fs.chmodSync(directory, 0o700);
}

/** All files of a tar into `directory`. Rejects with UnpackFailed. */
export async function unpackTar(
  chunks: AsyncIterable<Uint8Array>,
  directory: string,
): Promise<void> {
  const tar = spawn("tar", ["-x", "-C", directory], { stdio: ["pipe", "ignore", "pipe"] });
  const said: Buffer[] = [];
  tar.stderr.on("data", (piece: Buffer) => said.push(piece));
  const ended = new Promise<string>((resolve) => {
    tar.on("error", (error) => resolve(error.message));
    tar.on("close", (code) => resolve(code === 0 ? "" : Buffer.concat(said).toString().trim()));
  });
  const poured = pipeline(chunks, tar.stdin).then(
    () => "",
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
  const why = (await Promise.all([poured, ended])).filter((text) => text !== "");
  if (why.length === 0) return;
  throw new UnpackFailed(`${directory} is not whole, remove it: ${why.join("; ")}`);
}
