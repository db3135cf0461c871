"""Paired comparison of two models on the same perturbations (metrics.md 10.3)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from vcbench.stats.bootstrap import Clusters

N_FLIPS = 10_000
#: 80 % power at alpha 0.05: 2.8 standard errors.
DETECTABLE_ERRORS = 2.8
#: Up to so many differences the signed-rank distribution is listed in full.
EXACT_RANKS = 50


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
    """Return the two-sided Wilcoxon signed-rank p value, zeros dropped, and how many zeros there were.

    Exact given the mid-ranks, ties included, up to `EXACT_RANKS` differences; normal approximation above.
    """
    from scipy.special import ndtr
    from scipy.stats import rankdata

    known = differences[~np.isnan(differences)]
    used = known[known != 0]
    zeros = len(known) - len(used)
    if not len(used):
        return np.nan, zeros
    ranks = rankdata(np.abs(used))
    positive = float(ranks[used > 0].sum())
    if len(used) > EXACT_RANKS:
        # With mid-ranks the sum of their squares holds the correction for ties.
        z = (positive - ranks.sum() / 2) / np.sqrt((ranks**2).sum() / 4)
        return float(2 * ndtr(-abs(z))), zeros
    probability = _rank_sums(tuple(np.sort(2 * ranks).astype(int).tolist()))
    at = round(2 * positive)
    return float(min(1.0, 2 * min(probability[: at + 1].sum(), probability[at:].sum()))), zeros


@lru_cache(maxsize=1024)
def _rank_sums(ranks: tuple[int, ...]) -> np.ndarray:
    """Return the probability of each sum of ranks (whole numbers), each rank counted or not with even odds."""
    probability = np.zeros(sum(ranks) + 1)
    probability[0] = 1.0
    for rank in ranks:
        shifted = np.zeros_like(probability)
        shifted[rank:] = probability[: len(probability) - rank]
        probability = (probability + shifted) / 2
    return probability


def superiority(differences: np.ndarray) -> float:
    """Return the share of perturbations with a positive difference, ties half."""
    known = differences[~np.isnan(differences)]
    return float(((known > 0) + 0.5 * (known == 0)).mean()) if len(known) else np.nan
