"""Distances between predicted and true cells (metrics.md 2.9, 10.5): energy distance, MMD, variance ratio, E-test."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vcbench.metrics import contract
from vcbench.metrics.comparison import Comparison, Outcome, flags, reasons

#: Cells of a group that enter a distance; more are drawn at random (seeded).
MAX_CELLS = 300
#: Permutations of the E-test.
N_PERMUTATIONS = 999

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _mean_distance(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.spatial.distance import cdist

    return float(cdist(a, b).mean())


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return 2 mean d(a, b) - mean d(a, a) - mean d(b, b) of (n, D) and (m, D) cells, self pairs included, so >= 0."""
    return 2 * _mean_distance(a, b) - _mean_distance(a, a) - _mean_distance(b, b)


def mmd(a: np.ndarray, b: np.ndarray, bandwidth: float) -> float:
    """Return the maximum mean discrepancy of (n, D) and (m, D) cells with kernel exp(-d^2 / (2 bandwidth^2)), >= 0."""
    from scipy.spatial.distance import cdist

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.exp(-cdist(x, y, "sqeuclidean") / (2 * bandwidth**2)).mean())

    return float(np.sqrt(max(kernel(a, a) + kernel(b, b) - 2 * kernel(a, b), 0.0)))


def etest(a: np.ndarray, b: np.ndarray, rng: np.random.Generator, n: int = N_PERMUTATIONS) -> tuple[float, float]:
    """Return the energy distance of two groups of cells and the share of label permutations at least as far."""
    from scipy.spatial.distance import cdist

    both = np.concatenate([a, b])
    distances = cdist(both, both)
    labels = np.zeros((len(both), n + 1))
    labels[: len(a), 0] = 1
    for column in range(1, n + 1):
        labels[rng.permutation(len(both))[: len(a)], column] = 1
    other = 1 - labels
    n_a, n_b = len(a), len(b)
    from_a, from_b = distances @ labels, distances @ other
    within_a, within_b = (labels * from_a).sum(0) / n_a**2, (other * from_b).sum(0) / n_b**2
    found = 2 * (other * from_a).sum(0) / (n_a * n_b) - within_a - within_b
    # Rounding must not make a permutation that equals the observed grouping smaller than it.
    p = float((found >= found[0] - 1e-9 * abs(found[0])).mean())
    return float(found[0]), p


def profile_only(comparison: Comparison) -> np.ndarray:
    """Return (K,) ``no_cells`` where a prediction has no cells that differ, else empty (metrics.md 2.14)."""
    cells = comparison.predicted.cells
    usable = np.zeros(len(comparison.truth.ids), dtype=bool) if cells is None else cells.usable
    return np.where(usable, "", "no_cells").astype(object)


def outcome(
    comparison: Comparison, values: np.ndarray, n_genes: np.ndarray | int, *conditions: tuple[np.ndarray | bool, str]
) -> Outcome:
    """Return the outcome of a metric of cells; `conditions` are reasons of the truth beside too few cells."""
    k = len(comparison.truth.ids)
    none = np.zeros(k, dtype=bool)
    few = comparison.truth.n_cells < contract.MIN_CELLS_PROFILE
    found = profile_only(comparison)
    values = np.where((found != "")[:, None], np.nan, values)
    return Outcome(
        values,
        np.broadcast_to(np.asarray(n_genes), (k,)),
        reasons(comparison.truth, (few, "few_cells"), *conditions),
        none,
        flags(none, ""),
        found,
    )


def _of_cells(comparison: Comparison, of: Distance) -> Outcome:
    """Return a distance of the predicted cells of each perturbation to the true cells of its pairs."""
    space, cells = comparison.truth.extras.cells, comparison.predicted.cells
    values = np.full(comparison.pairs.shape, np.nan)
    k = len(comparison.truth.ids)
    true = [space.coordinates[space.owner == row] for row in range(k)]
    for row in range(k):
        if cells is None or not cells.usable[row]:
            continue
        for column, other in enumerate(comparison.pairs[row]):
            if len(true[other]):
                values[row, column] = of(cells.coordinates[row], true[other])
    return outcome(comparison, values, len(space.genes))


def ediff(comparison: Comparison, gene_set: str) -> Outcome:
    """Energy distance of predicted to true cells in the PCA of the truth."""
    return _of_cells(comparison, energy_distance)


def mmd_cells(comparison: Comparison, gene_set: str) -> Outcome:
    """Maximum mean discrepancy of predicted and true cells; one bandwidth for the fold, median true distance."""
    width = comparison.truth.extras.cells.bandwidth
    return _of_cells(comparison, lambda a, b: mmd(a, b, width))


def var_ratio(comparison: Comparison, gene_set: str) -> Outcome:
    """Median over genes that vary of variance between predicted cells / variance between true cells."""
    truth, cells = comparison.truth, comparison.predicted.cells
    genes = truth.gene_set(gene_set)
    true = truth.variance * truth.n_cells[:, None]
    values = np.full(comparison.pairs.shape, np.nan)
    varying = np.array([(true[row, index] > 0).any() for row, index in enumerate(genes.index)], dtype=bool)
    for row in range(len(truth.ids)):
        if cells is None or not cells.usable[row] or np.isnan(cells.variance[row]).all():
            continue
        for column, other in enumerate(comparison.pairs[row]):
            if varying[other]:
                index = genes.index[other][true[other, genes.index[other]] > 0]
                values[row, column] = np.median(cells.variance[row, index] / true[other, index])
    return outcome(comparison, values, genes.size, (~varying, "const_true"))


def effects(coordinates: list[np.ndarray], control: np.ndarray) -> np.ndarray:
    """Return (K, 1) energy distances of each group of cells to the controls; NaN for an empty one."""
    return np.array([[energy_distance(group, control) if len(group) else np.nan] for group in coordinates])
