import { describe, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import { parseConninfo } from "../../src/protocol/conninfo.ts";
import { computeConninfo, parseComputeOptions } from "../../src/protocol/compute-options.ts";

const parse = (options: string) => parseComputeOptions(new Map([["options", options]]));

describe("what a compute says of itself", () => {
  test("comes out of its conninfo as it went in", () => {
    const text = computeConninfo("host=h user=u", { generation: 12 });
    const { options } = parseConninfo(text);
    expect(parse(options!)).toEqual({ generation: 12 });
    const at = Lsn.parse("1/2A");
    const fixed = parseConninfo(computeConninfo("host=h user=u", { at }));
    expect(parse(fixed.options!)).toEqual({ at });
    expect(computeConninfo("host=h", {})).toBe("host=h");
  });

  test("its system identifier is of 64 bits", () => {
    const systemId = "18446744073709551615";
    expect(parse(`-c pageserver.system_id=${systemId}`)).toEqual({ systemId });
    expect(() => parse("-c pageserver.system_id=0x1F")).toThrow("pageserver.system_id is");
  });

  test("others say nothing of it", () => {
    expect(parseComputeOptions(new Map())).toEqual({});
    expect(parse("-c endpoint_id=ep-1 -c work_mem=1MB")).toEqual({});
  });

  test("a moment that is no LSN is malformed", () => {
    expect(() => parse("-c pageserver.at=yesterday")).toThrow("LSN");
  });

  test.each(["", "-1", "1.5", "seven", "9".repeat(16)])("generation %j is malformed", (text) => {
    expect(() => parse(`-c pageserver.generation=${text}`)).toThrow("pageserver.generation is");
  });
});
