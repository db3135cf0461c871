"""Scores on the scale from train mean (0) to technical duplicate (1), and whether a metric can tell models apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vcbench.metrics.registry import Metric
from vcbench.stats import bootstrap
from vcbench.stats.panel import TRAIN_MEAN, Panel, Series

#: The range must exceed so many standard errors, else the metric does not discriminate on this dataset.
MIN_ERRORS = 3.0


@dataclass(frozen=True)
class Scaled:
    """Scaled scores (M,), and whether the metric discriminates: None where base or duplicate is undefined.

    `contributions` (M, K): how much each perturbation moves the scaled score (first order), NaN where absent. `errors`:
    the range r - b in its standard errors, positive in the good direction.
    """

    value: np.ndarray
    discriminates: bool | None
    contributions: np.ndarray
    errors: float = np.nan


def scaled(panel: Panel, metric: Metric, gene_set: str, series: Series) -> Scaled:
    """Return s = (u - b) / (r - b), b the train mean and r the technical duplicate, not floored (metrics.md 2.10).

    Undefined predictions stand at their no-skill value. Values are given only where r - b exceeds three cluster-robust
    standard errors in the good direction; above 1 is possible, since half of the cells are a noisy duplicate.
    """
    nothing = np.full(len(panel.plan), np.nan)
    absent = np.full(series.numerator.shape, np.nan)
    base = panel.position(TRAIN_MEAN)
    if metric.direction not in ("higher", "lower") or base is None:
        return Scaled(nothing, None, absent)
    low, denominator = series.imputed_numerator[base], series.imputed_denominator[base]
    gain = panel.duplicate(metric, gene_set).numerator - low[None]
    found = bootstrap.intervals(gain, np.where(np.isnan(gain), np.nan, denominator), panel.groups, None)
    size, error = float(found.estimate[0]), float(found.standard_error[0])
    if np.isnan(size) or np.isnan(error):
        return Scaled(nothing, None, absent)
    good = size * (1 if metric.direction == "higher" else -1)
    errors = good / error if error > 0 else np.nan
    if not good > MIN_ERRORS * error:
        return Scaled(nothing, False, absent, errors)
    above = series.imputed_numerator - low
    weight = np.where(np.isnan(above), np.nan, denominator)
    value = np.where(panel.scored, bootstrap.ratio(above, weight) / size, np.nan)
    # d s = (d(u - b) - s d(r - b)) / (r - b), each a deviation of a ratio of sums.
    with np.errstate(invalid="ignore", divide="ignore"):
        numerator_part = (above - value[:, None] * size * weight) / np.nansum(weight, 1)[:, None]
    known = ~np.isnan(gain[0]) & ~np.isnan(denominator)
    range_part = np.where(known, gain[0] - size * denominator, 0.0) / np.where(known, denominator, 0.0).sum()
    return Scaled(value, True, (numerator_part - value[:, None] * range_part) / size, errors)
