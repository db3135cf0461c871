#!/usr/bin/env bash
# Nextflow as this project runs it: nextflow.sh ARGUMENTS... (brings the engine first when there is none)
set -euo pipefail
nextflow=$("$(dirname "${BASH_SOURCE[0]}")/engine.sh")
exec "$nextflow" "$@"
