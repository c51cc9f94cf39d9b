// The thread that writes sealed layers: one file after the other, from memory that the timelines' thread
// reads meanwhile. What the file is called and when it counts is decided there.

import { serveThread } from "../io/worker-thread.ts";
import type { SealAsked, SealTold } from "../actors/sealer.ts";
import { filesWithPoints } from "../store/crash-points.ts";
import { frozenLayer } from "../store/frozen-layer.ts";
import { LayerSealing } from "../store/layer-sealing.ts";
import { OpenFiles } from "../store/sealed-file.ts";
import { plainFailure } from "../store/store-errors.ts";

const files = new OpenFiles();

async function write(asked: SealAsked, tell: (told: SealTold) => void): Promise<void> {
  const { path, timeline, layer } = asked.order;
  const sealing = new LayerSealing({
    ...{ path, timeline, layer: frozenLayer(layer) },
    files: asked.tellPoints
      ? filesWithPoints(files, (point) => tell({ kind: "point", point }))
      : files,
    fault: () => undefined,
  });
  try {
    while (sealing.step());
    tell({ kind: "written", facts: await sealing.finish() });
  } catch (error) {
    await sealing.abandon().catch(() => undefined); // the next attempt, or start, removes it
    tell({ kind: "failed", failure: plainFailure(error) });
  }
}

serveThread<SealAsked, SealTold>((asked, tell) => void write(asked, tell));
