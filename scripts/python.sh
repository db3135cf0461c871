#!/usr/bin/env bash
# Make the locked Python environment .venv (uv.lock). Quick when nothing changed; safe to interrupt and to run twice at once.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

VENV=$ROOT/.venv
STAMP=$VENV/variantcellbench.stamp      # last line of a finished set-up: what was installed, and where
UNFINISHED=$ENGINE/venv.unfinished      # there while a set-up runs: an interrupted one may leave half a package behind
wanted="$(digest "$ROOT/uv.lock" "$ROOT/pyproject.toml") $ROOT"

ready() { [ ! -e "$UNFINISHED" ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$wanted" ] && "$VENV/bin/python" -V >/dev/null 2>&1; }

ready && exit
python=$(need_python)
lock "$python"
ready && exit # another set-up made it while this one waited
uv=$(find_uv "$python")

export UV_PROJECT_ENVIRONMENT=$VENV UV_PYTHON_DOWNLOADS=${UV_PYTHON_DOWNLOADS:-never}
unset VIRTUAL_ENV CONDA_PREFIX
private_index "$python"

moved=$(sed -n '1s/^[0-9a-f]* //p' "$STAMP" 2>/dev/null || true)
if [ -e "$UNFINISHED" ] || { [ -n "$moved" ] && [ "$moved" != "$ROOT" ]; }; then
  say "removing the unfinished or moved environment .venv"
  rm -rf "$VENV"
fi
[ -e "$VENV/bin/python" ] || say "making the Python environment .venv (about 7 GB with torch; minutes the first time)"
rm -f "$STAMP"
: >"$UNFINISHED"
cd "$ROOT"
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}${UV_INDEX:-}${UV_EXTRA_INDEX_URL:-}" ]; then
  "$uv" sync --locked --quiet 9>&- || die "uv could not make .venv from uv.lock (its message is above; for a private index set UV_DEFAULT_INDEX)"
else
  # uv.lock names the public index; a private one serves the same files, checked by the same hashes
  "$uv" export --frozen --quiet --no-emit-project -o "$ENGINE/requirements.txt" >/dev/null 9>&- || die "uv could not read uv.lock"
  [ -e "$VENV/bin/python" ] || "$uv" venv --quiet --no-project --python "$python" "$VENV" 9>&- || die "uv could not make .venv"
  "$uv" pip sync --quiet --require-hashes --python "$VENV/bin/python" "$ENGINE/requirements.txt" 9>&- ||
    die "uv could not install uv.lock's packages from the configured index (its message is above)"
fi
echo "$wanted" >"$ENGINE/stamp.$$"
mv -f "$ENGINE/stamp.$$" "$STAMP"
rm -f "$UNFINISHED"
