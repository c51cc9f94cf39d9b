// A socket that says what it is told to say, well formed or not, and keeps what it hears.

import net from "node:net";

export function message(type: string, body: Uint8Array | string = ""): Buffer {
  const bytes = Buffer.from(body);
  const out = Buffer.alloc(5 + bytes.length);
  out.write(type, 0, "latin1");
  out.writeUInt32BE(bytes.length + 4, 1);
  out.set(bytes, 5);
  return out;
}

export const query = (text: string): Buffer => message("Q", `${text}\0`);

export function startupPacket(): Buffer {
  const body = Buffer.from("\0\u0003\0\0user\0u\0\0", "latin1");
  const out = Buffer.alloc(4 + body.length);
  out.writeUInt32BE(out.length, 0);
  out.set(body, 4);
  return out;
}

/** Sends pieces one after the other; resolves with all that came until the server closed. */
export function converse(
  port: number,
  pieces: readonly Uint8Array[],
  options: { readonly end?: boolean } = {},
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const heard: Buffer[] = [];
    const socket = net.connect({ port, host: "127.0.0.1", noDelay: true });
    socket.on("data", (chunk) => heard.push(chunk));
    socket.on("error", reject);
    socket.on("close", () => resolve(Buffer.concat(heard)));
    socket.on("connect", () => {
      let at = 0;
      const next = (): void => {
        if (at < pieces.length) socket.write(pieces[at++]!, () => setImmediate(next));
        else if (options.end === true) socket.end();
      };
      next();
    });
  });
}

/** Types of the messages in a server's answer, with the text of errors: "R S S S Z E:08P01:text". */
export function outline(heard: Buffer): string {
  const parts: string[] = [];
  let at = 0;
  while (heard[at] === 0x4e) {
    parts.push("N");
    at++;
  }
  while (at < heard.length) {
    const type = String.fromCharCode(heard[at]!);
    const size = heard.readUInt32BE(at + 1);
    const fields = heard.toString("utf8", at + 5, at + 1 + size).split("\0");
    const errorText = `E:${fields[1]?.slice(1)}:${fields[2]?.slice(1)}`;
    parts.push(type === "E" ? errorText : type);
    at += size + 1;
  }
  return parts.join(" ");
}
