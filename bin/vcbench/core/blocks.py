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

#: Values held at once while reading: 8 bytes each as sparse float32, 4 as dense.
VALUES_PER_BLOCK = 8_000_000


class BlockReader:
    """An h5ad file whose `obs` and `var_names` are in memory and whose X stays on disk.

    X may be dense, CSR or CSC; CSC cannot be read by rows and is loaded whole. :meth:`blocks` gives every row once, as
    CSR on the chosen genes, with sorted indices and no stored zeros.
    """

    def __init__(self, path: Path | str, values_per_block: int = VALUES_PER_BLOCK) -> None:
        import anndata as ad

        self.path = Path(path)
        if not self.path.exists():
            raise InputError("file not found", where=str(path))
        try:
            self._data = ad.read_h5ad(self.path, backed="r")
            self.obs: pd.DataFrame = self._data.obs
            self.var_names = self._data.var_names
            self.n_rows, self.n_genes = self._data.shape
            self._x: Any = self._data.X
            self.uns = dict(self._data.uns)
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                "not a readable h5ad file", where=str(path), found=" ".join(str(error).split()),
                hint="write it with anndata's write_h5ad",
            ) from error  # fmt: skip
        if self._x is None:
            raise InputError("no X", where=str(path), expected="log1p expression")
        self._values_per_block = values_per_block
        if getattr(self._x, "format", "") == "csc":
            log.warning("%s: X is stored by columns (CSC) and is loaded whole; store it as CSR to save memory", path)
            self._x = self._x.to_memory().tocsr()

    def bounds(self) -> list[int]:
        """Return the first row of each block and the number of rows; a block holds at least one row."""
        if self.is_sparse:
            starts = np.asarray(self._x.group["indptr"] if hasattr(self._x, "group") else self._x.indptr)
            found = [0]
            while found[-1] < self.n_rows:
                limit = starts[found[-1]] + self._values_per_block
                found.append(max(found[-1] + 1, int(np.searchsorted(starts, limit, side="right")) - 1))
            return found
        rows = max(1, self._values_per_block // max(1, self.n_genes))
        return [*range(0, self.n_rows, rows), self.n_rows]

    @property
    def is_sparse(self) -> bool:
        """Whether X is stored sparse."""
        return hasattr(self._x, "format")

    @property
    def dtype(self) -> np.dtype:
        """Type of the blocks: that of X, float32 for whole or half numbers."""
        return np.dtype(self._x.dtype) if self._x.dtype in (np.float32, np.float64) else np.dtype(np.float32)

    def blocks(
        self, columns: np.ndarray | None = None, rows: np.ndarray | None = None
    ) -> Iterator[tuple[int, sp.csr_matrix]]:
        """Yield (position of the first row, CSR block), all rows or blocks that hold any of `rows` (sorted positions).

        With `rows`, a block holds those rows only and the position is that of its first one within `rows`.
        """
        import scipy.sparse as sp

        bounds = self.bounds()
        for start, stop in itertools.pairwise(bounds):
            if rows is not None:
                low, high = np.searchsorted(rows, (start, stop))
                if low == high:
                    continue
            block = sp.csr_matrix(self._x[start:stop], dtype=self.dtype)
            if rows is not None:
                block, start = block[rows[low:high] - start], int(low)
            if columns is not None:
                block = block[:, columns]
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
        self._data.file.close()

    def __enter__(self) -> BlockReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
