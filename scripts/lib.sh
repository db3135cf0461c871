# Shared by the set-up scripts; sourced, never run. Everything they bring lies in .engine/ and .venv/ of the project.
# Written for bash 3.2, so that it also works on a Mac.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ENGINE=$ROOT/.engine
NEXTFLOW_FLOOR=25.04.0
UV_FLOOR=0.8.0

# Nextflow starts in half the time with a small compiler and collector, and itself computes nothing
export NXF_OPTS=${NXF_OPTS:--XX:TieredStopAtLevel=1 -XX:+UseSerialGC}

say() { printf 'set-up: %s\n' "$*" >&2; }
die() { printf 'set-up: %s\n' "$*" >&2; exit 1; }

# SHA-256 over the named files, as one word
digest() {
  if command -v sha256sum >/dev/null 2>&1; then cat "$@" | sha256sum | cut -d' ' -f1; else cat "$@" | shasum -a 256 | cut -d' ' -f1; fi
}

# at_least HAVE NEED: compares the first three numbers of two versions
at_least() {
  local have need i
  IFS=. read -r -a have <<<"${1//[^0-9.]/.}"
  IFS=. read -r -a need <<<"$2"
  for i in 0 1 2; do
    if ((10#${have[i]:-0} > 10#${need[i]:-0})); then return 0; fi
    if ((10#${have[i]:-0} < 10#${need[i]:-0})); then return 1; fi
  done
}

# Path of a Python 3.11 that starts (a version manager's shim may be on PATH and not work)
find_python() {
  local candidate
  for candidate in python3.11 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

need_python() { find_python || die "Python 3.11 was not found: install it (Debian: apt-get install python3.11 python3.11-venv) or put it on PATH"; }

# One set-up at a time: the lock belongs to this shell's open file, so it ends with the shell however that ends
lock() {
  mkdir -p "$ENGINE" 2>/dev/null || die "cannot write to $ROOT: set-up keeps what it brings in $ENGINE"
  exec 9>>"$ENGINE/lock"
  "$1" - <<'PY' || die "cannot lock $ENGINE/lock: is the project on a file system without locks?"
import fcntl
import sys

try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("set-up: waiting for another set-up of this folder to end", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)
PY
  rm -rf "$ENGINE"/tmp.* # left by a set-up that was killed; nobody else can be using them now
}

# Run a command quietly; when it fails, show the end of what it said and stop with one line
quietly() {
  local what=$1 log
  shift
  log=$ENGINE/last.log
  if ! "$@" >"$log" 2>&1 9>&-; then
    tail -n 15 "$log" >&2
    die "$what failed (full output: $log)"
  fi
}

# Path of a uv that reads our lock file: one on PATH, else a pinned one brought into .engine/uv
find_uv() {
  local candidate version python temporary pins
  while IFS= read -r candidate; do
    version=$("$candidate" --version 2>/dev/null | awk '{print $2}') || continue
    if [ -n "$version" ] && at_least "$version" $UV_FLOOR; then
      echo "$candidate"
      return
    fi
  done < <(
    type -aP uv
    echo "$ENGINE/uv/bin/uv"
  )
  python=$1
  pins=$ROOT/scripts/uv/requirements.txt
  temporary=$(mktemp -d "$ENGINE/tmp.XXXXXX")
  say "bringing uv into .engine/uv"
  if ! "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv "$temporary/pip" >/dev/null 2>&1 ||
      die "this Python 3.11 has no pip: install uv, or pip (Debian: apt-get install python3.11-venv)"
    python=$temporary/pip/bin/python
  fi
  quietly "installing uv with pip" "$python" -m pip install --quiet --no-deps --require-hashes --only-binary :all: \
    --target "$temporary/uv" -r "$pins"
  rm -rf "$ENGINE/uv"
  mv "$temporary/uv" "$ENGINE/uv"
  rm -rf "$temporary"
  echo "$ENGINE/uv/bin/uv"
}

# Let uv use the package index and certificates that pip is configured for, unless uv has its own settings
private_index() {
  local index
  if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    index=${PIP_INDEX_URL:-$("$1" -m pip config get global.index-url 2>/dev/null || true)}
    if [ -n "$index" ]; then export UV_DEFAULT_INDEX=$index; fi
  fi
  if [ -z "${SSL_CERT_FILE:-}" ] && [ -n "${PIP_CERT:-}" ]; then export SSL_CERT_FILE=$PIP_CERT; fi
}
