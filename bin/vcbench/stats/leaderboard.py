"""leaderboard.tsv: one row per planned combination, metric and gene set, also for those without any value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vcbench.metrics import gene_values
from vcbench.metrics.registry import Metric
from vcbench.stats import bootstrap, ceilings
from vcbench.stats.ceilings import Ceilings
from vcbench.stats.numbers import named, row_statistic, standard_deviation, tidied
from vcbench.stats.panel import Panel, Series
from vcbench.stats.scaled import scaled
from vcbench.stats.scores import Combination

LEADERBOARD = (
    "dataset", "split", "model", "encoder", "strategy", "metric", "gene_set", "value", "ci_low", "ci_high", "n",
    "n_expected", "value_imputed", "median", "sd", "n_nan", "reasons", "null_mean", "null_low", "null_high", "ceiling",
    "ceiling_full", "interval", "n_clusters", "n_seeds", "seed_sd", "units_ok", "units_planned",
    "scaled", "discriminates", "ceiling_noise_free", "of_ceiling", "corrected", "drf", "metric_status",
    "n_missing_pred",
)  # fmt: skip


def within(values: np.ndarray, metric: Metric) -> np.ndarray:
    """Return ends of intervals cut to what the metric can be: t intervals of few values reach beyond it."""
    low, high = metric.range
    return np.clip(values, -np.inf if low is None else low, np.inf if high is None else high)


def null(panel: Panel, metric: Metric, gene_set: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (M,) mean, 2.5 % and 97.5 % point of the shuffled-label values, seeds averaged per permutation."""
    where, _ = panel.scores.at([p.of for p in panel.plan], [p.seeds for p in panel.plan])
    pair = panel.scores.pairs.get((metric.id, gene_set))
    if pair is None or not panel.scores.permuted.shape[-1]:
        nothing = np.full(len(panel.plan), np.nan)
        return nothing, nothing.copy(), nothing.copy()
    values = np.where((where >= 0)[..., None], panel.scores.permuted[pair][where], np.nan)
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means = np.where(known, values, 0.0).sum(0) / known.sum(0)
    low, high = bootstrap.percentiles(means, (2.5, 97.5))
    return row_statistic(means, np.mean), low, high


def share(panel: Panel, series: Series, ceiling: float) -> np.ndarray:
    """Return (M,) value / ceiling, undefined predictions at no skill, never cut at 1; NaN unless the ceiling is > 0."""
    return np.where(panel.scored, series.imputed, np.nan) / (ceiling if ceiling > 0 else np.nan)


def rows(
    panel: Panel, metric: Metric, gene_set: str, series: Series, limits: Ceilings | None = None,
    over_genes: Mapping[tuple[str, Combination], tuple[float, float]] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the rows of one metric and gene set; `limits` are its ceilings, built here unless given.

    `over_genes` are median and standard deviation of gene-wise metrics over genes; without them these stay empty.
    """
    limits = limits or ceilings.build(panel, metric, gene_set, series)
    size = len(panel.plan)
    ci = bootstrap.intervals(series.numerator, series.denominator, panel.groups, panel.weights)
    null_mean, null_low, null_high = null(panel, metric, gene_set)
    n_expected = panel.expected(panel.plan).sum(1)
    beside = scaled(panel, metric, gene_set, series)
    by_gene = metric.id in gene_values.METRICS
    spread = series.numerator if metric.level == "perturbation" and not by_gene else np.full((size, 0), np.nan)
    middle, deviation = row_statistic(spread, np.median), row_statistic(spread, standard_deviation, 2)
    if by_gene:
        known = [(over_genes or {}).get((metric.id, planned.of), (np.nan, np.nan)) for planned in panel.plan]
        middle, deviation = np.array(known).reshape(-1, 2).T
    numbers: Mapping[str, np.ndarray] = {
        "value": series.value, "ci_low": within(ci.low, metric), "ci_high": within(ci.high, metric),
        "value_imputed": np.where(panel.scored, series.imputed, np.nan),
        "median": middle, "sd": deviation,
        "null_mean": null_mean, "null_low": null_low, "null_high": null_high,
        "ceiling": np.full(size, limits.half), "ceiling_full": np.full(size, limits.full),
        "ceiling_noise_free": np.full(size, limits.noise_free), "drf": np.full(size, limits.drf),
        "of_ceiling": share(panel, series, limits.half),
        # a correlation divided by that of a predictor without noise: corrected for attenuation, not cut at 1
        "corrected": share(panel, series, limits.noise_free if metric.replicate == "spearman_brown" else np.nan),
        "seed_sd": row_statistic(series.seed_values, standard_deviation, 2), "scaled": beside.value,
    }  # fmt: skip
    return [
        {
            "dataset": panel.dataset, "split": panel.split, **named(planned.of), "metric": metric.id,
            "gene_set": gene_set, "n": int(series.n[m]), "n_expected": int(n_expected[m]),
            "n_nan": int(n_expected[m] - series.n[m]),
            "reasons": ";".join(f"{name}:{count}" for name, count in sorted(series.reasons[m].items())),
            "interval": ci.method[m], "n_clusters": int(ci.n_clusters[m]), "n_seeds": len(planned.seeds),
            "units_ok": planned.units_ok, "units_planned": planned.units, "discriminates": beside.discriminates,
            "metric_status": limits.status, "n_missing_pred": int(series.missing[m].sum()), **tidied(numbers, m),
        }
        for m, planned in enumerate(panel.plan)
    ]  # fmt: skip


def in_plan_order(found: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return rows given per metric as rows per combination, metrics within it."""
    return [row for rows_of_one in zip(*found, strict=True) for row in rows_of_one]
