"""Do the largest predicted changes include the truly changed genes? (metrics.md 2.7)"""

from __future__ import annotations

import numpy as np

from vcbench.metrics import contract
from vcbench.metrics.comparison import Comparison, Outcome, flags, reasons


def scores(delta: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Return |delta| (K, G) with rounding noise removed: below tolerance 0, and 0 throughout when delta is constant.

    A prediction equal to the control must tie all genes, whatever single precision did to it.
    """
    magnitude = np.abs(delta)
    limit = contract.TOLERANCE * np.maximum(1.0, np.abs(raw).max(axis=1, keepdims=True))
    magnitude = np.where(magnitude <= limit, 0.0, magnitude)
    return np.where(contract.constant(delta, raw)[:, None], 0.0, magnitude)


def ranked_labels(score: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return true positives and genes called at the end of each group of tied scores, best first.

    Parameters
    ----------
    score
        (G,) of one prediction.
    labels, mask
        (R, G) positives and evaluated genes of the truths it is compared with.

    Returns
    -------
    (R, ends) cumulative positives, (R, ends) cumulative genes, (R,) number of positives.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.cumsum((labels & mask)[:, order], axis=1, dtype=np.float64)
    called = np.cumsum(mask[:, order], axis=1, dtype=np.float64)
    return hits[:, ends], called[:, ends], hits[:, -1]


def average_precision(score: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return (R,) step-wise average precision with ties grouped: a constant score gives the prevalence exactly."""
    hits, called, positives = ranked_labels(score, labels, mask)
    gained = np.diff(hits, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(called > 0, hits / called, 0.0)
        return (gained * precision).sum(1) / positives


def trapezoid_area(score: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return (R,) area of trapezoids under precision over recall from the added point (0, 1), ties joined."""
    hits, called, positives = ranked_labels(score, labels, mask)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / positives[:, None]
        precision = np.where(called > 0, hits / called, 1.0)
    recall = np.concatenate([np.zeros((len(recall), 1)), recall], axis=1)
    precision = np.concatenate([np.ones((len(precision), 1)), precision], axis=1)
    return (np.diff(recall, axis=1) * (precision[:, 1:] + precision[:, :-1]) / 2).sum(1)


def prevalence(comparison: Comparison, gene_set: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (K,) number of positives and of genes on the gene set."""
    truth = comparison.truth
    genes = truth.gene_set(gene_set)
    return np.array([truth.positive[row, index].sum() for row, index in enumerate(genes.index)]), genes.size


def ap_de(comparison: Comparison, gene_set: str) -> Outcome:
    """Average precision of |p - c_B| for the positives of the truth DE table."""
    truth, predicted = comparison.truth, comparison.predicted.mean
    genes = truth.gene_set(gene_set)
    mask = np.zeros(truth.profile.shape, dtype=bool)
    for row, index in enumerate(genes.index):
        mask[row, index] = True
    axis = np.flatnonzero(mask.any(axis=0))
    n_positive, n_genes = prevalence(comparison, gene_set)
    values = np.full(comparison.pairs.shape, np.nan)
    usable = (n_positive > 0) & (n_positive < n_genes) & (truth.n_cells >= contract.MIN_CELLS_DE)
    if len(axis):
        score = scores(predicted[:, axis] - truth.control_b[axis], predicted[:, axis])
        labels, evaluated = truth.positive[:, axis], mask[:, axis]
        for k, rows in enumerate(comparison.pairs):
            if not np.isnan(score[k, 0]):
                values[k] = average_precision(score[k], labels[rows], evaluated[rows])
    values[~usable[comparison.pairs]] = np.nan
    none = np.zeros(len(truth.ids), dtype=bool)
    return Outcome(
        values,
        n_genes,
        reasons(
            truth,
            (truth.n_cells < contract.MIN_CELLS_DE, "few_cells"),
            (bool(np.isnan(truth.control_a).any()), "no_control"),
            (n_positive == 0, "no_de"),
            (n_positive == n_genes, "all_de"),
        ),
        none,
        flags(none, ""),
    )


def ap_de_lift(comparison: Comparison, gene_set: str) -> Outcome:
    """(AP - pi) / (1 - pi): 0 for guessing, 1 for a perfect ranking."""
    outcome = ap_de(comparison, gene_set)
    n_positive, n_genes = prevalence(comparison, gene_set)
    with np.errstate(invalid="ignore", divide="ignore"):
        pi = (n_positive / n_genes)[comparison.pairs]
        values = (outcome.values - pi) / (1 - pi)
    return Outcome(values, outcome.n_genes, outcome.truth_reason, outcome.constant_prediction, outcome.flag)
