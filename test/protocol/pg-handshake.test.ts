import { describe, expect, test } from "vitest";
import { MalformedInput } from "../../src/core/assert.ts";
import { parseTenantId } from "../../src/core/ids.ts";
import { TRUSTED as TRUSTED_CLAIMS } from "../../src/core/permission.ts";
import { err, ok } from "../../src/core/result.ts";
import {
  type Authenticate,
  Handshake,
  type HandshakeStep,
  trust,
} from "../../src/protocol/pg-handshake.ts";

const u32 = (...values: number[]): Buffer => {
  const out = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => out.writeUInt32BE(value, i * 4));
  return out;
};
const SSL = u32(8, 80_877_103);
const GSS = u32(8, 80_877_104);

function startup(
  version = 0x0003_0000,
  parameters = ["user", "u", "application_name", "a"],
): Buffer {
  const body = Buffer.from(parameters.map((word) => `${word}\0`).join("") + "\0");
  return Buffer.concat([u32(8 + body.length, version), body]);
}

const password = (text: string): Buffer =>
  Buffer.concat([Buffer.from("p"), u32(5 + text.length), Buffer.from(`${text}\0`)]);

/** What is sent, and how it ended, with the input cut into pieces of `size` bytes. */
function login(input: Buffer, size = input.length, how: Authenticate = trust) {
  const handshake = new Handshake(how);
  const sent: Uint8Array[] = [];
  let step: HandshakeStep = { kind: "more", bytes: [] };
  for (let at = 0; at < input.length && step.kind === "more"; at += size) {
    step = handshake.push(input.subarray(at, at + size));
    sent.push(...step.bytes);
  }
  return { text: Buffer.concat(sent).toString("latin1"), step };
}

const TRUSTED =
  "R\0\0\0\x08\0\0\0\0" +
  "S\0\0\0\x19client_encoding\0UTF8\0" +
  "S\0\0\0\x19integer_datetimes\0on\0" +
  "S\0\0\0\x18server_version\x0014.1\0" +
  "Z\0\0\0\x05I";

