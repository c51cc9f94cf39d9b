// The dashboard's first line.

import { render } from "preact";
import { App } from "./app.tsx";

render(<App />, document.getElementById("app")!);
