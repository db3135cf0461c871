"""Metrics of the Virtual Cell Challenge 2025 (metrics.md 2.13, 4.4, 6.7), on the cells and controls of both sides.

Predictions carry no control cells: as in a submission that copies the measured ones, both sides have all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vcbench.metrics import contract, de, errors, profiles
from vcbench.metrics.comparison import Comparison, Outcome, flags, reasons
from vcbench.metrics.distribution import profile_only

if TYPE_CHECKING:
    import scipy.sparse as sp

    from vcbench.metrics.extras import Controls


def ordered(p: np.ndarray, mean: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Return the genes with adjusted p < .05 by |log2 fold change| of geometric means, without pseudocount.

    A gene that one side does not have at all has an infinite change and comes first; ties in the order of genes.
    """
    significant = np.flatnonzero(de.benjamini_hochberg(p) < contract.FDR)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.abs(np.log2(np.expm1(mean[significant]) / np.expm1(control[significant])))
    return significant[np.argsort(-np.nan_to_num(change, nan=0.0, posinf=np.inf), kind="stable")]


def lists(
    cells: sp.csr_matrix, of: np.ndarray, k: int, controls: Controls, mean: np.ndarray, usable: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return the ordered significant genes of each group of cells against all controls, over all genes."""
    import scipy.sparse as sp

    reference = controls.expression
    groups = np.concatenate([np.where((of >= 0) & usable[of], of, -2), np.full(reference.shape[0], -1)])
    p = de.rank_sum(sp.vstack([cells, reference]).tocsr(), groups, k, continuity=True)[1]
    control = profiles.moments(reference, np.zeros(reference.shape[0], dtype=int), 1).mean[0]
    return tuple(
        ordered(p[row], mean[row], control) if usable[row] else np.array([], dtype=np.int64) for row in range(k)
    )


def constant_cells(value: np.ndarray, n: np.ndarray, controls: sp.csr_matrix) -> np.ndarray:
    """Return (K, G) p of `n` (K,) identical cells `value` (G,) against control cells: rank-sum in closed form."""
    from scipy.special import ndtr

    n_c, n_genes = controls.shape
    columns = controls.tocsc()
    less, equal, ties = np.zeros((3, n_genes))
    for gene in range(n_genes):
        stored = columns.data[columns.indptr[gene] : columns.indptr[gene + 1]]
        levels, sizes = np.unique(stored, return_counts=True)
        levels, sizes = np.append(levels, 0.0), np.append(sizes, n_c - len(stored)).astype(np.float64)
        less[gene], equal[gene] = sizes[levels < value[gene]].sum(), sizes[levels == value[gene]].sum()
        ties[gene] = (sizes**3 - sizes)[levels != value[gene]].sum()
    n = np.asarray(n, dtype=np.float64)[:, None]
    tied = n + equal
    total = n + n_c
    u = n * (less + 0.5 * equal)
    variance = n * n_c / 12 * (total + 1 - (ties + tied**3 - tied) / (total * (total - 1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.maximum(np.abs(u - n * n_c / 2) - 0.5, 0.0) / np.sqrt(variance)
    return np.where(variance > 0, 2 * ndtr(-z), 1.0)


def vcc_mae(comparison: Comparison, gene_set: str) -> Outcome:
    """Mean over all genes of |p - t|."""
    return errors.mae(comparison, gene_set)


def vcc_pds(comparison: Comparison, gene_set: str) -> Outcome:
    """1 - rank / P of the own truth by L1 distance, rank from 0, P perturbations; ties share the ranks between them.

    With the same controls on both sides, differences of deltas are differences of profiles. The gene a perturbation
    is named after exactly is left out.
    """
    truth = comparison.truth
    usable = (truth.n_cells >= contract.MIN_CELLS_PROFILE) & ~np.isnan(truth.profile).any(axis=1)
    values = np.full(comparison.pairs.shape, np.nan)
    n = int(usable.sum())
    for row, predicted in enumerate(comparison.predicted.mean):
        keep = np.ones(len(predicted), dtype=bool)
        if named_after_gene(truth.ids[row]):
            keep[truth.targets[row]] = False
        distance = np.abs(predicted[keep] - truth.profile[:, keep]).sum(axis=1)
        own = distance[comparison.pairs[row]][:, None]
        nearer = (distance[usable] < own).sum(axis=1) + 0.5 * ((distance[usable] == own).sum(axis=1) - 1)
        values[row] = np.where(np.isnan(own[:, 0]) | ~usable[comparison.pairs[row]], np.nan, 1 - nearer / max(n, 1))
    none = np.zeros(len(truth.ids), dtype=bool)
    return Outcome(
        values,
        np.full(len(truth.ids), truth.profile.shape[1]),
        reasons(truth, (~usable, "few_cells"), (n < 2, "single_pert")),
        none,
        flags(none, ""),
    )


def named_after_gene(name: str) -> bool:
    """Return whether a perturbation is called as its gene, which the challenge leaves out of the distances."""
    return not any(mark in name for mark in "~+")


def vcc_des(comparison: Comparison, gene_set: str) -> Outcome:
    """|first K true and first K predicted significant genes in common| / K, K = number of true ones.

    Both lists by |log2 fold change| of geometric means; a shorter predicted list keeps the denominator. Without a true
    significant gene there is none (the challenge counts 0).
    """
    truth, cells = comparison.truth, comparison.predicted.cells
    listed = truth.extras.vcc.listed
    values = np.full(comparison.pairs.shape, np.nan)
    n_true = np.array([len(index) for index in listed], dtype=np.int64)
    for row, others in enumerate(comparison.pairs):
        if cells is None or cells.listed is None or not cells.usable[row]:
            continue
        for column, other in enumerate(others):
            k = n_true[other]
            if k:
                values[row, column] = len(np.intersect1d(listed[other], cells.listed[row][:k])) / k
    none = np.zeros(len(truth.ids), dtype=bool)
    return Outcome(
        values,
        np.full(len(truth.ids), truth.profile.shape[1]),
        reasons(truth, (truth.n_cells < contract.MIN_CELLS_PROFILE, "few_cells"), (n_true == 0, "no_de")),
        none,
        flags(none, ""),
        profile_only(comparison),
    )


def improvements(scores: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Return the (3,) improvements of mean [DES, PDS, MAE] over the baseline, negative ones 0 (metrics.md 6.7)."""
    des, pds, mae = baseline
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.array([(scores[0] - des) / (1 - des), (scores[1] - pds) / (1 - pds), (mae - scores[2]) / mae])
    return np.maximum(found, 0.0)


def vcc_score(scores: np.ndarray, baseline: np.ndarray) -> float:
    """Return the mean improvement from (K, 3) scores per perturbation and (K, 3) scores of the cell mean.

    Each mean is over the perturbations that have this score.
    """
    known = ~np.isnan(scores) & ~np.isnan(baseline)
    if not known.any(axis=0).all():
        return float("nan")

    def mean(values: np.ndarray) -> np.ndarray:
        return np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)

    return float(improvements(mean(scores), mean(baseline)).mean())


def baseline(comparison: Comparison, listed: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return (K, 3) `vcc_des`, `vcc_pds`, `vcc_mae` of a prediction with these lists of significant genes."""
    cells = comparison.predicted.cells
    comparison = replace(comparison, predicted=replace(comparison.predicted, cells=replace(cells, listed=listed)))
    found = [function(comparison, "all") for function in (vcc_des, vcc_pds, vcc_mae)]
    return np.stack([np.where(part.truth_reason != "", np.nan, part.values[:, 0]) for part in found], axis=1)
