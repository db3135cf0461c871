"""How cells scatter around their mean profile: zeros, and the variance of counts by their mean (metrics.md 7.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vcbench.metrics import contract, profiles
from vcbench.metrics.extras import Counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import scipy.sparse as sp


def of_cells(linear: profiles.Moments, detected: profiles.Moments) -> Counts:
    """Return zeros, mean and variance from moments of linear values and of detections; NaN for groups without cells."""
    return Counts(*(part.astype(np.float32) for part in (1 - detected.mean, linear.mean, linear.variance)))


def of_groups(expression: profiles.Expression | sp.csr_matrix, groups: Sequence[np.ndarray]) -> Counts:
    """Return those of the cells at the positions of each group."""
    found = []
    for values in profiles.each(expression, groups):
        one = np.zeros(values.shape[0], dtype=int)
        linear, detected = profiles.collect(
            values,
            [profiles.Wanted(one, 1, profiles.LINEAR), profiles.Wanted(one, 1, profiles.DETECTED, squares=False)],
        )
        found.append(of_cells(linear, detected))
    nothing = np.zeros((0, expression.shape[1]), dtype=np.float32)
    return Counts(*(np.concatenate([nothing, *(getattr(one, name) for one in found)])
                    for name in ("zeros", "mean", "variance")))  # fmt: skip


def slope(mean: np.ndarray, variance: np.ndarray) -> float:
    """Return the least-squares slope of log variance on log mean over genes (F,): 1 Poisson, towards 2 overdispersed.

    All values must be above 0; NaN for fewer than three genes or equal means.
    """
    x, y = np.log(np.asarray(mean, dtype=np.float64)), np.log(np.asarray(variance, dtype=np.float64))
    if len(x) < contract.MIN_GENES_CORRELATION or np.ptp(x) == 0:
        return np.nan
    x = x - x.mean()
    return float((x @ y) / (x @ x))


def compared(predicted: Counts, measured: Counts, row: int, genes: np.ndarray) -> dict[tuple[str, str], float]:
    """Return by (diagnostic, reference) what predicted and measured cells of a perturbation look like on `genes`.

    The variance by mean and its ratio are over genes with mean and variance above 0 on both sides.
    """
    zeros = [side.zeros[row, genes].astype(np.float64) for side in (predicted, measured)]
    own = [side - side.mean() for side in zeros]
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (own[0] @ own[1]) / np.sqrt((own[0] @ own[0]) * (own[1] @ own[1]))
    mean, variance = (
        np.stack([getattr(side, name)[row, genes] for side in (predicted, measured)]).astype(np.float64)
        for name in ("mean", "variance")
    )
    used = ((mean > 0) & (variance > 0)).all(axis=0)
    mean, variance = mean[:, used], variance[:, used]
    dispersion = variance / mean
    return {
        ("diag_zeros", "predicted"): float(zeros[0].mean()),
        ("diag_zeros", "measured"): float(zeros[1].mean()),
        ("diag_zeros", "r over genes"): float(r),
        ("diag_mean_variance", "predicted"): slope(mean[0], variance[0]),
        ("diag_mean_variance", "measured"): slope(mean[1], variance[1]),
        ("diag_dispersion", "predicted/measured"): float(np.median(dispersion[0] / dispersion[1])) if used.any()
        else np.nan,
    }  # fmt: skip
