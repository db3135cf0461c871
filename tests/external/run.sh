#!/usr/bin/env bash
# Cross-check of the scores against cell-eval, scikit-learn, scipy and statsmodels, in an environment of its own.
#   tests/external/run.sh [ENVIRONMENT]     made there if it is not (default .external, about 1 GB, a minute)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
environment=${1:-$root/.external}
if [ ! -x "$environment/bin/python" ]; then
  "$root/.venv/bin/python" -m venv "$environment"
  "$environment/bin/python" -m pip install -q -r "$root/tests/external/requirements.txt"
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=$root/.venv/bin/python
"$python" "$root/benchmarks/evaluate.py" --folder "$folder" --cells 4000 --genes 500 --perturbations 24 --density 0.3 --tools '' >"$folder/log"
"$python" "$root/bin/vcb_evaluate.py" --truth "$folder/truth.h5ad" --train "$folder/train.h5ad" \
  --predictions "$folder/predictions.h5ad" --metrics extended vcc --bench-compat --out "$folder/out" >"$folder/log" 2>&1 ||
  { cat "$folder/log"; exit 1; }
TQDM_DISABLE=1 "$environment/bin/python" "$root/tests/external/crosscheck.py" "$folder" 2>"$folder/log" ||
  { tail -5 "$folder/log"; exit 1; }
