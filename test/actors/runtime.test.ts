// What runtime.ts adds to nact: a failing start is a crash of its own, messages that will never be
// handled are refused, trees of one name do not meet.

import { afterEach, expect, test } from "vitest";
import {
  type ActorRef,
  type ActorSpec,
  type ActorSystem,
  type CrashReport,
  type Reply,
  ask,
  spawn,
  startSystem,
} from "../../src/actors/runtime.ts";

const TWICE = { crashesMax: 2, windowMs: 60_000, backOffMs: 5, backOffMsMax: 5 };
const turns = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const systems: ActorSystem[] = [];
afterEach(() => {
  for (const system of systems.splice(0)) system.stop();
});

function start(reports: CrashReport[] = []): ActorSystem {
  const system = startSystem("tree", (report) => reports.push(report));
  systems.push(system);
  return system;
}

type Msg =
  | { readonly kind: "ask"; readonly reply: Reply<string> }
  | { readonly kind: "crash"; readonly reply: Reply<string> };

/** Answers "done" or throws; what it cannot handle it answers with the reason. */
function answering(
  name: string,
  change: Partial<ActorSpec<number, Msg>> = {},
): ActorSpec<number, Msg> {
  return {
    name,
    restart: TWICE,
    init: () => 0,
    handle: (state, msg) => {
      if (msg.kind === "crash") throw new Error("told to");
      msg.reply.answer("done");
      return state + 1;
    },
    refuse: (msg, why) => msg.reply.answer(`refused: ${why ?? "stopped"}`),
    ...change,
  };
}

const send = (ref: ActorRef<Msg>, kind: Msg["kind"]): Promise<string> =>
  ask<Msg, string>(ref, (reply) => ({ kind, reply }), 1_000);

test("the message that crashes an actor is refused; those behind it go to the next life", async () => {
  const ref = spawn(start().root, answering("a"));
  const answers = [send(ref, "ask"), send(ref, "crash"), send(ref, "ask"), send(ref, "ask")];
  expect(await Promise.all(answers)).toEqual(["done", "refused: told to", "done", "done"]);
});

test("an actor that gives up refuses what waits and what comes later", async () => {
  const ref = spawn(start().root, answering("a"));
  const answers = (["crash", "crash", "crash", "ask", "ask"] as const).map((k) => send(ref, k));
  expect(new Set(await Promise.all(answers))).toEqual(new Set(["refused: told to"]));
  expect(ref.stopped()).toBe(true);
  expect(await send(ref, "ask")).toBe("refused: told to");
});

test("a stopped actor refuses what waits, what is on its way and what comes later", async () => {
  const ref = spawn(start().root, answering("a"));
  const before = [send(ref, "ask"), send(ref, "ask")];
  ref.stop();
  expect(ref.stopped()).toBe(true);
  let answered = false;
  ref.tell({ kind: "ask", reply: { answer: () => (answered = true) } });
  expect(answered, "tell runs nobody else's code").toBe(false);
  expect(await Promise.all(before)).toEqual(["refused: stopped", "refused: stopped"]);
  expect(await send(ref, "ask")).toBe("refused: stopped");
  expect(answered).toBe(true);
});

test("a start that fails is tried again by the budget, and messages wait for it", async () => {
  const reports: CrashReport[] = [];
  let lives = 0;
  const ref = spawn(
    start(reports).root,
    answering("a", {
      init: () => {
        if (++lives < 3) throw new Error(`no start ${lives}`);
        return lives;
      },
    }),
  );
  await turns(60);
  expect(await send(ref, "ask")).toBe("done");
  expect(reports.map(({ error }) => (error as Error).message)).toEqual([
    "no start 1",
    "no start 2",
  ]);
});

test("a start that keeps failing says its own reason, whatever is told meanwhile", async () => {
  const system = start();
  let broken: string | undefined;
  const ref = spawn(
    system.root,
    answering("a", {
      init: () => {
        throw new Error("no disk");
      },
      onBroken: (reason) => (broken = reason),
    }),
  );
  const answers = [send(ref, "ask"), send(ref, "ask"), send(ref, "ask"), send(ref, "ask")];
  expect(new Set(await Promise.all(answers))).toEqual(new Set(["refused: no disk"]));
  expect(broken).toBe("no disk");
  expect(system.tree()).toMatchObject([{ state: "broken", lastCrash: "no disk" }]);
});

test("an actor that is stopped while it backs off answers those who wait", async () => {
  const slow = { ...TWICE, backOffMs: 50, backOffMsMax: 50 };
  const ref = spawn(start().root, answering("a", { restart: slow }));
  const answers = [send(ref, "crash"), send(ref, "ask")];
  await turns(10);
  ref.stop();
  expect(await Promise.all(answers)).toEqual(["refused: told to", "refused: stopped"]);
});

test("two trees of one name know nothing of each other", async () => {
  const reports: CrashReport[] = [];
  const first = start(reports);
  const second = start();
  const ref = spawn(first.root, answering("a"));
  spawn(second.root, answering("b"));
  second.stop();
  expect(await send(ref, "crash")).toBe("refused: told to");
  expect(reports).toHaveLength(1);
  expect(first.tree().map(({ path }) => path)).toEqual(["tree/a"]);
});
