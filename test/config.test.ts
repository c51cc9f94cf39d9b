import { describe, expect, test } from "vitest";
import { ConfigError, loadConfig } from "../src/config.ts";

const file = (text: string) => ({ path: "/etc/p.toml", text });
const refusal = (...args: Parameters<typeof loadConfig>): string => {
  try {
    loadConfig(...args);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as Error).message;
  }
  throw new Error("nothing was refused");
};

describe("settings", () => {
  test("flags win over the environment, that over the file, that over defaults", () => {
    const { config, settings } = loadConfig(
      { dataDir: "flag" },
      { PAGESERVER_DATA: "env", PAGESERVER_LISTEN_PORT: "1", PAGESERVER_HTTP_PORT: "" },
      file('data_dir = "file"\nlisten_port = 2\nhttp_port = 3\nauth_require_expiry = false'),
    );
    expect(config).toMatchObject({ dataDir: "flag", listenPort: 1, httpPort: 3 });
    expect(config).toMatchObject({ authRequireExpiry: false, logLevel: "info" });
    const sources = Object.fromEntries(settings.map(({ name, source }) => [name, source]));
    expect(sources).toMatchObject({
      data_dir: "flag",
      listen_port: "environment",
      http_port: "file",
      log_level: "default",
    });
    expect(Object.isFrozen(config)).toBe(true);
  });

  test("each has a name, a unit, a word on it, and a variable of its own", () => {
    const { settings } = loadConfig({}, {});
    for (const { name, env, unit, about } of settings) {
      expect(name).toMatch(/^[a-z]+(_[a-z]+)*$/);
      expect(env).toMatch(/^PAGESERVER_[A-Z_]+$/);
      expect(`${unit}${about}`).not.toContain("undefined");
    }
    expect(new Set(settings.map(({ env }) => env)).size).toBe(settings.length);
    expect(settings.map(({ default: value }) => value)).toContain(64_000);
  });

  test("unknown ones are refused with the nearest name", () => {
    expect(refusal({}, {}, file('auth_key = "x"'))).toBe(
      '/etc/p.toml: there is no setting "auth_key"; did you mean auth_keys?',
    );
    expect(refusal({}, {}, file("colour = 1"))).toContain("see: pageserver config");
    expect(refusal({}, {}, file("[listen]\nport = 1"))).toContain('no setting "listen"');
  });

  test("wrong values are refused by the name under which they were given", () => {
    expect(refusal({}, {}, file("listen_port = 70000"))).toMatch(/^\/etc\/p\.toml: listen_port: /);
    const env = { PAGESERVER_LOG_LEVEL: "loud" };
    expect(refusal({}, env)).toMatch(/^PAGESERVER_LOG_LEVEL: /);
    expect(refusal({}, { PAGESERVER_AUTH_REQUIRE_EXPIRY: "perhaps" })).toContain("EXPIRY");
    expect(refusal({}, {}, file("data_dir = "))).toMatch(/^\/etc\/p\.toml: line 1: /);
  });

  test("marks of disk usage and sizes are told from words", () => {
    for (const mark of ["85%", "12.5%", "500GB", 1_000_000, "off"]) {
      expect(loadConfig({ evictHigh: mark }, {}).config.evictHigh).toBe(String(mark));
    }
    expect(refusal({ evictHigh: "100%" }, {})).toMatch(
      /^evict_high: it must be percent of the disk \(85%\), bytes of layers \(500GB\), or off/,
    );
    expect(refusal({ evictFloor: "much" }, {})).toMatch(
      /^evict_floor: it must be bytes, e.g. 256MB/,
    );
  });

  test("a certificate and its key come together", () => {
    expect(refusal({ tlsCert: "/c" }, {})).toBe(
      "tls_cert is set and tls_key is not: TLS needs both",
    );
    expect(refusal({}, { PAGESERVER_TLS_KEY: "/k" })).toContain("tls_cert is not");
    expect(loadConfig({ tlsCert: "/c", tlsKey: "/k" }, {}).config.tlsRequired).toBe(true);
  });

  test("an address that others can reach needs tokens, or a word that it is meant", () => {
    for (const host of ["0.0.0.0", "::", "10.0.0.5", "db.example", "127.0.0.1.example"]) {
      expect(refusal({ listenHost: host }, {})).toContain("listen_host");
      expect(refusal({ httpHost: host }, {})).toContain("http_host");
      loadConfig({ listenHost: host, authKeys: "/keys" }, {});
      loadConfig({ httpHost: host }, { PAGESERVER_ALLOW_UNAUTHENTICATED: "true" });
    }
    for (const host of ["localhost", "127.0.0.1", "127.9.9.9", "::1"]) {
      loadConfig({ listenHost: host, httpHost: host }, {});
    }
  });
});
