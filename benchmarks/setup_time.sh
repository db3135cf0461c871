#!/usr/bin/env bash
# Seconds of set-up from a fresh clone, and again when nothing changed. uv's and Maven's caches of this user are used as
# they are; COLD=1 measures with empty ones (downloads gigabytes).
#   benchmarks/setup_time.sh
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git clone -q "$root" "$folder/clone"
if [ "${COLD:-0}" = 1 ]; then
  export UV_CACHE_DIR=$folder/uv MAVEN_ARGS="-Dmaven.repo.local=$folder/maven" MAVEN_OPTS="-Dmaven.repo.local=$folder/maven"
fi
measure() {
  local start=$EPOCHREALTIME
  make -s -C "$folder/clone" setup
  awk -v a="$start" -v b="$EPOCHREALTIME" -v what="$1" 'BEGIN {printf "%s\t%.2f\n", what, b - a}'
}
printf 'setup\tseconds\n'
measure first
measure again
