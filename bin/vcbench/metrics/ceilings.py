"""Ceilings of the evaluator beside the split-half duplicate: what could be reached, and by what (metrics.md 6.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vcbench.core.errors import InputError
from vcbench.metrics import contract, extras, genewise, half_cells, scoring
from vcbench.metrics.bundle import FoldTruth, TruthBundle
from vcbench.metrics.comparison import Predicted
from vcbench.metrics.registry import Metric

#: Status of a ceiling that does not exist because replicates do not agree at all.
NO_SIGNAL = "no_signal"


def step_up(half: float, replicate: str) -> tuple[float, float]:
    """Return what two full-size replicates and a predictor without noise score, from half against half.

    Correlations r_h > 0: Spearman-Brown r_1 = 2 r_h / (1 + r_h), without noise sqrt(r_1). Squared errors: MSE / 2 and,
    against the full truth, MSE / 4 (metrics.md 6.5). NaN for other metrics and correlations that are not positive.
    """
    if replicate == "spearman_brown" and half > 0:
        full = 2 * half / (1 + half)
        return full, float(np.sqrt(full))
    if replicate == "halve":
        return half / 2, half / 4
    return np.nan, np.nan


def genewise_reliability(bundle: TruthBundle) -> float:
    """Return the mean over eligible genes of between-perturbation variance / (that + mean sampling variance).

    The denominator is the variance of the measured profiles, folds centred (metrics.md 10.5); a gene whose measured
    variance is below its sampling variance counts 0. NaN without genes or with too few perturbations.
    """
    axis = np.flatnonzero(bundle.eligible)
    usable = [fold.n_cells >= contract.MIN_CELLS_PROFILE for fold in bundle.folds]
    folds = np.concatenate([np.full(use.sum(), fold.fold) for fold, use in zip(bundle.folds, usable, strict=True)])
    freedom = len(folds) - len(set(folds.tolist()))
    if not len(axis) or freedom < 2:
        return np.nan
    profiles, sampling = (
        np.concatenate([getattr(fold, name)[use][:, axis] for fold, use in zip(bundle.folds, usable, strict=True)])
        for name in ("profile", "variance")
    )
    measured = (genewise.centred(profiles, folds) ** 2).sum(0) / freedom
    used = measured > 0
    if not used.any():
        return np.nan
    return float(np.maximum(0.0, 1 - sampling.mean(0)[used] / measured[used]).mean())


def add_full_size(
    bundle: TruthBundle, metrics: Mapping[str, Metric], duplicate: Sequence[tuple[Any, ...]], full: scoring.Rows,
    noise_free: scoring.Rows,
) -> None:  # fmt: skip
    """Add one row over all folds per metric to `full_vs_full` and `noise_free`, from the rows of `tech_duplicate`.

    Gene-wise correlations have the reliability per gene instead of the step up of their mean.
    """
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in duplicate:
        found.setdefault((row[8], row[9]), []).append((row[2], row[10]))
    for metric, gene_set in scoring.reported(bundle, metrics):
        name = scoring.set_name(bundle, gene_set)
        if not metric.replicate or (metric.id, name) not in found:
            continue
        rows = found[metric.id, name]
        values = [value for fold, value in rows if (fold == contract.ALL_FOLDS) == metric.over_folds]
        known = [value for value in values if not np.isnan(value)]
        half = float(np.mean(known)) if known else np.nan
        one, free = step_up(half, metric.replicate)
        if metric.function == "genewise.pearson_within_folds" and known:
            one = genewise_reliability(bundle)
            one, free = (one, float(np.sqrt(one))) if one > 0 else (np.nan, np.nan)
        status = "few_cells" if not known else NO_SIGNAL if np.isnan(one) else contract.OK
        for collector, value in ((full, one), (noise_free, free)):
            collector.add(contract.ALL_FOLDS, "", metric.id, name, value, status=status, n_perturbations=len(known),
                          n_folds=len(bundle.folds))  # fmt: skip


def add_perfect_copy(bundle: TruthBundle, metrics: Mapping[str, Metric], rows: scoring.Rows) -> None:
    """Add the scores of the measured profiles as their own prediction: does a metric attain its optimum?

    Control-referenced deltas and sets of significant genes fall short of 1 by the noise of the two control halves;
    `nmse_ctrl` is not above 0.
    """
    predictions = {}
    for fold in bundle.folds:
        known = ~np.isnan(fold.profile).any(axis=1)
        predictions[fold.fold] = Predicted(
            fold.profile, np.zeros_like(fold.profile), known.astype(np.int64), half_cells.whole(fold)
        )
    scoring.score_combination(bundle, predictions, scoring.without_xfit(metrics), rows, 0, nulls=False)


def context_mean(fold: FoldTruth) -> np.ndarray:
    """Return (G,) the training control plus the mean change of the measured test perturbations (metrics.md 6.1).

    Each gene leaves out the perturbations that target it; a gene that all of them target keeps the control's value.
    Changes are against the held-out controls. NaN without any test perturbation of enough cells.
    """
    used = (fold.n_cells >= contract.MIN_CELLS_PROFILE) & ~np.isnan(fold.profile).any(axis=1)
    if not used.any():
        return np.full(len(fold.control_b), np.nan)
    counted = np.repeat(used[:, None], len(fold.control_b), axis=1)
    for row, targets in enumerate(fold.targets):
        counted[row, targets] = False
    total = np.where(counted, fold.profile - fold.control_a, 0.0).sum(axis=0)
    return fold.control_b + total / np.maximum(counted.sum(axis=0), 1)


def add_context_mean(bundle: TruthBundle, metrics: Mapping[str, Metric], rows: scoring.Rows) -> None:
    """Add what the mean of the test perturbations scores as prediction for each of them: it has seen the answers."""
    predictions = {}
    for fold in bundle.folds:
        profile = np.tile(context_mean(fold), (len(fold.ids), 1))
        known = ~np.isnan(profile).any(axis=1)
        predictions[fold.fold] = Predicted(profile, np.zeros_like(profile), known.astype(np.int64))
    scoring.score_combination(bundle, predictions, scoring.without_xfit(metrics), rows, 0, nulls=False)


def interpolated(fold: FoldTruth, side: int) -> Predicted:
    """Return half `side` (0 or 1) of the first split as prediction, drawn towards the training mean.

    Per gene p = alpha * mean of the half + (1 - alpha) * training mean, alpha = 1 - p_adj of the half against the rest
    of the perturbed cells (metrics.md 4.8). Raises :class:`InputError` for a truth read from a file, which has no
    alpha.
    """
    if fold.duplicate_alpha is None:
        raise InputError("no weights of the interpolated duplicate", where="truth bundle")
    half = scoring.half_truths(fold, 0)[side]
    alpha = fold.duplicate_alpha[side]
    mean = np.where(alpha > 0, alpha * np.nan_to_num(half.profile), 0.0) + (1 - alpha) * fold.train_mean
    known = ~np.isnan(half.profile).any(axis=1)
    # Not the mean of a sample of cells any more: no sampling variance is credited.
    return Predicted(np.where(known[:, None], mean, np.nan), np.zeros_like(mean), known.astype(np.int64))


def add_interpolated(bundle: TruthBundle, metrics: Mapping[str, Metric], rows: scoring.Rows) -> None:
    """Add the interpolated duplicate: each half of the first split predicts the other, the mean of both."""
    parts = []
    for side in (0, 1):
        part = scoring.Rows(rows.dataset, rows.split, rows.model)
        truths = tuple(scoring.half_truths(fold, 0)[1 - side] for fold in bundle.folds)
        predictions = {fold.fold: interpolated(fold, side) for fold in bundle.folds}
        scoring.score_combination(
            replace(bundle, folds=truths), predictions, scoring.without_xfit(metrics), part, 0, nulls=False
        )
        parts.append(part)
    rows.rows += scoring.means(parts)


def add_bootstrap(bundle: TruthBundle, metrics: Mapping[str, Metric], rows: scoring.Rows) -> None:
    """Add the mean scores of cells drawn with replacement from the measured ones, as many as there are.

    They share cells with the truth: only one sampling variance lies between the two, that of the truth, and no second
    one is subtracted. Optimistic, an upper bound at most; metrics of cells have none.
    """
    metrics = {name: metric for name, metric in scoring.without_xfit(metrics).items() if not metric.cells
               and metric.group != extras.VCC and not metric.log_of_mean}  # fmt: skip
    parts = []
    for draw in range(len(bundle.folds[0].extras.bootstrap)):
        part = scoring.Rows(rows.dataset, rows.split, rows.model)
        predictions = {
            fold.fold: Predicted(fold.extras.bootstrap[draw], np.zeros_like(fold.profile), fold.n_cells)
            for fold in bundle.folds
        }
        scoring.score_combination(bundle, predictions, metrics, part, 0, nulls=False)
        parts.append(part)
    rows.rows += scoring.means(parts)


def rows_of(bundle: TruthBundle, metrics: Mapping[str, Metric]) -> list[tuple[Any, ...]]:
    """Return the rows of all ceilings of a truth, the split-half duplicate first, and of the mean of test truths."""

    def collector(name: str) -> scoring.Rows:
        return scoring.Rows(bundle.facts["dataset"], bundle.facts["split"], name)

    duplicate, full, free, copy, mean, between, drawn = (
        collector(name)
        for name in (contract.TECH_DUPLICATE, contract.FULL_VS_FULL, contract.NOISE_FREE, contract.PERFECT_COPY,
                     contract.CE2_CONTEXT_MEAN, contract.INTERPOLATED_DUPLICATE, contract.BOOTSTRAP_DUPLICATE)
    )  # fmt: skip
    scoring.add_tech_duplicate(bundle, metrics, duplicate)
    add_full_size(bundle, metrics, duplicate.rows, full, free)
    add_perfect_copy(bundle, metrics, copy)
    add_context_mean(bundle, metrics, mean)
    if all(fold.duplicate_alpha is not None for fold in bundle.folds):
        add_interpolated(bundle, metrics, between)
    if all(fold.extras.bootstrap is not None for fold in bundle.folds):
        add_bootstrap(bundle, metrics, drawn)
    return [*duplicate.rows, *full.rows, *free.rows, *copy.rows, *mean.rows, *between.rows, *drawn.rows]
