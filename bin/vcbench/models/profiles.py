"""Mean profiles of groups of cells, summed in float64 straight from the sparse matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.core.h5ad import CONTROL

if TYPE_CHECKING:
    import scipy.sparse as sp


class StoredExpression(Protocol):
    """Cells that are not in memory: (cells, genes) log1p expression that knows the means of its groups of cells."""

    shape: tuple[int, int]

    def __getitem__(self, rows: np.ndarray) -> sp.csr_matrix:
        """Return these rows, (len(rows), genes) CSR."""

    def mean_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the (genes,) float64 mean of these rows."""


def mean_profile(expression: sp.csr_matrix | StoredExpression, rows: np.ndarray) -> np.ndarray:
    """Return the (genes,) float64 mean of these rows.

    SciPy sums float32 matrices in float32 whatever dtype is asked for; `bincount` adds in float64.
    """
    if hasattr(expression, "mean_of"):
        return expression.mean_of(rows)
    chosen = expression[rows]
    return np.bincount(chosen.indices, weights=chosen.data, minlength=chosen.shape[1]) / len(rows)


class Profiles:
    """Mean profile of each label, computed on first use.

    Parameters
    ----------
    expression
        (cells, genes) CSR, log1p, or the same left on disk.
    labels
        (cells,) label of each row.
    """

    def __init__(self, expression: sp.csr_matrix | StoredExpression, labels: np.ndarray) -> None:
        self._expression = expression
        order = np.argsort(labels, kind="stable")
        names, starts = np.unique(labels[order], return_index=True)
        self._rows = dict(zip(names, np.split(order, starts[1:]), strict=True))
        self._means: dict[str, np.ndarray] = {}

    def rows(self, label: str) -> np.ndarray:
        """Return the row numbers of a label, ascending; raises :class:`ModelError` when it has no cell."""
        if label not in self._rows:
            raise ModelError(f"no cell of {label} in the training data")
        return self._rows[label]

    def of(self, labels: Sequence[str]) -> np.ndarray:
        """Return the (labels, genes) float64 mean profiles, in this order."""
        for label in labels:
            if label not in self._means:
                self._means[label] = mean_profile(self._expression, self.rows(label))
        return np.array([self._means[label] for label in labels]).reshape(len(labels), self._expression.shape[1])

    @property
    def control(self) -> np.ndarray:
        """(genes,) float64 mean of the control cells the model may see (c_B of the metrics spec)."""
        return self.of([CONTROL])[0]

    def train_mean(self, labels: Sequence[str]) -> np.ndarray:
        """Return the mean of the labels' mean profiles, each label with weight 1."""
        if not labels:
            raise ModelError("no training perturbation")
        return self.of(labels).mean(axis=0)
