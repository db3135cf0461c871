"""contrasts.tsv: paired differences to the best simple baseline, the train mean, and the model on a control input."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from vcbench.core.units import NO_ENCODER
from vcbench.metrics import contract
from vcbench.metrics.registry import Metric
from vcbench.stats import bootstrap, contrasts
from vcbench.stats.numbers import named, row_statistic, standard_deviation, tidied, tidy
from vcbench.stats.panel import TRAIN_MEAN, Panel, Planned, Series

CONTRASTS = (
    "dataset", "split", "metric", "gene_set", "model", "encoder", "strategy", "reference_model", "reference_encoder",
    "reference_strategy", "difference", "ci_low", "ci_high", "p", "p_holm", "n", "detectable", "reference", "verdict",
    "interval", "n_clusters", "median_difference", "superiority", "p_signed_rank", "n_zero", "sd_difference",
    "p_bh", "fold_ci_low", "fold_ci_high", "n_references", "n_missing_pred", "n_missing_reference",
)  # fmt: skip

#: Kinds of reference; each is a family of its own for Holm's correction within metric, dataset and split. The third is
#: the same model on the negative-control encoder with which it does best (headline metrics only).
BEST_BASELINE = "best_baseline"
CONTROL_INPUT = "control_input"
#: Every two models (`vcb_evaluate.py` only).
PAIR = "pair"
ALPHA = 0.05


def baselines(plan: Sequence[Planned], series: Series, negative: set[str]) -> list[int]:
    """Return the positions of the baseline combinations that predicted something and have a value, imputed or not.

    Baselines that are negative controls, or run on negative-control encoders, carry no information about the
    perturbation: choosing among them would only add the luck of the draw. `negative` names both.
    """
    return [
        m for m, planned in enumerate(plan)
        if planned.kind == "baseline" and not negative & set(planned.of[:2]) and planned.units_ok
        and not np.isnan(series.imputed[m])
        and not series.no_prediction[m, ~np.isnan(series.imputed_numerator[m])].all()
    ]  # fmt: skip


def best(metric: Metric, plan: Sequence[Planned], imputed: np.ndarray, members: Sequence[int]) -> int | None:
    """Return which of the `members` of the plan has the best imputed value (M,), None without one.

    Ties go to the first name, so that the choice does not depend on the order of the plan.
    """
    better = 1 if metric.direction == "higher" else -1
    return min(((-tidy(better * imputed[m]), plan[m].of, m) for m in members), default=(0, 0, None))[2]


def control_inputs(panel: Panel, metric: Metric, imputed: np.ndarray, negative: set[str]) -> dict[int, tuple[int, int]]:
    """Return for each combination on an encoder the same model on its best negative-control encoder, and of how many.

    `imputed` (M,). Combinations on control encoders, or of models without one, have no entry.
    """
    controls: dict[str, list[int]] = {}
    for m, planned in enumerate(panel.plan):
        if planned.of[1] in negative and planned.units_ok and not np.isnan(imputed[m]):
            controls.setdefault(planned.of[0], []).append(m)
    found = {}
    for m, planned in enumerate(panel.plan):
        members = controls.get(planned.of[0], [])
        reference = best(metric, panel.plan, imputed, members)
        if reference is not None and planned.of[1] not in negative and planned.of[1] != NO_ENCODER:
            found[m] = (reference, len(members))
    return found


def differences_to(
    model: np.ndarray, other: np.ndarray, denominator: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return differences (M, K) of numerators to a reference, their denominators (M, K), and their scale (M,).

    Only perturbations that both have count. The mean difference is sum(differences) / sum(denominators): denominators
    belong to the truth, so both sides share them. `model` (M, K), `other` and `denominator` (K,) or (M, K).
    """
    common = ~np.isnan(model) & ~np.isnan(other)
    # Single precision of predictions moves scores in the seventh digit: such differences are none.
    close = np.abs(model - other) <= contract.TOLERANCE * np.maximum(1.0, np.abs(other))
    differences = np.where(common, np.where(close, 0.0, model - other), np.nan)
    denominators = np.where(common, denominator, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.where(common, denominators, 0.0).sum(1) / common.sum(1)
    return differences, denominators, scale


def rows(
    panel: Panel, metric: Metric, gene_set: str, series: Series, negative: set[str],
    judged: Collection[int] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the contrasts of one metric and gene set; none for a metric without a direction.

    With `judged`, positions in the plan, those alone are compared with the references, and Holm's families are theirs.
    """
    if metric.direction not in ("higher", "lower"):
        return []
    entries = range(len(panel.plan)) if judged is None else sorted(judged)
    candidates = baselines(panel.plan, series, negative)
    families: dict[str, dict[int, tuple[int, int]]] = {}
    for kind, reference, n in (
        (BEST_BASELINE, best(metric, panel.plan, series.imputed, candidates), len(candidates)),
        (TRAIN_MEAN, panel.position(TRAIN_MEAN), 1),
    ):
        if reference is not None:
            families[kind] = {m: (reference, n) for m in entries if m != reference}
    if gene_set in metric.headline and judged is None:
        families[CONTROL_INPUT] = control_inputs(panel, metric, series.imputed, negative)
    return [
        row
        for kind, references in families.items() if references
        for row in _family(panel, metric, gene_set, series, kind, [(m, *of) for m, of in references.items()])
    ]  # fmt: skip


def pairs(panel: Panel, metric: Metric, gene_set: str, series: Series, judged: Sequence[int]) -> list[dict[str, Any]]:
    """Return the contrasts of each of the `judged` (positions in the plan) with every other one of them and with all
    other combinations, each pair once; Holm over all of them. None for a metric without a direction.
    """
    others = [m for m in range(len(panel.plan)) if m not in set(judged)]
    found = [
        (m, reference, 1) for i, m in enumerate(judged) for reference in (*judged[i + 1 :], *others)
        if panel.scored[reference]
    ]  # fmt: skip
    if metric.direction not in ("higher", "lower") or not found:
        return []
    return _family(panel, metric, gene_set, series, PAIR, found)


def _family(
    panel: Panel, metric: Metric, gene_set: str, series: Series, kind: str, compared: Sequence[tuple[int, int, int]]
) -> list[dict[str, Any]]:
    """Return contrasts of combinations (position, that of the reference, one of how many), Holm over all of them."""
    members, against, n_references = (list(column) for column in zip(*compared, strict=True))
    # A combination without any score is listed, not judged.
    judged = np.where(panel.scored[members, None], series.imputed_numerator[members], np.nan)
    differences, denominators, scale = differences_to(
        judged, series.imputed_numerator[against], series.imputed_denominator[against]
    )
    scaled = differences / scale[:, None]
    ci = bootstrap.intervals(differences, denominators, panel.groups, panel.weights)
    signed_rank, zeros = contrasts.signed_rank(scaled)
    p = contrasts.sign_flip(scaled, panel.groups, panel.flips, bounded=True)
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
    common = ~np.isnan(differences)
    known = common.sum(1)
    missing, of_reference = ((common & series.missing[side]).sum(1) for side in (members, against))
    found = []
    for i, m in enumerate(members):
        row = {
            "dataset": panel.dataset, "split": panel.split, "metric": metric.id, "gene_set": gene_set,
            **named(panel.plan[m].of), **named(panel.plan[against[i]].of, "reference_"), "n": int(known[i]),
            "reference": kind, "interval": ci.method[i], "n_zero": int(zeros[i]), "n_clusters": int(ci.n_clusters[i]),
            "n_references": n_references[i], "n_missing_pred": int(missing[i]),
            "n_missing_reference": int(of_reference[i]), **tidied(numbers, i),
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
    """Return better, worse or unresolved, from the corrected p value and the sign that is good for the metric.

    A reference that is the best of `n_references` looks better than it is. That makes `better` conservative; for
    `worse` the corrected p value is multiplied by their number (any of them may have been the lucky one).
    """
    if not row["p_holm"] < ALPHA:
        return "unresolved"
    if (row["difference"] > 0) == (metric.direction == "higher"):
        return "better"
    return "worse" if row["p_holm"] * row["n_references"] < ALPHA else "unresolved"
