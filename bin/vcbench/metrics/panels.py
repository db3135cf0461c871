"""Metrics over perturbations from predicted cells, doubles or classes (metrics.md 2.7, 2.11, 2.15)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vcbench.metrics import contract, de_sets, distribution, genewise, interactions
from vcbench.metrics.bundle import FoldTruth
from vcbench.metrics.comparison import Predicted
from vcbench.metrics.genewise import Genewise

Features = Callable[[FoldTruth, Predicted, str], tuple[np.ndarray, np.ndarray]]


# ---------------------------------------------------------------------------------------------------------------------
# The metrics: (K, F) true and predicted features, the fold of each row -> value and terms


def edist_pearson(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray, terms: bool = True) -> Genewise:
    """Pearson over perturbations of (K, 1) energy distances to the controls, centred within each fold."""
    return genewise.correlation(true, predicted, folds, genewise.MIN_PERTURBATIONS, "single_pert", terms)


def de_nsig_spearman(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray, terms: bool = True) -> Genewise:
    """Rank correlation over perturbations of (K, 1) numbers of significant genes, within each fold."""
    return genewise.effect_rank(true, predicted, folds, terms)


def _over_pairs(
    true: np.ndarray, predicted: np.ndarray, folds: np.ndarray, terms: bool, of: Callable[..., float]
) -> Genewise:
    """Return the mean over folds of a metric of (double, gene) pairs; `true` holds 1 for an interaction, else 0.

    Folds without an interaction have none; the jack-knife leaves out one double at a time.
    """
    undefined = np.full(len(true), np.nan)
    if not len(true):
        return Genewise(np.nan, undefined, 0, "missing_pred")

    def one(fold: int, left: np.ndarray) -> float:
        at = left & (folds == fold)
        positive = true[at].ravel() > 0
        return of(predicted[at].ravel(), positive) if positive.any() else np.nan

    def mean(found: list[float]) -> float:
        known = [value for value in found if not np.isnan(value)]
        return float(np.mean(known)) if known else np.nan

    every, numbers = np.ones(len(true), dtype=bool), np.unique(folds).tolist()
    by_fold = [one(fold, every) for fold in numbers]
    value = mean(by_fold)
    if np.isnan(value):
        return Genewise(np.nan, undefined, 0, "no_de")
    if not terms:
        return Genewise(value, undefined, true.shape[1], contract.OK)
    found = np.full(len(true), np.nan)
    left = every.copy()
    for k, fold in enumerate(folds):
        left[k] = False
        without = [one(fold, left) if fold == number else known for number, known in zip(numbers, by_fold, strict=True)]
        left[k] = True
        # A double that alone holds the interactions of all folds leaves nothing: it counts as unchanged.
        gone = mean(without)
        found[k] = value if np.isnan(gone) else value + (len(true) - 1) * (value - gone)
    return Genewise(value, found, true.shape[1], contract.OK)


def _at(proportion: float) -> Callable[..., Genewise]:
    def metric(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray, terms: bool = True) -> Genewise:
        return _over_pairs(
            true, predicted, folds, terms, lambda score, positive: interactions.tpr_at(score, positive, proportion)
        )

    metric.__doc__ = f"Share of interactions found at a false discovery proportion of {proportion:g}, mean over folds."
    return metric


gi_tpr_fdp_10, gi_tpr_fdp_20, gi_tpr_fdp_50 = (_at(proportion) for proportion in interactions.PROPORTIONS)


def gi_ap(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray, terms: bool = True) -> Genewise:
    """Average precision of predicted deviations for measured interactions, mean over folds."""
    return _over_pairs(true, predicted, folds, terms, interactions.interaction_ap)


def phenotype_auc(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray, terms: bool = True) -> Genewise:
    """Share of pairs (damaging, harmless) of a fold in which the damaging one is nearer to its prototype, ties half.

    `true` (K, 1) is 1 for damaging perturbations, else 0; `predicted` (K, 1) distance to the harmless prototype minus
    distance to the damaging one. Differences of rounding are ties.
    """
    undefined = np.full(len(true), np.nan)
    damaging = true[:, 0] > 0
    scale = float(np.abs(predicted).max(initial=0.0)) or 1.0
    score = np.round(predicted[:, 0] / scale, 9)
    won, pairs = np.zeros((2, len(true)))
    for fold in np.unique(folds):
        yes, no = (np.flatnonzero((folds == fold) & side) for side in (damaging, ~damaging))
        wins = (score[yes][:, None] > score[no]) + 0.5 * (score[yes][:, None] == score[no])
        won[yes], won[no] = wins.sum(axis=1), wins.sum(axis=0)
        pairs[yes], pairs[no] = len(no), len(yes)
    total, n = won[damaging].sum(), pairs[damaging].sum()
    if not n:
        return Genewise(np.nan, undefined, 0, "single_pert")
    value = float(total / n)
    if not terms:
        return Genewise(value, undefined, 1, contract.OK)
    # A perturbation that takes part in every pair leaves nothing: it counts as unchanged.
    with np.errstate(invalid="ignore", divide="ignore"):
        without = np.where(n > pairs, (total - won) / (n - pairs), value)
    return Genewise(value, value + (len(true) - 1) * (value - without), 1, contract.OK)


# ---------------------------------------------------------------------------------------------------------------------
# What they are computed from: a fold and its predictions -> (K, F) of truth and prediction, NaN rows where undefined


def _effects(fold: FoldTruth, predicted: Predicted, gene_set: str) -> tuple[np.ndarray, np.ndarray]:
    space, k = fold.extras.cells, len(fold.ids)
    true = distribution.effects([space.coordinates[space.owner == row] for row in range(k)], space.control)
    if predicted.cells is None:
        return true, np.full((k, 1), np.nan)
    found = distribution.effects(list(predicted.cells.coordinates), space.control)
    return true, np.where(predicted.cells.usable[:, None], found, np.nan)


def _numbers(fold: FoldTruth, predicted: Predicted, gene_set: str) -> tuple[np.ndarray, np.ndarray]:
    true = de_sets.true_sets(fold, gene_set).sum(axis=1).astype(np.float64)[:, None]
    true[fold.n_cells < contract.MIN_CELLS_DE] = np.nan
    found = np.full(true.shape, np.nan)
    for row, index in enumerate(fold.gene_set(gene_set).index):
        if predicted.cells is not None and predicted.cells.testable[row]:
            found[row] = de_sets.predicted_set(predicted.cells, row)[index].sum()
    return true, found


def _deviations(fold: FoldTruth, predicted: Predicted, gene_set: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (K, genes) whether a gene of a double deviates upwards, and the predicted deviation."""
    doubles, n = fold.extras.doubles, len(interactions.top_genes(fold))
    true, found = np.full((2, len(fold.ids), n), np.nan)
    measured = interactions.observed(fold).deviation
    true[doubles.row] = np.where(np.isnan(measured), np.nan, measured > doubles.upper)
    found[doubles.row] = interactions.forecast(fold, predicted).deviation
    return true, found


def _phenotype(fold: FoldTruth, predicted: Predicted, gene_set: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (K, 1) classes, NaN without one or without prototypes of both, and how much nearer the damaging one is."""
    of = fold.extras.classes
    number = of.names.tolist().index(gene_set.partition("@")[2])
    axis = genewise.panel_axis(fold, "expr_nt")
    prototypes = of.prototypes[number][:, axis]
    true = np.where(np.isnan(prototypes).any(), np.nan, of.damaging[number])[:, None]
    harmless, damaging = (((predicted.mean[:, axis] - one) ** 2).mean(axis=1) for one in prototypes)
    return true, (harmless - damaging)[:, None]


FEATURES: dict[str, Features] = {
    "phenotype_auc": _phenotype,
    "edist_pearson": _effects,
    "de_nsig_spearman": _numbers,
    "gi_tpr_fdp_10": _deviations,
    "gi_tpr_fdp_20": _deviations,
    "gi_tpr_fdp_50": _deviations,
    "gi_ap": _deviations,
}
