// Settings read again while the program runs. Most are built into what they made, so a change of them
// is told, not taken: silence would let an operator believe that it counts.

import { type Config, type SettingKey, settingName } from "../config.ts";
import type { SettingsReload } from "../protocol/api-status.ts";

export interface LiveSettings {
  /** Reads and checks all settings; throws what is wrong. What it gives puts them into effect. */
  prepare(): () => SettingsReload;
}

/** `apply`: what takes new values, for each setting that can change while it is in use. */
export function liveSettings(
  started: Config,
  read: () => Config,
  apply: { readonly [K in SettingKey]?: (next: Config) => void },
): LiveSettings {
  let running = started;
  return {
    prepare: () => {
      const next = read();
      const changed = (Object.keys({ ...running, ...next }) as SettingKey[]).filter(
        (key) => next[key] !== running[key],
      );
      return () => {
        const live = changed.filter((key) => apply[key] !== undefined);
        for (const key of live) apply[key]!(next);
        running = { ...running, ...Object.fromEntries(live.map((key) => [key, next[key]])) };
        const later = changed.filter((key) => apply[key] === undefined);
        return { applied: live.map(settingName), need_restart: later.map(settingName) };
      };
    },
  };
}
