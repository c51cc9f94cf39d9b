// Certificates as an operator makes them: openssl's own program, a root, and servers signed by it.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

export interface TestCertificate {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface TestAuthority {
  /** The root's certificate. */
  readonly caFile: string;
  /** A server's certificate for 127.0.0.1 and localhost, good for so many days. */
  issue(name: string, days?: number): TestCertificate;
}

const EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

function openssl(...args: readonly string[]): void {
  execFileSync("openssl", args, { stdio: ["ignore", "pipe", "pipe"] });
}

export function newAuthority(dir: string): TestAuthority {
  const at = (name: string): string => path.join(dir, name);
  const [caFile, caKey] = [at("ca.crt"), at("ca.key")];
  const days = ["-days", "30"];
  const ca = ["-subj", "/CN=test root", "-keyout", caKey, "-out", caFile];
  openssl("req", "-x509", ...EC, ...days, ...ca);
  return {
    caFile,
    issue: (name, validDays = 7) => {
      const [certFile, keyFile, request] = [at(`${name}.crt`), at(`${name}.key`), at("request")];
      openssl("req", ...EC, "-subj", `/CN=${name}`, "-keyout", keyFile, "-out", request);
      const extensions = at("extensions");
      fs.writeFileSync(extensions, "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
      const issuer = ["-CA", caFile, "-CAkey", caKey, "-CAcreateserial", "-extfile", extensions];
      const to = ["-in", request, "-days", `${validDays}`, "-out", certFile];
      openssl("x509", "-req", ...issuer, ...to);
      fs.chmodSync(keyFile, 0o600);
      return { certFile, keyFile };
    },
  };
}
