import { describe, expect, test } from "vitest";
import { MalformedInput } from "../../src/core/assert.ts";
import { formatBytes, formatMs, parseBytes } from "../../src/cli/format.ts";
import { versionTable } from "../../src/cli/dump.ts";
import { hostPort } from "../../src/cli/serve.ts";
import { treeWords } from "../../src/cli/status.ts";

describe("addresses", () => {
  test.each([
    ["127.0.0.1:64000", "127.0.0.1", 64_000],
    ["[::1]:1", "::1", 1],
    ["db.example:0", "db.example", 0],
    [":9898", undefined, 9_898],
    ["9898", undefined, 9_898],
  ])("%s", (text, host, port) => {
    expect(hostPort(text, "--listen")).toEqual({ host, port });
  });

  test.each(["", "host", "host:", "host:65536", "::1:5", "host:x"])("not %j", (text) => {
    expect(() => hostPort(text, "--listen")).toThrow(/--listen: not an address/);
  });
});

test("sizes as people write them", () => {
  expect(["5", "2k", "3M", "1GiB", "7mb"].map(parseBytes)).toEqual([
    5,
    2_048,
    3 * 1024 ** 2,
    1024 ** 3,
    7 * 1024 ** 2,
  ]);
  for (const text of ["", "M", "1.5M", "-1", "1T"]) {
    expect(() => parseBytes(text), text).toThrow(MalformedInput);
  }
});

test("sizes and times as people read them", () => {
  expect([0, 1023, 1536, 12_345_678, 5 * 1024 ** 4].map(formatBytes)).toEqual([
    "0 B",
    "1023 B",
    "1.5 KiB",
    "11.8 MiB",
    "5.0 TiB",
  ]);
  expect([0.25, 1500, 65_432, 3_700_000, 90_000_000].map(formatMs)).toEqual([
    "0.3 ms",
    "1.5 s",
    "1m 5s",
    "1h 1m",
    "1d 1h",
  ]);
});

test("of many versions the newest and the oldest are shown", () => {
  const versions = Array.from({ length: 30 }, (_, i) => ({
    lsn: `0/${30 - i}`,
    type: i === 29 ? ("image" as const) : ("record" as const),
    length: 80,
    will_init: i === 29,
    layer: "open",
    timeline: "main",
  }));
  const lsns = (max: number) =>
    versionTable(versions, max)
      .split("\n")
      .slice(1)
      .map((line) => line.split("  ")[0]);
  expect(lsns(4)).toEqual(["0/30", "0/29", "0/28", "… 26 more", "0/1"]);
  expect(lsns(30)).toHaveLength(30);
  expect(lsns(Infinity)).toHaveLength(30);
});

test("a tree is drawn whatever the order of its nodes; a child whose parent is gone stays visible", () => {
  const node = { state: "running", restarts: 0, since: "2026-01-31T10:20:30Z" } as const;
  const paths = ["s/a/x/deep", "s/b", "s/a", "s/a/x", "s/gone/orphan"];
  expect(treeWords(paths.map((path) => ({ ...node, path })))).toBe(
    [
      "├─ b  running",
      "├─ a  running",
      "│  └─ x  running",
      "│     └─ deep  running",
      "└─ orphan  running",
    ].join("\n"),
  );
});
