// Three kinds of failure, never mixed: a peer's malformed input, our own broken invariant, and
// (not here, see result.ts) a refusal, which is a value.

/** Our fault: an invariant does not hold. Caught only by a supervisor. */
export class InvariantViolation extends Error {
  override readonly name = "InvariantViolation";
}

/** Their fault: bytes, JSON or files from outside that do not follow their format. Ends one connection. */
export class MalformedInput extends Error {
  override readonly name = "MalformedInput";
}

/** Throws InvariantViolation when `condition` is false. The message names the invariant (I1, I2 …). */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantViolation(message);
}

/** The default branch of an exhaustive switch: a new variant then fails to compile. */
export function unreachable(value: never): never {
  throw new InvariantViolation(`unreachable: ${JSON.stringify(value)}`);
}
