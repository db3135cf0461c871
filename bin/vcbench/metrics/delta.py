"""Agreement of profiles: correlations, squared errors, weighted R2 (metrics.md 2.4, 2.5)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vcbench.metrics import contract, ranking
from vcbench.metrics.bundle import FoldTruth, GeneSet
from vcbench.metrics.comparison import Comparison, Outcome, flags, reasons
from vcbench.metrics.pairwise import compare, no_reference, perturbed_mean, split_controls

#: Decimals of log1p deltas that count when they are ranked: the others are rounding of float64 differences.
_RANKED_DECIMALS = 9


def pearson_kernel(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    """Return (..., K, T) Pearson correlations of deltas (..., K, n) and (..., T, n)."""
    return cosine_kernel(delta_p - delta_p.mean(axis=-1, keepdims=True), delta_t - delta_t.mean(axis=-1, keepdims=True))


def cosine_kernel(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    """Return (..., K, T) cosines of deltas (..., K, n) and (..., T, n)."""
    norms = np.sqrt((delta_p**2).sum(-1))[..., :, None] * np.sqrt((delta_t**2).sum(-1))[..., None, :]
    return np.clip((delta_p @ np.swapaxes(delta_t, -1, -2)) / norms, -1.0, 1.0)


def spearman_kernel(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    """Return (..., K, T) rank correlations with mid-ranks; deltas that differ by rounding only are ties."""
    ranks = ranking.rank(np.round(delta_p, _RANKED_DECIMALS)).middle
    ranks[np.isnan(delta_p).any(axis=-1)] = np.nan
    return pearson_kernel(ranks, ranking.rank(np.round(delta_t, _RANKED_DECIMALS)).middle)


def pearson(comparison: Comparison, gene_set: str) -> Outcome:
    """Raw-profile Pearson r(p, t)."""
    return compare(comparison, gene_set, pearson_kernel, no_reference)


def dpearson_ctrl(comparison: Comparison, gene_set: str) -> Outcome:
    """r(p - c_B, t - c_A): each side has its own half of the controls, so no noise is shared (metrics.md 1.3.8)."""
    return compare(comparison, gene_set, pearson_kernel, split_controls)


def dspearman_ctrl(comparison: Comparison, gene_set: str) -> Outcome:
    """Rank correlation of p - c_B and t - c_A."""
    return compare(comparison, gene_set, spearman_kernel, split_controls)


def dcosine_ctrl(comparison: Comparison, gene_set: str) -> Outcome:
    """Cosine of p - c_B and t - c_A."""
    return compare(comparison, gene_set, cosine_kernel, split_controls)


def dpearson_pm(comparison: Comparison, gene_set: str) -> Outcome:
    """r(p - m, t - m) with m the mean of the training perturbations' profiles."""
    return compare(comparison, gene_set, pearson_kernel, perturbed_mean)


def dpearson_pm_nopc1(comparison: Comparison, gene_set: str) -> Outcome:
    """As :func:`dpearson_pm`, the first principal component of the training deltas projected out of both sides."""
    truth, predicted = comparison.truth, comparison.predicted

    def without(profile: np.ndarray) -> np.ndarray:
        along = (profile - truth.train_mean) @ truth.train_pc1
        return profile - along[:, None] * truth.train_pc1

    left = replace(
        comparison,
        truth=replace(truth, profile=without(truth.profile)),
        predicted=replace(predicted, mean=without(predicted.mean)),
    )
    return compare(left, gene_set, pearson_kernel, perturbed_mean)


def effect(truth: FoldTruth, gene_set: str) -> np.ndarray:
    """Return D_k (K,): squared true effect against the held-out controls minus sampling noise (metrics.md 10.5)."""
    delta = (truth.profile - truth.control_a) ** 2 - truth.variance - truth.control_a_variance
    return np.array([delta[row, index].sum() for row, index in enumerate(truth.gene_set(gene_set).index)])


def panel_reasons(truth: FoldTruth, genes: GeneSet) -> np.ndarray:
    """Return (K,) why the truth leaves a perturbation out of the sums of :func:`nmse_error`, or empty."""
    return reasons(
        truth,
        (truth.n_cells < contract.MIN_CELLS_PROFILE, "few_cells"),
        (bool(np.isnan(truth.control_a).any()), "no_control"),
        (genes.size == 0, "few_genes"),
    )


