"""Metrics over perturbations: per gene, per pathway or of effect sizes, folds kept apart (metrics.md 2.5, 2.8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vcbench.metrics import contract, ranking
from vcbench.metrics.bundle import FoldTruth

#: Fewest perturbations for a correlation over them.
MIN_PERTURBATIONS = 3


@dataclass(frozen=True)
class Genewise:
    """One gene-wise metric over all folds.

    Attributes
    ----------
    value
        Mean over the genes on which it is defined; NaN when there is none.
    terms
        (K,) jack-knife pseudo-values of the perturbations, whose mean is the bias-corrected value: they carry the
        uncertainty of `value` into intervals and contrasts. NaN where they were not asked for.
    n_genes
        Genes on which it is defined.
    status
        ``ok`` or the reason of NaN.
    """

    value: float
    terms: np.ndarray
    n_genes: int
    status: str


def centred(values: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return (K, G) values minus their mean within the fold of each row."""
    result = np.array(values, dtype=np.float64)
    for fold in np.unique(folds):
        result[folds == fold] -= result[folds == fold].mean(axis=0)
    return result


def _leave_one_out(folds: np.ndarray) -> np.ndarray:
    """Return (K, 1) n/(n-1) of each row's fold: removing row k takes n/(n-1) x_k y_k off a centred sum of products."""
    sizes = {fold: int((folds == fold).sum()) for fold in np.unique(folds)}
    # A fold of one row contributes 0 with or without it.
    return np.array([[sizes[f] / (sizes[f] - 1) if sizes[f] > 1 else 0.0] for f in folds])


