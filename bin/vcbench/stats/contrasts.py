"""Paired comparisons of models on the same perturbations (metrics.md 10.3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from vcbench.stats.bootstrap import Clusters, ratio

N_FLIPS = 10_000
#: 80 % power at alpha 0.05: 2.8 standard errors.
DETECTABLE_ERRORS = 2.8
#: Up to so many differences the signed-rank distribution is listed in full.
EXACT_RANKS = 50
#: Sums of differences below this share of their absolute values are rounding noise.
ROUNDING = 1e-12
#: Flips multiplied at a time: bounds the memory, changes no number.
_BLOCK = 2048


class Flips:
    """The sign flips of a panel: all contrasts over equally many clusters meet the same ones.

    `stream` returns a fresh generator, always in the same state.
    """

    def __init__(self, stream: Callable[[], np.random.Generator], n: int = N_FLIPS) -> None:
        self._stream, self._n = stream, n
        self._made: dict[int, tuple[np.ndarray, bool]] = {}

    def of(self, n_clusters: int) -> tuple[np.ndarray, bool]:
        """Return (flips, n_clusters) of +1/-1, int8, and whether they are all possible ones (2^C <= n) or a sample."""
        if n_clusters not in self._made:
            self._made[n_clusters] = signs(n_clusters, self._stream(), self._n)
        return self._made[n_clusters]


def signs(n_clusters: int, generator: np.random.Generator, n: int = N_FLIPS) -> tuple[np.ndarray, bool]:
    """Return (flips, n_clusters) of +1/-1, int8, and whether they are all possible ones (2^C <= n) or a sample."""
    if 2**n_clusters <= n:
        bits = (np.arange(2**n_clusters)[:, None] >> np.arange(n_clusters)[None, :]) & 1
        return (1 - 2 * bits).astype(np.int8), True
    drawn = np.empty((n, n_clusters), dtype=np.int8)
    for start in range(0, n, _BLOCK):
        part = drawn[start : start + _BLOCK]
        part[...] = generator.integers(0, 2, size=part.shape) * 2 - 1
    return drawn, False


def sign_flip(differences: np.ndarray, groups: Clusters, flips: Flips, bounded: bool = False) -> np.ndarray:
    """Return (M,) two-sided p values of the means of paired differences (M, K), flipped cluster by cluster.

    Exact when all flips can be listed, so the smallest p is 2 / 2^clusters; otherwise 10,000 random flips, counting the
    observed one. NaN marks absent perturbations; NaN with fewer than two clusters.

    A sample cannot give less than 1 / 10,001, too much to survive a correction for thousands of pairs. With `bounded`,
    a p value is at most what no set of flips exceeds: P(|sum s_c x_c| >= t) <= 2 exp(-t^2 / (2 sum x_c^2)) (Hoeffding).
    """
    p = np.full(len(differences), np.nan)
    all_sums, present = groups.sums(differences), groups.present(~np.isnan(differences))
    if not len(differences):
        return p
    patterns, which = np.unique(present, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        if pattern.sum() < 2:
            continue
        members = np.flatnonzero(which.ravel() == number)
        made, exact = flips.of(int(pattern.sum()))
        for rows in np.array_split(members, -(-len(members) // _BLOCK)):
            sums = all_sums[np.ix_(rows, np.flatnonzero(pattern))]
            reached = _as_extreme(sums[:, :, None], made)
            p[rows] = reached / len(made) if exact else (1 + reached) / (1 + len(made))
            if bounded and not exact:
                with np.errstate(invalid="ignore", divide="ignore"):
                    bound = 2 * np.exp(-(sums.sum(1) ** 2) / (2 * (sums**2).sum(1)))
                p[rows] = np.fmin(p[rows], bound)
    return p


def joint_flip(sums: np.ndarray, flips: Flips) -> float:
    """Return the p value of the length of a sum of vectors (C, D), one per cluster, under flips of whole vectors.

    With D = 1 this is :func:`sign_flip`. NaN with fewer than two clusters.
    """
    if len(sums) < 2:
        return np.nan
    made, exact = flips.of(len(sums))
    reached = _as_extreme(sums[None], made)[0]
    return float(reached / len(made) if exact else (1 + reached) / (1 + len(made)))


def _as_extreme(sums: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Return (M,) how many flips (n, C) make the summed vectors (M, C, D) as long as they are unflipped."""
    m, c, d = sums.shape
    observed = np.sqrt((sums.sum(1) ** 2).sum(1))
    # Equal sums in another order differ by rounding; they must count as equal.
    bar = observed - ROUNDING * np.sqrt((np.abs(sums).sum(1) ** 2).sum(1))
    by_cluster = np.moveaxis(sums, 1, 0).reshape(c, m * d)
    reached = np.zeros(m, dtype=np.int64)
    for start in range(0, len(made), _BLOCK):
        flipped = (made[start : start + _BLOCK].astype(np.float64) @ by_cluster).reshape(-1, m, d)
        length = np.abs(flipped[..., 0]) if d == 1 else np.sqrt((flipped**2).sum(-1))
        reached += (length >= bar).sum(0)
    return reached


