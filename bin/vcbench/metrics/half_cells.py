"""Halves of the measured cells as truth and as predicted cells: the ceiling of metrics of cells (metrics.md 6.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vcbench.metrics import bundle, cell_space, contract, de, extras, profiles

if TYPE_CHECKING:
    import scipy.sparse as sp

    from vcbench.metrics.bundle import FoldTruth
    from vcbench.metrics.comparison import PredictedCells
    from vcbench.metrics.truth import Cells


@dataclass(frozen=True)
class HalfCells:
    """The measured cells of one fold by half; they live as long as the dataset is read and are in no file.

    `row` (cells,) is the row of each cell's perturbation in the fold, -1 for others; `first` (seeds, cells) whether a
    cell is in the first half of a split; `held_out` positions of the held-out controls among the controls of the fold's
    extras; `baseline` makes the challenge's truth of a fold from its lists of significant genes, None when it was not
    asked for.
    """

    cells: Cells
    row: np.ndarray
    first: np.ndarray
    held_out: np.ndarray
    seed: int
    baseline: Callable[[FoldTruth, tuple[np.ndarray, ...]], extras.VccTruth] | None


@dataclass(frozen=True)
class Side:
    """One half: the fold whose truth it is, with labels of its own, and the same cells as predicted ones."""

    truth: FoldTruth
    cells: PredictedCells


def _codes(halves: HalfCells, seed: int, side: int) -> np.ndarray:
    """Return (cells,) the row of each cell of one half, -1 for others and for perturbations that were not split."""
    inside = halves.first[seed] & (halves.row >= 0)
    if side == 0:
        return np.where(inside, halves.row, -1)
    split = np.isin(halves.row, halves.row[inside])
    return np.where(split & ~inside, halves.row, -1)


def _taken(halves: HalfCells, codes: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """Return the values of the cells with a code, and their codes."""
    at = np.flatnonzero(codes >= 0)
    return profiles.take(halves.cells.expression, at), codes[at]


def side_of(fold: FoldTruth, seed: int, side: int) -> Side:
    """Return the first (0) or second (1) half of a split of the cells of each perturbation.

    As truth it is tested against the held-out controls, as a prediction against those of the training, as in SCORE.
    Perturbations that were not split have no cells.
    """
    halves = fold.extras.halves
    cells, codes = _taken(halves, _codes(halves, seed, side))
    k = len(fold.ids)
    # nothing is said about how halves scatter
    of_fold = replace(fold, extras=replace(fold.extras, counts=None))
    found = cell_space.predicted(of_fold, fold.ids, cells, codes, halves.seed)
    (moments,) = profiles.collect(cells, [profiles.Wanted(codes, k)])
    of_cells = fold.extras
    if of_cells.cells is not None:
        owner = np.repeat(np.arange(k), [len(group) for group in found.coordinates])
        space = replace(of_cells.cells, coordinates=np.concatenate(found.coordinates), owner=owner)
        of_cells = replace(of_cells, cells=space)
    if of_cells.log_of_mean is not None:
        of_cells = replace(of_cells, log_of_mean=replace(of_cells.log_of_mean, profile=found.log_of_mean))
    truth = replace(
        fold, n_cells=moments.n.astype(np.int64), profile=moments.mean,
        variance=np.nan_to_num(moments.variance_of_mean), extras=of_cells,
    )  # fmt: skip
    if of_cells.cells is not None and len(halves.held_out):
        truth = _with_labels(truth, cells, codes)
    if halves.baseline is not None and found.listed is not None:
        truth = replace(truth, extras=replace(of_cells, vcc=halves.baseline(truth, found.listed)))
    return Side(truth, found)


def _with_labels(truth: FoldTruth, cells: sp.csr_matrix, codes: np.ndarray) -> FoldTruth:
    """Return the fold with changed genes by these cells alone, as the truth DE table has them of all cells."""
    import scipy.sparse as sp

    halves = truth.extras.halves
    control = truth.extras.controls.expression[halves.held_out]
    enough = truth.n_cells >= contract.MIN_CELLS_DE
    tested, k = np.flatnonzero(truth.expressed), len(truth.ids)
    groups = np.concatenate([np.where(enough[codes], codes, -2), np.full(control.shape[0], -1)])
    both = sp.vstack([cells, control]).tocsr()
    z, p = de.rank_sum(both, groups, k)
    of_group = np.concatenate([codes, np.full(control.shape[0], k)])
    (linear,) = profiles.collect(both, [profiles.Wanted(of_group, k + 1, profiles.LINEAR, squares=False)])
    change = de.log2_fold_change(linear.mean[:k], linear.mean[k], halves.cells.target_sum)
    found = bundle.labels(truth.fold, truth.ids, enough, tested, z, p, change, halves.cells.genes)
    return replace(
        truth, significant=found.significant, positive=found.positive, p_adj=found.p_adj, log2fc=found.log2fc
    )


def whole(fold: FoldTruth) -> PredictedCells | None:
    """Return all measured cells of a fold as predicted ones, None without cells.

    In distances they are the stored cells of the truth, which is at distance 0 from itself.
    """
    halves = fold.extras.halves
    if halves is None:
        return None
    found = cell_space.predicted(fold, fold.ids, *_taken(halves, halves.row), halves.seed)
    space = fold.extras.cells
    if space is None:
        return found
    return replace(found, coordinates=tuple(space.coordinates[space.owner == row] for row in range(len(fold.ids))))
