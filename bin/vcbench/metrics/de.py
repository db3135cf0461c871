"""The truth DE table: rank-sum of perturbed against held-out control cells (metrics.md 2.2, 9.3, 10.6)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.metrics import contract, profiles, rank_sum_kernel

if TYPE_CHECKING:
    import pyarrow as pa
    import scipy.sparse as sp

#: Stored values of the groups (not of the reference) that are read and tested at once: 8 bytes each.
VALUES_PER_BATCH = 60_000_000


def settings() -> dict[str, Any]:
    """Return what fixes the table: the eight choices of metrics.md 9.3, written to its header."""
    from importlib import metadata

    return {
        "engine": f"illico {metadata.version('illico')}",
        "test": "rank-sum, two-sided, normal approximation",
        "tie_correction": True,
        "continuity_correction": False,
        "fold_change": "log2 of the ratio of arithmetic means of linear normalised expression",
        "pseudocount": f"{contract.PSEUDOCOUNT} per {contract.FOLD_CHANGE_SCALE:g} scaled counts",
        "p_adjustment": "Benjamini-Hochberg per perturbation over the tested genes",
        "tested_genes": f"detected in >= {contract.EXPRESSED_SHARE:.0%} of training control or perturbed cells",
        "control": "control half A (held out)",
        "zero_means": "finite by the pseudocount",
        "significant": f"p_adj < {contract.FDR}",
        "min_cells": contract.MIN_CELLS_DE,
    }


def rank_sum(
    expression: profiles.Expression | sp.csr_matrix, groups: np.ndarray, n_groups: int, continuity: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return z and two-sided p, both (groups, genes), of each group 0.. against group -1 (the reference).

    Tie-corrected, without `continuity` correction unless asked for; cells with code < -1 are left out; genes without
    variation and groups without cells get z 0, p 1.
    """
    return rank_sums(expression, [groups], n_groups, continuity)[0]


