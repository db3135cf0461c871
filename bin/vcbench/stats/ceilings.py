"""ceilings.tsv: per metric its controls, its dynamic range, and whether it can tell models apart on this dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vcbench.metrics import contract
from vcbench.metrics.registry import Metric
from vcbench.stats import bootstrap
from vcbench.stats.numbers import tidied
from vcbench.stats.panel import Panel, Series
from vcbench.stats.scaled import scaled

CEILINGS = (
    "dataset", "split", "metric", "gene_set", "direction", "status", "n", "n_genes_median", "n_genes_min",
    "base", "base_value", "tech_duplicate",
    "full_vs_full", "noise_free", "interpolated_duplicate", "bootstrap_duplicate", "perfect_copy", "ce2_context_mean",
    "cross_line", "cross_line_dataset",
    "drf", "drf_low", "drf_high", "drf_mean", "drf_q25", "drf_q75", "drf_interpolated", "range_errors", "discriminates",
)  # fmt: skip

#: A metric is usable when its median dynamic range fraction exceeds this and its interval excludes 0 (metrics.md 7.5).
MIN_RANGE = 0.2
_EPSILON = 1e-6

USABLE, LOW_RANGE, NOT_DISCRIMINATING = "usable", "low_range", "not_discriminating"
NO_CEILING, NO_BASE, NO_DIRECTION = "no_ceiling", "no_base", "no_direction"


@dataclass(frozen=True)
class Range:
    """Dynamic range fractions (metrics.md 2.10): (K,) per perturbation, or one number for a metric over perturbations.

    `low` and `high` are the 95 % bootstrap interval of the median.
    """

    values: np.ndarray
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Ceilings:
    """The controls of one metric and gene set, and what they say about it (`status`)."""

    row: dict[str, Any]
    half: float
    full: float
    noise_free: float
    drf: float
    status: str


def fractions(base: np.ndarray, positive: np.ndarray, metric: Metric) -> np.ndarray:
    """Return dynamic range fractions, clipped to [-1, 1]; NaN where base or positive control is.

    Higher is better: (pos - base) / (perfect - base + 1e-6); lower is better: (base - pos) / (base + 1e-6).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric.direction == "lower":
            found = (base - positive) / (base + _EPSILON)
        else:
            perfect = 1.0 if metric.range[1] is None else metric.range[1]
            found = (positive - base) / (perfect - base + _EPSILON)
    return np.clip(found, -1.0, 1.0)