describe("login", () => {
  test("trust: the sequence of messages, cut anywhere", () => {
    const input = Buffer.concat([SSL, GSS, startup()]);
    for (let size = 1; size <= input.length; size++) {
      const { text, step } = login(input, size);
      expect(text).toBe(`NN${TRUSTED}`);
      expect(step).toMatchObject({ kind: "done", claims: TRUSTED_CLAIMS });
      if (step.kind === "done") expect(step.parameters.get("application_name")).toBe("a");
    }
  });

  test("what follows the login is handed on", () => {
    const { step } = login(Buffer.concat([startup(), Buffer.from("Q-and-more")]));
    expect(step.kind === "done" && Buffer.from(step.rest).toString()).toBe("Q-and-more");
  });

  test("CancelRequest closes without a word", () => {
    const { text, step } = login(u32(16, 80_877_102, 1, 2));
    expect(text).toBe("");
    expect(step).toEqual({ kind: "close", bytes: [], reason: undefined });
  });

  test("a later minor version is negotiated down, unknown protocol options named", () => {
    const { text } = login(startup(0x0003_0002, ["user", "u", "_pq_.x", "1"]));
    expect(text).toBe("v\0\0\0\x13\0\0\0\0\0\0\0\x01_pq_.x\0" + TRUSTED);
  });

  const tenant = parseTenantId("0123456789abcdef0123456789abcdef");
  const claims = { scope: "tenant", tenant, timeline: undefined } as const;
  const byPassword: Authenticate = () => ({
    kind: "ask-password",
    check: async (given) => (given === "token" ? ok(claims) : err("JWT authentication error")),
  });

  /** As `login`, with the verdict on the password and what comes after it. */
  async function checkedLogin(input: Buffer, size: number) {
    const handshake = new Handshake(byPassword);
    const sent: Uint8Array[] = [];
    let step: HandshakeStep = { kind: "more", bytes: [] };
    let verdict: Extract<HandshakeStep, { kind: "check" }>["verdict"] | undefined;
    for (let at = 0; at < input.length; at += size) {
      step = handshake.push(input.subarray(at, at + size));
      sent.push(...step.bytes);
      if (step.kind === "check") ({ verdict } = step);
    }
    step = handshake.checked(await verdict!);
    sent.push(...step.bytes);
    return { text: Buffer.concat(sent).toString("latin1"), step };
  }

  test("password: asked for, checked, and the claims are what it says", async () => {
    const input = Buffer.concat([startup(), password("token"), Buffer.from("Q ahead")]);
    for (let size = 1; size <= input.length; size++) {
      const { text, step } = await checkedLogin(input, size);
      expect(text).toBe(
        "R\0\0\0\x08\0\0\0\x03" +
          "R\0\0\0\x08\0\0\0\0" +
          "S\0\0\0\x19client_encoding\0UTF8\0" +
          "Z\0\0\0\x05I",
      );
      expect(step).toMatchObject({ kind: "done", claims });
      expect(step.kind === "done" && Buffer.from(step.rest).toString()).toBe("Q ahead");
    }
  });

  test("a wrong password is refused with XX000", async () => {
    const { text, step } = await checkedLogin(Buffer.concat([startup(), password("no")]), 7);
    expect(step).toMatchObject({
      kind: "close",
      reason: "login refused: JWT authentication error",
    });
    expect(text).toContain("SERROR\0CXX000\0MJWT authentication error\0\0");
  });

  describe("TLS", () => {
    const hello = Buffer.from([0x16, 3, 1, 0, 1]);
    const start = (policy: "offered" | "required") => new Handshake(trust, policy);

    test("after an SSLRequest, cut anywhere; inside it the login goes on", () => {
      for (let cut = 1; cut <= SSL.length; cut++) {
        const handshake = start("required");
        const before = handshake.push(SSL.subarray(0, cut));
        const step = cut === SSL.length ? before : handshake.push(SSL.subarray(cut));
        expect(step).toMatchObject({ kind: "tls", direct: false, received: { length: 0 } });
        expect(Buffer.concat(step.bytes).toString()).toBe("S");
        expect(handshake.push(startup()).kind).toBe("done");
      }
    });

    test("without a word before: what came is handed on", () => {
      const step = start("offered").push(hello);
      expect(step).toMatchObject({ kind: "tls", direct: true, bytes: [] });
      expect(step.kind === "tls" && Buffer.from(step.received)).toEqual(hello);
    });

    test("inside of it there is no second one", () => {
      const handshake = start("offered");
      handshake.push(SSL);
      expect(() => handshake.push(hello)).toThrow("startup packet says");
      const asked = start("offered");
      asked.push(SSL);
      expect(Buffer.concat(asked.push(SSL).bytes).toString()).toBe("N");
    });

    test("required: a login in clear is refused; GSS encryption still declined", () => {
      const handshake = start("required");
      expect(Buffer.concat(handshake.push(GSS).bytes).toString()).toBe("N");
      const step = handshake.push(startup());
      expect(step).toMatchObject({ kind: "close", reason: "login refused: must connect with TLS" });
      expect(Buffer.concat(step.bytes).toString()).toContain("C28000");
      expect(start("offered").push(startup()).kind).toBe("done");
    });

    test("what comes in clear behind an SSLRequest is never taken for encrypted", () => {
      const input = Buffer.concat([SSL, startup()]);
      expect(() => start("offered").push(input)).toThrow("unencrypted data after");
    });
  });

  test("a refusal waits for the startup packet, then says why", () => {
    const full: Authenticate = () => ({ kind: "refuse", state: "53300", text: "full" });
    const { text, step } = login(Buffer.concat([SSL, startup()]), 5, full);
    expect(step).toMatchObject({ kind: "close", reason: "login refused: full" });
    expect(text).toBe("NE\0\0\0\x19SERROR\0C53300\0Mfull\0\0");
  });

  test.each([
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\n"), "startup packet says"],
    ["a length below 8", u32(7, 0), "startup packet says 7 bytes"],
    ["a length above 10000", u32(10_001, 0x0003_0000), "startup packet says 10001 bytes"],
    ["direct TLS", Buffer.from([0x16, 3, 1, 0, 1]), "TLS"],
    ["protocol 2", startup(0x0002_0000), "unsupported frontend protocol 2.0"],
    ["no end of parameters", u32(9, 0x0003_0000, 0x41000000).subarray(0, 9), "no terminating NUL"],
    ["bytes after the end", Buffer.concat([u32(10, 0x0003_0000), Buffer.from("\0x")]), "too many"],
    [
      "text that is not UTF-8",
      Buffer.concat([u32(12, 0x0003_0000), Buffer.from([0xff, 0, 0, 0])]),
      "UTF-8",
    ],
    ["encryption asked for again and again", Buffer.concat([SSL, SSL, SSL]), "asked for again"],
  ])("malformed: %s", (_name, input, error) => {
    for (const size of [1, 3, input.length]) {
      expect(() => login(input, size)).toThrow(MalformedInput);
      expect(() => login(input, size)).toThrow(error);
    }
  });

  test("anything but a password when one is asked for is malformed", () => {
    expect(() => login(Buffer.concat([startup(), Buffer.from("Q....")]), 1, byPassword)).toThrow(
      "expected a password message",
    );
  });
});
