"""Rotary frequencies (Su et al. 2021): the formula, and the check of what a checkpoint stores of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vcbench.core.checkpoint import Checkpoint
from vcbench.core.errors import InputError

if TYPE_CHECKING:
    import torch

#: Largest relative error of a stored frequency: twice the rounding of bfloat16.
TOLERANCE = 2.0**-8


def frequencies(width: int, base: float = 10000.0) -> torch.Tensor:
    """Return ``base ** (-2i / width)``, (width / 2,) float32, for heads of ``width`` channels."""
    import torch

    return 1.0 / base ** (torch.arange(0, width, 2, dtype=torch.float32) / width)


def check_stored(checkpoint: Checkpoint, names: Iterable[str], formula: torch.Tensor, hint: str) -> None:
    """Raise :class:`InputError` unless stored frequencies are alike and equal the formula up to rounding.

    Files may hold them rounded to half precision, as they were in training; then the stored values are the right ones.
    """
    import torch

    first = None
    for name in sorted(names):
        value = checkpoint.tensor(name).to(torch.float32)
        first = value if first is None else first
        if value.shape != formula.shape:
            raise InputError(
                f"wrong shape of {name} (is it another rotary embedding?)", where=str(checkpoint.path),
                found=tuple(value.shape), expected=tuple(formula.shape), hint=hint,
            )  # fmt: skip
        if not torch.equal(value, first) or not torch.allclose(value, formula, rtol=TOLERANCE, atol=0.0):
            raise InputError(
                f"{name} does not hold the rotary frequencies of this network", where=str(checkpoint.path), hint=hint
            )
