// The thread that writes sealed layers: one file after the other, from memory that the timelines' thread
// reads meanwhile. What the file is called and when it counts is decided there.

import { serveThread } from "../io/worker-thread.ts";
import { filesWithPoints } from "../store/crash-points.ts";
import { frozenLayer } from "../store/frozen-layer.ts";
import { LayerSealing, type SealOrder, type SealedFacts } from "../store/layer-sealing.ts";
import { OpenFiles } from "../store/sealed-file.ts";
import { type Work, jobServer } from "./serve-jobs.ts";

const files = new OpenFiles();

const seal: Work<SealOrder, SealedFacts, never, never> = (order, { point }) => {
  const { path, timeline, layer } = order;
  const sealing = new LayerSealing({
    ...{ path, timeline, layer: frozenLayer(layer) },
    files: point === undefined ? files : filesWithPoints(files, point),
    fault: () => undefined,
  });
  return write(sealing);
};

async function write(sealing: LayerSealing): Promise<SealedFacts> {
  try {
    while (sealing.step());
    return await sealing.finish();
  } catch (error) {
    await sealing.abandon().catch(() => undefined); // the next attempt, or start, removes it
    throw error;
  }
}

serveThread(jobServer(seal));
