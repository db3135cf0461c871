"""Mean profiles of groups of cells, in float64, with their sampling variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Moments:
    """Sums over the cells of each group: `n` (groups,), `total` and `squares` (groups, genes), all float64.

    Moments of disjoint groups add up, so halves, thirds and pools need no second pass over the cells.
    """

    n: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)

    def __sub__(self, other: Moments) -> Moments:
        return Moments(self.n - other.n, self.total - other.total, self.squares - other.squares)

    def __getitem__(self, rows: object) -> Moments:
        return Moments(self.n[rows], self.total[rows], self.squares[rows])

    def pooled(self) -> Moments:
        """Return one group (first axis kept, length 1) with the cells of all groups."""
        return Moments(self.n.sum(keepdims=True), self.total.sum(0, keepdims=True), self.squares.sum(0, keepdims=True))

    @property
    def mean(self) -> np.ndarray:
        """(groups, genes) mean; NaN for a group without cells."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.total / self.n[:, None]

    @property
    def variance(self) -> np.ndarray:
        """(groups, genes) unbiased variance between cells; NaN below two cells, exactly 0 for identical cells."""
        n = self.n[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.total / n
            spread = self.squares - n * mean**2
            # What is left of the squares after cancellation is rounding below this bound.
            spread = np.where(spread <= 1e-12 * self.squares, 0.0, spread)
            return np.where(n > 1, spread / (n - 1), np.nan)

    @property
    def variance_of_mean(self) -> np.ndarray:
        """(groups, genes) sampling variance of the mean (metrics.md 10.5): between-cell variance / number of cells."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.variance / self.n[:, None]


def moments(matrix: np.ndarray | sp.spmatrix, groups: np.ndarray, n_groups: int) -> Moments:
    """Return the moments of the rows of `matrix` (cells, genes) by group code; negative codes are left out.

    One sparse product per moment: cost grows with the number of stored values, sparse stays sparse.
    """
    groups = np.asarray(groups)
    cells = np.flatnonzero(groups >= 0)
    shape = (n_groups, matrix.shape[0])
    indicator = sp.csr_matrix((np.ones(len(cells)), (groups[cells], cells)), shape=shape)
    n = np.bincount(groups[cells], minlength=n_groups).astype(np.float64)
    values = matrix.astype(np.float64)
    squares = values.multiply(values) if sp.issparse(values) else values**2
    sums = [product.toarray() if sp.issparse(product) else np.asarray(product) for product in
            (indicator @ values, indicator @ squares)]  # fmt: skip
    return Moments(n, *sums)


def codes(labels: Sequence[str] | np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return the index in `names` of each label, -1 for labels that are not in it."""
    lookup = {name: row for row, name in enumerate(names)}
    unique, inverse = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    return np.array([lookup.get(label, -1) for label in unique.tolist()], dtype=np.int64)[inverse]
