"""Reading raw counts from a user's h5ad, and proving that they are raw counts.

The matrix is read in blocks and kept sparse: memory is 8 bytes per non-zero value whatever its type in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core.errors import InputError
from vcbench.core.names import closest

if TYPE_CHECKING:
    import h5py
    import pandas as pd
    import scipy.sparse as sp

#: Values looked at in one go.
BLOCK = 1 << 22

#: float32 holds every integer up to here; a larger "count" is no count.
LARGEST_COUNT = 1 << 24


@dataclass(frozen=True)
class Screen:
    """A user's screen: `counts` (cells, genes) CSR int32, `obs` with unique barcodes, unique gene symbols."""

    counts: sp.csr_matrix
    obs: pd.DataFrame
    genes: np.ndarray


def read(path: Path | str, layer: str = "", gene_column: str = "") -> Screen:
    """Return the raw counts of an h5ad file; `layer` empty means X, `gene_column` empty means the index of var.

    Raises :class:`InputError` naming file and place: not an h5ad, missing layer or column, empty matrix, duplicate or
    empty barcodes and gene names, Ensembl ids instead of symbols, and values that are not raw counts.
    """
    import h5py

    if not Path(path).exists():
        raise InputError("file not found", where=str(path))
    try:
        handle = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            "not a readable h5ad file", where=str(path), found=error, hint="write it with anndata's write_h5ad"
        ) from error
    with handle:
        obs, var = (_frame(handle, name, path) for name in ("obs", "var"))
        place = f"layers/{layer}" if layer else "X"
        if place not in handle:
            known = list(handle["layers"]) if "layers" in handle else []
            if layer:
                raise InputError(f"no layer '{layer}'", where=f"{path}, layers", hint=closest(layer, [*known]))
            raise InputError("no matrix X", where=str(path), hint=f"set counts_layer to one of: {', '.join(known)}")
        if not len(obs) or not len(var):
            raise InputError("empty matrix", where=f"{path}, {place}", found=f"{len(obs)} cells x {len(var)} genes")
        _check_barcodes(obs, path)
        genes = _gene_names(var, gene_column, path)
        counts = _Matrix(handle, place, path, obs.index.to_numpy(), genes).read()
    if counts.nnz == 0:
        raise InputError("empty matrix: every count is zero", where=f"{path}, {place}")
    return Screen(counts, obs, genes)


def column(obs: pd.DataFrame, name: str, path: Path | str, parameter: str) -> np.ndarray:
    """Return an obs column as (cells,) strings, missing values empty; raises with the nearest name when absent."""
    if name not in obs.columns:
        raise InputError(
            f"no column '{name}' in obs", where=f"{path}, obs ({parameter})", hint=closest(name, map(str, obs.columns))
        )
    values = obs[name]
    missing = values.isna().to_numpy()
    text = values.astype(str).to_numpy(dtype=object)
    text[missing] = ""
    return np.array([value.strip() for value in text], dtype=object)


def _frame(handle: h5py.File, name: str, path: Path | str) -> pd.DataFrame:
    from anndata.io import read_elem

    if name not in handle:
        raise InputError(f"not an h5ad file: it has no {name}", where=str(path), hint="write it with anndata")
    try:
        return read_elem(handle[name])
    except Exception as error:  # anndata raises many kinds
        raise InputError(f"cannot read {name}", where=str(path), found=error, hint="write it with anndata") from error


def _check_barcodes(obs: pd.DataFrame, path: Path | str) -> None:
    if not obs.index.is_unique:
        twice = obs.index[obs.index.duplicated()]
        raise InputError(
            "duplicate cell barcodes", where=f"{path}, obs index", found=f"{len(twice)}, e.g. {twice[0]}",
            expected="each barcode once", hint="obs_names_make_unique, or drop repeated cells",
        )  # fmt: skip


def _gene_names(var: pd.DataFrame, gene_column: str, path: Path | str) -> np.ndarray:
    where = f"{path}, var['{gene_column}']" if gene_column else f"{path}, var index"
    if gene_column and gene_column not in var.columns:
        raise InputError(
            f"no column '{gene_column}' in var", where=f"{path}, var", hint=closest(gene_column, map(str, var.columns))
        )
    values = var[gene_column] if gene_column else var.index.to_series()
    empty = values.isna().to_numpy() | values.astype(str).str.strip().isin(["", "nan", "None"]).to_numpy()
    if empty.any():
        raise InputError("missing gene names", where=where, found=f"{empty.sum()}, first in row {empty.argmax() + 1}")
    names = values.astype(str).str.strip()
    repeated = names[names.duplicated()]
    if len(repeated):
        raise InputError(
            "duplicate gene names", where=where, found=f"{len(repeated)}, e.g. {repeated.iloc[0]}",
            expected="each symbol once", hint="var_names_make_unique, or sum the repeated columns",
        )  # fmt: skip
    ensembl = names.str.fullmatch(r"ENS[A-Z]*G\d{11}(\.\d+)?")
    if ensembl.mean() > 0.5:
        other = [str(c) for c in var.columns if (c != gene_column and "name" in str(c).lower()) or "symbol" in str(c)]
        raise InputError(
            "Ensembl ids instead of gene symbols", where=where, found=names[ensembl].iloc[0],
            expected="symbols, as the perturbed genes are written",
            hint=f"set gene_column to {other[0]}" if other else "gene_column names the column of var that has symbols",
        )  # fmt: skip
    return names.to_numpy(dtype=object)


