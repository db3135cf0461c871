#!/usr/bin/env bash
# Static checks, side by side: nextflow lint, nf-core lint, ruff. Prints one line per check, and what failed.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$ROOT"
nextflow=$(scripts/engine.sh)
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
bin=$ROOT/.venv/bin
export PATH=$(dirname "$nextflow"):$bin:$PATH

# Nothing may be reported, warnings included
nextflow_lint() {
  "$nextflow" lint main.nf nextflow.config workflows subworkflows modules conf && return
}

# nf-core asks the engine for the configuration before most checks, and keeps the answer in Nextflow's home folder by
# the content of main.nf and nextflow.config alone. A fresh home makes it ask once, and never read an old answer.
nfcore_lint() {
  local home entry
  home=$temporary/home
  mkdir -p "$home"
  for entry in framework plugins; do
    if [ -e "${NXF_HOME:-$HOME/.nextflow}/$entry" ]; then ln -s "${NXF_HOME:-$HOME/.nextflow}/$entry" "$home/$entry"; fi
  done
  # It also reads every file below its folder, .venv included, so it gets a copy without what git ignores
  mkdir "$temporary/copy"
  git ls-files -z --cached --others --exclude-standard --deduplicate | existing | tar -c --null -T - | tar -x -C "$temporary/copy"
  git -C "$temporary/copy" init -q # nf-core wants a commit to look at
  git -C "$temporary/copy" -c user.name=lint -c user.email=lint -c commit.gpgsign=false -c core.hooksPath=/dev/null \
    commit -q --allow-empty -m lint
  cd "$temporary/copy"
  NXF_HOME=$home NFCORE_NO_VERSION_CHECK=1 COLUMNS=160 nf-core --hide-progress pipelines lint --dir .
}

# Of the NUL-separated paths, those that are there (git lists deleted files until the deletion is committed)
existing() { while IFS= read -r -d '' path; do if [ -e "$path" ]; then printf '%s\0' "$path"; fi; done; }

ruff_check() { "$bin/ruff" check . && "$bin/ruff" format --check .; }

checks=(nextflow_lint nfcore_lint ruff_check)
for check in "${checks[@]}"; do
  (
    start=$SECONDS
    "$check" >"$temporary/$check.log" 2>&1 </dev/null && result=passed || result=FAILED
    echo "$result $((SECONDS - start))" >"$temporary/$check.result"
  ) &
done
wait

failed=0
for check in "${checks[@]}"; do
  read -r result seconds <"$temporary/$check.result"
  if [ "$check" = nextflow_lint ] && grep -qiE 'warning|⚠' "$temporary/$check.log"; then result=FAILED; fi
  if [ "$result" = FAILED ]; then
    failed=1
    cat "$temporary/$check.log"
  fi
  echo "lint: $check $result (${seconds} s)"
done
exit $failed
