"""Predicted profiles against the spread of the true cells, and other formulas of the field (metrics.md 2.15)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vcbench.metrics import delta
from vcbench.metrics.comparison import Comparison, Outcome, flags, reasons
from vcbench.metrics.pairwise import minimum_cells

#: Added to both sides of a ratio of means of log1p values.
PSEUDOCOUNT = 0.1


def _per_gene(
    comparison: Comparison, gene_set: str, of: Callable[[np.ndarray, int, np.ndarray], float], varying: bool
) -> Outcome:
    """Return a summary over the genes of each truth; with `varying` only genes that differ between its cells."""
    truth = comparison.truth
    spread, genes = truth.extras.spread, truth.gene_set(gene_set)
    index = [at[spread.sd[row, at] > 0] if varying else at for row, at in enumerate(genes.index)]
    size = np.array([len(at) for at in index], dtype=np.int64)
    values = np.full(comparison.pairs.shape, np.nan)
    for row, others in enumerate(comparison.pairs):
        p = comparison.predicted.mean[row]
        if np.isnan(p).any():
            continue
        for column, other in enumerate(others):
            if size[other]:
                values[row, column] = of(p, other, index[other])
    none = np.zeros(len(truth.ids), dtype=bool)
    return Outcome(
        values,
        size,
        reasons(
            truth,
            (truth.n_cells < minimum_cells(gene_set), "few_cells"),
            (bool(np.isnan(truth.control_a).any()), "no_control"),
            (genes.size == 0, "no_de"),
            (size == 0, "const_true"),
        ),
        none,
        flags(genes.short, "n_lt_k"),
    )


def in_range_frac(comparison: Comparison, gene_set: str) -> Outcome:
    """Share of genes whose prediction lies within the lowest and highest value of the true cells."""
    spread = comparison.truth.extras.spread

    def of(p: np.ndarray, other: int, at: np.ndarray) -> float:
        return float(((p[at] >= spread.lowest[other, at]) & (p[at] <= spread.highest[other, at])).mean())

    return _per_gene(comparison, gene_set, of, varying=False)


def _sigmas(comparison: Comparison, gene_set: str, of: Callable[[np.ndarray], float]) -> Outcome:
    truth = comparison.truth

    def summary(p: np.ndarray, other: int, at: np.ndarray) -> float:
        return of(np.abs(p[at] - truth.profile[other, at]) / truth.extras.spread.sd[other, at])

    return _per_gene(comparison, gene_set, summary, varying=True)


def sigma_err_mean(comparison: Comparison, gene_set: str) -> Outcome:
    """Mean over genes of |p - t| / sd(true cells)."""
    return _sigmas(comparison, gene_set, lambda error: float(error.mean()))


def sigma_err_sd(comparison: Comparison, gene_set: str) -> Outcome:
    """Standard deviation over genes of |p - t| / sd(true cells)."""
    return _sigmas(comparison, gene_set, lambda error: float(error.std()))


def sigma_below_1(comparison: Comparison, gene_set: str) -> Outcome:
    """Share of genes with |p - t| below one sd of the true cells."""
    return _sigmas(comparison, gene_set, lambda error: float((error < 1).mean()))


def sigma_below_2(comparison: Comparison, gene_set: str) -> Outcome:
    """Share of genes with |p - t| below two sd of the true cells."""
    return _sigmas(comparison, gene_set, lambda error: float((error < 2).mean()))


def _logs(comparison: Comparison) -> Comparison:
    """Return the comparison with log2(x + 0.1) of every mean of log1p values; predictions below 0 count as 0."""

    def log(values: np.ndarray) -> np.ndarray:
        return np.log2(np.maximum(values, 0.0) + PSEUDOCOUNT)

    truth, predicted = comparison.truth, comparison.predicted
    return replace(
        comparison,
        truth=replace(
            truth, profile=log(truth.profile), control_a=log(truth.control_a), control_b=log(truth.control_b)
        ),
        predicted=replace(predicted, mean=log(predicted.mean)),
    )


def logratio_ml_pearson(comparison: Comparison, gene_set: str) -> Outcome:
    """Pearson of log2((p + 0.1) / (c_B + 0.1)) and log2((t + 0.1) / (c_A + 0.1)): ratios of means of log1p values."""
    return delta.dpearson_ctrl(_logs(comparison), gene_set)


def logratio_ml_cosine(comparison: Comparison, gene_set: str) -> Outcome:
    """Cosine of the ratios of :func:`logratio_ml_pearson`."""
    return delta.dcosine_ctrl(_logs(comparison), gene_set)
