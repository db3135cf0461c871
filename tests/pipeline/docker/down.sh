#!/usr/bin/env bash
# Stop the engine that up.sh started, by its own pid file, and remove what it stored: down.sh DIR
set -uo pipefail
directory=$(cd "${1:?usage: down.sh DIR}" && pwd) || exit
if [ -s "$directory/docker.pid" ]; then
  kill "$(<"$directory/docker.pid")"
  for _ in $(seq 200); do
    [ -e "$directory/docker.pid" ] || break
    sleep 0.1
  done
fi
umount "$directory/exec/netns/default" 2>/dev/null # there only when a task used --network host or none
umount "$directory/data" 2>/dev/null              # images in memory
rm -rf "$directory"
