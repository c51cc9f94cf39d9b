#!/usr/bin/env bash
# `npm start`: set up what is missing, then run everything on this machine (scripts/dev.ts).

set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
exec node --enable-source-maps dist/scripts/dev.js "$@"
