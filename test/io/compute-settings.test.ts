import { describe, expect, test } from "vitest";
import { computeConf } from "../../src/io/compute-settings.ts";

const BASE = {
  port: 5433,
  socketDir: "/run/c1",
  commits: "synchronous",
  standbyName: "ps",
} as const;

/** Settings as PostgreSQL reads them: the last line of a name counts. */
function parse(conf: string): Map<string, string> {
  const settings = new Map<string, string>();
  for (const line of conf.split("\n")) {
    const match = /^(\S+) = '(.*)'$/.exec(line);
    if (match !== null) settings.set(match[1]!, match[2]!);
  }
  return settings;
}

describe("settings of a compute", () => {
  test("no fsync only where the page server's copy is waited for", () => {
    const sync = parse(computeConf(BASE));
    expect(sync.get("fsync")).toBe("off");
    expect(sync.get("full_page_writes")).toBe("off");
    expect(sync.get("synchronous_standby_names")).toBe('"ps"');
    const own = parse(computeConf({ ...BASE, commits: "asynchronous" }));
    expect(own.get("fsync")).toBe("on");
    expect(own.get("full_page_writes")).toBe("on");
    expect(own.get("synchronous_standby_names")).toBe("");
  });

  test("one that shows a moment stays a standby, whatever is set", () => {
    const extra = { hot_standby: "off", primary_conninfo: "host=other" };
    const fixed = parse(computeConf({ ...BASE, commits: "none", extra }));
    expect(fixed.get("synchronous_standby_names")).toBe("");
    expect(fixed.get("hot_standby")).toBe("on");
    expect(fixed.get("primary_conninfo")).toBe("");
    expect(fixed.get("recovery_end_command")).toBe("kill -TERM $$");
  });

  test("extra settings win and are quoted", () => {
    const settings = parse(computeConf({ ...BASE, extra: { port: "1", search_path: "it's \\a" } }));
    expect(settings.get("port")).toBe("1");
    expect(settings.get("search_path")).toBe("it''s \\\\a");
  });

  test("nothing can add a line of its own", () => {
    expect(() => computeConf({ ...BASE, extra: { work_mem: "1\nfsync = off" } })).toThrow(
      "work_mem",
    );
    expect(() => computeConf({ ...BASE, extra: { "a = b\nc": "1" } })).toThrow("not the name");
    expect(() => computeConf({ ...BASE, socketDir: "/a\nb" })).toThrow("control character");
    expect(() => computeConf({ ...BASE, standbyName: 'a"b' })).toThrow("synchronous standby");
  });
});
