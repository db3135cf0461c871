"""From cells to what metrics of cells compare: the space of the truth, and predicted cells in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vcbench.core import seeds
from vcbench.metrics import contract, count_realism, de, distribution, profiles, vcc
from vcbench.metrics.comparison import PredictedCells
from vcbench.metrics.extras import CellTruth, Controls

if TYPE_CHECKING:
    import scipy.sparse as sp

    from vcbench.metrics.bundle import FoldTruth

#: Highly variable genes and principal components of the space.
N_GENES, N_COMPONENTS = 2000, 50
#: S of the log-of-mean profile: counts that a profile is scaled to.
LOG_OF_MEAN_SCALE = 5e4


def sample(at: np.ndarray, purpose: Sequence[object], seed: int) -> np.ndarray:
    """Return at most `MAX_CELLS` of the positions `at`, drawn by a seed, in their order."""
    if len(at) <= distribution.MAX_CELLS:
        return at
    chosen = seeds.stream(seed, "cells of distances", *purpose).permutation(len(at))[: distribution.MAX_CELLS]
    return at[np.sort(chosen)]


def log_of_mean(linear: np.ndarray) -> np.ndarray:
    """Return log1p(S * share of each gene) of mean linear expression (rows, G)."""
    total = linear.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log1p(LOG_OF_MEAN_SCALE * linear / total)


def variable_genes(moments: profiles.Moments, expressed: np.ndarray) -> np.ndarray:
    """Return the expressed genes with the largest variance of log1p values between cells of one group (sorted)."""
    variance = np.where(expressed, np.nan_to_num(moments.variance[0]), -1.0)
    return np.sort(np.argsort(-variance, kind="stable")[: min(N_GENES, int(expressed.sum()))])


def build(
    expression: sp.csr_matrix | profiles.Expression, groups: Sequence[np.ndarray], held_out: np.ndarray,
    training: np.ndarray, genes: np.ndarray, names: Sequence[str], dataset: str, seed: int,
) -> CellTruth:  # fmt: skip
    """Return the space of a fold: PCA of its true cells and controls on highly variable genes, and its cells.

    Held-out controls take part: cells that had no say in the components lie closer together in them than those that
    had, and the E-test would take that for an effect.

    `groups` are positions of the cells of each perturbation (sorted), `held_out` and `training` of controls.
    """
    from scipy.spatial.distance import pdist

    chosen = [sample(at, (dataset, name), seed) for at, name in zip(groups, names, strict=True)]
    held_out, training = (
        sample(at, (dataset, "control", half), seed) for at, half in ((held_out, "A"), (training, "B"))
    )
    every = np.sort(np.concatenate([*chosen, held_out, training]))
    values = profiles.take(expression, every)[:, genes].astype(np.float64)
    centre = np.asarray(values.mean(axis=0)).ravel()
    covariance = np.asarray((values.T @ values).todense()) / max(values.shape[0], 1) - np.outer(centre, centre)
    components = _components(covariance, min(N_COMPONENTS, len(genes), values.shape[0]))

    def project(at: np.ndarray) -> np.ndarray:
        return np.asarray(values[np.searchsorted(every, at)] @ components) - centre @ components

    coordinates = [project(at) for at in chosen]
    owner = np.repeat(np.arange(len(chosen)), [len(at) for at in chosen])
    both = np.concatenate([np.zeros((0, components.shape[1])), *coordinates])
    some = both[:: max(1, len(both) // 1000)]
    bandwidth = float(np.median(pdist(some))) if len(some) > 1 else 1.0
    far = project(held_out)
    tests = [
        distribution.etest(group, far, seeds.stream(seed, "etest", dataset, name))
        if len(group) >= contract.MIN_CELLS_PROFILE and len(far) else (np.nan, np.nan)
        for group, name in zip(coordinates, names, strict=True)
    ]  # fmt: skip
    distance, p = np.array(tests).reshape(-1, 2).T
    return CellTruth(genes, centre, components, both, owner, project(training), bandwidth or 1.0, distance, p)


def _components(covariance: np.ndarray, n: int) -> np.ndarray:
    """Return (H, n) principal components, largest first, the largest entry of each positive."""
    from scipy.linalg import eigh

    size = len(covariance)
    _, vectors = eigh(covariance, subset_by_index=[size - n, size - 1])
    vectors = vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    return vectors * np.sign(vectors[largest, np.arange(n)])


def predicted(
    truth: FoldTruth, ids: Sequence[str], cells: sp.csr_matrix, owner: np.ndarray, seed: int
) -> PredictedCells:
    """Return predicted cells of a fold, aligned to its truth; values below 0 count as 0.

    Perturbations whose cells do not differ, or are fewer than `MIN_CELLS_PROFILE`, have none (metrics.md 2.14):
    `usable` says so. Tests are against the training controls; they need `MIN_CELLS_DE` cells.
    """
    k, n_genes = truth.profile.shape
    row = {name: i for i, name in enumerate(truth.ids)}
    of = np.array([row.get(name, -1) for name in ids], dtype=np.int64)[owner]
    cells = cells.copy()
    cells.data = np.maximum(cells.data, 0)
    cells.eliminate_zeros()
    with_counts = truth.extras.counts is not None
    wanted = [profiles.Wanted(of, k), profiles.Wanted(of, k, profiles.LINEAR, squares=with_counts)]
    detections = [profiles.Wanted(of, k, profiles.DETECTED, squares=False)] if with_counts else []
    moments, linear, *detected = profiles.collect(cells, wanted + detections)
    variance = np.nan_to_num(moments.variance)
    usable = (moments.n >= contract.MIN_CELLS_PROFILE) & (variance > 0).any(axis=1)
    space, controls = truth.extras.cells, truth.extras.controls
    coordinates: tuple[np.ndarray, ...] = ()
    if space is not None:
        chosen = [sample(np.flatnonzero(of == i), ("predicted", name), seed) for i, name in enumerate(truth.ids)]
        origin = space.centre @ space.components
        coordinates = tuple(
            np.asarray(cells[at][:, space.genes].astype(np.float64) @ space.components) - origin for at in chosen
        )
    p_adj, log2fc, stat = np.full((3, k, n_genes), np.nan)
    listed: tuple[np.ndarray, ...] | None = None
    testable = usable & (moments.n >= contract.MIN_CELLS_DE)
    if controls is not None:
        if space is not None and controls.training.any():
            p_adj, log2fc, stat = _tests(truth, cells, of, linear.mean, testable, controls)
        if truth.extras.vcc is not None:
            listed = vcc.lists(cells, of, k, controls, moments.mean, usable)
    return PredictedCells(
        usable, testable, moments.n.astype(np.int64), variance, coordinates, p_adj, log2fc, stat,
        log_of_mean(linear.mean), listed, count_realism.of_cells(linear, detected[0]) if detected else None,
    )  # fmt: skip


def _tests(
    truth: FoldTruth, cells: sp.csr_matrix, of: np.ndarray, linear: np.ndarray, testable: np.ndarray, controls: Controls
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (K, G) adjusted p, log2 fold change and z against the training controls, computed as in the truth."""
    import scipy.sparse as sp

    k, n_genes = truth.profile.shape
    reference = controls.expression[np.flatnonzero(controls.training)]
    groups = np.concatenate([np.where((of >= 0) & testable[of], of, -2), np.full(reference.shape[0], -1)])
    z, p = de.rank_sum(sp.vstack([cells, reference]).tocsr(), groups, k)
    control = profiles.collect(
        reference, [profiles.Wanted(np.zeros(reference.shape[0], dtype=int), 1, profiles.LINEAR, squares=False)]
    )[0]
    change = de.log2_fold_change(linear, control.mean[0], controls.target_sum)
    p_adj, log2fc, stat = np.full((3, k, n_genes), np.nan)
    tested = np.flatnonzero(truth.expressed)
    for row in np.flatnonzero(testable):
        p_adj[row, tested] = de.benjamini_hochberg(p[row, tested])
        log2fc[row, tested], stat[row, tested] = change[row, tested], z[row, tested]
    return p_adj, log2fc, stat


def control_prediction(truth: FoldTruth) -> PredictedCells:
    """Return the training controls as predicted cells of every perturbation: what no change scores in a distance."""
    space = truth.extras.cells
    k, n_genes = truth.profile.shape
    every = np.ones(k, dtype=bool)
    nothing = np.full((k, n_genes), np.nan)
    size = np.full(k, len(space.control))
    return PredictedCells(every, every, size, nothing, (space.control,) * k, nothing, nothing, nothing, nothing, None)
