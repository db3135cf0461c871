"""Reading X of an h5ad file in blocks of rows, so that memory does not grow with the number of cells."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp

log = logging.getLogger(__name__)

#: Values held at once while reading, of dense X (4 bytes each, 8 when it has no zeros) and of sparse X (8 bytes each):
#: blocks of rows of dense X cut through chunks that are compressed; large arrays are slow to get from the system.
VALUES_PER_BLOCK = 8_000_000
STORED_PER_BLOCK = 1_000_000


class BlockReader:
    """An h5ad file whose `obs` and `var_names` are in memory and whose X stays on disk; layers are never read.

    X may be dense, CSR or CSC; CSC cannot be read by rows and is loaded whole. :meth:`blocks` gives every row once, as
    CSR on the chosen genes, with sorted indices and no stored zeros.
    """

    def __init__(self, path: Path | str, values_per_block: int | None = None) -> None:
        import h5py
        from anndata.io import read_elem

        self.path = Path(path)
        if not self.path.exists():
            raise InputError("file not found", where=str(path))
        if self.path.is_dir():
            raise InputError("a folder, not a file", where=str(path), expected="an h5ad file")
        try:
            self._file = h5py.File(self.path, "r")
            self.obs: pd.DataFrame = read_elem(self._file["obs"])
            self.var_names: pd.Index = read_elem(self._file["var"]).index
            self._x: Any = self._file.get("X")
            self._csr: sp.csr_matrix | None = None
            self._starts: np.ndarray | None = None
            if isinstance(self._x, h5py.Group):
                self._open_sparse(read_elem)
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                "not a readable h5ad file", where=str(path), found=" ".join(str(error).split()),
                hint="write it with anndata's write_h5ad",
            ) from error  # fmt: skip
        self.n_rows, self.n_genes = len(self.obs), len(self.var_names)
        if self._x is None or getattr(self._x, "shape", (self.n_rows, self.n_genes)) != (self.n_rows, self.n_genes):
            raise InputError("no X", where=str(path), expected="log1p expression")
        self._values_per_block = values_per_block or (STORED_PER_BLOCK if self.is_sparse else VALUES_PER_BLOCK)

    def _open_sparse(self, read_elem: Any) -> None:
        """Read where the rows of a sparse X begin; load X when it is stored by columns."""
        kind = self._x.attrs["encoding-type"]
        if kind == "csc_matrix":
            log.warning(
                "%s: X is stored by columns (CSC) and is loaded whole; store it as CSR to save memory", self.path
            )
            self._csr = read_elem(self._x).tocsr()
            self._starts = self._csr.indptr.astype(np.int64)
        elif kind == "csr_matrix":
            self._starts = self._x["indptr"][:].astype(np.int64)
        else:
            raise ValueError(f"X is stored as {kind}")

    def uns(self, key: str) -> Any:
        """Return one entry of `uns`, None when there is none."""
        from anndata.io import read_elem

        return read_elem(self._file["uns"][key]) if "uns" in self._file and key in self._file["uns"] else None

    def bounds(self) -> list[int]:
        """Return the first row of each block and the number of rows; a block holds at least one row."""
        if self._starts is not None:
            found = [0]
            while found[-1] < self.n_rows:
                limit = self._starts[found[-1]] + self._values_per_block
                found.append(max(found[-1] + 1, int(np.searchsorted(self._starts, limit, side="right")) - 1))
            return found
        rows = max(1, self._values_per_block // max(1, self.n_genes))
        return [*range(0, self.n_rows, rows), self.n_rows]

    @property
    def is_sparse(self) -> bool:
        """Whether X is stored sparse."""
        return self._starts is not None

    def sizes(self) -> np.ndarray:
        """Return (rows,) how many values of each row are stored, on all genes of the file."""
        return np.full(self.n_rows, self.n_genes) if self._starts is None else np.diff(self._starts)

    @property
    def dtype(self) -> np.dtype:
        """Type of the blocks: that of X, float32 for whole or half numbers."""
        stored = self._x["data"].dtype if self.is_sparse else self._x.dtype
        return np.dtype(stored) if stored in (np.float32, np.float64) else np.dtype(np.float32)

    def _read(self, start: int, stop: int) -> sp.csr_matrix:
        """Return rows start .. stop - 1 as CSR."""
        import scipy.sparse as sp

        if self._csr is not None:
            return self._csr[start:stop].astype(self.dtype)
        if self._starts is None:
            return sp.csr_matrix(np.asarray(self._x[start:stop], dtype=self.dtype))
        first, last = int(self._starts[start]), int(self._starts[stop])
        values = np.asarray(self._x["data"][first:last], dtype=self.dtype)
        indices = self._x["indices"][first:last].astype(np.int32, copy=False)
        block = sp.csr_matrix((stop - start, self.n_genes), dtype=self.dtype)
        block.data, block.indices = values, indices
        block.indptr = (self._starts[start : stop + 1] - first).astype(np.int32)
        if len(indices) and (indices.min() < 0 or indices.max() >= self.n_genes):
            raise InputError("gene numbers beyond the genes", where=f"{self.path}, X", hint="the file is damaged")
        return block

    def blocks(
        self, columns: np.ndarray | None = None, rows: np.ndarray | None = None
    ) -> Iterator[tuple[int, sp.csr_matrix]]:
        """Yield (position of the first row, CSR block), all rows or blocks that hold any of `rows` (sorted positions).

        With `rows`, a block holds those rows only and the position is that of its first one within `rows`.
        """
        bounds = self.bounds()
        for start, stop in itertools.pairwise(bounds):
            if rows is not None:
                low, high = np.searchsorted(rows, (start, stop))
                if low == high:
                    continue
            block = self._read(start, stop)
            if rows is not None:
                block, start = block[rows[low:high] - start], int(low)
            if columns is not None:
                block = block[:, columns]
            if not block.data.all():
                block.eliminate_zeros()
            block.sort_indices()
            yield start, block

    def take(self, rows: np.ndarray, columns: np.ndarray | None = None) -> sp.csr_matrix:
        """Return (len(rows), genes) CSR of the rows at sorted positions `rows`."""
        import scipy.sparse as sp

        parts = [block for _, block in self.blocks(columns, np.asarray(rows))]
        width = self.n_genes if columns is None else len(columns)
        return sp.vstack(parts, format="csr") if parts else sp.csr_matrix((0, width), dtype=self.dtype)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> BlockReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
