import { createHmac } from "node:crypto";
import fs from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { KeysUnusable, type TokenOptions, TokenVerifier } from "../../src/io/tokens.ts";
import { type TokenTimes, ed25519Key, rsaKey, sign } from "../support/tokens.ts";

const NOW_S = 1_800_000_000;
const TENANT = "a".repeat(32);
const CLAIMS = { scope: "tenant", tenant_id: TENANT };
const PARSED = { scope: "tenant", tenant: TENANT, timeline: undefined };

const [ed, edOther, rsa] = [ed25519Key(), ed25519Key(), rsaKey()];
let dir: string;

beforeAll(async () => {
  dir = await fs.mkdtemp(path.join(os.tmpdir(), "tokens-"));
});
afterAll(() => fs.rm(dir, { recursive: true }));

let files = 0;
async function put(text: string, ending = "pem"): Promise<string> {
  const file = path.join(dir, `key-${++files}.${ending}`);
  await fs.writeFile(file, text);
  return file;
}
const load = (keys: string, options: Partial<TokenOptions> = {}) =>
  TokenVerifier.load({
    keys,
    audience: undefined,
    clockSkewS: 10,
    requireExpiry: true,
    nowMs: () => NOW_S * 1000,
    ...options,
  });
const token = (claims: Record<string, unknown> = {}, times: TokenTimes = {}, key = ed) =>
  sign(key, { ...CLAIMS, ...claims }, { nowS: NOW_S, ...times });
const unsigned = (header: object, payload: object): string =>
  [header, payload]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");

describe("a token", () => {
  test.each([
    ["expired beyond the skew", {}, { expiresInS: -11 }, "has expired"],
    ["not valid yet", {}, { notBeforeInS: 11 }, "not valid yet"],
    ["without an end", {}, { expiresInS: undefined }, "has no exp"],
    ["of an unknown scope", { scope: "admin" }, {}, "permits nothing here"],
    ["without a tenant", { tenant_id: undefined }, {}, "no tenant_id"],
    ["with an end that is no number", { exp: "never" }, { expiresInS: undefined }, "exp"],
  ] as const)("%s is refused", async (_name, claims, times, why) => {
    const verifier = await load(await put(ed.pem));
    const checked = await verifier.check(await token(claims, times));
    expect(checked).toEqual({ ok: false, error: expect.stringContaining(why) });
  });

  test("is good within the skew, for its audience, and without an end where that is allowed", async () => {
    const file = await put(ed.pem);
    const strict = await load(file, { audience: "here" });
    expect(await strict.check(await token({ aud: ["x", "here"] }, { expiresInS: -5 }))).toEqual({
      ok: true,
      value: PARSED,
    });
    for (const aud of ["elsewhere", undefined]) {
      const refused = await strict.check(await token({ aud }));
      expect(refused).toMatchObject({ ok: false, error: expect.stringMatching(/audience|aud/) });
    }
    const lax = await load(file, { requireExpiry: false });
    expect((await lax.check(await token({}, { expiresInS: undefined }))).ok).toBe(true);
    expect((await lax.check(await token({}, { expiresInS: -11 }))).ok).toBe(false);
  });

  test("signed by another key, or changed, is refused", async () => {
    const verifier = await load(await put(ed.pem));
    const wrong = { ok: false, error: "the signature is wrong" };
    expect(await verifier.check(await token({}, {}, edOther))).toEqual(wrong);
    const [header, , signature] = (await token()).split(".");
    const payload = unsigned({}, { ...CLAIMS, scope: "pageserverapi", exp: NOW_S + 60 });
    const forged = `${header}.${payload.split(".")[1]}.${signature}`;
    expect(await verifier.check(forged)).toEqual(wrong);
  });

  test("that names another algorithm than its key's is refused", async () => {
    const verifier = await load(await put(rsa.pem));
    const payload = { ...CLAIMS, exp: NOW_S + 60 };
    expect((await verifier.check(`${unsigned({ alg: "none" }, payload)}.`)).ok).toBe(false);
    // The public key taken for a shared secret.
    const hs = unsigned({ alg: "HS256" }, payload);
    const mac = createHmac("sha256", rsa.pem).update(hs).digest("base64url");
    expect(await verifier.check(`${hs}.${mac}`)).toMatchObject({
      ok: false,
      error: expect.stringContaining("no key"),
    });
    expect((await verifier.check(await token())).ok).toBe(false);
    expect((await verifier.check(await token({}, {}, rsa))).ok).toBe(true);
  });

  test("that is no token at all is refused without being repeated", async () => {
    const verifier = await load(await put(ed.pem));
    for (const nonsense of ["", "secret", "a.b.c", "....", "x".repeat(9_000)]) {
      const checked = await verifier.check(nonsense);
      expect(checked).toEqual({ ok: false, error: "this is not a signed token" });
    }
  });
});

