"""Adam over many parameters held in one contiguous tensor, without `torch.optim.Optimizer`.

Small networks spend a third of a step in loops over their tensors, and the optimiser classes import torch's compiler
(3 s) when they are built; the functional form below is the same fused kernel on one tensor.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.adam import adam

#: Numbers of 4 bytes in the 64 bytes to which torch aligns what it allocates.
ALIGNMENT = 16


class FlatAdam:
    """Adam with torch's defaults (betas 0.9 and 0.999, epsilon 1e-8); `weight_decay` is added to the gradient.

    The parameters and their gradients become views of `weights` and `gradient` (both 1-d). A parameter's `grad` must
    stay the view it is: zero it with :meth:`zero`, never set it to None.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], rate: float, weight_decay: float = 0.0) -> None:
        self.rate, self.weight_decay = rate, weight_decay
        # rounding of a matrix product depends on how its operands lie in memory, so every tensor starts aligned
        starts = [0, *itertools.accumulate(-(-parameter.numel() // ALIGNMENT) * ALIGNMENT for parameter in parameters)]
        self.weights = torch.zeros(starts[-1], device=parameters[0].device)
        self.gradient = torch.zeros_like(self.weights)
        self._means = [torch.zeros_like(self.weights)], [torch.zeros_like(self.weights)]
        self._step = torch.zeros((), device=self.weights.device)
        for parameter, start in zip(parameters, starts, strict=False):
            part = slice(start, start + parameter.numel())
            weights = self.weights[part].view_as(parameter).copy_(parameter.detach())
            parameter.data, parameter.grad = weights, self.gradient[part].view_as(parameter)

    def zero(self) -> None:
        """Set all gradients to 0."""
        self.gradient.zero_()

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights from the gradients."""
        adam(
            [self.weights],
            [self.gradient],
            *self._means,
            [],
            [self._step],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )
