// One live chart of the last five minutes. The canvas is for eyes; the caption says the newest value
// in words. Colours are the page's, so a change of scheme draws it anew.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

/** What the x axis shows, seconds. */
const SPAN_S = 300;
const HEIGHT = 130;

/** Distances between the marks of a value axis: 1, 2, 5, 10 … or powers of two. */
const STEPS: Readonly<Record<2 | 10, number[]>> = {
  2: Array.from({ length: 44 }, (_, i) => 2 ** i),
  10: [-3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7].flatMap((e) => [1, 2, 5].map((n) => n * 10 ** e)),
};

const clock = (seconds: number): string =>
  new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

export interface ChartProps {
  readonly title: string;
  readonly at: readonly number[];
  readonly values: readonly (number | undefined)[];
  /** A value with its unit. */
  readonly format: (value: number) => string;
  /** Round values are multiples of this many. */
  readonly base: 2 | 10;
}

export function Chart({ title, at, values, format, base }: ChartProps): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  useEffect(() => {
    const into = box.current!;
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const draw = (): void => {
      const data = plot.current?.data ?? [[], []];
      plot.current?.destroy();
      plot.current = new uPlot(options(into, format, base), data as uPlot.AlignedData, into);
    };
    draw();
    const resized = new ResizeObserver(() =>
      plot.current?.setSize({ width: into.clientWidth, height: HEIGHT }),
    );
    resized.observe(into);
    scheme.addEventListener("change", draw);
    return () => {
      scheme.removeEventListener("change", draw);
      resized.disconnect();
      plot.current?.destroy();
    };
  }, []);
  useEffect(() => {
    // A gap is null: what is undefined would be drawn over.
    plot.current?.setData([[...at], values.map((value) => value ?? null)]);
  }, [at.at(-1)]);
  const newest = values.findLast((value) => value !== undefined);
  return (
    <figure class="chart">
      <figcaption>
        {title} <output>{newest === undefined ? "–" : format(newest)}</output>
      </figcaption>
      <div ref={box} aria-hidden="true" />
    </figure>
  );
}

function options(box: HTMLElement, format: (value: number) => string, base: 2 | 10): uPlot.Options {
  const style = getComputedStyle(box);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--dim"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
    font: `11px ${style.fontFamily}`,
  };
  return {
    width: box.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { drag: { x: false, y: false } },
    scales: {
      x: {
        range: (_plot, _min, max) => {
          const end = Number.isFinite(max) ? max : Date.now() / 1000;
          return [end - SPAN_S, end];
        },
      },
      y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.15 : 1] },
    },
    series: [
      {},
      {
        stroke: colour("--accent"),
        fill: colour("--accent-faint"),
        width: 1.5,
        points: { show: false },
        spanGaps: false,
      },
    ],
    axes: [
      { ...axis, space: 70, size: 28, values: (_plot, marks) => marks.map(clock) },
      {
        ...{ ...axis, size: 76, space: 26, incrs: STEPS[base] },
        values: (_plot, marks) => marks.map(format),
      },
    ],
  };
}
