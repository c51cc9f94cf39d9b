// A real S3 server for tests: Ceph's RADOS gateway over one monitor and one OSD that keeps everything
// in memory, all on loopback and free ports, in a directory of its own. From Debian's packages radosgw,
// ceph-mon, ceph-osd, ceph-base and ceph-common; where they are missing `rgwMissing` says so.

import { execFile, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
const PROGRAMS = ["radosgw", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool", "ceph"];
const PACKAGES = "radosgw ceph-mon ceph-osd ceph-base ceph-common";
const START_MS_MAX = 90_000;

/** Undefined: everything is installed. */
export function rgwMissing(): string | undefined {
  const folders = ["/usr/bin", "/usr/sbin", ...(process.env["PATH"] ?? "").split(":")];
  const missing = PROGRAMS.find(
    (name) => !folders.some((folder) => fs.existsSync(path.join(folder, name))),
  );
  if (missing === undefined) return undefined;
  return `SKIPPED against real S3: ${missing} is not installed; apt-get install --no-install-recommends ${PACKAGES}`;
}

export interface Rgw {
  readonly endpoint: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** Stops and starts only the gateway. */
  readonly stopGateway: () => Promise<void>;
  readonly startGateway: () => Promise<void>;
  readonly stop: () => Promise<void>;
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export async function startRgw(): Promise<Rgw> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "rgw-"));
  const pids: number[] = [];
  const stop = async (): Promise<void> => {
    for (const pid of pids.splice(0).reverse()) await end(pid);
    fs.rmSync(dir, { recursive: true, force: true });
  };
  try {
    return await start(dir, pids, stop);
  } catch (error) {
    await stop();
    throw error;
  }
}

async function start(dir: string, pids: number[], stop: () => Promise<void>): Promise<Rgw> {
  const [monPort, rgwPort, fsid] = [await freePort(), await freePort(), randomUUID()];
  for (const name of ["mon", "osd", "log", "run", "rgw"]) fs.mkdirSync(path.join(dir, name));
  const conf = path.join(dir, "ceph.conf");
  fs.writeFileSync(conf, config(dir, fsid, monPort, rgwPort));
  const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/bin:/usr/sbin` };
  const tool = (name: string, ...args: string[]) =>
    run(name, args, { cwd: dir, env, timeout: START_MS_MAX });
  const key = (file: string, name: string, ...caps: string[]) =>
    tool("ceph-authtool", "--create-keyring", file, "--gen-key", "-n", name, ...caps);
  const all = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"];
  await key("keyring", "mon.", "--cap", "mon", "allow *");
  for (const name of ["client.admin", "client.rgw.a"]) {
    await tool("ceph-authtool", "keyring", "--gen-key", "-n", name, ...all);
  }
  const address = `[v1:127.0.0.1:${monPort}]`;
  await tool("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, "monmap");
  const of = ["-c", conf];
  await tool("ceph-mon", ...of, "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring");
  const daemon = async (name: string, ...args: string[]): Promise<number> => {
    const child = spawn(name, [...of, "-f", ...args], { cwd: dir, env, stdio: "ignore" });
    await new Promise((resolve, reject) => child.once("spawn", resolve).once("error", reject));
    pids.push(child.pid!);
    return child.pid!;
  };
  await daemon("ceph-mon", "-i", "a");
  const secret = (await tool("ceph-authtool", "--gen-print-key")).stdout.trim();
  const osd = randomUUID();
  fs.writeFileSync(path.join(dir, "osd.json"), JSON.stringify({ cephx_secret: secret }));
  await tool("ceph", ...of, "osd", "new", osd, "-i", path.join(dir, "osd.json"));
  const keyring = ["--create-keyring", "osd/keyring", "--name", "osd.0", "--add-key", secret];
  await tool("ceph-authtool", ...keyring);
  await tool("ceph-osd", ...of, "-i", "0", "--mkfs", "--osd-uuid", osd);
  await daemon("ceph-osd", "-i", "0");
  let gateway = await daemon("radosgw", "-n", "client.rgw.a");
  const credentials = { accessKeyId: "AKITEST", secretAccessKey: "SECRETTEST" };
  const user = ["user", "create", "--uid=test", "--display-name=test"];
  const keys = [`--access-key=${credentials.accessKeyId}`, `--secret-key=SECRETTEST`];
  await tool("radosgw-admin", ...of, ...user, ...keys);
  const endpoint = `http://127.0.0.1:${rgwPort}`;
  await answers(endpoint);
  return {
    ...{ endpoint, credentials, stop },
    stopGateway: () => end(gateway),
    startGateway: async () => {
      gateway = await daemon("radosgw", "-n", "client.rgw.a");
      await answers(endpoint);
    },
  };
}

async function answers(endpoint: string): Promise<void> {
  const end = Date.now() + START_MS_MAX;
  for (;;) {
    try {
      await fetch(endpoint);
      return;
    } catch (error) {
      if (Date.now() > end) throw error;
      await sleep(100);
    }
  }
}

/** Makes a bucket with a client of its own: the product makes none. */
export async function makeBucket(rgw: Rgw, bucket: string): Promise<void> {
  const { CreateBucketCommand, S3Client } = await import("@aws-sdk/client-s3");
  const { endpoint, credentials } = rgw;
  const client = new S3Client({ endpoint, credentials, region: "us-east-1", forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  client.destroy();
}

async function end(pid: number): Promise<void> {
  const alive = (): boolean => {
    try {
      process.kill(pid, 0);
      return !fs.readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
    } catch {
      return false;
    }
  };
  if (alive()) process.kill(pid, "SIGTERM");
  for (let i = 0; i < 50 && alive(); i++) await sleep(100);
  if (alive()) process.kill(pid, "SIGKILL");
}

const config = (dir: string, fsid: string, monPort: number, rgwPort: number): string => `
[global]
fsid = ${fsid}
mon host = v1:127.0.0.1:${monPort}
mon initial members = a
public addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
osd objectstore = memstore
memstore device bytes = 8589934592
osd data = ${dir}/osd
run dir = ${dir}/run
log file = ${dir}/log/$name.log
admin socket = ${dir}/run/$name.asok
ms bind ipv6 = false
keyring = ${dir}/keyring
mon data = ${dir}/mon
mon data avail warn = 2
mon data avail crit = 1
[osd.0]
keyring = ${dir}/osd/keyring
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:${rgwPort}
rgw data = ${dir}/rgw
rgw enable usage log = false
rgw enable ops log = false
rgw dns name = localhost
rgw relaxed s3 bucket names = true
`;
