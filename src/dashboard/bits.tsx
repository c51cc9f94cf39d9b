// Small parts that several pages use.

import type { ComponentChildren, JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import type { TimelineState } from "../protocol/api.ts";

type Mood = "good" | "busy" | "bad" | "idle";

const MOODS: Readonly<Record<string, Mood>> = {
  Active: "good",
  running: "good",
  streaming: "good",
  done: "good",
  Loading: "busy",
  Attaching: "busy",
  Stopping: "busy",
  starting: "busy",
  stopping: "busy",
  connecting: "busy",
  "backing-off": "busy",
  Broken: "bad",
  broken: "bad",
  failed: "bad",
  refused: "bad",
};

/** A word and a dot of its colour: the word alone says it all. */
export function State({ word }: { readonly word: string }): JSX.Element {
  return (
    <span class={`state ${MOODS[word] ?? "idle"}`}>
      <i aria-hidden="true" />
      {word}
    </span>
  );
}

export const stateWord = (state: TimelineState): string =>
  typeof state === "string" ? state : "Broken";

export const stateReason = (state: TimelineState): string | undefined =>
  typeof state === "string" ? undefined : state.Broken.reason;

export function Problem({ text }: { readonly text: string | undefined }): JSX.Element | null {
  return text === undefined ? null : (
    <p class="problem" role="alert">
      {text}
    </p>
  );
}

export function Empty({ children }: { readonly children: ComponentChildren }): JSX.Element {
  return <p class="empty">{children}</p>;
}

/** A line to take along to a terminal. */
export function Copy({ text, label }: { readonly text: string; readonly label: string }) {
  const [copied, setCopied] = useState(false);
  const line = useRef<HTMLElement>(null);
  const copy = async (): Promise<void> => {
    // Browsers lend the clipboard only to pages from this machine or over TLS: else it is selected.
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
      setTimeout(() => setCopied(false), 1_500);
    } catch {
      if (line.current !== null) getSelection()?.selectAllChildren(line.current);
    }
  };
  return (
    <span class="copy">
      <code ref={line}>{text}</code>
      <button type="button" class="quiet" aria-label={`Copy ${label}`} onClick={() => void copy()}>
        {copied ? "Copied" : "Copy"}
      </button>
    </span>
  );
}

/** Runs what a button asks for; shows that it runs, and the sentence if it is refused. */
export function useWork(): {
  readonly busy: boolean;
  readonly problem: string | undefined;
  readonly run: (work: () => Promise<unknown>) => void;
} {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string>();
  const run = (work: () => Promise<unknown>): void => {
    setBusy(true);
    setProblem(undefined);
    work()
      .catch((error: unknown) => setProblem(error instanceof Error ? error.message : String(error)))
      .finally(() => setBusy(false));
  };
  return { busy, problem, run };
}
