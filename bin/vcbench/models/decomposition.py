"""Principal components of a small matrix, for encoder vectors and for profiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Components below this share of the largest possible singular value are rounding noise, not directions.
NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class Decomposition:
    """X = mean + left diag(values) axes for X (rows, columns) with r components, largest first.

    `mean` (columns,), `axes` (r, columns) and `left` (rows, r) orthonormal, `values` (r,) positive. The scores of the
    rows are left * values; those of a new row x are (x - mean) axes'. Signs are arbitrary, and nothing here depends
    on them.
    """

    mean: np.ndarray
    axes: np.ndarray
    values: np.ndarray
    left: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """(rows, r) scores of the rows."""
        return self.left * self.values

    @property
    def scale(self) -> float:
        """Root mean square distance of the rows from their mean (over the kept components); 1 without any component."""
        return float(np.sqrt(np.sum(self.values**2) / len(self.left))) or 1.0

    def project(self, rows: np.ndarray) -> np.ndarray:
        """Return the (rows, r) scores of new rows."""
        return (rows - self.mean) @ self.axes.T


def decompose(matrix: np.ndarray, limit: int | None = None) -> Decomposition:
    """Return the components of a (rows, columns) float64 matrix, at most `limit`; rows without spread have none."""
    from scipy.linalg import svd

    mean = matrix.mean(axis=0)
    left, values, axes = svd(matrix - mean, full_matrices=False, check_finite=False)
    kept = (values > NEGLIGIBLE * np.linalg.norm(matrix)).nonzero()[0][:limit]
    return Decomposition(mean, axes[kept], values[kept], left[:, kept])
