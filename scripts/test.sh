#!/usr/bin/env bash
# All tests: lint, then unit and contract tests beside the tests on the real engine. One line per test, a summary at the end.
#   scripts/test.sh [python] [pipeline] [lint]     some of them; none named = all
# Everything runs even when something failed; the exit status says whether all passed.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$ROOT"
parts=" ${*:-lint python pipeline} "
nextflow=$(scripts/engine.sh)
PATH=$(dirname "$nextflow"):$ROOT/.venv/bin:$PATH
unset PYTHONDONTWRITEBYTECODE # tests start Python many times
# two groups share the cores: a numerical library must not start a thread per core in each of them
export PATH OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
reports=$(mktemp -d)
children=()
stop() {
  local child
  for child in ${children[@]+"${children[@]}"}; do kill -- "-$child" 2>/dev/null || true; done
  rm -rf "$reports"
}
trap stop EXIT
trap 'exit 130' INT TERM

[ -d ../shared/data ] || echo 'test: ../shared/data is not there: tests on real data will be skipped'

# The runs on the engine go in two streams, because one leaves a core idle: these files in the second, all others in the first
second=(tests/pipeline/test_docker.py tests/pipeline/test_encoders.py tests/pipeline/test_resume.py tests/pipeline/test_gene_data.py)

# group NAME ARGUMENTS...: pytest with these arguments, every line marked with the name, in a process group of its own
group() {
  set -m
  (
    set +m
    pytest "${@:2}" -v --color=no -o console_output_style=times --junit-xml="$reports/$1.xml" </dev/null 2>&1 |
      sed -u "s|^|[$1] |; s|tests/[a-z]*/||"
    exit "${PIPESTATUS[0]}"
  ) &
  children+=($!)
  set +m
}

failed=()
if [[ $parts == *' lint '* ]]; then scripts/lint.sh || failed+=(lint); fi
groups=()
for name in python pipeline; do
  if [[ $parts == *" $name "* ]]; then
    groups+=("$name")
    if [ "$name" = pipeline ]; then
      group pipeline tests/pipeline "${second[@]/#/--ignore=}"
      groups+=(engine)
      group engine "${second[@]}"
    else
      group "$name" "tests/$name"
    fi
  fi
done
for index in "${!groups[@]}"; do wait "${children[$index]}" || failed+=("${groups[$index]}"); done

echo
if [ ${#groups[@]} -gt 0 ]; then
  "$ROOT/.venv/bin/python" scripts/test_summary.py "${groups[@]/#/$reports/}" || true
fi
if [ ${#failed[@]} -gt 0 ]; then
  echo "test: FAILED: ${failed[*]} ($((SECONDS / 60)) min $((SECONDS % 60)) s)"
  exit 1
fi
echo "test: everything passed ($((SECONDS / 60)) min $((SECONDS % 60)) s)"
