#!/usr/bin/env bash
# Makes a fresh checkout runnable, and does nothing when it already is: PostgreSQL 15 with its
# server headers, a C compiler, the npm packages, the compiled TypeScript, dashboard and C. On Debian
# as root missing packages are installed; otherwise the command that installs them is printed.
# With --tests a browser, too, where that can be had: without one the dashboard's test is skipped.

set -euo pipefail
cd "$(dirname "$0")/.."

NODE_MAJOR_MIN=20
PG_MAJOR=15

say() { printf '%s\n' "$*" >&2; }
die() { say "setup: $*"; exit 1; }

# --- programs

check_node() {
  local found
  found=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null) ||
    die "Node.js is not installed; install version $NODE_MAJOR_MIN or later (https://nodejs.org)"
  [ "$found" -ge "$NODE_MAJOR_MIN" ] ||
    die "Node.js $(node --version) is too old; install version $NODE_MAJOR_MIN or later"
}

# Debian packages that are missing, one a line, found by what we need from them.
missing_packages() {
  [ -x "/usr/lib/postgresql/$PG_MAJOR/bin/postgres" ] || echo "postgresql-$PG_MAJOR"
  [ -f "/usr/include/postgresql/$PG_MAJOR/server/postgres.h" ] ||
    echo "postgresql-server-dev-$PG_MAJOR"
  command -v gcc >/dev/null || echo gcc
  command -v make >/dev/null || echo make
  # The C library's headers come with neither of them.
  [ -f /usr/include/stdio.h ] || echo libc6-dev
  command -v setpriv >/dev/null || echo util-linux
}

install_packages() {
  local packages=("$@")
  local command="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    say "setup: missing: ${packages[*]}"
    die "run this, then try again:  sudo sh -c '$command'"
  fi
  command -v apt-get >/dev/null || die "missing: ${packages[*]}; install them with your system's package manager"
  say "setup: installing ${packages[*]}"
  # Debian would start a cluster of its own with the package: not wanted, and it takes port 5432.
  local drop_in=/etc/postgresql-common/createcluster.d/pageserver-setup.conf
  mkdir -p "$(dirname "$drop_in")"
  echo "create_main_cluster = false" >"$drop_in"
  trap 'rm -f "$drop_in"' RETURN
  local log
  log=$(mktemp)
  if ! DEBIAN_FRONTEND=noninteractive sh -c "$command" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "that failed; try it by hand:  $command"
  fi
  rm -f "$log"
}

# --- npm

# The lock file and Node's binary interface decide what is in node_modules.
npm_stamp() { { cat package-lock.json; node -p process.versions.modules; } | sha256sum; }

install_npm() {
  local stamp=node_modules/.setup-stamp
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(npm_stamp)" ]; then return; fi
  say "setup: npm ci"
  npm ci --no-audit --no-fund --loglevel=error
  npm_stamp >"$stamp"
}

# --- builds

# True when a source is newer than the last build, or one was added or removed.
typescript_is_stale() {
  local stamp=dist/.built
  [ -f "$stamp" ] || return 0
  [ "$(typescript_sources | sha256sum)" = "$(cat "$stamp")" ] || return 0
  [ -n "$(typescript_sources | xargs -d '\n' -r -I{} find {} -newer "$stamp" -print -quit)" ]
}
typescript_sources() {
  local dirs=()
  for dir in src scripts test bench; do [ ! -d "$dir" ] || dirs+=("$dir"); done
  { ls ./*.ts tsconfig.json package-lock.json; find "${dirs[@]}" -name '*.ts'; } | sort
}

build_typescript() {
  typescript_is_stale || return 0
  say "setup: compiling TypeScript"
  rm -f dist/.built
  # The stamp is made before, so that a file saved during the build is newer than it.
  mkdir -p dist
  typescript_sources | sha256sum >dist/.building
  npx --no-install tsc -p tsconfig.json --incremental --tsBuildInfoFile dist/.tsbuildinfo
  mv dist/.building dist/.built
}

# By content: what it is made of is little.
dashboard_stamp() {
  find src/dashboard src/core src/protocol/api*.ts src/http/client.ts scripts/build-dashboard.ts \
    package-lock.json -type f | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum
}

build_dashboard() {
  local stamp=dist/.dashboard-built
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(dashboard_stamp)" ]; then return; fi
  say "setup: building the dashboard"
  npx --no-install tsx scripts/build-dashboard.ts
  dashboard_stamp >"$stamp"
}

# Only tests want one, and all but one of them do without.
install_browser() {
  command -v chromium >/dev/null && return
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    say "setup: no chromium: the dashboard's test is skipped"
    return
  fi
  install_packages chromium
}

build_c() {
  [ -f pgext/Makefile ] || return 0
  make -s -C pgext PG_CONFIG="/usr/lib/postgresql/$PG_MAJOR/bin/pg_config"
}

check_node
mapfile -t missing < <(missing_packages)
[ "${#missing[@]}" -eq 0 ] || install_packages "${missing[@]}"
[ "${1:-}" != --tests ] || install_browser
install_npm
build_typescript
build_dashboard
build_c
