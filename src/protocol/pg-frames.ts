// Chunks of a PostgreSQL connection to whole messages, for both directions. No socket. A message
// that lies whole in one chunk is handed out as a view of it (sockets give fresh memory for every
// chunk, so a view may be kept); one that is split is joined once, and only it. Whoever cannot take
// more for a while says so: what is left stays bytes, which cost less than messages.

import { MalformedInput } from "../core/assert.ts";

/** Called for every whole message: its type byte and its body (length word removed). */
export type OnMessage = (type: number, body: Uint8Array) => void;

const HEADER_BYTES = 5;

/** Messages of type byte, u32 length (itself included), body: everything after the startup packet. */
export class Framer {
  private readonly parts: Uint8Array[] = [];
  private have = 0;
  private need = HEADER_BYTES;
  private readonly onMessage: OnMessage;
  private readonly messageBytesMax: number;
  private readonly wanted: () => boolean;
  /** Begins with a whole message that was not wanted yet. */
  private held: readonly Uint8Array[] = [];

  /**
   * Throws MalformedInput from `push` for a message longer than `messageBytesMax`. `wanted` is asked
   * before every message; once it says no, `resume` goes on.
   */
  constructor(onMessage: OnMessage, messageBytesMax: number, wanted: () => boolean = () => true) {
    this.onMessage = onMessage;
    this.messageBytesMax = messageBytesMax;
    this.wanted = wanted;
  }

  /** Bytes of an incomplete message held back. */
  get pendingBytes(): number {
    return this.have;
  }

  /** Whether whole messages wait to be wanted. */
  get isHolding(): boolean {
    return this.held.length > 0;
  }

  push(chunk: Uint8Array): void {
    this.held = this.held.length > 0 ? [...this.held, chunk] : this.take(chunk);
  }

  /** Goes on with what was not wanted. */
  resume(): void {
    while (this.held.length > 0 && this.wanted()) {
      const [first, ...later] = this.held;
      this.held = later;
      this.held = [...this.take(first!), ...later];
    }
  }

  /** Hands out the messages of a chunk; gives what is not wanted yet. */
  private take(chunk: Uint8Array): readonly Uint8Array[] {
    let at = 0;
    while (this.have > 0) {
      const take = Math.min(this.need - this.have, chunk.length - at);
      if (take > 0) this.parts.push(chunk.subarray(at, at + take));
      at += take;
      this.have += take;
      if (this.have < this.need) return [];
      // A header that is now whole goes back into `parts` with the length it asks for.
      const left = this.run(this.join());
      if (left !== undefined) return at < chunk.length ? [left, chunk.subarray(at)] : [left];
    }
    if (at === chunk.length) return [];
    const left = this.run(at === 0 ? chunk : chunk.subarray(at));
    return left === undefined ? [] : [left];
  }

  private join(): Uint8Array {
    const joined = new Uint8Array(this.have);
    let at = 0;
    for (const part of this.parts) {
      joined.set(part, at);
      at += part.length;
    }
    this.parts.length = 0;
    this.have = 0;
    return joined;
  }

  private run(bytes: Uint8Array): Uint8Array | undefined {
    let at = 0;
    for (;;) {
      const left = bytes.length - at;
      if (left < HEADER_BYTES) {
        this.need = HEADER_BYTES;
        break;
      }
      const length =
        bytes[at + 1]! * 0x100_0000 +
        ((bytes[at + 2]! << 16) | (bytes[at + 3]! << 8) | bytes[at + 4]!);
      if (length < 4 || length > this.messageBytesMax) {
        throw new MalformedInput(
          `message of type ${printable(bytes[at]!)} says ${length} bytes; ` +
            `4 to ${this.messageBytesMax} are accepted`,
        );
      }
      if (left < length + 1) {
        this.need = length + 1;
        break;
      }
      if (!this.wanted()) return at === 0 ? bytes : bytes.subarray(at);
      this.onMessage(bytes[at]!, bytes.subarray(at + HEADER_BYTES, at + 1 + length));
      at += length + 1;
    }
    if (at < bytes.length) {
      this.parts.push(bytes.subarray(at));
      this.have = bytes.length - at;
    }
    return undefined;
  }
}

const printable = (type: number): string =>
  type >= 0x21 && type < 0x7f ? `'${String.fromCharCode(type)}'` : `0x${type.toString(16)}`;
