"""ESM2 650M (Lin et al., Science 2023, doi:10.1126/science.ade2574), from local weights in the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vcbench.encoders import esm2_weights
from vcbench.encoders.esm2 import Esm2Encoder

ENCODER = Esm2Encoder


def open_weights(folder: Path, entry: Mapping[str, Any], device: str) -> esm2_weights.Esm2Weights:
    """Load the weights strictly (the hook of vcb_check_weights.py)."""
    return esm2_weights.load(folder, entry, device)
