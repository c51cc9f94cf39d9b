#!/usr/bin/env bash
# `npm test`: set up what is missing, check types, format and architecture, then run all tests.
# The last line is "N passed, N failed"; the exit code is 0 only if nothing failed.
# Arguments go to vitest: npm test -- test/core

set -uo pipefail
cd "$(dirname "$0")/.."

report=$(mktemp)
trap 'rm -f "$report"' EXIT

# A step that is not a test counts as one: a summary that says "0 failed" must mean it.
passed=0
failed=0
step() {
  local name=$1
  shift
  if "$@"; then passed=$((passed + 1)); else
    echo "FAILED: $name" >&2
    failed=$((failed + 1))
  fi
}

finish() {
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
  exit
}

step "set-up" bash scripts/setup.sh --tests
[ "$failed" -eq 0 ] || finish
step "types" npx --no-install tsc -p tsconfig.json --noEmit --incremental --tsBuildInfoFile dist/.tscheck
step "types of the dashboard" npx --no-install tsc -p src/dashboard
step "format" npx --no-install prettier --check --log-level warn .

npx --no-install vitest run --reporter=default --reporter=json --outputFile.json="$report" "$@"
vitest_exit=$?
read -r tests_passed tests_failed < <(node scripts/summary.mjs "$report" "$vitest_exit")
passed=$((passed + tests_passed))
failed=$((failed + tests_failed))

if [ "$#" -eq 0 ] && make -s -n -C pgext check >/dev/null 2>&1; then
  step "C" make -s -C pgext check
fi
finish
