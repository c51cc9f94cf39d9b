// Asks for a token. Shown only when the server wants one.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { Problem } from "./bits.tsx";

export function Login(props: {
  readonly problem: string | undefined;
  readonly onToken: (token: string) => void;
}): JSX.Element {
  const [text, setText] = useState("");
  const submit = (event: Event): void => {
    event.preventDefault();
    const token = text.trim().replace(/^Bearer +/i, "");
    if (token !== "") props.onToken(token);
  };
  return (
    <main class="login">
      <h1>Page server</h1>
      <form onSubmit={submit}>
        <label for="token">Token</label>
        <input
          id="token"
          type="password"
          autocomplete="off"
          spellcheck={false}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="submit">Log in</button>
        <Problem text={props.problem} />
        <p class="hint">
          A JWT of scope <code>pageserverapi</code> shows the whole server, one of scope{" "}
          <code>tenant</code> its tenant. It stays in this tab and is forgotten with it.
        </p>
      </form>
    </main>
  );
}