describe("keys", () => {
  const jwk = (key: typeof ed, more: object = {}) => ({
    ...key.publicKey.export({ format: "jwk" }),
    ...more,
  });

  test("a directory of PEM files: any of them", async () => {
    const many = path.join(dir, "many");
    await fs.mkdir(many);
    await fs.writeFile(path.join(many, "1.pem"), ed.pem);
    await fs.writeFile(path.join(many, "2.pem"), edOther.pem);
    await fs.writeFile(path.join(many, "3.pem"), rsa.pem);
    await fs.writeFile(path.join(many, "readme.txt"), "not a key");
    const verifier = await load(many);
    for (const key of [ed, edOther, rsa]) {
      expect((await verifier.check(await token({}, {}, key))).ok).toBe(true);
    }
  });

  test("a JWKS: by key id, and what is of no use to us is passed over", async () => {
    const keys = [
      jwk(ed, { kid: "a", use: "sig", alg: "EdDSA" }),
      jwk(rsa, { kid: "b", alg: "RS256" }),
      jwk(edOther, { kid: "c", use: "enc" }),
      { kty: "EC", crv: "P-256", x: "x", y: "y" },
    ];
    const verifier = await load(await put(JSON.stringify({ keys }), "json"));
    expect((await verifier.check(await token({}, { kid: "a" }))).ok).toBe(true);
    expect((await verifier.check(await token({}, { kid: "b" }, rsa))).ok).toBe(true);
    expect((await verifier.check(await token({}, { kid: "b" }))).ok).toBe(false);
    expect((await verifier.check(await token({}, { kid: "c" }, edOther))).ok).toBe(false);
  });

  test("reloading takes all that is there now, or nothing", async () => {
    const file = await put(ed.pem);
    const verifier = await load(file);
    await fs.writeFile(file, "-----BEGIN PUBLIC KEY-----\nhalf");
    await expect(verifier.prepare()).rejects.toThrow(KeysUnusable);
    expect((await verifier.check(await token())).ok).toBe(true);
    await fs.writeFile(file, edOther.pem);
    const takeOver = await verifier.prepare();
    expect((await verifier.check(await token())).ok).toBe(true);
    takeOver();
    expect(verifier.keyCount).toBe(1);
    expect((await verifier.check(await token())).ok).toBe(false);
    expect((await verifier.check(await token({}, {}, edOther))).ok).toBe(true);
  });

  test("a JWKS by URL, and a server that gives none", async () => {
    let body = JSON.stringify({ keys: [jwk(ed)] });
    const server = http.createServer((request, response) => {
      response.statusCode = request.url === "/keys" ? 200 : 404;
      response.end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const verifier = await load(`${url}/keys`);
    expect((await verifier.check(await token())).ok).toBe(true);
    await expect(load(`${url}/nothing`)).rejects.toThrow("HTTP status 404");
    body = " ".repeat(2 * 1024 * 1024);
    await expect(verifier.prepare()).rejects.toThrow("more than");
    server.close();
  });

  test("private, weak, unknown and missing keys are refused by name", async () => {
    const pkcs8 = ed.privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    await expect(load(await put(pkcs8))).rejects.toThrow("private key");
    const secret = { keys: [{ kty: "oct", k: "c2VjcmV0" }] };
    await expect(load(await put(JSON.stringify(secret), "json"))).rejects.toThrow("secret");
    const own = { keys: [ed.privateKey.export({ format: "jwk" })] };
    await expect(load(await put(JSON.stringify(own), "json"))).rejects.toThrow("private key");
    await expect(load(await put(rsaKey(1024).pem))).rejects.toThrow("1024 bits");
    await expect(load(await put("nothing"))).rejects.toThrow(/key-\d+\.pem/);
    await expect(load(await put('{"keys":[]}', "json"))).rejects.toThrow("holds no");
    await expect(load(path.join(dir, "missing.pem"))).rejects.toThrow("missing.pem");
  });
});
