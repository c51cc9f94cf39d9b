// Does what goes to and comes from object storage for all timelines: few things at a time, in the order
// in which they were asked for; each timeline asks for one of a kind at a time, so the queue is as long
// as there are timelines. Nothing here knows what is done: that is backup-turn.ts and layer-object.ts.

import { BACKUP_LAYERS_MAX, BACKUP_TURNS_MAX } from "../core/limits.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import { type Result, err, ok } from "../core/result.ts";
import { traced } from "../io/traces.ts";
import { type ActorRef, type Reply, type Scope, spawn } from "./runtime.ts";

/** Turns are short and move `uploaded`; layers are long. One does not wait for the other. */
export type UploadKind = "turn" | "layer";

interface Asked {
  readonly kind: "work";
  readonly of: UploadKind;
  readonly run: () => Promise<unknown>;
  readonly reply: Reply<Result<unknown, unknown>>;
}

export type UploaderMsg = Asked | { readonly kind: "done"; readonly of: UploadKind };

interface Lane {
  running: number;
  readonly waiting: Asked[];
}

type State = Readonly<Record<UploadKind, Lane>>;

const MOST: Readonly<Record<UploadKind, number>> = {
  turn: BACKUP_TURNS_MAX,
  layer: BACKUP_LAYERS_MAX,
};

export function spawnUploader(scope: Scope, restart: RestartPolicy): ActorRef<UploaderMsg> {
  return spawn<State, UploaderMsg>(scope, {
    name: "uploader",
    restart,
    init: () => ({ turn: { running: 0, waiting: [] }, layer: { running: 0, waiting: [] } }),
    handle: (state, msg, self) => {
      const lane = state[msg.of];
      if (msg.kind === "work") lane.waiting.push(msg);
      else lane.running--;
      while (lane.running < MOST[msg.of] && lane.waiting.length > 0) {
        lane.running++;
        start(lane.waiting.shift()!, self);
      }
      return state;
    },
    refuse: (msg, why) => {
      if (msg.kind === "work") msg.reply.answer(err(new Error(why ?? "the uploader stops")));
    },
  });
}

function start({ of, run, reply }: Asked, self: ActorRef<UploaderMsg>): void {
  const over = (result: Result<unknown, unknown>): void => {
    self.tell({ kind: "done", of });
    reply.answer(result);
  };
  traced("upload", () => ({ of }), run).then(
    (value) => over(ok(value)),
    (error: unknown) => over(err(error)),
  );
}

/** Asks for work; the promise is kept or broken as the work is. */
export function upload<T>(
  uploader: ActorRef<UploaderMsg>,
  of: UploadKind,
  run: () => Promise<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const reply: Asked["reply"] = {
      answer: (result) => {
        if (result.ok) resolve(result.value as T);
        else reject(result.error);
      },
    };
    uploader.tell({ kind: "work", of, run, reply });
  });
}
