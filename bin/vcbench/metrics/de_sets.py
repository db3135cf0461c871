"""Significant genes of predicted against those of true cells (metrics.md 2.7, 2.14, 2.15); need predicted cells."""

from __future__ import annotations

import numpy as np

from vcbench.metrics import contract, recovery
from vcbench.metrics.bundle import FoldTruth
from vcbench.metrics.comparison import Comparison, Outcome, PredictedCells, flags, no_de_test, reasons

#: Sign purity that the predicted ranking must keep for `direction_reach`.
PURITY = 0.9


def true_sets(truth: FoldTruth, gene_set: str) -> np.ndarray:
    """Return (K, G) whether a gene of the set is significant in the truth."""
    found = np.zeros(truth.profile.shape, dtype=bool)
    for row, index in enumerate(truth.gene_set(gene_set).index):
        found[row, np.intersect1d(truth.significant[row], index)] = True
    return found


def predicted_set(cells: PredictedCells, row: int) -> np.ndarray:
    """Return (G,) whether a gene is significant in the predicted cells of a perturbation."""
    with np.errstate(invalid="ignore"):
        return cells.p_adj[row] < contract.FDR


def _counts(comparison: Comparison, gene_set: str) -> tuple[np.ndarray, ...]:
    """Return (K, R) numbers of genes: in both sets, in the true one, in the predicted one, in the gene set."""

    def make() -> tuple[np.ndarray, ...]:
        truth, cells = comparison.truth, comparison.predicted.cells
        genes, true = truth.gene_set(gene_set), true_sets(truth, gene_set)
        found = np.full((4, *comparison.pairs.shape), np.nan)
        for row, others in enumerate(comparison.pairs):
            if cells is None or not cells.testable[row]:
                continue
            predicted = predicted_set(cells, row)
            for column, other in enumerate(others):
                index = genes.index[other]
                p, t = predicted[index], true[other, index]
                found[:, row, column] = (p & t).sum(), t.sum(), p.sum(), len(index)
        return tuple(found)

    return comparison.once(("sets", gene_set), make)


def _outcome(
    comparison: Comparison, gene_set: str, values: np.ndarray, *conditions: tuple[np.ndarray | bool, str],
    none_called: bool = False,
) -> Outcome:  # fmt: skip
    """Return the outcome; a NaN that only the prediction explains is `no_de` where it calls nothing."""
    truth, cells = comparison.truth, comparison.predicted.cells
    k = len(truth.ids)
    testable = np.zeros(k, dtype=bool) if cells is None else cells.testable
    reason = np.where(testable, "", "no_cells").astype(object)
    if none_called:
        reason[testable & np.isnan(values[:, 0])] = "no_de"
    return Outcome(
        values,
        truth.gene_set(gene_set).size,
        reasons(truth, *no_de_test(truth), *conditions),
        np.zeros(k, dtype=bool),
        flags(np.zeros(k, dtype=bool), ""),
        reason,
    )


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


def _no_true(comparison: Comparison, gene_set: str) -> np.ndarray:
    return ~true_sets(comparison.truth, gene_set).any(axis=1)


def de_jaccard(comparison: Comparison, gene_set: str) -> Outcome:
    """|both| / |either| of the significant sets; undefined when both are empty."""
    both, true, called, _ = _counts(comparison, gene_set)
    return _outcome(comparison, gene_set, _ratio(both, true + called - both), none_called=True)


def de_mcc(comparison: Comparison, gene_set: str) -> Outcome:
    """Matthews correlation of the significant sets; 0 when one of them is empty, undefined when both are."""
    both, true, called, n = _counts(comparison, gene_set)
    spread = np.sqrt(true * (n - true) * called * (n - called))
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(spread > 0, (both * n - true * called) / spread, 0.0)
    values = np.where(np.isnan(both) | (true + called == 0), np.nan, values)
    return _outcome(comparison, gene_set, values, none_called=True)


def de_recall(comparison: Comparison, gene_set: str) -> Outcome:
    """|both| / |true|."""
    both, true, _, _ = _counts(comparison, gene_set)
    return _outcome(comparison, gene_set, _ratio(both, true), (_no_true(comparison, gene_set), "no_de"))


def de_precision(comparison: Comparison, gene_set: str) -> Outcome:
    """|both| / |predicted|; undefined where nothing is predicted."""
    both, _, called, _ = _counts(comparison, gene_set)
    return _outcome(comparison, gene_set, _ratio(both, called), none_called=True)


