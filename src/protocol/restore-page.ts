// An IMAGE version as the store keeps it, to the page it stands for: what a Chain is given.

import type { RestoreImage } from "../core/reconstruct.ts";
import { VERSION_FLAG } from "../core/version.ts";
import { stampPageLsn } from "./page-header.ts";
import { restoreImage } from "./wal/image.ts";

/** Writes 8192 bytes. Throws MalformedInput when the image does not give a page. */
export const restorePage: RestoreImage = (version, out, at) => {
  const { flags, holeOffset, holeLength, bytes, start, length } = version;
  restoreImage(flags, holeOffset, holeLength, bytes, start, length, out, at);
  if ((flags & VERSION_FLAG.STAMP_LSN) !== 0) stampPageLsn(out, at, version.lsn);
};
