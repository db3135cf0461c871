"""Lengths, spread and repeats of vectors."""

from __future__ import annotations

import numpy as np

#: Quantiles of the Euclidean norms that are reported.
QUANTILES = {"min": 0.0, "q05": 0.05, "median": 0.5, "q95": 0.95, "max": 1.0}


def quantiles(matrix: np.ndarray) -> dict[str, float]:
    """Return {min, q05, median, q95, max} of the Euclidean norms of the rows of an (n, D) matrix."""
    lengths = np.linalg.norm(matrix, axis=1)
    return dict(zip(QUANTILES, map(float, np.quantile(lengths, list(QUANTILES.values()))), strict=True))


def relative_spread(matrix: np.ndarray) -> float:
    """Return the root mean square distance of the rows from their mean, as a share of their root mean square norm.

    0: all rows are the same vector; 1: their mean is zero. NaN when every row is zero.
    """
    size = float(np.mean(np.sum(matrix**2, axis=1)))
    spread = float(np.mean(np.sum((matrix - matrix.mean(axis=0)) ** 2, axis=1)))
    return float(np.sqrt(spread / size)) if size > 0 else float("nan")


def repeats(matrix: np.ndarray) -> int:
    """Return how many rows equal an earlier row exactly."""
    return len(matrix) - len(np.unique(matrix + 0.0, axis=0)) if len(matrix) else 0  # + 0.0: -0 is 0


def zeros(matrix: np.ndarray) -> int:
    """Return how many rows are zero in every column."""
    return int((~matrix.any(axis=1)).sum())
