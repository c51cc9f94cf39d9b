// The order in which the tree starts and stops, and what happens when a child cannot.

import { afterEach, expect, test } from "vitest";
import { type CrashReport, spawn } from "../src/actors/runtime.ts";
import { type ChildSpec, POLICY, type Tree, startTree } from "../supervision.ts";

const NAMES = ["redo-pool", "tenants", "scheduler", "connections"] as const;
type Name = (typeof NAMES)[number];

let tree: Tree | undefined;
afterEach(async () => {
  await tree?.stop().catch(() => undefined);
  tree = undefined;
});

interface Behaviour {
  readonly start?: Partial<Record<Name, () => Promise<void>>>;
  readonly stop?: Partial<Record<Name, () => Promise<void>>>;
}

/** Children that write down what becomes of them. Listed in another order than they start in. */
function children(events: string[], { start = {}, stop = {} }: Behaviour = {}): ChildSpec[] {
  return [...NAMES].reverse().map((name) => ({
    name,
    start: async () => {
      events.push(`${name} starts`);
      await start[name]?.();
      events.push(`${name} runs`);
      return {
        stop: async () => {
          events.push(`${name} stops`);
          await stop[name]?.();
          events.push(`${name} is gone`);
        },
      };
    },
  }));
}

const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));
const fails = async (): Promise<never> => {
  await soon();
  throw new Error("out of order");
};

test("those who answer start before those who ask, one after the other; they stop the other way round", async () => {
  const events: string[] = [];
  tree = await startTree("order", children(events, { start: { tenants: soon } }), () => {});
  expect(events.splice(0)).toEqual(NAMES.flatMap((name) => [`${name} starts`, `${name} runs`]));
  await tree.stop();
  const reverse = [...NAMES].reverse();
  expect(events.splice(0)).toEqual(reverse.flatMap((name) => [`${name} stops`, `${name} is gone`]));
  await tree.stop();
  expect(events, "stopped once").toEqual([]);
});

test("a child that cannot start: those before it are stopped, those behind never start, the reason is thrown", async () => {
  const events: string[] = [];
  const start = { scheduler: fails };
  await expect(startTree("fails", children(events, { start }), () => {})).rejects.toThrow(
    "out of order",
  );
  expect(events).toEqual([
    ...["redo-pool starts", "redo-pool runs", "tenants starts", "tenants runs", "scheduler starts"],
    ...["tenants stops", "tenants is gone", "redo-pool stops", "redo-pool is gone"],
  ]);
});

test("the reason is that of the start, though a stop fails too", async () => {
  const stop = { tenants: () => Promise.reject(new Error("cannot stop either")) };
  const all = children([], { start: { connections: fails }, stop });
  await expect(startTree("both", all, () => {})).rejects.toThrow("out of order");
});

test("a child that fails to stop, or never does, does not keep the others from stopping", async () => {
  const events: string[] = [];
  const stop = { connections: fails, tenants: () => new Promise<void>(() => {}) };
  const running = await startTree("stuck", children(events, { stop }), () => {}, 30);
  await expect(running.stop()).rejects.toThrow("out of order");
  expect(events.slice(-4)).toEqual([
    ...["scheduler is gone", "tenants stops", "redo-pool stops", "redo-pool is gone"],
  ]);
});

test("every crash is told, with the decision", async () => {
  const reports: CrashReport[] = [];
  const specs = children([]).map((spec) => ({
    ...spec,
    start: (root: Parameters<ChildSpec["start"]>[0]) => {
      const ref = spawn<null, "crash">(root, {
        name: spec.name,
        restart: { ...POLICY.tenants },
        init: () => null,
        handle: () => {
          throw new Error(`${spec.name} crashed`);
        },
      });
      if (spec.name === "tenants") ref.tell("crash");
      return { stop: () => Promise.resolve(ref.stop()) };
    },
  }));
  tree = await startTree("crash", specs, (report) => reports.push(report));
  await soon();
  await soon();
  expect(reports).toMatchObject([{ path: "crash/tenants", decision: "give-up" }]);
  expect(tree.system.tree().map(({ path, state }) => `${path} ${state}`)).toContain(
    "crash/tenants broken",
  );
});
