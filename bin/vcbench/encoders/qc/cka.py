"""Linear centred kernel alignment (Kornblith et al., ICML 2019) with the unbiased HSIC of Song et al. (JMLR 2012).

HSIC_1(K, L) = [tr(K'L') + 1'K'1 1'L'1 / ((n-1)(n-2)) - 2/(n-2) 1'K'L'1] / (n(n-3)); K', L' have a zero diagonal.
Its expectation is 0 for independent vectors of any width, whereas the biased CKA of two wide random matrices nears 1.
"""

from __future__ import annotations

import math

import numpy as np

#: Fewer rows have no unbiased estimate.
FEWEST = 4


def hsic(first: np.ndarray, second: np.ndarray) -> float:
    """Return the unbiased HSIC of the linear kernels of two centred matrices (n, D) and (n, E), same rows, n >= 4."""
    n = len(first)
    kernels = []
    for matrix in (first, second):
        kernel = matrix @ matrix.T
        np.fill_diagonal(kernel, 0.0)
        kernels.append(kernel)
    left, right = kernels
    trace = float(np.sum(left * right))
    sums = float(left.sum()) * float(right.sum())
    cross = float(left.sum(axis=0) @ right.sum(axis=0))
    return (trace + sums / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)) / (n * (n - 3))


def cka(first: np.ndarray, second: np.ndarray) -> float:
    """Return HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)) of two matrices with the same rows.

    1 for a matrix and its rotated, scaled or shifted copy; about 0 (also slightly below) for independent ones. NaN for
    fewer than four rows and when the rows of a matrix do not differ.
    """
    if len(first) < FEWEST:
        return math.nan
    centred = [matrix - matrix.mean(axis=0) for matrix in (first, second)]
    scale = [float(np.linalg.norm(matrix)) for matrix in centred]
    if not all(size > 1e-12 * float(np.linalg.norm(raw)) for size, raw in zip(scale, (first, second), strict=True)):
        return math.nan
    left, right = (matrix / size for matrix, size in zip(centred, scale, strict=True))
    own = hsic(left, left), hsic(right, right)
    # n(n-3) HSIC of a matrix of norm 1; equidistant rows (a simplex) have none
    if min(own) * len(first) * (len(first) - 3) < 1e-12:
        return math.nan
    return hsic(left, right) / math.sqrt(own[0] * own[1])
