"""95 % intervals of rank statistics by clusters of variants (metrics.md 10.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vcbench.stats import bootstrap
from vcbench.stats.bootstrap import Clusters

#: Student t with the jack-knife error over clusters: below 30 clusters percentiles of resamples are too short.
T_JACKKNIFE = "t_jackknife"
#: Numbers of an array of (resamples, variants) held at once.
AT_ONCE = 2_000_000

#: (R, K) weights -> (R,) values.
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sample:
    """The K variants statistics are computed on: their clusters, and (resamples, C) draws of those."""

    groups: Clusters
    draws: np.ndarray

    def of(self, use: np.ndarray) -> Sample:
        """Return the variants marked in (K,) booleans; clusters without any stay, and their draws count nothing."""
        return Sample(replace(self.groups, code=self.groups.code[use]), self.draws)

    @property
    def present(self) -> np.ndarray:
        """Clusters that have a variant, sorted."""
        return np.unique(self.groups.code)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; `method` is empty without one."""

    value: float
    low: float = float("nan")
    high: float = float("nan")
    method: str = ""


def estimate(statistic: Statistic, sample: Sample, limits: tuple[float, float]) -> Estimate:
    """Return a statistic of all variants and its interval, cut to `limits`.

    With 30 clusters or more: percentiles over resamples of whole clusters, those without a value left out. With fewer:
    Student t with the error of leaving out one cluster at a time.
    """
    code, present = sample.groups.code, sample.present
    if not len(code):
        return Estimate(float("nan"))
    value = float(statistic(np.ones((1, len(code))))[0])
    if np.isnan(value) or len(present) < 2:
        return Estimate(value)
    if len(present) >= bootstrap.MIN_CLUSTERS:
        step = max(1, AT_ONCE // len(code))
        found = np.concatenate([
            statistic(sample.draws[at : at + step][:, code]) for at in range(0, len(sample.draws), step)
        ])  # fmt: skip
        if np.isnan(found).all():
            return Estimate(value)
        low, high = np.percentile(found[~np.isnan(found)], (2.5, 97.5))
        method = bootstrap.BOOTSTRAP
    else:
        without = statistic((code[None, :] != present[:, None]).astype(np.float64))
        if np.isnan(without).any():
            return Estimate(value)
        n = len(present)
        error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
        half = float(bootstrap.t_quantile(np.array(n))) * error
        low, high, method = value - half, value + half, T_JACKKNIFE
    return Estimate(value, max(limits[0], float(low)), min(limits[1], float(high)), method)
