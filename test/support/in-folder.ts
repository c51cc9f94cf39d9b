// Object storage below a folder of another: what a suite calls "a" lies at "<folder>a".

import type { ObjectStorage } from "../../src/core/object-storage.ts";

export function inFolder(storage: ObjectStorage, folder: string): ObjectStorage {
  const inside = (name: string): string => folder + name;
  return {
    place: storage.place,
    put: (name, bytes) => storage.put(inside(name), bytes),
    putIfAbsent: (name, bytes) => storage.putIfAbsent(inside(name), bytes),
    compareAndSwap: (name, bytes, old) => storage.compareAndSwap(inside(name), bytes, old),
    putStream: (name, source) => storage.putStream(inside(name), source),
    get: (name) => storage.get(inside(name)),
    getRange: (name, from, length) => storage.getRange(inside(name), from, length),
    getStream: (name, from) => storage.getStream(inside(name), from),
    list: async (prefix, after) => {
      const page = await storage.list(inside(prefix), after && inside(after));
      const strip = (name: string): string => name.slice(folder.length);
      return {
        objects: page.objects.map((object) => ({ ...object, name: strip(object.name) })),
        after: page.after && strip(page.after),
      };
    },
    deleteMany: (names) => storage.deleteMany(names.map(inside)),
    close: () => storage.close(),
  };
}
