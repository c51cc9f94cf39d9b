// Prometheus's text format, read strictly: what a scraper would refuse is thrown, with its line.

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly type: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*/;
const TYPES = ["counter", "gauge", "histogram", "summary", "untyped"];
/** What samples of a family of this type may add to its name. */
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  histogram: ["_bucket", "_sum", "_count"],
  summary: ["", "_sum", "_count"],
};

/** Families by name. Each has HELP and TYPE, its samples in one piece, and no series twice. */
export function parsePrometheus(text: string): ReadonlyMap<string, Family> {
  if (!text.endsWith("\n")) throw new Error("the last line does not end");
  const families = new Map<string, { type: string; help: string; samples: Sample[] }>();
  const series = new Set<string>();
  let name = "";
  for (const line of text.slice(0, -1).split("\n")) {
    const refuse = (why: string): never => {
      throw new Error(`${why}: ${line}`);
    };
    if (line === "") continue;
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line);
    if (comment !== null) {
      const [, kind, of, rest] = comment as unknown as [string, string, string, string];
      if (kind === "HELP") {
        if (families.has(of)) refuse("a family that was there before");
        families.set((name = of), { type: "", help: rest, samples: [] });
      } else {
        if (of !== name || families.get(of)!.type !== "") refuse("TYPE without its HELP");
        if (!TYPES.includes(rest)) refuse("no type");
        families.get(of)!.type = rest;
      }
      continue;
    }
    if (line.startsWith("#")) refuse("an unknown comment");
    const family = families.get(name);
    const sample = parseSample(line, refuse);
    const suffixes = SUFFIXES[family?.type ?? ""] ?? [""];
    if (family === undefined || !suffixes.some((suffix) => sample.name === name + suffix)) {
      refuse("a sample outside of its family");
    }
    if (family!.type === "counter" && !(sample.value >= 0)) refuse("a counter below zero");
    const key = `${sample.name} ${JSON.stringify(Object.entries(sample.labels).sort())}`;
    if (series.has(key)) refuse("a series that was there before");
    series.add(key);
    family!.samples.push(sample);
  }
  return families;
}

function parseSample(line: string, refuse: (why: string) => never): Sample {
  const name = NAME.exec(line)?.[0] ?? refuse("no name");
  let rest = line.slice(name.length);
  const labels: Record<string, string> = {};
  if (rest.startsWith("{")) {
    rest = rest.slice(1);
    while (!rest.startsWith("}")) {
      const label = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\[\\n"])*)"(,|(?=\}))/.exec(rest);
      if (label === null) return refuse("no label");
      if (label[1]! in labels) refuse("a label twice");
      labels[label[1]!] = label[2]!;
      rest = rest.slice(label[0].length);
    }
    rest = rest.slice(1);
  }
  const value = /^ (NaN|[+-]?Inf|[-+]?[0-9.]+(?:e[-+]?[0-9]+)?)$/i.exec(rest)?.[1];
  if (value === undefined) return refuse("no value");
  return { name, labels, value: Number(value.replace(/inf$/i, "Infinity")) };
}
