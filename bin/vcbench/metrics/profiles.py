"""Mean profiles of groups of cells, in float64, with their sampling variance."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Moments:
    """Sums over the cells of each group: `n` (groups,), `total` and `squares` (groups, genes), all float64.

    Moments of disjoint groups add up, so halves, thirds and pools need no second pass over the cells.
    """

    n: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)

    def __sub__(self, other: Moments) -> Moments:
        return Moments(self.n - other.n, self.total - other.total, self.squares - other.squares)

    def __getitem__(self, rows: object) -> Moments:
        return Moments(self.n[rows], self.total[rows], self.squares[rows])

    def pooled(self) -> Moments:
        """Return one group (first axis kept, length 1) with the cells of all groups."""
        return Moments(self.n.sum(keepdims=True), self.total.sum(0, keepdims=True), self.squares.sum(0, keepdims=True))

    @property
    def mean(self) -> np.ndarray:
        """(groups, genes) mean; NaN for a group without cells."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.total / self.n[:, None]

    @property
    def variance(self) -> np.ndarray:
        """(groups, genes) unbiased variance between cells; NaN below two cells, exactly 0 for identical cells."""
        n = self.n[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.total / n
            spread = self.squares - n * mean**2
            # What is left of the squares after cancellation is rounding below this bound.
            spread = np.where(spread <= 1e-12 * self.squares, 0.0, spread)
            return np.where(n > 1, spread / (n - 1), np.nan)

    @property
    def variance_of_mean(self) -> np.ndarray:
        """(groups, genes) sampling variance of the mean (metrics.md 10.5): between-cell variance / number of cells."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.variance / self.n[:, None]


#: What is summed over cells: log1p values as stored, whether a gene was detected, or linear values.
LOG1P, DETECTED, LINEAR = "log1p", "detected", "linear"
#: Stored values of cells that are worked on at once, and that are read together for groups looked at one by one.
VALUES_PER_BLOCK = 1_000_000
VALUES_TOGETHER = 20_000_000


class Expression(Protocol):
    """Cells in a fixed order whose values need not be in memory: (cells, genes) log1p expression."""

    shape: tuple[int, int]

    def blocks(self) -> Iterator[tuple[np.ndarray, sp.csr_matrix]]:
        """Yield (positions of cells, their values) until every cell was there once, always in the same order."""

    def take(self, cells: np.ndarray) -> sp.csr_matrix:
        """Return the values of the cells at these positions, in their order."""

    def sizes(self) -> np.ndarray:
        """Return (cells,) how many values are stored of each cell."""


@dataclass(frozen=True)
class Wanted:
    """Moments of groups of cells: `groups` (cells,) codes, negative ones are left out.

    `of` says what is summed; without `squares` there is no variance (NaN).
    """

    groups: np.ndarray
    n_groups: int
    of: str = LOG1P
    squares: bool = True


def collect(expression: Expression | sp.csr_matrix, wanted: Sequence[Wanted]) -> list[Moments]:
    """Return the moments of several groupings of the same cells in one pass over blocks of them.

    Memory: one block, and `total` (and `squares`) of each grouping. Cells are added one after another, so that the size
    of blocks changes no bit.
    """
    n_genes = expression.shape[1]
    totals = [np.zeros(job.n_groups * n_genes) for job in wanted]
    squares = [np.zeros(job.n_groups * n_genes) if job.squares else None for job in wanted]
    for cells, block in blocks_of(expression):
        lengths = np.diff(block.indptr)
        values: dict[str, np.ndarray] = {}
        for job, total, square in zip(wanted, totals, squares, strict=True):
            groups = np.asarray(job.groups)[cells]
            used = groups >= 0
            if not used.any():
                continue
            if job.of not in values:
                values[job.of] = _as(job.of, block.data)
            stored = slice(None) if used.all() else np.repeat(used, lengths)
            place = np.repeat(groups[used].astype(np.int64) * n_genes, lengths[used]) + block.indices[stored]
            added = values[job.of][stored]
            np.add.at(total, place, added)
            if square is not None:
                np.add.at(square, place, added * added)
    result = []
    for job, total, square in zip(wanted, totals, squares, strict=True):
        groups = np.asarray(job.groups)
        n = np.bincount(groups[groups >= 0], minlength=job.n_groups).astype(np.float64)
        shape = (job.n_groups, n_genes)
        result.append(
            Moments(
                n, total.reshape(shape), np.broadcast_to(np.nan, shape) if square is None else square.reshape(shape)
            )
        )
    return result


def _as(kind: str, data: np.ndarray) -> np.ndarray:
    """Return log1p values as what is to be summed, float64."""
    if kind == DETECTED:
        return (data > 0).astype(np.float64)
    data = data.astype(np.float64)
    return np.expm1(data) if kind == LINEAR else data


def blocks_of(expression: Expression | sp.csr_matrix) -> Iterator[tuple[np.ndarray, sp.csr_matrix]]:
    """Yield (positions, block) of a matrix in memory by rows, or of cells on disk, large blocks cut smaller."""
    whole = [(np.arange(expression.shape[0]), expression)] if sp.issparse(expression) else expression.blocks()
    for cells, part in whole:
        starts = part.indptr.astype(np.int64)
        first = 0
        while first < part.shape[0]:
            last = max(first + 1, int(np.searchsorted(starts, starts[first] + VALUES_PER_BLOCK, side="right")) - 1)
            yield (cells, part) if last - first == part.shape[0] else (cells[first:last], part[first:last])
            first = last


def take(expression: Expression | sp.csr_matrix, cells: np.ndarray) -> sp.csr_matrix:
    """Return the values of the cells at these positions, in their order."""
    return expression[cells] if sp.issparse(expression) else expression.take(cells)


def each(expression: Expression | sp.csr_matrix, groups: Sequence[np.ndarray]) -> Iterator[sp.csr_matrix]:
    """Yield the values of the cells at each group's positions; small groups are read from disk together.

    Memory: :data:`VALUES_TOGETHER` stored values or one group.
    """
    stored = np.array([int(sizes_of.sum()) for sizes_of in map(sizes(expression).__getitem__, groups)], dtype=np.int64)
    first = 0
    while first < len(groups):
        last = first + max(1, int(np.searchsorted(np.cumsum(stored[first:]), VALUES_TOGETHER, side="right")))
        values = take(expression, np.concatenate(groups[first:last]))
        ends = np.cumsum([0, *(len(group) for group in groups[first:last])])
        for start, stop in itertools.pairwise(ends):
            yield values[start:stop]
        first = last


def sizes(expression: Expression | sp.csr_matrix) -> np.ndarray:
    """Return (cells,) how many values are stored of each cell."""
    return np.diff(expression.indptr) if sp.issparse(expression) else expression.sizes()


def moments(matrix: np.ndarray | sp.spmatrix, groups: np.ndarray, n_groups: int) -> Moments:
    """Return the moments of the rows of `matrix` (cells, genes) by group code; negative codes are left out."""
    groups = np.asarray(groups)
    if sp.issparse(matrix):
        return collect(matrix.tocsr(), [Wanted(groups, n_groups)])[0]
    cells = np.flatnonzero(groups >= 0)
    shape = (n_groups, matrix.shape[0])
    indicator = sp.csr_matrix((np.ones(len(cells)), (groups[cells], cells)), shape=shape)
    n = np.bincount(groups[cells], minlength=n_groups).astype(np.float64)
    values = np.asarray(matrix, dtype=np.float64)
    return Moments(n, np.asarray(indicator @ values), np.asarray(indicator @ values**2))


def codes(labels: Sequence[str] | np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return the index in `names` of each label, -1 for labels that are not in it."""
    lookup = {name: row for row, name in enumerate(names)}
    unique, inverse = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    return np.array([lookup.get(label, -1) for label in unique.tolist()], dtype=np.int64)[inverse]