def de_f1(comparison: Comparison, gene_set: str) -> Outcome:
    """2 |both| / (|true| + |predicted|)."""
    both, true, called, _ = _counts(comparison, gene_set)
    values = np.where(true > 0, _ratio(2 * both, true + called), np.nan)
    return _outcome(comparison, gene_set, values, (_no_true(comparison, gene_set), "no_de"))


def de_nsig_pred(comparison: Comparison, gene_set: str) -> Outcome:
    """Number of significant genes of the predicted cells."""
    return _outcome(comparison, gene_set, _counts(comparison, gene_set)[2].copy())


def _overlap(comparison: Comparison, gene_set: str, most: int | None) -> Outcome:
    """Return the common share of the lists of largest |log2 fold change|, true and predicted; ties by gene order."""
    truth, cells = comparison.truth, comparison.predicted.cells
    genes, true = truth.gene_set(gene_set), true_sets(truth, gene_set)
    n_true = true.sum(axis=1)
    k = np.minimum(n_true if most is None else most, genes.size)
    top = [
        index[np.argsort(-np.abs(truth.log2fc[row, index]), kind="stable")[: k[row]]]
        for row, index in enumerate(genes.index)
    ]
    values = np.full(comparison.pairs.shape, np.nan)
    for row, others in enumerate(comparison.pairs):
        if cells is None or not cells.testable[row]:
            continue
        for column, other in enumerate(others):
            if n_true[other] and k[other] < genes.size[other]:
                index = genes.index[other]
                best = index[np.argsort(-np.abs(cells.log2fc[row, index]), kind="stable")[: k[other]]]
                values[row, column] = len(np.intersect1d(best, top[other])) / k[other]
    whole = (k >= genes.size, recovery.WHOLE_SET[most is None])
    return _outcome(comparison, gene_set, values, (n_true == 0, "no_de"), whole)


def overlap_k20_lfc(comparison: Comparison, gene_set: str) -> Outcome:
    """Common share of the 20 largest |log2 fold change|, predicted and true."""
    return _overlap(comparison, gene_set, 20)


def overlap_k50_lfc(comparison: Comparison, gene_set: str) -> Outcome:
    """Common share of the 50 largest |log2 fold change|, predicted and true."""
    return _overlap(comparison, gene_set, 50)


def overlap_k100_lfc(comparison: Comparison, gene_set: str) -> Outcome:
    """Common share of the 100 largest |log2 fold change|, predicted and true."""
    return _overlap(comparison, gene_set, 100)


def overlap_nsig_lfc(comparison: Comparison, gene_set: str) -> Outcome:
    """Common share of as many of the largest |log2 fold change| as there are significant genes."""
    return _overlap(comparison, gene_set, None)


def _signs(comparison: Comparison, row: int, other: int, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted significant genes of a set, most confident first, and whether each goes the true way."""
    cells = comparison.predicted.cells
    called = index[predicted_set(cells, row)[index]]
    called = called[np.argsort(-np.abs(cells.stat[row, called]), kind="stable")]
    return called, np.sign(cells.log2fc[row, called]) == np.sign(comparison.truth.log2fc[other, called])


def _directions(comparison: Comparison, gene_set: str, reach: bool) -> Outcome:
    truth, cells = comparison.truth, comparison.predicted.cells
    genes, n_true = truth.gene_set(gene_set), true_sets(truth, gene_set).sum(axis=1)
    values = np.full(comparison.pairs.shape, np.nan)
    for row, others in enumerate(comparison.pairs):
        if cells is None or not cells.testable[row]:
            continue
        for column, other in enumerate(others):
            if not n_true[other]:
                continue
            called, right = _signs(comparison, row, other, genes.index[other])
            if reach:
                pure = np.cumsum(right) >= PURITY * np.arange(1, len(called) + 1)
                size = int(np.flatnonzero(pure)[-1]) + 1 if pure.any() else 0
                values[row, column] = size / n_true[other]
            else:
                values[row, column] = right.sum() / max(len(called), n_true[other])
    return _outcome(comparison, gene_set, values, (n_true == 0, "no_de"))


def direction_yield(comparison: Comparison, gene_set: str) -> Outcome:
    """Predicted significant genes that go the true way / max(number predicted, number true)."""
    return _directions(comparison, gene_set, reach=False)


def direction_reach(comparison: Comparison, gene_set: str) -> Outcome:
    """Longest head of the predicted significant genes with >= 90 % of signs right / number of true ones.

    Most confident (largest |z|) first; it may exceed 1 when more genes are predicted than are significant.
    """
    return _directions(comparison, gene_set, reach=True)
