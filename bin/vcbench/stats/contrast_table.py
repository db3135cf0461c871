"""contrasts.tsv: paired differences of every combination to the best simple baseline and to the train mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vcbench.metrics import contract
from vcbench.metrics.registry import Metric
from vcbench.stats import bootstrap, contrasts
from vcbench.stats.numbers import named, row_statistic, standard_deviation, tidied, tidy
from vcbench.stats.panel import TRAIN_MEAN, Panel, Planned, Series

CONTRASTS = (
    "dataset", "split", "metric", "gene_set", "model", "encoder", "strategy", "reference_model", "reference_encoder",
    "reference_strategy", "difference", "ci_low", "ci_high", "p", "p_holm", "n", "detectable", "reference", "verdict",
    "interval", "n_clusters", "median_difference", "superiority", "p_signed_rank", "n_zero", "sd_difference",
    "p_bh", "fold_ci_low", "fold_ci_high",
)  # fmt: skip

#: Two kinds of reference; each is a family of its own for Holm's correction within metric, dataset and split.
BEST_BASELINE = "best_baseline"
ALPHA = 0.05


def best_baseline(metric: Metric, plan: Sequence[Planned], imputed: np.ndarray, negative: set[str]) -> int | None:
    """Return the position of the baseline combination with the best imputed value (M,), None without one.

    Baselines that are negative controls, or run on negative-control encoders, carry no information about the
    perturbation: choosing among them would only add the luck of the draw. `negative` names both.
    """
    better = 1 if metric.direction == "higher" else -1
    found = [
        (-tidy(better * imputed[m]), planned.of, m)
        for m, planned in enumerate(plan)
        if planned.kind == "baseline" and not negative & set(planned.of[:2]) and planned.units_ok
        and not np.isnan(imputed[m])
    ]  # fmt: skip
    # Ties go to the first name, so that the choice does not depend on the order of the plan.
    return min(found)[2] if found else None


def differences_to(
    model: np.ndarray, other: np.ndarray, denominator: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return differences (M, K) of numerators to a reference, their denominators (M, K), and their scale (M,).

    Only perturbations that both have count. The mean difference is sum(differences) / sum(denominators): denominators
    belong to the truth, so both sides share them. `model` (M, K), `other` and `denominator` (K,).
    """
    common = ~np.isnan(model) & ~np.isnan(other)
    # Single precision of predictions moves scores in the seventh digit: such differences are none.
    close = np.abs(model - other) <= contract.TOLERANCE * np.maximum(1.0, np.abs(other))
    differences = np.where(common, np.where(close, 0.0, model - other), np.nan)
    denominators = np.where(common, denominator, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.where(common, denominators, 0.0).sum(1) / common.sum(1)
    return differences, denominators, scale


def rows(panel: Panel, metric: Metric, gene_set: str, series: Series, negative: set[str]) -> list[dict[str, Any]]:
    """Return the contrasts of one metric and gene set; none for a metric without a direction."""
    if metric.direction not in ("higher", "lower"):
        return []
    train_mean = panel.position(TRAIN_MEAN)
    best = best_baseline(metric, panel.plan, series.imputed, negative)
    found = []
    for kind, reference in ((BEST_BASELINE, best), (TRAIN_MEAN, train_mean)):
        if reference is not None:
            found += _family(panel, metric, gene_set, series, kind, reference)
    return found


def _family(
    panel: Panel, metric: Metric, gene_set: str, series: Series, kind: str, reference: int
) -> list[dict[str, Any]]:
    """Return the contrasts to one reference, corrected for their number."""
    members = [m for m in range(len(panel.plan)) if m != reference]
    # A combination without any score is listed, not judged.
    judged = np.where(panel.scored[members, None], series.imputed_numerator[members], np.nan)
    differences, denominators, scale = differences_to(
        judged, series.imputed_numerator[reference], series.imputed_denominator[reference]
    )
    scaled = differences / scale[:, None]
    ci = bootstrap.intervals(differences, denominators, panel.groups, panel.weights)
    signed_rank, zeros = contrasts.signed_rank(scaled)
    p = contrasts.sign_flip(scaled, panel.groups, panel.flips)
    p_holm = contrasts.holm(p)
    tested = len({name for _, name in panel.rows})
    fold_low, fold_high = contrasts.fold_intervals(differences, denominators, panel.folds, tested)
    # Differences that cancel leave rounding noise, which is no difference.
    zero = np.abs(np.nansum(scaled, 1)) <= contrasts.ROUNDING * np.nansum(np.abs(scaled), 1)
    numbers: Mapping[str, np.ndarray] = {
        "difference": np.where(zero, 0.0, ci.estimate), "ci_low": ci.low, "ci_high": ci.high, "p": p, "p_holm": p_holm,
        "detectable": contrasts.DETECTABLE_ERRORS * ci.standard_error,
        "fold_ci_low": fold_low, "fold_ci_high": fold_high, "p_signed_rank": signed_rank,
        "median_difference": row_statistic(scaled, np.median), "superiority": contrasts.superiority(scaled),
        "sd_difference": row_statistic(scaled, standard_deviation, 2),
    }  # fmt: skip
    known = (~np.isnan(differences)).sum(1)
    found = []
    for i, m in enumerate(members):
        row = {
            "dataset": panel.dataset, "split": panel.split, "metric": metric.id, "gene_set": gene_set,
            **named(panel.plan[m].of), **named(panel.plan[reference].of, "reference_"), "n": int(known[i]),
            "reference": kind, "interval": ci.method[i], "n_zero": int(zeros[i]), "n_clusters": int(ci.n_clusters[i]),
            **tidied(numbers, i),
        }  # fmt: skip
        row["verdict"] = verdict(row, metric)
        found.append(row)
    return found


def adjust_across(found: Sequence[dict[str, Any]]) -> None:
    """Add `p_bh`: Benjamini-Hochberg over the Holm-adjusted p values of the contrasts to the best baseline.

    One family over all metrics, datasets and splits of the run; contrasts to the train mean are left out of it.
    """
    primary = [row for row in found if row["reference"] == BEST_BASELINE]
    adjusted = contrasts.benjamini_hochberg(np.array([row["p_holm"] for row in primary], dtype=float))
    for row in found:
        row["p_bh"] = np.nan
    for row, value in zip(primary, adjusted, strict=True):
        row["p_bh"] = tidy(value)


def verdict(row: Mapping[str, Any], metric: Metric) -> str:
    """Return better, worse or unresolved, from the corrected p value and the sign that is good for the metric."""
    if not row["p_holm"] < ALPHA:
        return "unresolved"
    return "better" if (row["difference"] > 0) == (metric.direction == "higher") else "worse"
