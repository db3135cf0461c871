"""selection.tsv: what a model scores when validation chose its encoder and strategy (metrics.md 10.3).

The best of many configurations looks better than it is. So each fold's configuration is the one that does best on the
fold's validation perturbations, and is judged on its test perturbations. The primary metric chooses for all metrics: it
is one model that a user would take, and its validation scores depend on no test cell and on no held-out control, which
the test scores of other metrics share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcbench.metrics.registry import Metric
from vcbench.stats import bootstrap, contrasts
from vcbench.stats.contrast_table import baselines, best, differences_to, verdict
from vcbench.stats.numbers import named, tidied
from vcbench.stats.panel import Panel, Series

SELECTION = (
    "dataset", "split", "metric", "gene_set", "model", "value", "ci_low", "ci_high", "interval", "n", "n_clusters",
    "n_configurations", "chosen", "chosen_by", "n_validation", "naive", "naive_encoder", "naive_strategy", "optimism",
    "reference_model", "reference_encoder", "reference_strategy", "difference", "difference_low", "difference_high",
    "p", "p_holm", "verdict", "status", "n_missing_pred", "n_missing_reference",
)  # fmt: skip


@dataclass(frozen=True)
class Choosing:
    """The scores that choose: M configurations of a plan over the V validation perturbations of all folds.

    `numerator` and `denominator` (M, V) with undefined predictions at no skill, NaN where the truth excludes the
    perturbation or a configuration predicted none of the fold; `folds` (V,); `higher` is better; `by` names metric and
    gene set.
    """

    numerator: np.ndarray
    denominator: np.ndarray
    folds: np.ndarray
    higher: bool
    by: str

    def n(self, folds: Sequence[int]) -> int:
        """Return how many perturbations choose in the fold with the fewest of them."""
        known = ~np.isnan(self.numerator).all(axis=0)
        return min((int(known[self.folds == fold].sum()) for fold in folds), default=0)

    def choose(self, members: Sequence[int], fold: int) -> int | None:
        """Return which of the `members` does best in a fold, None when none has a value.

        Ties, to 10 digits, go to the first.
        """
        at = self.folds == fold
        if not at.any():
            return None
        value = bootstrap.ratio(self.numerator[members][:, at], self.denominator[members][:, at])
        value = value if self.higher else -value
        if np.isnan(value).all():
            return None
        best = np.nanmax(value)
        return members[int(np.flatnonzero(value >= best - 1e-10 * max(1.0, abs(best)))[0])]


def choosing(validation: Panel, metric: Metric, gene_set: str) -> Choosing:
    """Return what chooses between the configurations of a panel: their scores of validation perturbations."""
    series = validation.series(metric, gene_set)
    numerator, denominator = series.imputed_numerator.copy(), series.imputed_denominator.copy()
    for fold in np.unique(validation.folds):
        at = validation.folds == fold
        unknown = np.ix_(series.no_prediction[:, at].all(axis=1), at)
        numerator[unknown], denominator[unknown] = np.nan, np.nan
    return Choosing(numerator, denominator, validation.folds, metric.direction == "higher", metric.column(gene_set))


def honest(
    numerator: np.ndarray, denominator: np.ndarray, folds: np.ndarray, chosen: dict[int, int | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Return (K,) numerators and denominators, each fold from the row of (M, K) chosen for it."""
    top, bottom = np.full(len(folds), np.nan), np.full(len(folds), np.nan)
    for fold, row in chosen.items():
        if row is not None:
            top[folds == fold], bottom[folds == fold] = numerator[row, folds == fold], denominator[row, folds == fold]
    return top, bottom


