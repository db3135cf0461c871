"""Physico-chemical control: BLOSUM62 row, hydropathy, volume and charge of the residue (sources: amino_acids.py).

Each of the 23 columns is standardised over the 20 amino acids (mean 0, population standard deviation 1): a constant of
the encoder, not fitted to any data, so that cubic angstroms do not outweigh charges.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vcbench.encoders.amino_acids import BLOSUM62, CHARGE, HYDROPATHY, VOLUME
from vcbench.encoders.base import Context, Encoded
from vcbench.encoders.requests import Request
from vcbench.encoders.residue_tables import look_up
from vcbench.variants.alphabet import STANDARD

COLUMNS = (*(f"blosum62_{residue}" for residue in STANDARD), "hydropathy", "volume", "charge")


def table() -> dict[str, np.ndarray]:
    """Return {residue: (23,) float32 standardised properties}."""
    raw = np.array(
        [
            [*(BLOSUM62[residue][other] for other in STANDARD), HYDROPATHY[residue], VOLUME[residue], CHARGE[residue]]
            for residue in STANDARD
        ],
        dtype=np.float64,
    )
    scaled = ((raw - raw.mean(axis=0)) / raw.std(axis=0)).astype(np.float32)
    return dict(zip(STANDARD, scaled, strict=True))


class PhysChemEncoder:
    """BLOSUM62 row, hydropathy, volume and charge of the reference (REF) and of the mutant residue (ALT)."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def encode(self, requests: Sequence[Request]) -> Encoded:
        """Return (requests, 23) vectors, the mean over the mutated positions."""
        ref, alt = look_up(requests, table(), len(COLUMNS))
        return Encoded(alt, ref, COLUMNS, ("variant",) * len(COLUMNS))


ENCODER = PhysChemEncoder