def nmse_error(comparison: Comparison, gene_set: str) -> Outcome:
    """N_k = sum over genes of (p - t)^2 - v_t - min(v_p, v_t); v_p is 0 unless the prediction is a finite sample."""
    truth, predicted = comparison.truth, comparison.predicted
    genes = truth.gene_set(gene_set)
    mask = np.zeros(truth.profile.shape)
    for row, index in enumerate(genes.index):
        mask[row, index] = 1.0
    values = np.empty(comparison.pairs.shape)
    for k, rows in enumerate(comparison.pairs):
        noise = truth.variance[rows]
        error = (predicted.mean[k] - truth.profile[rows]) ** 2 - noise - np.minimum(predicted.variance[k], noise)
        values[k] = np.einsum("rg,rg->r", error, mask[rows])
    none = np.zeros(len(truth.ids), dtype=bool)
    return Outcome(values, genes.size, panel_reasons(truth, genes), none, flags(none, ""))


def nmse_effect(comparison: Comparison, gene_set: str) -> Outcome:
    """D_k of :func:`effect`; a property of the truth, so it follows the truth under permuted labels."""
    truth = comparison.truth
    genes = truth.gene_set(gene_set)
    none = np.zeros(len(truth.ids), dtype=bool)
    values = effect(truth, gene_set)[comparison.pairs]
    # Numerator and denominator must come from the same perturbations.
    values[np.isnan(comparison.predicted.mean[:, :1]).repeat(values.shape[1], axis=1)] = np.nan
    return Outcome(values, genes.size, panel_reasons(truth, genes), none, flags(none, ""))


def r2w_delta(comparison: Comparison, gene_set: str) -> Outcome:
    """1 - sum w (d_t - d_p)^2 / sum w (d_t - wmean d_t)^2, deltas against the train mean (metrics.md 2.5, 2.10)."""
    return _weighted_r2(comparison, gene_set, *perturbed_mean(comparison.truth))


def r2w_delta_ctrl(comparison: Comparison, gene_set: str) -> Outcome:
    """As :func:`r2w_delta`, deltas against the split controls."""
    return _weighted_r2(comparison, gene_set, *split_controls(comparison.truth))


def _weighted_r2(
    comparison: Comparison, gene_set: str, reference_predicted: np.ndarray, reference_true: np.ndarray
) -> Outcome:
    truth = comparison.truth
    genes = truth.gene_set(gene_set)
    n = len(truth.ids)
    values = np.full((n, n), np.nan)
    flat_p = np.zeros((n, n), dtype=bool)
    flat_t = np.zeros(n, dtype=bool)
    unweighted = np.zeros(n, dtype=bool)
    for index, rows in genes.groups:
        of = comparison.predicted.mean, truth.weight_profile[rows], truth.weights[rows]
        p, t, w = (values.take(index, axis=1) for values in of)
        delta_p, delta_t = p - reference_predicted[index], t - reference_true[index]
        total = w.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            centre = (w * delta_t).sum(1) / total
            spread = (w * (delta_t - centre[:, None]) ** 2).sum(1)
            error = (w * delta_t**2).sum(1) - 2 * delta_p @ (w * delta_t).T + delta_p**2 @ w.T
            r2 = 1 - error / spread
        flat = contract.constant(delta_p, p)
        r2[flat, :] = np.nan
        values[:, rows] = r2
        flat_p[:, rows] = flat[:, None]
        flat_t[rows] = contract.constant(delta_t, t) | (spread <= 0)
        unweighted[rows] = total <= 0
    values[:, flat_t | unweighted] = np.nan
    return Outcome(
        comparison.take(values),
        genes.size,
        reasons(
            truth,
            (truth.n_cells < contract.MIN_CELLS_PROFILE, "few_cells"),
            (bool(np.isnan(reference_true).any() or np.isnan(reference_predicted).any()), "no_control"),
            (flat_t | unweighted, "const_true"),
        ),
        np.diagonal(flat_p),
        flags(truth.weights_shared, "weights_shared"),
    )
