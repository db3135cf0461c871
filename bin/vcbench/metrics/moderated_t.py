"""Two-group moderated t test with an empirical-Bayes variance prior, no trend, not robust (metrics.md 10.6).

Written from the published formulas (Smyth 2004, Stat Appl Genet Mol Biol 3:3); no third-party code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, polygamma, stdtr


@dataclass(frozen=True)
class ModeratedT:
    """Result per gene: `t`, two-sided `p`, `df` (one number), prior `df_prior` and `variance_prior`."""

    t: np.ndarray
    p: np.ndarray
    df: float
    df_prior: float
    variance_prior: float


def inverse_trigamma(y: float) -> float:
    """Return x > 0 with trigamma(x) = y > 0, by Newton's method on 1/trigamma, which is convex and nearly linear."""
    if y > 1e7:
        return 1 / np.sqrt(y)
    if y < 1e-6:
        return 1 / y
    x = 0.5 + 1 / y
    for _ in range(50):
        value = float(polygamma(1, x))
        step = value * (1 - value / y) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-12:
            break
    return x


def moderated_t(
    difference: np.ndarray, variance_1: np.ndarray, n_1: int, variance_2: np.ndarray, n_2: int
) -> ModeratedT:
    """Test two groups of cells gene by gene.

    Parameters
    ----------
    difference
        (genes,) mean of group 1 minus mean of group 2.
    variance_1, variance_2
        (genes,) unbiased variances within the groups.
    n_1, n_2
        Cells of the groups; together at least 3.
    """
    d = n_1 + n_2 - 2
    pooled = ((n_1 - 1) * variance_1 + (n_2 - 1) * variance_2) / d
    # Zero variances would dominate the logarithms; they are floored for the prior only.
    floored = np.maximum(pooled, 1e-5 * (float(np.median(pooled)) or 1.0))
    e = np.log(floored) - digamma(d / 2) + np.log(d / 2)
    excess = float(np.var(e, ddof=1)) - float(polygamma(1, d / 2)) if len(e) > 1 else 0.0
    if len(e) == 1:  # one variance says nothing about the spread of variances
        df_prior, variance_prior, posterior = 0.0, float(pooled[0]), pooled
    elif excess > 0:
        df_prior = 2 * inverse_trigamma(excess)
        variance_prior = float(np.exp(e.mean() + digamma(df_prior / 2) - np.log(df_prior / 2)))
        posterior = (df_prior * variance_prior + d * pooled) / (df_prior + d)
    else:
        df_prior = np.inf
        variance_prior = float(floored.mean())
        posterior = np.full_like(pooled, variance_prior)
    df = float(min(df_prior + d, len(pooled) * d))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = difference / (np.sqrt(posterior) * np.sqrt(1 / n_1 + 1 / n_2))
    t = np.where(difference == 0, 0.0, t)
    return ModeratedT(t, 2 * stdtr(df, -np.abs(t)), df, df_prior, variance_prior)
