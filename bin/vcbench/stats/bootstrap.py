"""Cluster bootstrap intervals of means and ratios of sums over perturbations (metrics.md 10.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Below this many clusters percentile intervals are too short; Student t intervals are used and called approximate.
MIN_CLUSTERS = 30
BOOTSTRAP = "bootstrap"
T_APPROXIMATE = "t_approximate"


@dataclass(frozen=True)
class Clusters:
    """Perturbations grouped into dependent clusters (residue position or target genes), and strata to resample within.

    `code` is (K,) cluster of each perturbation, every one of 0 .. C-1 used; `stratum` (C,) stratum of each cluster.
    """

    code: np.ndarray
    stratum: np.ndarray

    @property
    def n(self) -> int:
        """Number of clusters."""
        return len(self.stratum)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return sums over clusters (..., C) of values (..., K); NaN counts as absent."""
        if not self.n:
            return np.zeros((*values.shape[:-1], 0))
        order = np.argsort(self.code, kind="stable")
        starts = np.searchsorted(self.code[order], np.arange(self.n))
        return np.add.reduceat(np.where(np.isnan(values), 0.0, values)[..., order], starts, axis=-1)

    def present(self, known: np.ndarray) -> np.ndarray:
        """Return (..., C) whether a cluster has any of the perturbations marked in (..., K) booleans."""
        return self.sums(known.astype(np.float64)) > 0


def clusters(names: list[str], folds: np.ndarray) -> Clusters:
    """Return the clusters of perturbations with cluster names `names` (K) tested in `folds` (K).

    A cluster is resampled whole. Its stratum is its fold; clusters that reach over several folds, and those that
    would be alone in their stratum (and so never vary), share one.
    """
    unique, code = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    mixed = -1
    stratum = np.full(len(unique), mixed)
    for c in range(len(unique)):
        found = np.unique(folds[code == c])
        stratum[c] = found[0] if len(found) == 1 else mixed
    for value in np.unique(stratum):
        if (stratum == value).sum() < 2:
            stratum[stratum == value] = mixed
    if (stratum == mixed).sum() == 1 and len(unique) > 1:
        stratum[stratum == mixed] = stratum[stratum != mixed].min()
    return Clusters(code, stratum)


def resamples(groups: Clusters, n: int, generator: np.random.Generator) -> np.ndarray:
    """Return (n, C) how often each cluster is drawn in each of `n` stratified resamples."""
    weights = np.zeros((n, groups.n))
    for value in np.unique(groups.stratum):
        members = np.flatnonzero(groups.stratum == value)
        size = len(members)
        weights[:, members] = generator.multinomial(size, np.full(size, 1 / size), size=n)
    return weights


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return (...) sum(numerator) / sum(denominator) over the perturbations (..., K) that have both.

    A mean has denominator 1. NaN without perturbations or when the denominators do not add up to something positive.
    """
    both = ~np.isnan(numerator) & ~np.isnan(denominator)
    total = np.where(both, denominator, 0.0).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, np.where(both, numerator, 0.0).sum(-1) / total, np.nan)


def resampled(numerator: np.ndarray, denominator: np.ndarray, groups: Clusters, weights: np.ndarray) -> np.ndarray:
    """Return (M, resamples) the ratios of M series (M, K) in each resample; NaN where nothing of a series is drawn."""
    both = ~np.isnan(numerator) & ~np.isnan(denominator)
    top = groups.sums(np.where(both, numerator, np.nan)) @ weights.T
    bottom = groups.sums(np.where(both, denominator, np.nan)) @ weights.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


def percentiles(values: np.ndarray, points: tuple[float, ...]) -> np.ndarray:
    """Return (points, M) percentiles of each row of values (M, n), NaN left out; NaN for a row of NaN."""
    result = np.full((len(points), len(values)), np.nan)
    whole = ~np.isnan(values).any(axis=1)
    if whole.any():
        result[:, whole] = np.percentile(values[whole], points, axis=1)
    for row in np.flatnonzero(~whole):
        known = values[row][~np.isnan(values[row])]
        if len(known):
            result[:, row] = np.percentile(known, points)
    return result


@dataclass(frozen=True)
class Intervals:
    """95 % intervals of M estimates, each (M,): ends, how made, cluster-robust standard error, clusters present."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    method: np.ndarray
    standard_error: np.ndarray
    n_clusters: np.ndarray


def robust_error(contributions: np.ndarray, groups: Clusters) -> tuple[np.ndarray, np.ndarray]:
    """Return (M,) cluster-robust standard errors of summed contributions (M, K), and (M,) clusters present.

    `contributions` say how much each perturbation moves an estimate; NaN where absent. NaN below two clusters.
    """
    count = groups.present(~np.isnan(contributions)).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(count / (count - 1) * (groups.sums(contributions) ** 2).sum(-1))
    return np.where(count >= 2, error, np.nan), count


def t_quantile(count: np.ndarray) -> np.ndarray:
    """Return the 97.5 % point of Student's t for an estimate over `count` clusters."""
    from scipy.special import stdtrit

    return stdtrit(np.maximum(count - 1, 1), 0.975)


def intervals(
    numerator: np.ndarray, denominator: np.ndarray, groups: Clusters, weights: np.ndarray | None
) -> Intervals:
    """Return the intervals of M ratios of sums, or of differences of ratios that share their denominators.

    Parameters
    ----------
    numerator, denominator
        (M, K); NaN marks absent perturbations.
    weights
        (resamples, C) of :func:`resamples`, shared by everything that is compared; None: Student t for all.
    """
    estimate = ratio(numerator, denominator)
    both = ~np.isnan(numerator) & ~np.isnan(denominator)
    with np.errstate(invalid="ignore", divide="ignore"):
        # What each perturbation contributes to the deviation of the ratio; for a mean (x_k - mean) / K.
        total = np.where(both, denominator, 0.0).sum(-1, keepdims=True)
        contributions = np.where(both, numerator - estimate[:, None] * denominator, np.nan) / total
    error, count = robust_error(contributions, groups)
    known = ~np.isnan(estimate) & (count >= 2)
    error = np.where(known, error, np.nan)
    half = t_quantile(count) * error
    low, high = estimate - half, estimate + half
    method = np.where(known, T_APPROXIMATE, "").astype(object)
    drawn = known & (count >= MIN_CLUSTERS)
    if weights is not None and drawn.any():
        values = resampled(numerator[drawn], denominator[drawn], groups, weights)
        low[drawn], high[drawn] = percentiles(values, (2.5, 97.5))
        method[drawn] = BOOTSTRAP
    low[~known], high[~known] = np.nan, np.nan
    return Intervals(estimate, low, high, method, error, count)
