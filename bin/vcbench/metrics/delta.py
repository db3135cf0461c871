"""Agreement of profiles: correlations, squared errors, weighted R2 (metrics.md 2.4, 2.5)."""

from __future__ import annotations

import numpy as np

from vcbench.metrics import contract
from vcbench.metrics.bundle import FoldTruth, GeneSet
from vcbench.metrics.comparison import Comparison, Outcome, flags, reasons


def _minimum_cells(name: str) -> int:
    """Return how many true cells a gene set needs: lists of changed genes need DE labels."""
    return contract.MIN_CELLS_DE if name.startswith(("de", "sig")) else contract.MIN_CELLS_PROFILE


def correlation_matrix(
    predicted: np.ndarray, true: np.ndarray, reference_predicted: np.ndarray, reference_true: np.ndarray, genes: GeneSet
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Pearson of every predicted with every true delta on the true one's gene set.

    Parameters
    ----------
    predicted, true
        (K, G) profiles.
    reference_predicted, reference_true
        (G,) subtracted from them.

    Returns
    -------
    (K, K) correlations (NaN where undefined), (K, K) constant predictions, (K,) constant truths.
    """
    n = len(true)
    values = np.full((n, n), np.nan)
    constant_predicted = np.zeros((n, n), dtype=bool)
    constant_true = np.zeros(n, dtype=bool)
    for index, rows in genes.groups:
        if len(index) < contract.MIN_GENES_CORRELATION:
            continue
        p, t = predicted[:, index], true[np.ix_(rows, index)]
        delta_p, delta_t = p - reference_predicted[index], t - reference_true[index]
        flat_p, flat_t = contract.constant(delta_p, p), contract.constant(delta_t, t)
        delta_p = delta_p - delta_p.mean(axis=1, keepdims=True)
        delta_t = delta_t - delta_t.mean(axis=1, keepdims=True)
        norms = np.sqrt((delta_p**2).sum(1))[:, None] * np.sqrt((delta_t**2).sum(1))[None, :]
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.clip((delta_p @ delta_t.T) / norms, -1.0, 1.0)
        r[flat_p, :] = np.nan
        r[:, flat_t] = np.nan
        values[:, rows] = r
        constant_predicted[:, rows] = flat_p[:, None]
        constant_true[rows] = flat_t
    return values, constant_predicted, constant_true


def correlation(
    comparison: Comparison, gene_set: str, reference_predicted: np.ndarray, reference_true: np.ndarray
) -> Outcome:
    """Return Pearson of predicted and true deltas against two references (0 for raw profiles)."""
    truth = comparison.truth
    genes = truth.gene_set(gene_set)
    values, flat_p, flat_t = correlation_matrix(
        comparison.predicted.mean, truth.profile, reference_predicted, reference_true, genes
    )
    from_list = gene_set.startswith(("de", "sig", "listed"))
    return Outcome(
        comparison.take(values),
        genes.size,
        reasons(
            truth,
            (truth.n_cells < _minimum_cells(gene_set), "few_cells"),
            (np.isnan(reference_true).any() or np.isnan(reference_predicted).any(), "no_control"),
            ((genes.size == 0) & from_list, "no_de"),
            (genes.size < contract.MIN_GENES_CORRELATION, "few_genes"),
            (flat_t, "const_true"),
        ),
        np.diagonal(flat_p),
        flags(genes.short, "n_lt_k"),
    )


def pearson(comparison: Comparison, gene_set: str) -> Outcome:
    """Raw-profile Pearson r(p, t)."""
    zero = np.zeros_like(comparison.truth.control_a)
    return correlation(comparison, gene_set, zero, zero)


def dpearson_ctrl(comparison: Comparison, gene_set: str) -> Outcome:
    """r(p - c_B, t - c_A): each side has its own half of the controls, so no noise is shared (metrics.md 1.3.8)."""
    return correlation(comparison, gene_set, comparison.truth.control_b, comparison.truth.control_a)


def dpearson_pm(comparison: Comparison, gene_set: str) -> Outcome:
    """r(p - m, t - m) with m the mean of the training perturbations' profiles."""
    return correlation(comparison, gene_set, comparison.truth.train_mean, comparison.truth.train_mean)


def squared_error(comparison: Comparison, gene_set: str) -> Outcome:
    """Mean over genes of (p - t)^2."""
    truth, predicted = comparison.truth, comparison.predicted.mean
    genes = truth.gene_set(gene_set)
    values = np.full((len(truth.ids),) * 2, np.nan)
    for index, rows in genes.groups:
        if len(index):
            p = predicted[:, index]
            for row in rows:
                values[:, row] = ((p - truth.profile[row, index]) ** 2).mean(axis=1)
    from_list = gene_set.startswith(("de", "sig", "listed"))
    return Outcome(
        comparison.take(values),
        genes.size,
        reasons(
            truth,
            (truth.n_cells < _minimum_cells(gene_set), "few_cells"),
            (genes.size == 0, "no_de" if from_list else "few_genes"),
        ),
        np.zeros(len(truth.ids), dtype=bool),
        flags(genes.short, "n_lt_k"),
    )


def effect(truth: FoldTruth, gene_set: str) -> np.ndarray:
    """Return D_k (K,): squared true effect against the held-out controls minus sampling noise (metrics.md 10.5)."""
    delta = (truth.profile - truth.control_a) ** 2 - truth.variance - truth.control_a_variance
    return np.array([delta[row, index].sum() for row, index in enumerate(truth.gene_set(gene_set).index)])


def _panel_reasons(truth: FoldTruth, genes: GeneSet) -> np.ndarray:
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
    return Outcome(values, genes.size, _panel_reasons(truth, genes), none, flags(none, ""))


def nmse_effect(comparison: Comparison, gene_set: str) -> Outcome:
    """D_k of :func:`effect`; a property of the truth, so it follows the truth under permuted labels."""
    truth = comparison.truth
    genes = truth.gene_set(gene_set)
    none = np.zeros(len(truth.ids), dtype=bool)
    values = effect(truth, gene_set)[comparison.pairs]
    # Numerator and denominator must come from the same perturbations.
    values[np.isnan(comparison.predicted.mean[:, :1]).repeat(values.shape[1], axis=1)] = np.nan
    return Outcome(values, genes.size, _panel_reasons(truth, genes), none, flags(none, ""))


def r2w_delta(comparison: Comparison, gene_set: str) -> Outcome:
    """1 - sum w (d_t - d_p)^2 / sum w (d_t - wmean d_t)^2, deltas against the train mean (metrics.md 2.5, 2.10)."""
    truth = comparison.truth
    genes = truth.gene_set(gene_set)
    n = len(truth.ids)
    values = np.full((n, n), np.nan)
    flat_p = np.zeros((n, n), dtype=bool)
    flat_t = np.zeros(n, dtype=bool)
    unweighted = np.zeros(n, dtype=bool)
    for index, rows in genes.groups:
        p, t = comparison.predicted.mean[:, index], truth.weight_profile[np.ix_(rows, index)]
        w = truth.weights[np.ix_(rows, index)]
        delta_p, delta_t = p - truth.train_mean[index], t - truth.train_mean[index]
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
            (flat_t | unweighted, "const_true"),
        ),
        np.diagonal(flat_p),
        flags(truth.weights_shared, "weights_shared"),
    )
