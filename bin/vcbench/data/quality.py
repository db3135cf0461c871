"""Provenance of a dataset, and the facts about its quality that the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vcbench.core import h5ad
from vcbench.core.hashing import sha256_file
from vcbench.data.conditions import Condition
from vcbench.data.request import Request
from vcbench.variants.proteins import Protein

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp


def provenance(
    request: Request,
    target_sum: float,
    masked: Sequence[str],
    unmeasured: Sequence[str],
    obs: pd.DataFrame,
    in_training: np.ndarray,
    n_genes: int,
    proteins: Sequence[Protein],
) -> dict[str, object]:
    """Provenance of the dataset; file names without folders, so that the same input gives the same bytes anywhere."""
    inputs = {"h5ad": request.h5ad, "proteins": request.proteins, "annotations": request.annotations}
    n_control = int((obs["perturbation"] == h5ad.CONTROL).sum())
    return {
        "kind": "dataset", "dataset": request.dataset, "perturbation_type": request.perturbation_type,
        "cell_line": request.cell_line, "modality": request.modality, "control_labels": list(request.control_labels),
        "batch_column": request.batch_column, "seed": request.seed,
        "target_sum": target_sum,
        "target_sum_from": "--target-sum" if request.target_sum else "median total counts of training controls",
        "masked_genes": list(masked), "perturbed_genes_not_measured": list(unmeasured),
        "gene_filter": {
            "min_cells_per_gene": request.min_cells_per_gene, "n_top_genes": request.n_top_genes,
            "highly_variable_in": "training controls" if request.n_top_genes else "",
        },
        "min_cells_per_perturbation": request.min_cells_per_perturbation,
        "max_cells_per_perturbation": request.max_cells_per_perturbation,
        "size": {
            "n_cells": len(obs), "n_genes": n_genes, "n_control": n_control,
            "n_control_a": n_control - int(in_training.sum()), "n_control_b": int(in_training.sum()),
        },
        "proteins": {protein.header: protein.sha256 for protein in proteins},
        "inputs": {
            name: {"file": Path(path).name, "sha256": sha256_file(path)}
            for name, path in inputs.items() if path is not None
        },
    }  # fmt: skip


def rows(
    found: Sequence[Condition],
    obs: pd.DataFrame,
    matrix: sp.csr_matrix,
    masked: Sequence[str],
    unmeasured: Sequence[str],
    dropped: dict[str, int],
    unknown: Sequence[str],
    target_sum: float,
    sizes: dict[str, int],
) -> dict[str, object]:
    """Rows of quality.tsv: what a reader of the report must know about the data."""
    depth = obs["n_counts"].to_numpy()
    genes_per_cell = np.diff(matrix.indptr)
    kept = [condition.n_cells for condition in found if condition.n_cells]
    result: dict[str, object] = {
        "n_labels_read": len(sizes),
        "n_perturbations": len(found),
        "n_perturbations_used": len(kept),
    }
    for condition in found:
        result[f"n_status_{condition.status}"] = result.get(f"n_status_{condition.status}", 0) + 1
    result["n_batches"] = obs["batch"].nunique()
    result["target_sum"] = target_sum
    for name, values in (
        ("counts_per_cell", depth), ("genes_per_cell", genes_per_cell), ("cells_per_perturbation", np.array(kept)),
    ):  # fmt: skip
        for share, label in ((0, "min"), (0.25, "q25"), (0.5, "median"), (0.75, "q75"), (1, "max")):
            result[f"{name}_{label}"] = float(np.quantile(values, share))
    result["share_zero"] = 1 - matrix.nnz / (matrix.shape[0] * matrix.shape[1])
    result["masked_genes"] = ";".join(masked)
    result["perturbed_genes_not_measured"] = ";".join(unmeasured)
    result["n_cells_over_cap"] = sum(c.n_total - c.n_cells for c in found if c.n_cells)
    result["n_cells_excluded"] = sum(c.n_total for c in found if not c.n_cells) + sum(dropped.values())
    for label, n_cells in sorted(dropped.items()):
        result[f"excluded:{label}"] = f"{n_cells} cells: dropped on request"
    for condition in found:
        if not condition.n_cells:
            result[f"excluded:{condition.id}"] = f"{condition.n_total} cells: {condition.status}: {condition.reason}"
    result["n_annotations_unknown"] = len(unknown)
    result["annotations_unknown"] = ";".join(unknown)
    return result
