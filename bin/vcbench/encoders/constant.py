"""Constant control: the same vector of ones for every perturbation; a model on it can only learn the mean.

REF = 0 and ALT = 1 in every column, hence DIFF = -1: perturbed or not is all a model can see.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vcbench.encoders.base import Context, Encoded
from vcbench.encoders.requests import Request


class ConstantEncoder:
    """The same vector for every perturbation; setting `width`."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def encode(self, requests: Sequence[Request]) -> Encoded:
        """Return (requests, width) vectors of ones; wild type rows are zero like those of control cells."""
        width = self.context.settings["width"]
        alt = np.ones((len(requests), width), np.float32)
        alt[[request.is_wild_type for request in requests]] = 0
        return Encoded(alt, np.zeros_like(alt), tuple(f"dim_{i}" for i in range(width)), ("any",) * width)


ENCODER = ConstantEncoder
