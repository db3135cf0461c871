"""Random control: a standard normal vector per perturbation, which knows nothing about it.

The vector depends on the seed and the perturbation's key only, never on the other perturbations. REF = 0, hence
DIFF = -ALT; a synonymous variant gets a vector like any other, because the encoder does not know that it is one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vcbench.core.seeds import stream
from vcbench.encoders.base import Context, Encoded
from vcbench.encoders.requests import Request


class RandomEncoder:
    """Independent Gaussian vectors; setting `width`."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def encode(self, requests: Sequence[Request]) -> Encoded:
        """Return (requests, width) vectors; wild type rows are zero like those of control cells."""
        width = self.context.settings["width"]
        alt = np.zeros((len(requests), width), np.float32)
        for row, request in enumerate(requests):
            if not request.is_wild_type:
                alt[row] = stream(self.context.seed, "random encoder", request.key).standard_normal(width)
        return Encoded(alt, np.zeros_like(alt), tuple(f"dim_{i}" for i in range(width)), ("any",) * width)


ENCODER = RandomEncoder
