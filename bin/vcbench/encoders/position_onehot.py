"""One-hot position control: where the protein is changed, and nothing else.

REF = 0 and ALT = one-hot of the mutated position, so that DIFF = -ALT: the reference residue sits at the same position,
and REF - ALT of two equal one-hots would be zero for every variant. Several positions share the 1 in equal parts (mean
over positions). One column per mutated position of the dataset and protein.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vcbench.encoders.base import Context, Encoded
from vcbench.encoders.requests import Request


class PositionOneHotEncoder:
    """One-hot of the mutated residue position."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def encode(self, requests: Sequence[Request]) -> Encoded:
        """Return (requests, number of mutated positions) vectors; columns `position_<gene>_<sha256, 8 digits>_<p>`."""
        places = sorted({(*_protein(request), change.pos) for request in requests for change in request.substitutions})
        columns = {place: column for column, place in enumerate(places)}
        alt = np.zeros((len(requests), len(places)), np.float32)
        for row, request in enumerate(requests):
            for change in request.substitutions:
                alt[row, columns[(*_protein(request), change.pos)]] += 1 / len(request.substitutions)
        names = tuple(f"position_{gene}_{digest[:8]}_{pos}" for gene, digest, pos in places)
        return Encoded(alt, np.zeros_like(alt), names, ("used",) * len(names))


def _protein(request: Request) -> tuple[str, str]:
    return request.genes[0], request.sequence_sha256


ENCODER = PositionOneHotEncoder
