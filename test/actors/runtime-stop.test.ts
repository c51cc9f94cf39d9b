import { afterEach, expect, test } from "vitest";
import {
  type ActorRef,
  type ActorSystem,
  type Scope,
  spawn,
  startSystem,
} from "../../src/actors/runtime.ts";

const ONCE = { crashesMax: 1, windowMs: 60_000, backOffMs: 1, backOffMsMax: 1 };
const turns = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

let system: ActorSystem;
let stopped: string[];
let names = 0;
afterEach(() => system.stop());

/** An actor that spawns one child below it for each further name, and crashes when told to. */
function chain(parent: Scope, name: string, ...below: string[]): ActorRef<"crash"> {
  const into = stopped;
  return spawn<string, "crash">(parent, {
    name,
    restart: ONCE,
    init: (self) => {
      const [child, ...rest] = below;
      if (child !== undefined) chain(self.scope, child, ...rest);
      return name;
    },
    handle: () => {
      throw new Error("told to");
    },
    afterStop: (state) => into.push(state ?? `${name} without state`),
  });
}

function start(): void {
  stopped = [];
  system = startSystem(`stop${names++}`, () => {});
}
const paths = (): string[] =>
  system
    .tree()
    .map((node) => node.path.replace(/^stop\d+/, ""))
    .sort();

test("stopping an actor stops everything below it, at any depth, and nothing else", async () => {
  start();
  const top = chain(system.root, "a", "b", "c", "d");
  chain(system.root, "x", "y");
  await turns(5);
  top.stop();
  await turns(20);
  expect(stopped.sort()).toEqual(["a", "b", "c", "d"]);
  expect(paths()).toEqual(["/x", "/x/y"]);
});

test("stopping the system stops all", async () => {
  start();
  chain(system.root, "a", "b", "c");
  chain(system.root, "x");
  await turns(5);
  system.stop();
  await turns(20);
  expect(stopped.sort()).toEqual(["a", "b", "c", "x"]);
});

test("a crash stops what the old state had spawned; the new state has its own", async () => {
  start();
  const top = chain(system.root, "a", "b", "c");
  await turns(5);
  top.tell("crash");
  await turns(40);
  expect(stopped.sort()).toEqual(["a", "b", "c"]);
  expect(paths()).toEqual(["/a", "/a/b", "/a/b/c"]);
  expect(system.tree().every((node) => node.state === "running")).toBe(true);
});

test("an actor that gives up takes what is below it along", async () => {
  start();
  const top = chain(system.root, "a", "b");
  top.tell("crash");
  await turns(40);
  top.tell("crash");
  await turns(40);
  expect(stopped.sort()).toEqual(["a", "a", "b", "b"]);
  expect(system.tree()).toMatchObject([{ state: "broken" }]);
});
