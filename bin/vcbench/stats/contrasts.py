"""Paired comparison of two models on the same perturbations (metrics.md 10.3)."""

from __future__ import annotations

import numpy as np

from vcbench.stats.bootstrap import Clusters

N_FLIPS = 10_000
#: 80 % power at alpha 0.05: 2.8 standard errors.
DETECTABLE_ERRORS = 2.8


def signs(n_clusters: int, generator: np.random.Generator, n: int = N_FLIPS) -> tuple[np.ndarray, bool]:
    """Return (flips, n_clusters) of +1/-1 and whether they are all possible ones (2^C <= n) instead of a sample."""
    if 2**n_clusters <= n:
        bits = (np.arange(2**n_clusters)[:, None] >> np.arange(n_clusters)[None, :]) & 1
        return 1.0 - 2.0 * bits, True
    return generator.integers(0, 2, size=(n, n_clusters)) * 2.0 - 1.0, False


def sign_flip(differences: np.ndarray, groups: Clusters, generator: np.random.Generator) -> float:
    """Return the two-sided p value of the mean of paired differences (K,), flipped cluster by cluster.

    Exact when all flips can be listed, so the smallest p is 2 / 2^clusters; otherwise 10,000 random flips, counting the
    observed one. NaN marks absent perturbations; NaN with fewer than two clusters.
    """
    present = np.unique(groups.code[~np.isnan(differences)])
    if len(present) < 2:
        return np.nan
    sums = groups.sums(differences)[present]
    flips, exact = signs(len(present), generator)
    observed = abs(sums.sum())
    # Equal sums in another order differ by rounding; they must count as equal.
    reached = np.abs(flips @ sums) >= observed - 1e-12 * np.abs(sums).sum()
    return float(reached.mean() if exact else (1 + reached.sum()) / (1 + len(flips)))


def holm(p: np.ndarray) -> np.ndarray:
    """Return Holm-adjusted p values of a family; NaN stay NaN and do not count."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def signed_rank(differences: np.ndarray) -> tuple[float, int]:
    """Return the two-sided Wilcoxon signed-rank p value, zeros dropped, and how many zeros there were."""
    from scipy.stats import wilcoxon

    known = differences[~np.isnan(differences)]
    zeros = int((known == 0).sum())
    if len(known) - zeros < 1:
        return np.nan, zeros
    return float(wilcoxon(known[known != 0]).pvalue), zeros


def superiority(differences: np.ndarray) -> float:
    """Return the share of perturbations with a positive difference, ties half."""
    known = differences[~np.isnan(differences)]
    return float(((known > 0) + 0.5 * (known == 0)).mean()) if len(known) else np.nan
