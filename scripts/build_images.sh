#!/usr/bin/env bash
# Build the container images that the modules name, from the Dockerfiles beside them.
#   scripts/build_images.sh [--list] [NAME...]      names: light esm2 sclambda multiqc; none = all
# BUILDER=docker|podman   BASE=python:3.11-slim-bookworm   BUILD_OPTIONS="--network host"
# CA_BUNDLE=FILE          certificates pip needs on this host (default: $SSL_CERT_FILE); never part of the image
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

stop() { printf 'build_images: %s\n' "$*" >&2; exit 1; }

# "NAME TAG FOLDER" per Dockerfile; the tag is the one its module asks for, written in one place only
images() {
  local file folder tag
  for file in "$ROOT"/modules/*/*/Dockerfile; do
    folder=$(dirname "$file")
    tag=$(find "$folder" -name main.nf -exec sed -n "s/^ *container '\(.*\)'$/\1/p" {} + | sort -u)
    [ "$(wc -w <<<"$tag")" -eq 1 ] || stop "the modules in ${folder#"$ROOT"/} should name one container, found: ${tag:-none}"
    printf '%s %s %s\n' "$(basename "${tag%:*}")" "$tag" "$folder"
  done
}

all=$(images)
if [ "${1:-}" = --list ]; then
  cut -d' ' -f1,2 <<<"$all"
  exit
fi
for name in "$@"; do
  grep -q "^$name " <<<"$all" || stop "there is no image '$name'; known: $(cut -d' ' -f1 <<<"$all" | paste -sd' ' -)"
done

builder=${BUILDER:-}
for candidate in docker podman; do
  if [ -z "$builder" ] && "$candidate" info >/dev/null 2>&1; then builder=$candidate; fi
done
[ -n "$builder" ] || stop "neither a running docker nor podman was found: install one, or start the Docker service"
certificates=${CA_BUNDLE:-${SSL_CERT_FILE:-}}
read -r -a options <<<"${BUILD_OPTIONS:-}"
for variable in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy PIP_INDEX_URL; do
  if [ -n "${!variable:-}" ]; then options+=(--build-arg "$variable"); fi
done
if [ -n "${BASE:-}" ]; then options+=(--build-arg "BASE=$BASE"); fi

while read -r name tag folder; do
  if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
  context=$(mktemp -d)
  trap 'rm -rf "$context"' EXIT
  cp "$folder/Dockerfile" "$folder/requirements.txt" "$context"
  if [ -e "$folder/shared.txt" ]; then cp "$folder/shared.txt" "$context"; fi
  if [ -n "$certificates" ]; then cp "$certificates" "$context/ca.crt"; fi
  start=$SECONDS
  echo "build_images: $tag"
  "$builder" build ${options[@]+"${options[@]}"} --tag "$tag" "$context" </dev/null
  echo "build_images: $tag built in $((SECONDS - start)) s, $("$builder" image inspect --format '{{.Size}}' "$tag" | awk '{printf "%.0f MB", $1 / 1e6}')"
  rm -rf "$context"
done <<<"$all"
