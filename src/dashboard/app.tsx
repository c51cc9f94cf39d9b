// The frame of all pages: login if the server asks for it, the server's own line, the way to the pages.

import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { formatBytes, formatMs } from "../core/human.ts";
import type { Status } from "../protocol/api-status.ts";
import { Problem, State } from "./bits.tsx";
import { BranchesPage } from "./branches-page.tsx";
import { ComputesPage } from "./computes-page.tsx";
import { JobsPage } from "./jobs-page.tsx";
import { Live, type Shown, useShown } from "./live.ts";
import { Login } from "./login.tsx";
import { type Route, hrefOf, parseRoute, tenantOf } from "./route.ts";
import { storeToken, storedToken } from "./session.ts";
import { SupervisionPage } from "./supervision-page.tsx";
import { TimelinePage } from "./timeline-page.tsx";

export function App(): JSX.Element {
  const [token, setToken] = useState(storedToken);
  const live = useMemo(() => new Live(token), [token]);
  useEffect(() => () => live.end(), [live]);
  const shown = useShown(live);
  const route = useRoute();
  useEffect(() => live.watch(tenantOf(route)), [live, route]);
  const logIn = (next: string | undefined): void => {
    storeToken(next);
    setToken(next);
  };
  if (shown.access === "login") {
    const problem = token === undefined ? undefined : shown.problem;
    return <Login problem={problem} onToken={logIn} />;
  }
  return (
    <>
      <Header
        shown={shown}
        route={route}
        onLogOut={token === undefined ? undefined : () => logIn(undefined)}
      />
      <Main route={route}>
        <Problem text={shown.problem} />
        {shown.access === "asking" ? (
          <p class="empty">Asking the server …</p>
        ) : (
          <Page live={live} shown={shown} route={route} />
        )}
      </Main>
    </>
  );
}

function useRoute(): Route {
  const [route, setRoute] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const changed = (): void => setRoute(parseRoute(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

/** A new page takes the focus, so that whoever listens hears where they are. */
function Main(props: { readonly route: Route; readonly children: unknown }): JSX.Element {
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  const where = hrefOf(props.route);
  useEffect(() => {
    if (!first.current) {
      main.current?.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    first.current = false;
  }, [where]);
  return (
    <main ref={main} tabIndex={-1} id="main">
      {props.children as JSX.Element}
    </main>
  );
}

interface PageProps {
  readonly live: Live;
  readonly shown: Shown;
  readonly route: Route;
}

function Page({ live, shown, route }: PageProps): JSX.Element {
  switch (route.page) {
    case "branches":
      return <BranchesPage shown={shown} />;
    case "timeline":
      return <TimelinePage key={route.timeline} live={live} shown={shown} id={route.timeline} />;
    case "computes":
      return <ComputesPage live={live} shown={shown} />;
    case "supervision":
      return <SupervisionPage shown={shown} />;
    case "jobs":
      return <JobsPage live={live} shown={shown} />;
  }
}

function Header(props: {
  readonly shown: Shown;
  readonly route: Route;
  readonly onLogOut: (() => void) | undefined;
}): JSX.Element {
  const { shown, route, onLogOut } = props;
  const tenant = tenantOf(route) ?? shown.tenant;
  const running = shown.jobs?.filter((job) => job.state === "running").length ?? 0;
  const pages: readonly [string, Route][] = [
    ["Branches", { page: "branches", tenant }],
    ["Computes", { page: "computes", tenant }],
    ["Supervision", { page: "supervision" }],
    [running === 0 ? "Jobs" : `Jobs (${running})`, { page: "jobs" }],
  ];
  const here = route.page === "timeline" ? "branches" : route.page;
  return (
    <header>
      <a class="skip" href="#main" onClick={skip}>
        Skip to the page
      </a>
      <a class="brand" href={hrefOf({ page: "branches", tenant: undefined })}>
        Page server
      </a>
      <nav aria-label="Pages">
        {pages.map(([name, to]) => (
          <a
            key={to.page}
            href={hrefOf(to)}
            {...(to.page === here && { "aria-current": "page" as const })}
          >
            {name}
          </a>
        ))}
      </nav>
      {shown.status !== undefined && <ServerLine status={shown.status} />}
      {onLogOut !== undefined && (
        <button type="button" class="quiet" onClick={onLogOut}>
          Log out
        </button>
      )}
    </header>
  );
}

/** The address is the route: the link moves the focus and leaves the address alone. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function ServerLine({ status }: { readonly status: Status }): JSX.Element {
  return (
    <span class="server">
      <State word={status.state} />
      <span title="Version">{status.version}</span>
      <span title="Time since its start">up {formatMs(status.uptime_ms)}</span>
      <span title="Memory of the process">{formatBytes(status.rss_bytes)}</span>
    </span>
  );
}
