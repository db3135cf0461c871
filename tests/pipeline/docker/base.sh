#!/usr/bin/env bash
# A base image from Debian packages alone (bash, ps, Python 3.11), without any image registry: base.sh [TAG]
# Needs DOCKER_HOST (see up.sh). Does nothing when the tag is there.
set -euo pipefail
tag=${1:-variantcellbench-base:1}
if docker image inspect "$tag" >/dev/null 2>&1; then exit; fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
mmdebstrap --variant=apt --include=procps,python3,python3-venv bookworm - 2>"$log" | docker import - "$tag" >/dev/null || {
  tail -n 5 "$log" >&2
  exit 1
}
