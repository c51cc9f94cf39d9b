// What tests of replication share: a PostgreSQL that serves TLS and asks one role for a SCRAM
// password, and small waits.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import type { Conninfo } from "../../src/protocol/conninfo.ts";
import { parseConninfo } from "../../src/protocol/conninfo.ts";
import { type TestPostgres, postgresIdentity, startPostgres } from "./postgres.ts";

export const PASSWORD = "s3cret word";

/**
 * Starts a cluster with TLS. Its certificate names 127.0.0.1 only and is signed by its own ca.crt;
 * role `rep` needs TLS and a password.
 */
export async function startTlsPostgres(
  settings: Readonly<Record<string, string>> = {},
): Promise<TestPostgres> {
  const cluster = await startPostgres({
    start: false,
    settings: { ssl: "on", ssl_cert_file: "server.crt", ssl_key_file: "server.key", ...settings },
  });
  const dir = cluster.dataDir;
  const openssl = (...args: string[]): void => {
    execFileSync("openssl", args, { cwd: dir, stdio: ["ignore", "ignore", "ignore"] });
  };
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl("req", "-x509", ...key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test ca");
  openssl("req", ...key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=db");
  fs.writeFileSync(path.join(dir, "san"), "subjectAltName=IP:127.0.0.1\n");
  const signer = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
  openssl("x509", "-req", "-in", "server.csr", ...signer, "-extfile", "san", "-out", "server.crt");
  const { uid, gid } = postgresIdentity();
  for (const name of fs.readdirSync(dir).filter((f) => /^(ca|server|san)/.test(f))) {
    fs.chmodSync(path.join(dir, name), 0o600);
    if (uid !== undefined && gid !== undefined) fs.chownSync(path.join(dir, name), uid, gid);
  }
  const hba = path.join(dir, "pg_hba.conf");
  const rules =
    "hostssl all,replication rep 127.0.0.1/32 scram-sha-256\nhost all,replication rep 127.0.0.1/32 reject\n";
  fs.writeFileSync(hba, rules + fs.readFileSync(hba, "utf8"));
  await cluster.start();
  await cluster.sql(`CREATE ROLE rep LOGIN REPLICATION PASSWORD '${PASSWORD}'`);
  return cluster;
}

/** The superuser, without password or TLS. */
export const plain = (cluster: TestPostgres): Conninfo =>
  parseConninfo(`host=127.0.0.1 port=${cluster.port} user=postgres sslmode=disable`);

/** Polls until `check` gives something but undefined or false. */
export async function until<T>(
  what: string,
  check: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMs = 20_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const found = await check();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`timed out waiting for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The bytes of [from, to) as the server's WAL files have them. */
export function walBytes(cluster: TestPostgres, from: number, to: number, tli = 1): Buffer {
  const segment = 16 * 1024 * 1024;
  const hex = (n: number): string => n.toString(16).toUpperCase().padStart(8, "0");
  const parts: Buffer[] = [];
  for (let n = Math.floor(from / segment); n * segment < to; n++) {
    const file = path.join(
      cluster.dataDir,
      "pg_wal",
      `${hex(tli)}${hex(Math.floor(n / 256))}${hex(n % 256)}`,
    );
    const begin = Math.max(0, from - n * segment);
    parts.push(fs.readFileSync(file).subarray(begin, Math.min(segment, to - n * segment)));
  }
  return Buffer.concat(parts);
}
