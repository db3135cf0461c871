"""Gene-wise metrics: per gene over perturbations, then the mean over genes (metrics.md 2.8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vcbench.metrics import contract


@dataclass(frozen=True)
class Genewise:
    """One gene-wise metric over all folds.

    Attributes
    ----------
    value
        Mean over the genes on which it is defined; NaN when there is none.
    terms
        (K,) jack-knife pseudo-values of the perturbations, whose mean is the bias-corrected value: they carry the
        uncertainty of `value` into intervals and contrasts.
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


def correlation(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray, minimum: int, too_few: str) -> Genewise:
    """Return the mean gene-wise Pearson of (K, genes) profiles, rows centred within `folds` (K,)."""
    undefined = np.full(len(true), np.nan)
    if true.shape[1] == 0:
        return Genewise(np.nan, undefined, 0, "few_genes")
    if len(true) < minimum:
        return Genewise(np.nan, undefined, 0, too_few)
    per_gene = gene_correlations(true, predicted, folds)
    used = ~np.isnan(per_gene)
    if not used.any():
        return Genewise(np.nan, undefined, 0, "const_pred")
    t, p = centred(true[:, used], folds), centred(predicted[:, used], folds)
    factor = _leave_one_out(folds)
    spread_t, spread_p = (t**2).sum(0), (p**2).sum(0)
    left_t, left_p = _left(spread_t, factor * t**2), _left(spread_p, factor * p**2)
    with np.errstate(invalid="ignore"):
        without = ((t * p).sum(0) - factor * t * p) / np.sqrt(left_t * left_p)
    value = float(per_gene[used].mean())
    return Genewise(value, _pseudo_values(value, per_gene[used], without), int(used.sum()), contract.OK)


def normalised_error(true: np.ndarray, predicted: np.ndarray) -> Genewise:
    """Return the mean over genes of mean (p - t)^2 / variance of t over perturbations (predicting the mean = 1)."""
    undefined = np.full(len(true), np.nan)
    if true.shape[1] == 0:
        return Genewise(np.nan, undefined, 0, "few_genes")
    if len(true) < contract.MIN_PERTURBATIONS_GENEWISE:
        return Genewise(np.nan, undefined, 0, "single_pert")
    t = true - true.mean(axis=0)
    used = ~contract.constant(t.T, true.T)
    if not used.any():
        return Genewise(np.nan, undefined, 0, "const_true")
    t, error = t[:, used], (predicted[:, used] - true[:, used]) ** 2
    n = len(true)
    spread = (t**2).sum(0)
    per_gene = error.sum(0) / spread
    with np.errstate(invalid="ignore"):
        without = (error.sum(0) - error) / _left(spread, n / (n - 1) * t**2)
    value = float(per_gene.mean())
    return Genewise(value, _pseudo_values(value, per_gene, without), int(used.sum()), contract.OK)


def pearson_within_folds(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray) -> Genewise:
    """`gw_pearson_wf`: both sides centred within each fold."""
    return correlation(true, predicted, folds, contract.MIN_PERTURBATIONS_GENEWISE, "single_pert")


def normalised_error_over_folds(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray) -> Genewise:
    """`gw_nmse`: folds do not matter."""
    return normalised_error(true, predicted)


def pearson_pooled(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray) -> Genewise:
    """`bench_compat_pcc_gw`: centred over all folds together."""
    return correlation(true, predicted, np.zeros_like(folds), 3, "single_pert")
