// What we send is read by another implementation (pg-protocol), what we read is written by it.

import { Readable } from "node:stream";
import { parse, serialize } from "pg-protocol";
import { describe, expect, test } from "vitest";
import { MalformedInput } from "../../src/core/assert.ts";
import * as messages from "../../src/protocol/pg-messages.ts";

type BackendMessage = Parameters<Parameters<typeof parse>[1]>[0];

async function read(...sent: Uint8Array[]): Promise<BackendMessage[]> {
  const seen: BackendMessage[] = [];
  await parse(Readable.from([Buffer.concat(sent)]), (message) => seen.push(message));
  return seen;
}

const body = (frame: Buffer): Uint8Array => frame.subarray(5);

describe("messages we send", () => {
  test("login", async () => {
    expect(
      await read(
        messages.authenticationOk(),
        messages.authenticationCleartextPassword(),
        messages.parameterStatus("a", "b"),
        messages.readyForQuery(),
      ),
    ).toMatchObject([
      { name: "authenticationOk" },
      { name: "authenticationCleartextPassword" },
      { name: "parameterStatus", parameterName: "a", parameterValue: "b" },
      { name: "readyForQuery", status: "I" },
    ]);
  });

  test("rows", async () => {
    expect(
      await read(
        messages.textColumn("valid_until"),
        messages.textRow("1é"),
        messages.textRow(undefined),
        messages.commandComplete(),
      ),
    ).toMatchObject([
      {
        name: "rowDescription",
        fields: [{ name: "valid_until", dataTypeID: 25, dataTypeSize: -1, format: "text" }],
      },
      { name: "dataRow", fields: ["1é"] },
      { name: "dataRow", fields: [null] },
      { name: "commandComplete", text: "SELECT 1" },
    ]);
  });

  test("errors: severity, SQLSTATE and text, in this order and without more", async () => {
    const frame = messages.errorResponse("57P01", "shut\0down");
    expect(Buffer.from(frame.subarray(5)).toString()).toBe("SERROR\0C57P01\0Mshut\uFFFDdown\0\0");
    expect(await read(frame)).toMatchObject([{ name: "error", code: "57P01", severity: "ERROR" }]);
  });

  test("copy", async () => {
    expect(
      await read(
        messages.copyOutResponse(),
        messages.copyDataHeader(3),
        Buffer.from("abc"),
        messages.copyDone(),
      ),
    ).toMatchObject([
      { name: "copyOutResponse", binary: false, columnTypes: [] },
      { name: "copyData", chunk: Buffer.from("abc") },
      { name: "copyDone" },
    ]);
    expect([...messages.copyBothResponse()]).toEqual([0x57, 0, 0, 0, 7, 0, 0, 0]);
  });

  test("extended protocol", async () => {
    expect(
      await read(
        messages.parseComplete(),
        messages.bindComplete(),
        messages.noParameters(),
        messages.noData(),
        messages.closeComplete(),
      ),
    ).toMatchObject([
      { name: "parseComplete" },
      { name: "bindComplete" },
      { name: "parameterDescription", parameterCount: 0 },
      { name: "noData" },
      { name: "closeComplete" },
    ]);
  });
});

describe("messages we are sent", () => {
  test("by another implementation", () => {
    expect(messages.decodeQuery(body(serialize.query("set é")))).toBe("set é");
    expect(
      messages.decodeParse(body(serialize.parse({ name: "n", text: "t", types: [1, 2] }))),
    ).toEqual({ name: "n", text: "t" });
    const bind = serialize.bind({
      portal: "p",
      statement: "s",
      values: ["x", null],
      binary: false,
    });
    expect(messages.decodeBind(body(bind))).toEqual({ portal: "p", name: "s", parameters: 2 });
    expect(messages.decodeTarget(body(serialize.describe({ type: "S", name: "n" })))).toBe("n");
    expect(messages.decodeTarget(body(serialize.close({ type: "P", name: "" })))).toBe("");
    expect(messages.decodeExecute(body(serialize.execute({ portal: "p", rows: 5 })))).toBe("p");
  });

  test("cut short or with bytes left over: malformed, never more than the message is read", () => {
    const cases: [(body: Uint8Array) => unknown, Buffer][] = [
      [messages.decodeQuery, serialize.query("set x")],
      [messages.decodeParse, serialize.parse({ name: "n", text: "t", types: [1] })],
      [messages.decodeBind, serialize.bind({ values: ["x"] })],
      [messages.decodeTarget, serialize.describe({ type: "S", name: "n" })],
      [messages.decodeExecute, serialize.execute({ portal: "p", rows: 5 })],
    ];
    for (const [decode, frame] of cases) {
      const whole = body(frame);
      for (let size = 0; size < whole.length; size++) {
        expect(() => decode(whole.subarray(0, size))).toThrow(MalformedInput);
      }
      expect(() => decode(Buffer.concat([whole, Buffer.from([0])]))).toThrow(MalformedInput);
    }
  });

  test("kinds", () => {
    const kinds = [..."QPBDESHCdcfXpFZ"].map((c) => messages.frontendKind(c.charCodeAt(0)));
    expect(kinds.join(" ")).toBe(
      "query parse bind describe execute sync flush close copy-data copy-done copy-fail terminate " +
        "unknown unknown unknown",
    );
    expect(messages.frontendKind(0)).toBe("unknown");
  });
});
