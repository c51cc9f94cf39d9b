// Settings that are read again: what counts at once is put into effect, what does not is named, and
// wrong ones change nothing.

import { expect, test } from "vitest";
import { liveSettings } from "../../src/app/live-settings.ts";
import { loadConfig } from "../../src/config.ts";

const read = (text: string) => loadConfig({}, {}, { path: "settings.toml", text }).config;

test("a change counts, or is named as one that does not", () => {
  let text = 'log_level = "info"';
  const levels: string[] = [];
  const settings = liveSettings(read(text), () => read(text), {
    logLevel: (next) => levels.push(next.logLevel),
  });
  expect(settings.prepare()()).toEqual({ applied: [], need_restart: [] });
  text = 'log_level = "debug"\nlisten_port = 1234';
  expect(settings.prepare()()).toEqual({ applied: ["log_level"], need_restart: ["listen_port"] });
  // Still not in effect, so it is still said; what is in effect is no change any more.
  expect(settings.prepare()()).toEqual({ applied: [], need_restart: ["listen_port"] });
  expect(levels).toEqual(["debug"]);
});

test("wrong settings are refused before anything is taken", () => {
  let text = "";
  const levels: string[] = [];
  const settings = liveSettings(read(text), () => read(text), {
    logLevel: (next) => levels.push(next.logLevel),
  });
  text = 'log_level = "debug"\nlisten_prot = 1';
  expect(() => settings.prepare()).toThrow(/"listen_prot"; did you mean listen_port\?/);
  expect(levels).toEqual([]);
});
