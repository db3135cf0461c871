"""Local false discovery rate with an empirical null (metrics.md 2.11), for deviations from additivity.

Written from Efron, JASA 99 (2004) 96 and Annals of Statistics 35 (2007) 1351: the density by Poisson regression on a
histogram, the null by maximum likelihood on its central part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_BINS = 120
#: Degrees of freedom of the natural spline of the log density.
FREEDOM = 7
#: Share of values at each end that is left out of the histogram, so that single values do not stretch it.
TRIMMED = 1e-4
FDR = 0.05


@dataclass(frozen=True)
class LocalFdr:
    """`at` (bins,) values, `fdr` (bins,), the null's `mean`, `sd` and share `p0`."""

    at: np.ndarray
    fdr: np.ndarray
    mean: float
    sd: float
    p0: float


def natural_spline(x: np.ndarray, freedom: int) -> np.ndarray:
    """Return (n, freedom) basis of a natural cubic spline without intercept, knots at quantiles of x."""
    knots = np.quantile(x, np.linspace(0, 1, freedom + 1))

    def cubic(knot: float) -> np.ndarray:
        return np.maximum(x - knot, 0.0) ** 3

    last = knots[-1]

    def part(knot: float) -> np.ndarray:
        return (cubic(knot) - cubic(last)) / (last - knot)

    end = part(knots[-2])
    return np.stack([x, *(part(knot) - end for knot in knots[:-2])], axis=1)


def poisson_density(counts: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return (bins,) fitted counts of a Poisson regression with intercept, by iterated weighted least squares."""
    scaled = (basis - basis.mean(0)) / basis.std(0)
    # Orthogonal columns keep the equations solvable.
    design = np.linalg.qr(np.column_stack([np.ones(len(counts)), scaled]))[0]
    eta = np.log(counts + 0.5)
    for _ in range(100):
        mu = np.exp(np.clip(eta, -30, 30))
        working = eta + (counts - mu) / mu
        coefficient = np.linalg.lstsq(design * np.sqrt(mu)[:, None], working * np.sqrt(mu), rcond=None)[0]
        new = design @ coefficient
        if np.abs(new - eta).max() < 1e-8:
            break
        eta = new
    return np.exp(np.clip(new, -30, 30))


def central_null(values: np.ndarray) -> tuple[float, float, float]:
    """Return mean, sd and share of the null: normal, by maximum likelihood on the values around the median."""
    from scipy.optimize import minimize
    from scipy.special import log_ndtr, ndtr

    middle = float(np.median(values))
    low, high = np.quantile(values, [0.25, 0.75])
    sd = float(high - low) / 1.349
    if sd <= 0:
        return middle, 0.0, 1.0
    width = sd * (1.0 if len(values) > 500_000 else 4.3 * np.exp(-0.26 * np.log10(len(values))))
    inside = values[np.abs(values - middle) <= width]
    first, second = inside.mean(), (inside**2).mean()

    def loss(theta: np.ndarray) -> float:
        mean, spread = theta[0], np.exp(theta[1])
        a, b = (middle - width - mean) / spread, (middle + width - mean) / spread
        log_mass = log_ndtr(b) + np.log1p(-np.exp(np.minimum(log_ndtr(a) - log_ndtr(b), -1e-12)))
        return float((second - 2 * mean * first + mean**2) / (2 * spread**2) + np.log(spread) + log_mass)

    found = minimize(loss, [middle, np.log(sd)], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
    mean, spread = float(found.x[0]), float(np.exp(found.x[1]))
    mass = ndtr((middle + width - mean) / spread) - ndtr((middle - width - mean) / spread)
    return mean, spread, float(min(len(inside) / len(values) / mass, 1.0))


def local_fdr(values: np.ndarray) -> LocalFdr:
    """Return the local false discovery rate of (n,) values on a grid."""
    low, high = np.quantile(values, [TRIMMED, 1 - TRIMMED])
    edges = np.linspace(low, high, N_BINS + 1)
    counts = np.histogram(np.clip(values, low, high), edges)[0].astype(np.float64)
    at = (edges[1:] + edges[:-1]) / 2
    mean, sd, p0 = central_null(values)
    if sd <= 0:
        return LocalFdr(at, np.ones(N_BINS), mean, sd, p0)
    fitted = poisson_density(counts, natural_spline(at, FREEDOM))
    density = fitted / (fitted.sum() * (edges[1] - edges[0]))
    null = np.exp(-0.5 * ((at - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
    return LocalFdr(at, np.minimum(p0 * null / density, 1.0), mean, sd, p0)


def cuts(values: np.ndarray, fdr: float = FDR) -> tuple[float, float]:
    """Return the values above and below which the local rate stays under `fdr`; infinite where it never does."""
    found = local_fdr(values)

    def end(side: np.ndarray) -> float:
        """Walk from the null outwards; return where the rate has fallen below for good."""
        rate = found.fdr[side]
        over = np.flatnonzero(rate > fdr)
        if not len(over) or over[-1] + 1 >= len(side):
            return np.inf
        i = over[-1]
        share = (rate[i] - fdr) / (rate[i] - rate[i + 1])
        return float(found.at[side[i]] + share * (found.at[side[i + 1]] - found.at[side[i]]))

    above, below = np.flatnonzero(found.at >= found.mean), np.flatnonzero(found.at <= found.mean)[::-1]
    upper, lower = end(above), end(below)
    return upper, -np.inf if np.isinf(lower) else lower
