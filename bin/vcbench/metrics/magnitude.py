"""Are predicted changes as large as measured ones (targets are 1, metrics.md 2.5), and how large are they at all?"""

from __future__ import annotations

import numpy as np

from vcbench.metrics import contract
from vcbench.metrics.bundle import FoldTruth
from vcbench.metrics.comparison import Comparison, Outcome, reasons
from vcbench.metrics.pairwise import compare, split_controls


def _slope(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    return delta_p @ np.swapaxes(delta_t, -1, -2) / (delta_t**2).sum(axis=-1)[..., None, :]


def _sd_ratio(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    return delta_p.std(axis=-1)[..., :, None] / delta_t.std(axis=-1)[..., None, :]


def _norm_ratio(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    return np.sqrt((delta_p**2).sum(axis=-1))[..., :, None] / np.sqrt((delta_t**2).sum(axis=-1))[..., None, :]


def lfc_slope(comparison: Comparison, gene_set: str) -> Outcome:
    """Slope through the origin of predicted on true deltas: sum d_p d_t / sum d_t^2."""
    return compare(comparison, gene_set, _slope, split_controls, flat_prediction=False)


def delta_sd_ratio(comparison: Comparison, gene_set: str) -> Outcome:
    """sd(d_p) / sd(d_t) over genes."""
    return compare(comparison, gene_set, _sd_ratio, split_controls, flat_prediction=False)


def norm_ratio(comparison: Comparison, gene_set: str) -> Outcome:
    """Euclidean norm of the predicted delta over that of the true one."""
    return compare(comparison, gene_set, _norm_ratio, split_controls, flat_prediction=False)


def signed_root(squared: np.ndarray) -> np.ndarray:
    """Return the root of squared sizes from which noise was subtracted; below zero with its sign, to keep the order."""
    return np.sign(squared) * np.sqrt(np.abs(squared))


def impact(comparison: Comparison, gene_set: str) -> Outcome:
    """Size of the predicted effect, |p - c_B| over the genes: 0 for no change, whatever the truth says.

    c_B is the control mean the models were given, so that its noise is in p and in c_B alike and cancels. The sampling
    noise of a finite sample of predicted cells is subtracted from the square, or few cells would look like an effect.
    """
    truth, predicted = comparison.truth, comparison.predicted
    genes = truth.gene_set(gene_set)
    squared = (predicted.mean - truth.control_b) ** 2
    squared -= np.where(predicted.n_cells[:, None] > 1, predicted.variance, 0.0)
    size = signed_root(np.array([row[index].sum() for row, index in zip(squared, genes.index, strict=True)]))
    return Outcome(
        np.repeat(np.where(genes.size > 0, size, np.nan)[:, None], comparison.pairs.shape[1], axis=1),
        genes.size,
        reasons(truth, (genes.size == 0, "few_genes")),
        np.zeros(len(size), dtype=bool),
        reasons(truth),
    )


def measured_impact(truth: FoldTruth, gene_set: str) -> np.ndarray:
    """Return (K,) the size of the measured effect against held-out controls, |t - c_A| without its noise (10.5).

    The expected noise, sum(v_t + v_c), is subtracted from the squared norm (:func:`signed_root`). NaN below 10 cells.
    """
    found = np.full(len(truth.ids), np.nan)
    for k, index in enumerate(truth.gene_set(gene_set).index):
        if truth.n_cells[k] >= contract.MIN_CELLS_PROFILE and len(index):
            squared = ((truth.profile[k, index] - truth.control_a[index]) ** 2).sum()
            found[k] = squared - truth.variance[k, index].sum() - truth.control_a_variance[index].sum()
    return signed_root(found)
