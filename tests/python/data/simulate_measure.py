"""Measures effect sizes as the authors of the real screen did (data spec 3.5 and 7.2); a tool of the tests.

Recipe: mask TP53, scale to 1e4 UMIs per whole cell, log1p, variable genes (mean 0.0125-4, normalised dispersion > 0.5),
regress out batch and depth, scale, clip at 10, 20 principal components, two-sample Hotelling T2.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

N_COMPONENTS = 20


def log_normalise(counts: sp.csr_matrix, target: float) -> sp.csr_matrix:
    """Return log1p of counts scaled to `target` per cell, float32."""
    totals = np.asarray(counts.sum(1)).ravel()
    scaled = sp.csr_matrix((counts.data.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)
    scaled.data *= np.repeat(target / totals, np.diff(counts.indptr)).astype(np.float32)
    np.log1p(scaled.data, out=scaled.data)
    return scaled


def variable_genes(expression: sp.csr_matrix) -> np.ndarray:
    """Return indices of genes with mean 0.0125-4 and a dispersion over 0.5 SD above that of genes of like mean."""
    n_cells, n_genes = expression.shape
    linear = np.expm1(expression.data.astype(np.float64))
    mean = np.bincount(expression.indices, linear, n_genes) / n_cells
    square = np.bincount(expression.indices, linear**2, n_genes) / n_cells
    variance = (square - mean**2) * n_cells / (n_cells - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        dispersion = np.log(variance / mean)
    level = np.log1p(mean)
    bins = np.digitize(level, np.linspace(level.min(), level.max(), 21)[1:-1])
    score = np.full(n_genes, -np.inf)
    for bin_ in np.unique(bins):
        members = np.flatnonzero((bins == bin_) & np.isfinite(dispersion))
        values = dispersion[members]
        score[members] = (values - values.mean()) / values.std(ddof=1) if len(members) > 1 else 1.0
    return np.flatnonzero((level > 0.0125) & (level < 4) & (score > 0.5))


def components(
    counts: sp.csr_matrix, genes: tuple[str, ...], batch: np.ndarray | None, transcriptome_share: float
) -> np.ndarray:
    """Return the (cells, 20) scores; `batch` None leaves batch effects in."""
    keep = np.array([gene != "TP53" for gene in genes])
    counts = counts[:, keep]
    expression = log_normalise(counts, 1e4 * transcriptome_share)
    dense = expression[:, variable_genes(expression)].toarray()
    depth = np.asarray(counts.sum(1)).ravel().astype(np.float64)
    groups = np.zeros(len(depth), dtype=int) if batch is None else batch
    covariates = np.column_stack([groups == group for group in np.unique(groups)] + [depth / depth.mean()]).astype(
        np.float32
    )
    dense -= covariates @ np.linalg.lstsq(covariates, dense, rcond=None)[0]
    dense /= dense.std(0)
    np.clip(dense, -10, 10, out=dense)
    dense -= dense.mean(0)
    _, vectors = np.linalg.eigh(dense.T.astype(np.float32) @ dense)
    return (dense @ vectors[:, -N_COMPONENTS:]).astype(np.float64)


def hotelling(first: np.ndarray, second: np.ndarray) -> float:
    """Return the two-sample Hotelling T2 with pooled covariance."""
    n, m = len(first), len(second)
    pooled = ((n - 1) * np.cov(first.T) + (m - 1) * np.cov(second.T)) / (n + m - 2)
    difference = first.mean(0) - second.mean(0)
    return float(n * m / (n + m) * difference @ np.linalg.solve(pooled, difference))


def unbiased_distance(t2: float, n: int, m: int) -> float:
    """Return the squared Mahalanobis distance without the bias of sampling (mean of the non-central F distribution)."""
    p = N_COMPONENTS
    return (t2 * (n + m - p - 3) / (n + m - 2) - p) * (n + m) / (n * m)


def distances(scores: np.ndarray, labels: np.ndarray, controls: list[str]) -> dict[str, float]:
    """Return the D2 of each label against all control cells of other labels."""
    is_control = np.isin(labels, controls)
    result = {}
    for label in sorted(set(labels)):
        own, others = scores[labels == label], scores[is_control & (labels != label)]
        result[label] = unbiased_distance(hotelling(own, others), len(own), len(others))
    return result


def mean_t2(cells: np.ndarray, controls: list[np.ndarray]) -> float:
    """Return the mean T2 of the cells against each control label (the authors' score)."""
    return float(np.mean([hotelling(cells, control) for control in controls]))
