"""Measured cells that stay in their files: what truth building and summaries of predictions read block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vcbench.core.blocks import BlockReader
from vcbench.core.errors import InputError

if TYPE_CHECKING:
    import scipy.sparse as sp


#: Rows that are moved at once when gaps are closed.
ROWS_MOVED = 2000


def columns_of(reader: BlockReader, genes: Sequence[str] | np.ndarray) -> np.ndarray | None:
    """Return the positions of `genes` in a file; None when they are its genes in its order."""
    if list(reader.var_names) == list(genes):
        return None
    position = {name: i for i, name in enumerate(reader.var_names)}
    return np.array([position[name] for name in genes], dtype=np.int64)


def check_measured(values: sp.csr_matrix, cells: Sequence[str] | np.ndarray, where: str) -> None:
    """Raise :class:`InputError` unless values (cells, genes) are finite and not negative; it names the first cell."""
    low, high = values.data.min(initial=0), values.data.max(initial=0)
    if low >= 0 and high < np.inf:  # false for NaN
        return
    infinite = ~np.isfinite(values.data)
    first = np.flatnonzero(infinite if infinite.any() else values.data < 0)[0]
    cell = cells[int(np.searchsorted(values.indptr, first, side="right")) - 1]
    what, found = ("values that are not finite", "NaN or inf") if infinite.any() else (
        "negative values", f"{values.data[first]:.6g}"
    )  # fmt: skip
    raise InputError(what, where=where, found=f"{found} in cell {cell}", expected="log1p expression")


@dataclass(frozen=True)
class StoredCells:
    """The rows of several files as one (cells, genes) :class:`~vcbench.metrics.profiles.Expression`, memory bounded.

    Attributes
    ----------
    readers
        The files, each with every gene of `genes`.
    genes
        The common axis, by name.
    place
        Per file, (rows,) position of each row among all cells: the order in which groups are drawn from, so that the
        order of rows in a file does not matter.
    checked
        Whether :meth:`blocks` raises :class:`InputError` for values that no measured cell has.
    """

    readers: tuple[BlockReader, ...]
    genes: np.ndarray
    place: tuple[np.ndarray, ...]
    checked: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """(cells, genes)."""
        return sum(reader.n_rows for reader in self.readers), len(self.genes)

    @cached_property
    def _columns(self) -> tuple[np.ndarray | None, ...]:
        return tuple(columns_of(reader, self.genes) for reader in self.readers)

    def blocks(self) -> Iterator[tuple[np.ndarray, sp.csr_matrix]]:
        """Yield (positions of cells, their values), file by file in the order of its rows."""
        for reader, place, columns in zip(self.readers, self.place, self._columns, strict=True):
            for start, block in reader.blocks(columns):
                if self.checked:
                    check_measured(block, reader.obs.index[start : start + block.shape[0]], f"{reader.path}, X")
                yield place[start : start + block.shape[0]], block

    def take(self, cells: np.ndarray) -> sp.csr_matrix:
        """Return the values of the cells at these positions, in their order; their size and a block in memory."""
        import scipy.sparse as sp

        wanted = np.full(self.shape[0], -1, dtype=np.int64)
        wanted[cells] = np.arange(len(cells))
        # Rows are put where they would start if nothing stored in the file were left out.
        starts = np.concatenate([[0], np.cumsum(self.sizes()[cells])])
        lengths = np.zeros(len(cells), dtype=np.int64)
        kind = np.result_type(np.float32, *(reader.dtype for reader in self.readers))
        data, indices = np.empty(starts[-1], dtype=kind), np.empty(starts[-1], dtype=np.int32)
        for reader, place, columns in zip(self.readers, self.place, self._columns, strict=True):
            rows = np.flatnonzero(wanted[place] >= 0)
            target = wanted[place[rows]]
            for start, block in reader.blocks(columns, rows) if len(rows) else ():
                at = target[start : start + block.shape[0]]
                lengths[at] = np.diff(block.indptr)
                to = np.repeat(starts[at] - block.indptr[:-1], lengths[at]) + np.arange(block.nnz)
                data[to], indices[to] = block.data, block.indices
        ends = np.concatenate([[0], np.cumsum(lengths)])
        if ends[-1] < starts[-1]:  # zeros or genes left out: close the gaps, some rows at a time
            for first in range(0, len(cells), ROWS_MOVED):
                last = min(first + ROWS_MOVED, len(cells))
                moved = np.repeat(starts[first:last] - ends[first:last], lengths[first:last])
                moved += np.arange(ends[first], ends[last])
                for of in (data, indices):
                    of[ends[first] : ends[last]] = of[moved]
            data, indices = data[: ends[-1]], indices[: ends[-1]]
        found = sp.csr_matrix((len(cells), self.shape[1]), dtype=kind)
        found.data, found.indices = data, indices
        found.indptr = ends.astype(np.int32 if ends[-1] < np.iinfo(np.int32).max else np.int64)
        found.has_sorted_indices = True
        return found

    def sizes(self) -> np.ndarray:
        """Return (cells,) how many values are stored of each cell, on all genes of its file."""
        result = np.zeros(self.shape[0], dtype=np.int64)
        for reader, place in zip(self.readers, self.place, strict=True):
            result[place] = reader.sizes()
        return result


def in_order_of_names(readers: Sequence[BlockReader], prefixes: Sequence[str]) -> tuple[np.ndarray, ...]:
    """Return per file the position of its rows when all rows are sorted by (prefix of the file, name of the cell)."""
    names = [
        np.char.add(f"{prefix} ", np.asarray(reader.obs.index, dtype=str))
        for reader, prefix in zip(readers, prefixes, strict=True)
    ]
    order = np.argsort(np.concatenate(names), kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return tuple(np.split(place, np.cumsum([len(part) for part in names])[:-1]))