def rank_sums(
    expression: profiles.Expression | sp.csr_matrix, groupings: Sequence[np.ndarray], n_groups: int,
    continuity: bool = False,
) -> list[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Return :func:`rank_sum` of several groupings, reading the cells once; all but the first only leave cells out.

    A matrix in memory is used as it is. Of cells on disk, groups are read in batches, so that no more than the
    reference and :data:`VALUES_PER_BATCH` stored values (or one group) are in memory; every group is tested by itself,
    whatever its batch.
    """
    import scipy.sparse as sp

    whole = groupings[0]
    in_memory = sp.issparse(expression) and expression.nnz <= np.iinfo(np.int32).max
    limit = np.inf if in_memory else VALUES_PER_BATCH
    if in_memory and not expression.has_sorted_indices:
        expression = expression.sorted_indices()
    size = np.bincount(whole[whole >= 0], weights=profiles.sizes(expression)[whole >= 0], minlength=n_groups)
    shape = (n_groups, expression.shape[1])
    found = [(np.zeros(shape), np.ones(shape)) for _ in groupings]
    first = 0
    while first < n_groups:
        last = first + max(1, int(np.searchsorted(np.cumsum(size[first:]), limit, side="right")))
        batch = np.flatnonzero((whole == -1) | ((whole >= first) & (whole < last)))
        matrix = expression if in_memory else profiles.take(expression, batch)
        for groups, (z, p) in zip(groupings, found, strict=True):
            codes = groups if in_memory else groups[batch]
            present = np.unique(codes[codes >= 0])
            if len(present):
                number = np.where(codes < 0, codes, np.searchsorted(present, codes))
                z[present], p[present] = rank_sum_kernel.test(matrix, number, len(present), continuity)
        del matrix
        first = last
    return found


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return adjusted p values of a vector: ``p_(j) * m / j``, cumulative minimum from the largest; NaN stay NaN."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    m = len(known)
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * m / np.arange(1, m + 1)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def log2_fold_change(mean: np.ndarray, control: np.ndarray, target_sum: float) -> np.ndarray:
    """Return log2((m + e)/(c + e)) of mean linear expression on the scale `target_sum`, rescaled to 10,000."""
    scale = contract.FOLD_CHANGE_SCALE / target_sum
    e = contract.PSEUDOCOUNT
    return np.log2((mean * scale + e) / (control * scale + e))


def ranks(p_adj: np.ndarray, log2fc: np.ndarray, stat: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Return 1, 2, ... for significant genes by |log2fc|, then |stat|, then name; 0 for the others.

    Numbers equal to 10 decimals are ties: what is left of the order of cells in a sum must not order genes.
    """
    rank = np.zeros(len(p_adj), dtype=np.int32)
    significant = np.flatnonzero(p_adj < contract.FDR)
    size, z = (np.round(np.abs(values[significant]), 10) for values in (log2fc, stat))
    order = np.lexsort((genes[significant], -z, -size))
    rank[significant[order]] = np.arange(1, len(order) + 1)
    return rank


@dataclass(frozen=True)
class DeRow:
    """The DE result of one perturbation of one fold over `gene_index` (tested genes, positions on the axis)."""

    fold: int
    perturbation: str
    gene_index: np.ndarray
    stat: np.ndarray
    p: np.ndarray
    p_adj: np.ndarray
    log2fc: np.ndarray
    rank: np.ndarray


def test_row(
    fold: int,
    perturbation: str,
    tested: np.ndarray,
    z: np.ndarray,
    p: np.ndarray,
    log2fc: np.ndarray,
    genes: np.ndarray,
) -> DeRow:
    """Return the DE result over the genes `tested` (positions) from whole-axis z, p and log2fc."""
    p_adj = benjamini_hochberg(p[tested])
    rank = ranks(p_adj, log2fc[tested], z[tested], genes[tested])
    return DeRow(fold, perturbation, tested, z[tested], p[tested], p_adj, log2fc[tested], rank)


test_row.__test__ = False  # not a test, whatever pytest makes of its name


def to_table(rows: list[DeRow], genes: np.ndarray, header: dict[str, Any]) -> pa.Table:
    """Return the table (fold, perturbation, gene, stat, p, p_adj, log2fc, rank) with the header as metadata."""
    import pyarrow as pa

    sizes = [len(row.gene_index) for row in rows]

    def column(name: str, dtype: type) -> np.ndarray:
        return np.concatenate([getattr(row, name) for row in rows]) if rows else np.array([], dtype=dtype)

    names = np.repeat(np.array([row.perturbation for row in rows], dtype=object), sizes)
    table = pa.table({
        "fold": pa.array(np.repeat([row.fold for row in rows], sizes).astype(np.int32)),
        "perturbation": pa.array(names, pa.string()),
        "gene": pa.array(genes[column("gene_index", np.int64)].astype(object), pa.string()),
        "stat": column("stat", float),
        "p": column("p", float),
        "p_adj": column("p_adj", float),
        "log2fc": column("log2fc", float),
        "rank": pa.array(column("rank", np.int32)),
    })  # fmt: skip
    return table.replace_schema_metadata({"vcbench": json.dumps(header, sort_keys=True)})


def read_table(path: Path | str) -> tuple[list[tuple[int, str, np.ndarray, dict[str, np.ndarray]]], dict[str, Any]]:
    """Return the table by (fold, perturbation) as ``(fold, perturbation, gene names, columns)`` and its header."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[b"vcbench"])
    fold = table.column("fold").to_numpy()
    perturbation = table.column("perturbation").to_numpy(zero_copy_only=False)
    gene = table.column("gene").to_numpy(zero_copy_only=False)
    values = {name: table.column(name).to_numpy() for name in ("stat", "p", "p_adj", "log2fc", "rank")}
    change = np.flatnonzero((fold[1:] != fold[:-1]) | (perturbation[1:] != perturbation[:-1])) + 1
    rows = []
    bounds = [0, *change.tolist(), len(fold)] if len(fold) else [0]
    for start, stop in itertools.pairwise(bounds):
        part = slice(start, stop)
        rows.append((int(fold[start]), str(perturbation[start]), gene[part], {n: v[part] for n, v in values.items()}))
    return rows, header
