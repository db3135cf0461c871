"""The first half of ESM2's feed-forward block with the GELU in one step instead of five passes over memory."""

from __future__ import annotations

import torch


class LinearGelu(torch.nn.Module):
    """``x -> gelu(W x + b)`` with the exact (erf) GELU; HF's `EsmIntermediate`, same names."""

    def __init__(self, dense: torch.nn.Linear) -> None:
        super().__init__()
        self.dense = dense

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (..., 4 D) for (..., D)."""
        return torch.nn.functional.gelu(self.dense(x))