def _left(total: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Return (K, G) sums of squares left without row k; NaN where only rounding is left."""
    left = total - removed
    return np.where(left > 1e-9 * total, left, np.nan)


def gene_correlations(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return (G,) Pearson over perturbations, both sides centred within fold; NaN for genes constant on a side."""
    t, p = centred(true, folds), centred(predicted, folds)
    flat = contract.constant(t.T, true.T) | contract.constant(p.T, predicted.T)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (t * p).sum(0) / np.sqrt((t**2).sum(0) * (p**2).sum(0))
    return np.where(flat, np.nan, r)


def _pseudo_values(value: float, per_gene: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Return (K,) K * value - (K - 1) * value without row k, from (G,) values and (K, G) values without a row.

    A gene that row k alone makes vary has no value without it and counts as unchanged.
    """
    without = np.where(np.isnan(without), per_gene, without).mean(axis=1)
    return value + (len(without) - 1) * (value - without)


def correlation(
    true: np.ndarray, predicted: np.ndarray, folds: np.ndarray, minimum: int, too_few: str, terms: bool = True
) -> Genewise:
    """Return the mean gene-wise Pearson of (K, genes) profiles, rows centred within `folds` (K,)."""
    undefined = np.full(len(true), np.nan)
    if true.shape[1] == 0:
        return Genewise(np.nan, undefined, 0, "few_genes")
    if len(true) < minimum:
        return Genewise(np.nan, undefined, 0, too_few)
    per_gene = gene_correlations(true, predicted, folds)
    used = ~np.isnan(per_gene)
    if not used.any():
        flat = contract.constant(centred(true, folds).T, true.T).all()
        return Genewise(np.nan, undefined, 0, "const_true" if flat else "const_pred")
    value = float(per_gene[used].mean())
    if not terms:
        return Genewise(value, undefined, int(used.sum()), contract.OK)
    t, p = centred(true[:, used], folds), centred(predicted[:, used], folds)
    factor = _leave_one_out(folds)
    spread_t, spread_p = (t**2).sum(0), (p**2).sum(0)
    left_t, left_p = _left(spread_t, factor * t**2), _left(spread_p, factor * p**2)
    with np.errstate(invalid="ignore"):
        without = ((t * p).sum(0) - factor * t * p) / np.sqrt(left_t * left_p)
    return Genewise(value, _pseudo_values(value, per_gene[used], without), int(used.sum()), contract.OK)


def gene_errors(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return (G,) mean (p - t)^2 / variance of t over perturbations; NaN for genes whose truth is constant."""
    t = true - true.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = ((predicted - true) ** 2).sum(0) / (t**2).sum(0)
    return np.where(contract.constant(t.T, true.T), np.nan, found)


def normalised_error(true: np.ndarray, predicted: np.ndarray, terms: bool = True) -> Genewise:
    """Return the mean over genes of mean (p - t)^2 / variance of t over perturbations (predicting the mean = 1)."""
    undefined = np.full(len(true), np.nan)
    if true.shape[1] == 0:
        return Genewise(np.nan, undefined, 0, "few_genes")
    if len(true) < contract.MIN_PERTURBATIONS_GENEWISE:
        return Genewise(np.nan, undefined, 0, "single_pert")
    per_gene = gene_errors(true, predicted)
    used = ~np.isnan(per_gene)
    if not used.any():
        return Genewise(np.nan, undefined, 0, "const_true")
    per_gene = per_gene[used]
    value = float(per_gene.mean())
    if not terms:
        return Genewise(value, undefined, int(used.sum()), contract.OK)
    t, error = (true - true.mean(axis=0))[:, used], (predicted[:, used] - true[:, used]) ** 2
    n, spread = len(true), (t**2).sum(0)
    with np.errstate(invalid="ignore"):
        without = (error.sum(0) - error) / _left(spread, n / (n - 1) * t**2)
    return Genewise(value, _pseudo_values(value, per_gene, without), int(used.sum()), contract.OK)


def _ranks_by_fold(values: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return (K,) mid-ranks within each fold; values that differ by rounding only are ties."""
    step = contract.TOLERANCE * max(1.0, float(np.abs(values).max(initial=0.0)))
    ranks = np.empty(len(values))
    for fold in np.unique(folds):
        at = np.flatnonzero(folds == fold)
        order = at[np.argsort(values[at], kind="stable")]
        group = np.cumsum(np.concatenate([[0], np.diff(values[order]) > step]))
        ranks[order] = ranking.rank(-group[None].astype(np.float64)).middle[0]
    return ranks


def _rank_correlation(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray) -> tuple[float, str]:
    """Return the Pearson correlation of ranks within folds, and why there is none."""
    t, p = (_ranks_by_fold(values, folds)[:, None] for values in (true, predicted))
    t, p = centred(t, folds)[:, 0], centred(p, folds)[:, 0]
    for side, reason in ((t, "const_true"), (p, "const_pred")):
        if not side.any():
            return np.nan, reason
    return float(np.clip(t @ p / np.sqrt((t @ t) * (p @ p)), -1.0, 1.0)), contract.OK


# ---------------------------------------------------------------------------------------------------------------------
# The metrics: (K, F) true and predicted features, the fold of each row -> value and terms


def pearson_within_folds(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray, terms: bool = True) -> Genewise:
    """`gw_pearson_wf`: both sides centred within each fold."""
    return correlation(true, predicted, folds, contract.MIN_PERTURBATIONS_GENEWISE, "single_pert", terms)


def normalised_error_over_folds(
    true: np.ndarray, predicted: np.ndarray, folds: np.ndarray, terms: bool = True
) -> Genewise:
    """`gw_nmse`: folds do not matter."""
    return normalised_error(true, predicted, terms)


def pearson_pooled(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray, terms: bool = True) -> Genewise:
    """`bench_compat_pcc_gw`: centred over all folds together."""
    return correlation(true, predicted, np.zeros_like(folds), MIN_PERTURBATIONS, "single_pert", terms)


def pathway_pearson(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray, terms: bool = True) -> Genewise:
    """`pw_pearson`: mean over pathways of the correlation of their mean deltas, centred within each fold."""
    return correlation(true, predicted, folds, MIN_PERTURBATIONS, "single_pert", terms)


def effect_rank(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray, terms: bool = True) -> Genewise:
    """`effect_rank`: Spearman correlation of (K, 1) effect norms, ranked and centred within each fold.

    Ranks over pooled folds would compare predictions of different trained models: a constant prediction for each fold
    would score below zero (metrics.md 11.1.10). One fold gives the plain rank correlation.
    """
    undefined = np.full(len(true), np.nan)
    if len(true) < MIN_PERTURBATIONS:
        return Genewise(np.nan, undefined, 0, "single_pert")
    value, status = _rank_correlation(true[:, 0], predicted[:, 0], folds)
    if status != contract.OK or not terms:
        return Genewise(value, undefined, int(status == contract.OK), status)
    left = np.ones(len(true), dtype=bool)
    without = np.empty((len(true), 1))
    for k in range(len(true)):
        left[k] = False
        without[k] = _rank_correlation(true[left, 0], predicted[left, 0], folds[left])[0]
        left[k] = True
    return Genewise(value, _pseudo_values(value, np.array([value]), without), 1, contract.OK)


# ---------------------------------------------------------------------------------------------------------------------
# What they are computed from: profiles (K, G) of one side of a fold -> (K, F) features


def panel_axis(fold: FoldTruth, gene_set: str) -> np.ndarray:
    """Return gene positions on which perturbations of a fold can be compared with each other.

    For ``_nt`` the targets of all of them go, so that every perturbation has the same genes.
    """
    axis = np.flatnonzero(fold.expressed) if gene_set.startswith("expr") else np.arange(len(fold.expressed))
    return axis[~np.isin(axis, fold.panel_targets)] if gene_set.endswith("_nt") else axis


def _effect_norm(fold: FoldTruth, profile: np.ndarray, reference: np.ndarray, gene_set: str) -> np.ndarray:
    axis = panel_axis(fold, gene_set)
    return np.sqrt(np.square(profile.take(axis, axis=1) - reference[axis]).sum(axis=1))[:, None]


def _pathway_delta(fold: FoldTruth, profile: np.ndarray, reference: np.ndarray, gene_set: str) -> np.ndarray:
    columns = []
    for index in fold.sets.values():
        used = index[~np.isin(index, fold.panel_targets)]
        columns.append((profile[:, used] - reference[used]).sum(axis=1) / max(len(used), 1))
    return np.stack(columns, axis=1) if columns else np.empty((len(profile), 0))


#: Features by the name of the function; the others are computed from the profiles of genes.
_FEATURES: dict[str, Callable[[FoldTruth, np.ndarray, np.ndarray, str], np.ndarray]] = {
    "effect_rank": _effect_norm,
    "pathway_pearson": _pathway_delta,
}


def features(
    function: str, fold: FoldTruth, predicted: np.ndarray, gene_set: str, eligible: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (K, F) of the truth and of the prediction: genes, mean deltas of pathways, or the norm of the delta.

    Deltas are against the split controls; `eligible` is (G,) which genes the gene set ``eligible`` holds.
    """
    if function in _FEATURES:
        make = _FEATURES[function]
        return make(fold, fold.profile, fold.control_a, gene_set), make(fold, predicted, fold.control_b, gene_set)
    axis = np.flatnonzero(eligible) if gene_set == "eligible" else np.arange(len(eligible))
    return fold.profile.take(axis, axis=1), predicted.take(axis, axis=1)