def fold_intervals(
    differences: np.ndarray, denominators: np.ndarray, folds: np.ndarray, n_perturbations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (M,) ends of Nadeau-Bengio intervals of mean differences (M, K) / denominators (M, K) between folds.

    Models of different folds share training data, so the variance of the mean over J folds is (1/J + n_test / n_train)
    s2 instead of s2 / J; Student t with J - 1 degrees of freedom. Conservative: with three folds it is wide. `folds`
    (K,); all `n_perturbations` that a fold does not test count as its training data. NaN below two folds.
    """
    from scipy.special import stdtrit

    numbers = np.unique(folds)
    by_fold = np.stack([
        ratio(np.where(folds == f, differences, np.nan), np.where(folds == f, denominators, np.nan)) for f in numbers
    ], axis=1) if len(numbers) else np.zeros((len(differences), 0))  # fmt: skip
    known = ~np.isnan(by_fold)
    count = known.sum(1)
    n_test = len(folds) / max(len(numbers), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, by_fold, 0.0).sum(1) / count
        variance = np.where(known, (by_fold - mean[:, None]) ** 2, 0.0).sum(1) / (count - 1)
        inflation = 1 / count + np.divide(n_test, n_perturbations - n_test)
        half = stdtrit(np.maximum(count - 1, 1), 0.975) * np.sqrt(inflation * variance)
    half = np.where((count >= 2) & np.isfinite(half), half, np.nan)
    return mean - half, mean + half


def holm(p: np.ndarray) -> np.ndarray:
    """Return Holm-adjusted p values of a family; NaN stay NaN and do not count."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return Benjamini-Hochberg adjusted p values of a family; NaN stay NaN and do not count."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")[::-1]]
    steps = p[order] * len(order) / np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.minimum.accumulate(steps), 1.0)
    return adjusted


def signed_rank(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (M,) two-sided Wilcoxon signed-rank p values of (M, K), zeros dropped, and (M,) how many zeros there were.

    Exact given the mid-ranks, ties included, up to `EXACT_RANKS` differences; normal approximation above.
    """
    from scipy.special import ndtr
    from scipy.stats import rankdata

    zeros = (differences == 0).sum(1)
    used = ~np.isnan(differences) & (differences != 0)
    n = used.sum(1)
    p = np.full(len(differences), np.nan)
    if not used.any():
        return p, zeros
    # Absent ones rank last and count for nothing.
    ranks = np.where(used, rankdata(np.where(used, np.abs(differences), np.inf), axis=1), 0.0)
    positive = np.where(differences > 0, ranks, 0.0).sum(1)
    large = n > EXACT_RANKS
    # With mid-ranks the sum of their squares holds the correction for ties.
    z = (positive - ranks.sum(1) / 2)[large] / np.sqrt((ranks**2).sum(1)[large] / 4)
    p[large] = 2 * ndtr(-np.abs(z))
    for row in np.flatnonzero((n > 0) & ~large):
        probability = _rank_sums(tuple(np.sort(2 * ranks[row, used[row]]).astype(int).tolist()))
        at = round(2 * positive[row])
        p[row] = min(1.0, 2 * min(probability[: at + 1].sum(), probability[at:].sum()))
    return p, zeros


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


def superiority(differences: np.ndarray) -> np.ndarray:
    """Return (M,) the share of perturbations with a positive difference in (M, K), ties half."""
    known = ~np.isnan(differences)
    with np.errstate(invalid="ignore"):
        return ((differences > 0).sum(1) + 0.5 * (differences == 0).sum(1)) / known.sum(1)
