#!/usr/bin/env bash
# Start a real Docker engine for tests: up.sh DIR. No bridge, no iptables rule, no TCP port; its socket is DIR/docker.sock.
# Installs Debian's docker.io when there is no dockerd. Exit 3 with one line: this machine cannot run one (a test skips).
set -euo pipefail
unable() { printf 'docker/up.sh: %s\n' "$*" >&2; exit 3; }

directory=${1:?usage: up.sh DIR}
mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
[ "$(id -u)" = 0 ] || unable "starting a Docker engine needs root"
missing=()
command -v dockerd >/dev/null || missing+=(docker.io)
command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || unable "no dockerd on PATH, and no apt-get to install it"
  export DEBIAN_FRONTEND=noninteractive
  # a service that apt starts by itself would use the default socket: not ours to start
  install="apt-get install -y -qq --no-install-recommends ${missing[*]}"
  { RUNLEVEL=1 $install || { apt-get update -qq && RUNLEVEL=1 $install; }; } >"$directory/apt.log" 2>&1 ||
    unable "Debian's ${missing[*]} could not be installed ($(tail -n 1 "$directory/apt.log"))"
fi
export DOCKER_HOST=unix://$directory/docker.sock
if [ -s "$directory/docker.pid" ] && docker version >/dev/null 2>&1; then exit; fi
# Images are thousands of small files, written once and thrown away: in memory where there is plenty, minutes faster
mkdir -p "$directory/data"
if awk '/^MemAvailable:/ {exit $2 < 14e6}' /proc/meminfo; then
  mount -t tmpfs -o size=8g,mode=0711 variantcellbench "$directory/data" 2>/dev/null || true
fi
setsid dockerd --bridge=none --iptables=false --ip-forward=false --ip-masq=false --host-gateway-ip 127.0.0.1 \
  --host "$DOCKER_HOST" --data-root "$directory/data" --exec-root "$directory/exec" --pidfile "$directory/docker.pid" \
  </dev/null >"$directory/dockerd.log" 2>&1 &
for _ in $(seq 200); do
  if docker version >/dev/null 2>&1; then exit; fi
  sleep 0.1
done
tail -n 5 "$directory/dockerd.log" >&2
unable "dockerd did not start (full output: $directory/dockerd.log)"
