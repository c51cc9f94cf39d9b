import { inspect } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseTenantId, parseTimelineId } from "../../src/core/ids.ts";
import { formatConninfo, parseConninfo, safekeeperOptions } from "../../src/protocol/conninfo.ts";

describe("conninfo", () => {
  test("a URI with everything", () => {
    const c = parseConninfo(
      "postgresql://re%40p:s%3Acret@db.example:5433/my%20db?sslmode=verify-full" +
        "&sslrootcert=/etc/ca.pem&application_name=ps&options=-c%20work_mem%3D1MB",
    );
    expect(c).toMatchObject({
      host: "db.example",
      port: 5433,
      user: "re@p",
      dbname: "my db",
      sslMode: "verify-full",
      sslRootCert: "/etc/ca.pem",
      applicationName: "ps",
      options: "-c work_mem=1MB",
    });
    expect(c.password?.reveal()).toBe("s:cret");
  });

  test("defaults, IPv6, unix sockets", () => {
    expect(parseConninfo("postgres://u@")).toMatchObject({
      host: "localhost",
      port: 5432,
      sslMode: "prefer",
      dbname: undefined,
      password: undefined,
    });
    expect(parseConninfo("postgres://u@[::1]:99/x")).toMatchObject({ host: "::1", port: 99 });
    expect(parseConninfo("postgres://u@/x?host=/run/pg&port=7")).toMatchObject({
      host: "/run/pg",
      port: 7,
    });
    expect(parseConninfo("postgres://u@%2Frun%2Fpg/x").host).toBe("/run/pg");
    expect(parseConninfo("postgres://u@h?ssl=true").sslMode).toBe("require");
  });

  test("key=value, with quotes, escapes and spaces around =", () => {
    const c = parseConninfo(
      String.raw` host = db port=1 user='a b' password='it\'s \\ here' options=-c\ x=1 connect_timeout=5 `,
    );
    expect(c).toMatchObject({ host: "db", port: 1, user: "a b", options: "-c x=1" });
    expect(c.password?.reveal()).toBe(String.raw`it's \ here`);
  });

  test.each([
    ["postgres://u@h:0", /port "0"/],
    ["postgres://u@h:70000", /port "70000"/],
    ["postgres://u@a,b/x", /list of hosts/],
    ["postgres://h/x", /no user/],
    ["postgres://u@h?sslmode=allow", /sslmode "allow"/],
    ["postgres://u@h?channel_binding=require", /"channel_binding" is not supported/],
    ["user=u nonsense=1", /"nonsense" is not supported/],
    ["user=u host", /after "user"/],
    ["user='u", /at its start/],
    ["postgres://u:%zz@h", /password has an invalid percent-encoding/],
    ["postgres://u:pw%00@h", /NUL/],
    ["postgres://a@b@c", /not a valid URI/],
  ])("%s is refused by name", (text, why) => {
    expect(() => parseConninfo(text)).toThrow(why);
  });

  test("whatever the password, neither printing nor errors show it", () => {
    const word = fc.string({ minLength: 6 }).filter((s) => !s.includes("\0"));
    fc.assert(
      fc.property(word, (secret) => {
        const quoted = secret.replace(/['\\]/g, "\\$&");
        const marker = `<${secret}>`;
        const c = parseConninfo(`user=u password='<${quoted}>' dbname=d`);
        expect(c.password?.reveal()).toBe(marker);
        for (const shown of [formatConninfo(c), inspect(c), JSON.stringify(c), `${c.password}`]) {
          expect(shown.includes(marker)).toBe(false);
        }
        const uri = `postgres://u:${encodeURIComponent(marker)}@h?bad=1`;
        expect(parseConninfo(uri.replace("?bad=1", "")).password?.reveal()).toBe(marker);
        expect(() => parseConninfo(uri)).toThrow(/"bad" is not supported/);
      }),
    );
  });

  test("what is printed parses to the same place", () => {
    for (const text of ["postgres://u:p@h:1/d", "postgres://u@[::1]/", "host=/run/pg user=u"]) {
      const c = parseConninfo(text);
      const again = parseConninfo(formatConninfo(c).replace(":***", ""));
      expect({ ...again, password: undefined }).toEqual({ ...c, password: undefined });
    }
  });

  test("safekeeper options: one -c, then words; spaces and backslashes escaped", () => {
    const tenant = parseTenantId("0123456789abcdef0123456789ABCDEF");
    const timeline = parseTimelineId("ffffffffffffffffffffffffffffffff");
    expect(safekeeperOptions({ tenant, timeline })).toBe(
      `-c timeline_id=${timeline} tenant_id=${tenant} protocol={"type":"vanilla"}`,
    );
    expect(safekeeperOptions({ tenant, timeline, availabilityZone: "a b\\c" })).toMatch(
      / availability_zone=a\\ b\\\\c$/,
    );
  });
});
