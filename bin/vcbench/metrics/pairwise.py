"""One way to compute a metric of predicted and true deltas for every pair of prediction and truth of a fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from vcbench.metrics import contract
from vcbench.metrics.bundle import FoldTruth, GeneSet
from vcbench.metrics.comparison import Comparison, Outcome, flags, reasons

#: (..., K, n) predicted and (..., T, n) true deltas of n genes -> (..., K, T) values.
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: Deltas of pairs with gene lists of their own that are computed together, 8 bytes each.
VALUES_TOGETHER = 1_000_000

#: Gene sets that depend on the perturbation's DE labels.
_LISTS = ("de", "sig", "listed")
#: Those of them that are tests against the held-out controls.
_TESTED = ("de", "sig")


def minimum_cells(gene_set: str) -> int:
    """Return how many true cells a gene set needs: lists of changed genes need DE labels."""
    return contract.MIN_CELLS_DE if gene_set.startswith(_TESTED) else contract.MIN_CELLS_PROFILE


def split_controls(truth: FoldTruth) -> tuple[np.ndarray, np.ndarray]:
    """Return (c_B, c_A), (G,) each: what is subtracted from predictions and from the truth (metrics.md 1.3.8)."""
    return truth.control_b, truth.control_a


def perturbed_mean(truth: FoldTruth) -> tuple[np.ndarray, np.ndarray]:
    """Return (m, m): the mean of the training perturbations' profiles, for both sides."""
    return truth.train_mean, truth.train_mean


def no_reference(truth: FoldTruth) -> tuple[np.ndarray, np.ndarray]:
    """Return zeros: raw profiles."""
    zero = np.zeros_like(truth.control_a)
    return zero, zero


def _needed(kernel: Kernel, delta_p: np.ndarray, delta_t: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Return the kernel's (K, T) values where `needed` (K, T), NaN elsewhere."""
    found = np.full(needed.shape, np.nan)
    if len(delta_t) == 1:
        found[needed[:, 0]] = kernel(delta_p[needed[:, 0]], delta_t)
        return found
    for k in np.flatnonzero(needed.any(axis=1)):
        found[k, needed[k]] = kernel(delta_p[[k]], delta_t[needed[k]])[0]
    return found


def _own_lists(genes: GeneSet, minimum: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield lists that one perturbation has for itself, those of equal length together: (M, n) genes, (M,) rows."""
    by_length: dict[int, list[int]] = {}
    for index, rows in genes.groups:
        if len(rows) == 1 and len(index) >= max(minimum, 1):
            by_length.setdefault(len(index), []).append(int(rows[0]))
    for same in by_length.values():
        yield np.stack([genes.index[row] for row in same]), np.array(same)


def compare(
    comparison: Comparison,
    gene_set: str,
    kernel: Kernel,
    references: Callable[[FoldTruth], tuple[np.ndarray, np.ndarray]],
    minimum: int = contract.MIN_GENES_CORRELATION,
    flat_prediction: bool = True,
    flat_truth: bool = True,
    one_by_one: bool = False,
) -> Outcome:
    """Return a metric of deltas on a gene set.

    Parameters
    ----------
    kernel
        The metric of many deltas on the same genes.
    references
        What is subtracted from predictions and truths.
    minimum
        Fewest genes for which it is defined.
    flat_prediction, flat_truth
        Whether a constant prediction (truth) leaves it undefined (metrics.md 1.3.4).
    one_by_one
        Whether the kernel works gene by gene for each pair, so that only the pairs asked for are worth computing.
    """
    truth, predicted, pairs = comparison.truth, comparison.predicted.mean, comparison.pairs
    genes = truth.gene_set(gene_set)
    reference_predicted, reference_true = references(truth)
    n = len(truth.ids)
    values = np.full(pairs.shape, np.nan)
    constant_predicted, constant_true = np.zeros((2, n), dtype=bool)
    needed = np.zeros((n, n), dtype=bool)
    np.put_along_axis(needed, pairs, True, axis=1)
    for index, rows in genes.groups:
        if len(index) < minimum or len(rows) == 1:
            continue
        p, t = (profile.take(index, axis=1) for profile in (predicted, truth.profile[rows]))
        delta_p, delta_t = p - reference_predicted[index], t - reference_true[index]
        with np.errstate(invalid="ignore", divide="ignore"):
            found = _needed(kernel, delta_p, delta_t, needed[:, rows]) if one_by_one else kernel(delta_p, delta_t)
        if flat_prediction:
            flat = contract.constant(delta_p, p)
            found[flat, :] = np.nan
            constant_predicted[rows] = flat[rows]
        if flat_truth:
            constant_true[rows] = contract.constant(delta_t, t)
        column = np.full(n, -1)
        column[rows] = np.arange(len(rows))
        k, r = np.nonzero(column[pairs] >= 0)
        values[k, r] = found[k, column[pairs[k, r]]]
    for index, rows in _own_lists(genes, minimum):
        t = truth.profile[rows[:, None], index]
        delta_t = t - reference_true[index]
        if flat_truth:
            constant_true[rows] = contract.constant(delta_t, t)
        if flat_prediction:
            p = predicted[rows[:, None], index]
            constant_predicted[rows] = contract.constant(p - reference_predicted[index], p)
        number = np.full(n, -1)
        number[rows] = np.arange(len(rows))
        k, r = np.nonzero(number[pairs] >= 0)
        of = number[pairs[k, r]]
        step = max(1, VALUES_TOGETHER // index.shape[1])
        for first in range(0, len(k), step):
            part = slice(first, first + step)
            p = predicted[k[part, None], index[of[part]]]
            delta_p = p - reference_predicted[index[of[part]]]
            with np.errstate(invalid="ignore", divide="ignore"):
                found = kernel(delta_p[:, None], delta_t[of[part], None])[:, 0, 0]
            if flat_prediction:
                found[contract.constant(delta_p, p)] = np.nan
            values[k[part], r[part]] = found
    if flat_truth:
        values[constant_true[pairs]] = np.nan
    from_list = gene_set.startswith(_LISTS)
    untested = gene_set.startswith(_TESTED) and bool(np.isnan(truth.control_a).any())
    return Outcome(
        values,
        genes.size,
        reasons(
            truth,
            (truth.n_cells < minimum_cells(gene_set), "few_cells"),
            (bool(np.isnan(reference_true).any() or np.isnan(reference_predicted).any()), "no_control"),
            (untested, "no_control"),
            ((genes.size == 0) & from_list, "no_de"),
            (genes.size < minimum, "few_genes"),
            (constant_true, "const_true"),
        ),
        constant_predicted,
        flags(genes.short, "n_lt_k"),
    )