def rows(
    panel: Panel, metric: Metric, gene_set: str, series: Series, negative: set[str], chooses: Choosing
) -> list[dict[str, Any]]:
    """Return one row per model: its score when validation chooses, the optimism of the naive maximum, and the contrast.

    Configurations on negative controls are no candidates. Intervals and tests hold the choices fixed. The reference
    is the best simple baseline as in contrasts.tsv, chosen in hindsight, which favours it. Holm over the models.
    """
    if metric.direction not in ("higher", "lower"):
        return []
    candidates = defaultdict(list)
    for m, planned in enumerate(panel.plan):
        if not negative & set(planned.of[:2]):
            candidates[planned.of[0]].append(m)
    higher = metric.direction == "higher"
    models = sorted(candidates)
    size = (len(models), len(panel.rows))
    top, bottom = np.full(size, np.nan), np.full(size, np.nan)
    simple = baselines(panel.plan, series, negative)
    reference = best(metric, panel.plan, series.imputed, simple)
    own = np.zeros(len(models), dtype=bool)  # the reference itself, found again: no contrast
    texts, naive, statuses, missing = [], np.full(len(models), np.nan), [], []
    of_naive: list[tuple[str, str, str]] = []
    folds = np.unique(panel.folds).tolist()
    for i, model in enumerate(models):
        members = [m for m in candidates[model] if panel.scored[m]]
        # a single candidate needs no choice
        found = {
            fold: (members[0] if len(members) == 1 else chooses.choose(members, fold)) if members else None
            for fold in folds
        }
        status = "ok"
        if not members:
            status = "not_scored"
        elif None in found.values() or not found:
            status = "no_validation"  # nothing to choose on
        else:
            top[i], bottom[i] = honest(series.imputed_numerator, series.imputed_denominator, panel.folds, found)
        values = series.imputed[members]
        known = not np.isnan(values).all()
        at = int(np.nanargmax(values if higher else -values)) if known else -1
        naive[i] = values[at] if known else np.nan
        of_naive.append(panel.plan[members[at]].of if known else (model, "", ""))
        unanswered = [
            int(series.missing[row, panel.folds == fold].sum()) for fold, row in found.items()
            if status == "ok" and row is not None
        ]  # fmt: skip
        missing.append(sum(unanswered))
        texts.append(_text(panel, found) if status == "ok" else "")
        own[i] = status == "ok" and all(row == reference for row in found.values())
        statuses.append(status)
    ci = bootstrap.intervals(top, bottom, panel.groups, panel.weights)
    compared = _compared(panel, series, np.where(own[:, None], np.nan, top), reference)
    optimism = (naive - ci.estimate) * (1 if higher else -1)
    # The same numbers added in another order are no optimism.
    optimism[np.abs(optimism) <= 1e-12 * np.maximum(1.0, np.abs(naive))] = 0.0
    numbers = {"value": ci.estimate, "ci_low": ci.low, "ci_high": ci.high, "naive": naive, "optimism": optimism,
               **compared}  # fmt: skip
    names = (
        named(panel.plan[reference].of, "reference_") if reference is not None else named(("", "", ""), "reference_")
    )
    result, n_validation = [], chooses.n(folds)
    for i, model in enumerate(models):
        row = {
            "dataset": panel.dataset, "split": panel.split, "metric": metric.id, "gene_set": gene_set, "model": model,
            "interval": ci.method[i], "n": int((~np.isnan(top[i])).sum()), "n_clusters": int(ci.n_clusters[i]),
            "n_configurations": len(candidates[model]), "chosen": texts[i],
            "chosen_by": chooses.by if statuses[i] == "ok" and len(candidates[model]) > 1 else "",
            "n_validation": n_validation, "naive_encoder": of_naive[i][1],
            "naive_strategy": of_naive[i][2], "status": statuses[i], "n_missing_pred": missing[i],
            "n_missing_reference": 0 if reference is None else int(series.missing[reference][~np.isnan(top[i])].sum()),
            **names, **tidied(numbers, i),
        }  # fmt: skip
        row["verdict"] = verdict({**row, "n_references": len(simple)}, metric)
        result.append(row)
    return result


def _compared(panel: Panel, series: Series, top: np.ndarray, reference: int | None) -> dict[str, np.ndarray]:
    """Return the columns of the contrasts of (M, K) honest numerators with a combination of the plan."""
    nothing = np.full(len(top), np.nan)
    if reference is None:
        return dict.fromkeys(("difference", "difference_low", "difference_high", "p", "p_holm"), nothing)
    differences, denominators, scale = differences_to(
        top, series.imputed_numerator[reference], series.imputed_denominator[reference]
    )
    ci = bootstrap.intervals(differences, denominators, panel.groups, panel.weights)
    p = contrasts.sign_flip(differences / scale[:, None], panel.groups, panel.flips, bounded=True)
    return {"difference": ci.estimate, "difference_low": ci.low, "difference_high": ci.high, "p": p,
            "p_holm": contrasts.holm(p)}  # fmt: skip


def _text(panel: Panel, chosen: dict[int, int | None]) -> str:
    """Return the chosen configurations, ``fold:encoder.strategy``."""
    named_ = {fold: panel.plan[row].of[1:] for fold, row in chosen.items() if row is not None}
    return ";".join(f"{fold}:{encoder}.{strategy}" for fold, (encoder, strategy) in sorted(named_.items()))