def medians(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return (n,) medians of values (K,) in which value k occurs ``counts[i, k]`` times; NaN where none occurs."""
    known = ~np.isnan(values)
    order = np.argsort(values[known], kind="stable")
    ordered, counts = values[known][order], counts[:, known][:, order]
    if not len(ordered):
        return np.full(len(counts), np.nan)
    below = counts.cumsum(1)
    total = below[:, -1:]
    last = len(ordered) - 1
    low = np.minimum((below < total / 2).sum(1), last)
    high = np.minimum((below <= total / 2).sum(1), last)
    return np.where(total[:, 0] > 0, (ordered[low] + ordered[high]) / 2, np.nan)


def dynamic_range(panel: Panel, metric: Metric, base: Series, at: int, positive: Series) -> Range:
    """Return the dynamic range of a positive control over row `at` of the base, undefined bases at no skill."""
    if metric.level == "perturbation":
        values = fractions(base.imputed_numerator[at], positive.numerator[0], metric)
        if np.isnan(values).all():
            return Range(values, np.nan, np.nan, np.nan)
        drawn = medians(values, panel.weights[:, panel.groups.code])
        low, high = bootstrap.percentiles(drawn[None], (2.5, 97.5))[:, 0]
        return Range(values, float(np.nanmedian(values)), float(low), float(high))
    # A metric over perturbations has one value: both sides are computed anew in each resample.
    numerators = np.stack([base.imputed_numerator[at], positive.numerator[0]])
    denominators = np.stack([base.imputed_denominator[at], positive.denominator[0]])
    value = fractions(*bootstrap.ratio(numerators, denominators)[:, None], metric)
    drawn = fractions(*bootstrap.resampled(numerators, denominators, panel.groups, panel.weights), metric)
    low, high = bootstrap.percentiles(drawn[None], (2.5, 97.5))[:, 0]
    return Range(value, float(value[0]), float(low), float(high))


def status_of(metric: Metric, half: float, has_base: bool, found: Range, discriminates: bool | None) -> str:
    """Return whether a metric can rank models here, or why not."""
    if metric.direction not in ("higher", "lower"):
        return NO_DIRECTION
    if np.isnan(half):
        return NO_CEILING
    if not has_base:
        return NO_BASE
    if not (found.median > MIN_RANGE and found.low > 0):
        return LOW_RANGE
    return NOT_DISCRIMINATING if discriminates is False else USABLE


def _control(panel: Panel, metric: Metric, gene_set: str, model: str) -> float:
    """Return the value of an evaluator row: over all folds where it is one, else the mean over perturbations."""
    pair = panel.scores.pairs.get((metric.id, gene_set))
    at = panel.scores.configurations.get((model, "none", "none", 0))
    if pair is None or at is None:
        return np.nan
    if panel.scores.has_over_folds[pair, at]:
        return float(panel.scores.over_folds[pair, at])
    return float(panel.evaluator(model, metric, gene_set).value[0])


def _cross_line(panel: Panel, metric: Metric, gene_set: str) -> tuple[float, str]:
    """Return the best value of the truth of another dataset as prediction, and which dataset that is."""
    prefix = f"{contract.CROSS_LINE}:"
    names = sorted({name for name, *_ in panel.scores.configurations if name.startswith(prefix)})
    found = [(_control(panel, metric, gene_set, name), name.removeprefix(prefix)) for name in names]
    found = [(value, name) for value, name in found if not np.isnan(value)]
    if not found:
        return np.nan, ""
    return min(found) if metric.direction == "lower" else max(found, key=lambda item: item[0])


def build(panel: Panel, metric: Metric, gene_set: str, series: Series) -> Ceilings:
    """Return the ceilings of one metric and gene set; `series` holds all planned combinations."""
    values = {
        name: _control(panel, metric, gene_set, name)
        for name in (contract.TECH_DUPLICATE, contract.FULL_VS_FULL, contract.NOISE_FREE,
                     contract.INTERPOLATED_DUPLICATE, contract.BOOTSTRAP_DUPLICATE, contract.PERFECT_COPY,
                     contract.CE2_CONTEXT_MEAN)
    }  # fmt: skip
    at = panel.position(metric.base)
    duplicate = panel.duplicate(metric, gene_set)
    nothing = Range(np.full(1, np.nan), np.nan, np.nan, np.nan)
    found = between = nothing
    if at is not None and metric.direction in ("higher", "lower"):
        found = dynamic_range(panel, metric, series, at, duplicate)
        positive = panel.evaluator(contract.INTERPOLATED_DUPLICATE, metric, gene_set)
        between = dynamic_range(panel, metric, series, at, positive)
    beside = scaled(panel, metric, gene_set, series)
    status = status_of(metric, values[contract.TECH_DUPLICATE], at is not None, found, beside.discriminates)
    cross, dataset = _cross_line(panel, metric, gene_set)
    quartiles = np.nanpercentile(found.values, (25, 75)) if not np.isnan(found.values).all() else (np.nan, np.nan)
    many = metric.level == "perturbation"
    pair = panel.scores.pairs.get((metric.id, gene_set))
    genes = (np.nan, np.nan) if pair is None else panel.scores.gene_counts[pair]
    numbers = {
        "n_genes_median": genes[0], "n_genes_min": genes[1],
        **values, "base_value": np.nan if at is None else series.imputed[at], "cross_line": cross,
        "drf": found.median, "drf_low": found.low, "drf_high": found.high,
        "drf_mean": found.median if not many or np.isnan(found.median) else float(np.nanmean(found.values)),
        "drf_q25": quartiles[0] if many else np.nan, "drf_q75": quartiles[1] if many else np.nan,
        "drf_interpolated": between.median, "range_errors": beside.errors,
    }  # fmt: skip
    row = {
        "dataset": panel.dataset, "split": panel.split, "metric": metric.id, "gene_set": gene_set,
        "direction": metric.direction, "status": status, "n": int(duplicate.n[0]),
        "base": metric.base if at is not None else "", "cross_line_dataset": dataset,
        "discriminates": beside.discriminates,
        **tidied({name: np.array([value]) for name, value in numbers.items()}, 0),
    }  # fmt: skip
    half, full, free = (values[n] for n in (contract.TECH_DUPLICATE, contract.FULL_VS_FULL, contract.NOISE_FREE))
    return Ceilings(row, half, full, free, found.median, status)