class _Matrix:
    """One matrix of the file, read block by block into CSR int32, checked on the way."""

    def __init__(
        self, handle: h5py.File, place: str, path: Path | str, barcodes: np.ndarray, genes: np.ndarray
    ) -> None:
        self.handle, self.place, self.path = handle, place, path
        self.barcodes, self.genes = barcodes, genes
        self.where = f"{path}, {place}"

    def read(self) -> sp.csr_matrix:
        import h5py

        node = self.handle[self.place]
        matrix = self._dense(node) if isinstance(node, h5py.Dataset) else self._sparse(node)
        if matrix.shape != (len(self.barcodes), len(self.genes)):
            raise InputError("wrong shape", where=self.where, found=matrix.shape, expected="cells x genes")
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        matrix.sort_indices()
        return matrix

    def _sparse(self, node: h5py.Group) -> sp.csr_matrix:
        import scipy.sparse as sp

        if not {"data", "indices", "indptr"} <= set(node):
            raise InputError("not a sparse matrix", where=self.where, found=", ".join(node))
        kind = str(node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", "csr")))
        shape = tuple(int(n) for n in node.attrs.get("shape", node.attrs.get("h5sparse_shape", ())))
        indices, indptr = node["indices"][...], node["indptr"][...]
        values = node["data"]
        self._check_type(values.dtype)
        data = np.empty(len(values), np.int32)
        for start in range(0, len(values), BLOCK):
            block = values[start : start + BLOCK]
            wrong = _first_wrong(block)
            if wrong is not None:
                major = int(np.searchsorted(indptr, start + wrong, side="right")) - 1
                minor = int(indices[start + wrong])
                row, col = (minor, major) if kind.startswith("csc") else (major, minor)
                self._fail(row, col, block, wrong)
            data[start : start + BLOCK] = block
        cls = sp.csc_matrix if kind.startswith("csc") else sp.csr_matrix
        return sp.csr_matrix(cls((data, indices, indptr), shape=shape))

    def _dense(self, node: h5py.Dataset) -> sp.csr_matrix:
        import scipy.sparse as sp

        if node.ndim != 2:
            raise InputError("not a matrix", where=self.where, found=f"{node.ndim} dimensions")
        self._check_type(node.dtype)
        pieces = []
        rows = max(1, BLOCK // max(1, node.shape[1]))
        for start in range(0, node.shape[0], rows):
            block = node[start : start + rows]
            wrong = _first_wrong(block.ravel())
            if wrong is not None:
                self._fail(start + wrong // node.shape[1], wrong % node.shape[1], block.ravel(), wrong)
            pieces.append(sp.csr_matrix(block.astype(np.int32)))
        return sp.vstack(pieces, format="csr")

    def _check_type(self, dtype: np.dtype) -> None:
        if dtype.kind not in "iufb":
            raise InputError("not numbers", where=self.where, found=dtype, expected="counts")

    def _fail(self, row: int, col: int, block: np.ndarray, wrong: int) -> None:
        value = block[wrong]
        at = f"{value} in cell {self.barcodes[row]} (row {row + 1}), gene {self.genes[col]}"
        finite = block[np.isfinite(block)]
        if not np.isfinite(value):
            what = "the counts hold NaN or infinity"
        elif value > LARGEST_COUNT:
            what = "a count is impossibly large"
        elif finite.min() < 0:
            what = "the counts are negative; this looks like a scaled matrix (z-scores)"
        elif finite.max() < 20:
            what = "the counts are fractional; this looks log-normalised"
        else:
            what = "the counts are fractional; this looks normalised or corrected"
        raise InputError(what, where=self.where, found=at, expected="raw integer counts", hint=self._elsewhere())

    def _elsewhere(self) -> str:
        """Name a place of the file that does hold integers, judged by its first values."""
        import h5py

        places = ["X", "raw/X", *(f"layers/{name}" for name in self.handle.get("layers", {}))]
        for place in places:
            node = self.handle.get(place)
            if node is None or place == self.place:
                continue
            values = node if isinstance(node, h5py.Dataset) else node.get("data")
            if values is None or values.dtype.kind not in "iuf":
                continue
            sample = np.asarray(values[:200] if values.ndim > 1 else values[:100_000]).ravel()
            if sample.any() and _first_wrong(sample) is None:
                if place.startswith("layers/"):
                    return f"{place} holds integers: set counts_layer to {place.removeprefix('layers/')}"
                if place == "raw/X":
                    return "raw.X holds integers: save adata.raw.to_adata()"
                return "X holds integers: leave counts_layer empty"
        return "give the matrix before normalisation"


def _first_wrong(values: np.ndarray) -> int | None:
    """Index of the first value that is no count (NaN, negative, fractional, too large), or None."""
    if values.dtype.kind == "b":
        return None
    with np.errstate(invalid="ignore"):
        wrong = ~(values >= 0) | (values > LARGEST_COUNT)
        if values.dtype.kind == "f":
            wrong |= values != np.floor(values)
    return int(wrong.argmax()) if wrong.any() else None


def totals(counts: sp.csr_matrix, excluded_columns: Sequence[int] = ()) -> np.ndarray:
    """Return (cells,) int64 total counts, columns in `excluded_columns` left out."""
    total = np.asarray(counts.sum(axis=1, dtype=np.int64)).ravel()
    if len(excluded_columns):
        total -= np.asarray(counts[:, list(excluded_columns)].sum(axis=1, dtype=np.int64)).ravel()
    return total


def detected_in(counts: sp.csr_matrix, rows: np.ndarray | None = None) -> np.ndarray:
    """Return (genes,) numbers of cells with a count, over all rows or a boolean selection of them."""
    indices: Any = counts.indices
    if rows is not None:
        indices = counts.indices[np.repeat(rows, np.diff(counts.indptr))]
    return np.bincount(indices, minlength=counts.shape[1])
