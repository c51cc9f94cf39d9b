import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, expect, test } from "vitest";
import { ServerTls, TlsUnusable } from "../../src/io/tls.ts";
import { newAuthority } from "../support/certificates.ts";

const dir = fs.mkdtempSync(path.join(os.tmpdir(), "tls-"));
afterAll(() => fs.rmSync(dir, { recursive: true }));
const authority = newAuthority(dir);
const [first, second] = [authority.issue("first"), authority.issue("second")];
const load = (files: { certFile: string; keyFile: string }) =>
  ServerTls.load({ ...files, policy: "required" });
const put = (text: string, mode = 0o600): string => {
  const file = path.join(fs.mkdtempSync(path.join(dir, "file-")), "pem");
  fs.writeFileSync(file, text, { mode });
  return file;
};

test.each([
  [
    "a missing certificate",
    { ...first, certFile: "/nowhere" },
    "certificate /nowhere cannot be read",
  ],
  ["a missing key", { ...first, keyFile: "/nowhere" }, "private key /nowhere cannot be read"],
  ["a key of another certificate", { ...first, keyFile: second.keyFile }, "does not belong to"],
  ["no PEM", { ...first, certFile: put("certificate") }, "no usable certificate in PEM"],
  ["a key that is none", { ...first, keyFile: put("key") }, "no usable private key in PEM"],
  ["a huge file", { ...first, certFile: put("x".repeat(2 ** 20 + 1)) }, "more than"],
] as const)("%s is refused by name", async (_what, files, why) => {
  await expect(load(files)).rejects.toThrow(TlsUnusable);
  await expect(load(files)).rejects.toThrow(why);
});

test("a key that others may read is refused", async () => {
  const text = fs.readFileSync(first.keyFile, "utf8");
  for (const mode of [0o644, 0o604, 0o640]) {
    await expect(load({ ...first, keyFile: put(text, mode) })).rejects.toThrow("chmod 0600");
  }
  await load({ ...first, keyFile: put(text, 0o400) });
});

test("what is prepared counts when it takes over, and listeners hear of it", async () => {
  const files = { certFile: put(fs.readFileSync(first.certFile, "utf8")), keyFile: put("") };
  fs.copyFileSync(first.keyFile, files.keyFile);
  const tls = await load(files);
  const heard: string[] = [];
  tls.changed(({ cert }) => heard.push(cert));
  const { context, notAfterMs } = tls;
  expect(notAfterMs).toBeGreaterThan(Date.now());
  fs.copyFileSync(second.certFile, files.certFile);
  await expect(tls.prepare()).rejects.toThrow("does not belong to");
  fs.copyFileSync(second.keyFile, files.keyFile);
  const takeOver = await tls.prepare();
  expect(tls.context).toBe(context);
  takeOver();
  expect(tls.context).not.toBe(context);
  expect(heard).toEqual([fs.readFileSync(second.certFile, "utf8")]);
});
