"""Scaling, log1p and the choice of genes; both are set by training controls only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp

_ROWS = 4096


def log_normalise(counts: sp.csr_matrix, totals: np.ndarray, target_sum: float) -> sp.csr_matrix:
    """Return log1p(counts * target_sum / totals) as CSR float32 sharing the sparsity pattern of `counts`.

    `totals` is (cells,) > 0; computed in float64, block by block.
    """
    import scipy.sparse as sp

    data = np.empty(counts.nnz, np.float32)
    for start in range(0, counts.shape[0], _ROWS):
        rows = slice(start, min(start + _ROWS, counts.shape[0]))
        ends = counts.indptr[rows.start : rows.stop + 1]
        scale = np.repeat(target_sum / totals[rows], np.diff(ends))
        data[ends[0] : ends[-1]] = np.log1p(counts.data[ends[0] : ends[-1]] * scale)
    return sp.csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape)


def highly_variable(expression: sp.csr_matrix, genes: np.ndarray, n_top: int) -> np.ndarray:
    """Return (genes,) bool: the `n_top` most variable genes of these cells (log1p values); fewer if fewer vary.

    Scanpy's ``seurat`` flavour: dispersion normalised within bins of mean expression (Satija et al. 2015).
    """
    import anndata as ad
    import pandas as pd
    import scanpy as sc

    adata = ad.AnnData(expression, var=pd.DataFrame(index=pd.Index(genes.astype(str))))
    table = sc.pp.highly_variable_genes(adata, n_top_genes=n_top, flavor="seurat", inplace=False)
    dispersion = table["dispersions_norm"].to_numpy(dtype=float)
    # scanpy's own choice takes all genes tied at the cut; the order of genes breaks ties here, so that n_top is kept
    order = np.argsort(np.where(np.isfinite(dispersion), -dispersion, np.inf), kind="stable")[:n_top]
    chosen = np.zeros(len(genes), dtype=bool)
    chosen[order[np.isfinite(dispersion[order])]] = True
    return chosen
