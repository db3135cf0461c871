#!/usr/bin/env bash
# Everything a Docker run of the light steps needs: images.sh DIR starts the engine (up.sh), makes a base image and builds
# `light` and `multiqc` from the project's own Dockerfiles, side by side. Exit 3: this machine cannot run an engine.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
directory=${1:?usage: images.sh DIR}
"$here/up.sh" "$directory"
directory=$(cd "$directory" && pwd)
export DOCKER_HOST=unix://$directory/docker.sock BUILDER=docker BASE=variantcellbench-base:1 BUILD_OPTIONS="--network host"
"$here/base.sh" "$BASE"
status=0
builds=()
for name in light multiqc; do
  "$here/../../../scripts/build_images.sh" "$name" >"$directory/$name.log" 2>&1 &
  builds+=($!)
done
for build in "${builds[@]}"; do wait "$build" || status=1; done
[ $status = 0 ] || tail -n 20 "$directory"/*.log >&2
exit $status
