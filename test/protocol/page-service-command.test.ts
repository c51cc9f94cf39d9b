import { describe, expect, test } from "vitest";
import { parseCommand } from "../../src/protocol/page-service-command.ts";

const T = "0123456789abcdef0123456789abcdef";
const L = "fedcba9876543210fedcba9876543210";
const on = { tenant: T, timeline: L };

describe("commands of the page service", () => {
  test.each([
    [`pagestream_v2 ${T} ${L}`, { kind: "pagestream", version: 2, ...on }],
    [`  PageStream_V3  ${T}\t${L.toUpperCase()} \n`, { kind: "pagestream", version: 3, ...on }],
    [`basebackup ${T} ${L}`, { lsn: undefined, gzip: false, replica: false }],
    [`basebackup ${T} ${L} latest`, { lsn: undefined, gzip: false, replica: false }],
    [`basebackup ${T} ${L} 0/16B3748`, { lsn: 0x16b3748, gzip: false, replica: false }],
    [`basebackup ${T} ${L} --gzip`, { lsn: undefined, gzip: true, replica: false }],
    [`basebackup ${T} ${L} 1/0 --replica --gzip`, { lsn: 2 ** 32, gzip: true, replica: true }],
    [`fullbackup ${T} ${L}`, { kind: "fullbackup", lsn: undefined, prevLsn: undefined, ...on }],
    [`fullbackup ${T} ${L} 0/20 0/10`, { kind: "fullbackup", lsn: 32, prevLsn: 16, ...on }],
    [`lease lsn ${T} ${L} 0/20`, { kind: "lease-lsn", shard: undefined, lsn: 32, ...on }],
    [`lease LSN ${T}-0001 ${L} 0/20`, { kind: "lease-lsn", shard: "0001", lsn: 32, ...on }],
    ["set datestyle to 'ISO'", { kind: "set" }],
    ["SET x", { kind: "set" }],
  ])("%s", (text, command) => {
    expect(parseCommand(text)).toMatchObject({ ok: true, value: command });
  });

  test.each([
    ["", "cannot parse query: "],
    ["select", "cannot parse query: select"],
    ["SET", "cannot parse query: SET"],
    ["select 1", "unsupported command select in select 1"],
    [`pagestream ${T} ${L}`, `unsupported command pagestream in pagestream ${T} ${L}`],
    [`pagestream_v2 ${T}`, `invalid number of parameters for pagestream command: ${T}`],
    [
      `pagestream_v3 ${T} ${L} x`,
      `invalid number of parameters for pagestream command: ${T} ${L} x`,
    ],
    [`pagestream_v3 ${T} ${L}0`, `Failed to parse timeline id from ${L}0: not a timeline id`],
    [`pagestream_v3 x ${L}`, "Failed to parse tenant id from x: not a tenant id"],
    [`pagestream_v3 ${T}-0001 ${L}`, `Failed to parse tenant id from ${T}-0001`],
    [`basebackup ${T}`, `invalid number of parameters for basebackup command: ${T}`],
    [`basebackup ${T} ${L} nonsense`, "Failed to parse lsn from nonsense: not an LSN"],
    [`basebackup ${T} ${L} --gzip --gzip`, "duplicate parameter for basebackup command: --gzip"],
    [`basebackup ${T} ${L} --full`, "unknown parameter for basebackup command: --full"],
    [`basebackup ${T} ${L} --gzip 0/10`, "unknown parameter for basebackup command: 0/10"],
    [`fullbackup ${T} ${L} 0/1 0/2 x`, "invalid number of parameters for fullbackup command"],
    [`fullbackup ${T} ${L} --gzip`, "Failed to parse lsn from --gzip"],
    [`lease lsn`, "invalid lease command: lease"],
    [`lease xyz ${T} ${L} 0/1`, "invalid lease command: lease"],
    [`lease lsn ${T} ${L}`, `invalid number of parameters for lease lsn command: ${T} ${L}`],
    [`lease lsn ${T}-1 ${L} 0/1`, `Failed to parse tenant id from ${T}-1`],
    [`lease lsn ${T} ${L} 0x10`, "Failed to parse lsn from 0x10"],
  ])("refused: %s", (text, error) => {
    const parsed = parseCommand(text);
    expect(parsed.ok).toBe(false);
    if (!parsed.ok) expect(parsed.error).toContain(error);
  });
});
