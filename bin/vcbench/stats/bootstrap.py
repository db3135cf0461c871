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

    `code` is (K,) cluster of each perturbation, `stratum` (C,) stratum of each cluster.
    """

    code: np.ndarray
    stratum: np.ndarray

    @property
    def n(self) -> int:
        """Number of clusters."""
        return len(self.stratum)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return sums over clusters (C, ...) of values (K, ...); NaN counts as absent."""
        result = np.zeros((self.n, *values.shape[1:]))
        np.add.at(result, self.code, np.nan_to_num(values))
        return result


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


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, how it was made, and the cluster-robust standard error of the estimate."""

    low: float
    high: float
    method: str
    standard_error: float


NO_INTERVAL = Interval(np.nan, np.nan, "", np.nan)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> float:
    """Return sum(numerator) / sum(denominator) over perturbations that have both; a mean has denominator 1.

    NaN without perturbations or when the denominators do not add up to something positive.
    """
    both = ~np.isnan(numerator) & ~np.isnan(denominator)
    total = float(denominator[both].sum())
    return float(numerator[both].sum()) / total if total > 0 else np.nan


def influence(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return (K,) what each perturbation contributes to the deviation of the ratio, NaN where absent.

    Their sum is 0; for a mean it is (x_k - mean) / K.
    """
    value = ratio(numerator, denominator)
    both = ~np.isnan(numerator) & ~np.isnan(denominator)
    return np.where(both, numerator - value * denominator, np.nan) / denominator[both].sum()


def robust_error(contributions: np.ndarray, groups: Clusters) -> tuple[float, int]:
    """Return the cluster-robust standard error of summed contributions (K,) and the number of clusters present."""
    present = np.unique(groups.code[~np.isnan(contributions)])
    c = len(present)
    if c < 2:
        return np.nan, c
    sums = groups.sums(contributions)[present]
    return float(np.sqrt(c / (c - 1) * (sums**2).sum())), c


def interval(
    terms: list[tuple[np.ndarray, np.ndarray]], signs: list[float], groups: Clusters, weights: np.ndarray
) -> Interval:
    """Return the 95 % interval of a signed sum of ratios: one ratio is a score, plus one minus one a difference.

    Parameters
    ----------
    terms
        (numerator, denominator) per ratio, each (K,); NaN marks absent perturbations.
    weights
        (resamples, C) of :func:`resamples`, shared by everything that is compared.
    """
    from scipy.special import stdtrit

    estimate = sum(sign * ratio(*term) for sign, term in zip(signs, terms, strict=True))
    if np.isnan(estimate):
        return NO_INTERVAL
    contributions = sum(sign * influence(*term) for sign, term in zip(signs, terms, strict=True))
    error, c = robust_error(contributions, groups)
    if c < 2:
        return NO_INTERVAL
    if c < MIN_CLUSTERS:
        half = float(stdtrit(c - 1, 0.975)) * error
        return Interval(estimate - half, estimate + half, T_APPROXIMATE, error)
    values = np.zeros(len(weights))
    for sign, (numerator, denominator) in zip(signs, terms, strict=True):
        absent = np.isnan(numerator) | np.isnan(denominator)
        top = weights @ groups.sums(np.where(absent, np.nan, numerator))
        bottom = weights @ groups.sums(np.where(absent, np.nan, denominator))
        with np.errstate(invalid="ignore", divide="ignore"):
            values += sign * np.where(bottom > 0, top / bottom, np.nan)
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Interval(float(low), float(high), BOOTSTRAP, error)
