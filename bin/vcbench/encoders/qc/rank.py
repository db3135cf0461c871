"""Singular values of centred vectors: in how many directions do perturbations differ?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Decomposition:
    """Principal components of an (n, D) matrix; numerical zeros are cut off.

    Attributes
    ----------
    mean
        (D,) mean row.
    singular
        (r,) singular values of the centred matrix, descending.
    axes
        (r, D) orthonormal directions.
    scores
        (n, r) coordinates of the rows: an isometric copy of the centred matrix, ``scores @ scores.T`` is its kernel.
    """

    mean: np.ndarray
    singular: np.ndarray
    axes: np.ndarray
    scores: np.ndarray

    def shares(self) -> np.ndarray:
        """Return the (r,) shares of the variance."""
        return self.singular**2 / np.sum(self.singular**2)


def decompose(matrix: np.ndarray) -> Decomposition:
    """Return the principal components of the rows; none when all rows are the same vector up to rounding.

    The sign of a component is the one that makes its coordinate of largest size positive (the first such row of a tie).
    """
    mean = matrix.mean(axis=0)
    left, singular, axes = np.linalg.svd(matrix - mean, full_matrices=False)
    # Means and float64 products are exact to about eps times the size of what was added up.
    noise = max(matrix.shape) * np.finfo(np.float64).eps * float(np.linalg.norm(matrix))
    kept = singular > noise
    left, singular, axes = left[:, kept], singular[kept], axes[kept]
    sizes = np.round(np.abs(left), 9)  # rounding noise must not decide between the two ends of a symmetric cloud
    signs = np.sign(left[np.argmax(sizes, axis=0), np.arange(len(singular))]) if len(singular) else np.empty(0)
    return Decomposition(mean, singular, axes * signs[:, None], left * (singular * signs))


def effective_rank(singular: np.ndarray) -> float:
    """Return exp of the Shannon entropy of the singular values divided by their sum (Roy & Vetterli, EUSIPCO 2007).

    n for n equal values, 1 for a single one; NaN when there is none.
    """
    total = float(np.sum(singular))
    if total <= 0:
        return float("nan")
    share = singular[singular > 0] / total
    return float(np.exp(-np.sum(share * np.log(share))))
