#!/usr/bin/env bash
# Nextflow as this project runs it: nextflow.sh ARGUMENTS... (brings the engine first when there is none)
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
nextflow=$("$ROOT/scripts/engine.sh")
exec "$nextflow" "$@"
