"""VariantCellBench: the Python side of the pipeline (imported by the bin/vcb_*.py executables)."""

import sys
from importlib.util import find_spec

__version__ = "0.1.0"

if find_spec("numpy") is None:
    sys.exit(
        f"vcb: error: {sys.executable} lacks the packages this project needs | "
        "run 'make setup', then 'source .venv/bin/activate' in the project's folder"
    )
