"""PREPARE: a user's screen to the canonical dataset, perturbations.tsv, proteins and quality facts.

What a model or a metric may rest on is fixed here once: raw counts, the target sum (training controls only), the
genes, the perturbed gene left out, the held-out half of the controls.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vcbench.core import h5ad
from vcbench.core.errors import InputError
from vcbench.core.names import closest
from vcbench.core.tables import write_tsv
from vcbench.data import cells, conditions, counts, gene_lists, normalise, perturbation_table, quality, sampling
from vcbench.data.conditions import Condition
from vcbench.data.request import Request
from vcbench.variants.grammar import Grammar
from vcbench.variants.proteins import Protein, read_fasta, write_fasta
from vcbench.variants.validate import check_isoform

if TYPE_CHECKING:
    import scipy.sparse as sp

log = logging.getLogger(__name__)

#: Name under which cells without a label are reported, and can be dropped.
MISSING_LABEL = "(missing)"

#: Batch of every cell of a dataset without a batch column.
ONE_BATCH = "all"

#: A gene is `expressed` when this share of the training controls has a count.
EXPRESSED_SHARE = 0.05


def prepare(request: Request) -> None:
    """Run PREPARE and write `<dataset>.{h5ad,perturbations.tsv,proteins.fasta,quality.tsv}` into the output folder.

    Raises :class:`InputError` for every kind of unusable input (docs/input.md lists them). Peak memory grows linearly
    with the non-zero counts; matrices are never made dense.
    """
    import anndata as ad
    import pandas as pd

    start = time.perf_counter()
    proteins = _proteins(request)
    screen = counts.read(request.h5ad, request.counts_layer, request.gene_column)
    matrix, genes, barcodes = screen.counts, screen.genes, screen.obs.index.to_numpy(dtype=str)
    log.info("%s: %d cells x %d genes, %d counts > 0", request.dataset, *matrix.shape, matrix.nnz)
    labels = counts.column(screen.obs, request.perturbation_column, request.h5ad, "perturbation_column")
    labels[labels == ""] = MISSING_LABEL
    batches = np.full(len(labels), ONE_BATCH, dtype=object)
    if request.batch_column:
        batches = counts.column(screen.obs, request.batch_column, request.h5ad, "batch_column")
        if (batches == "").any():
            where = f"{request.h5ad}, obs['{request.batch_column}']"
            raise InputError("cells without a batch", where=where, found=f"{(batches == '').sum()} cells")
    n_read, obs_read = len(labels), screen.obs
    del screen

    found, sizes, dropped = _conditions(request, labels, proteins)
    lists = gene_lists.read(request.h5ad, obs_read, labels, found)
    del obs_read
    masked, unmeasured = _masked_genes(request, genes, found)
    totals = counts.totals(matrix, np.flatnonzero(np.isin(genes, masked)))
    n_without_counts = int((totals == 0).sum())
    chosen, ids, half = cells.choose(request, found, labels, barcodes, batches, totals)

    matrix = matrix[chosen]
    totals = totals[chosen]
    in_training = half == sampling.TRAINING
    target_sum = request.target_sum or float(np.median(totals[in_training]))
    targets = {gene for condition in found if condition.n_cells for gene in condition.genes}
    keep = counts.detected_in(matrix) >= max(1, request.min_cells_per_gene)
    keep &= ~np.isin(genes, masked)
    n_detected = int(keep.sum())
    if request.n_top_genes and n_detected > request.n_top_genes:
        keep = _most_variable(request, matrix, keep, genes, totals, target_sum, in_training, targets)
    if keep.sum() < 2:
        raise InputError(
            "no genes left", where=str(request.h5ad), found=f"{keep.sum()} genes in at least "
            f"{request.min_cells_per_gene} cells", hint="lower --min-cells-per-gene",
        )  # fmt: skip
    matrix, genes = matrix[:, np.flatnonzero(keep)], genes[keep]
    expression = normalise.log_normalise(matrix, totals, target_sum)

    names = pd.Index(barcodes[chosen].astype(object), name="cell")
    obs = pd.DataFrame(
        {
            "perturbation": ids, "condition": labels[chosen], "cell_line": request.cell_line,
            "batch": batches[chosen], "control_half": half, "n_counts": totals,
        },
        index=names,
    )  # fmt: skip
    expressed = counts.detected_in(matrix, in_training) >= EXPRESSED_SHARE * in_training.sum()
    var = pd.DataFrame(
        {"expressed": expressed, "is_target": np.isin(genes, sorted(targets))}, index=pd.Index(genes, name="gene")
    )
    adata = ad.AnnData(expression, obs=obs, var=var)
    adata.layers["counts"] = matrix

    table, columns, unknown = perturbation_table.build(request, found, sizes, _grammar(request, proteins))
    used = _used_proteins(found)
    facts = quality.provenance(request, target_sum, masked, unmeasured, obs, in_training, adata.n_vars, used)
    if lists:
        facts["gene_lists"] = lists
    request.out_dir.mkdir(parents=True, exist_ok=True)
    stem = request.out_dir / request.dataset
    write_tsv(f"{stem}.perturbations.tsv", table, columns)
    write_fasta(f"{stem}.proteins.fasta", used)
    metrics = {
        "n_cells_read": n_read, "n_genes_read": len(keep), "n_cells_without_counts": n_without_counts,
        "n_genes_detected": n_detected, **facts["size"],
        **quality.rows(found, obs, matrix, masked, unmeasured, dropped, unknown, target_sum, sizes),
    }  # fmt: skip
    write_tsv(f"{stem}.quality.tsv", [{"metric": k, "value": v} for k, v in metrics.items()], ("metric", "value"))
    h5ad.write(adata, f"{stem}.h5ad", facts)
    log.info(
        "%s: kept %d cells x %d genes of %d perturbations, %.1f s",
        request.dataset, *adata.shape, sum(c.n_cells > 0 for c in found), time.perf_counter() - start,
    )  # fmt: skip


def _proteins(request: Request) -> list[Protein]:
    if not request.is_variant:
        return []
    if request.proteins is None:
        raise InputError("variants need the FASTA of their proteins", where="--proteins", found="none")
    proteins = read_fasta(request.proteins, request.allow_nonstandard)
    genes = {protein.gene for protein in proteins}
    if request.gene and request.gene not in genes:
        raise InputError(
            f"protein of {request.gene} missing", where=str(request.proteins), hint=closest(request.gene, genes)
        )
    check_isoform(proteins, request.isoform, request.gene, str(request.proteins))
    return proteins


def _conditions(
    request: Request, labels: np.ndarray, proteins: Sequence[Protein]
) -> tuple[list[Condition], dict[str, int], dict[str, int]]:
    """Return the perturbations, the size of every label, and the labels dropped on request."""
    names, sizes = np.unique(labels.astype(str), return_counts=True)
    size_of = {str(name): int(size) for name, size in zip(names, sizes, strict=True)}
    for parameter, wanted in (("control_labels", request.control_labels), ("--drop_labels", request.drop_labels)):
        absent = [label for label in wanted if label not in size_of]
        if absent:
            none_left = parameter == "control_labels" and len(absent) == len(wanted)
            raise InputError(
                ("no control cells: " if none_left else "") + f"label {', '.join(absent)} not found",
                where=f"{request.labels_at} ({parameter})", hint=closest(absent[0], size_of),
            )  # fmt: skip
    both = set(request.control_labels) & set(request.drop_labels)
    if both:
        raise InputError(f"{', '.join(sorted(both))} is both control and dropped", where="--drop_labels")
    dropped = {label: size_of[label] for label in request.drop_labels}
    perturbed = {k: n for k, n in size_of.items() if k not in dropped and k not in request.control_labels}
    if MISSING_LABEL in perturbed:
        raise InputError(
            "cells without a label", where=request.labels_at, found=f"{perturbed[MISSING_LABEL]} cells",
            hint=f"label them, or leave them out with --drop_labels '{MISSING_LABEL}'",
        )  # fmt: skip
    if not perturbed:
        raise InputError("no perturbed cells", where=request.labels_at, found=f"labels {', '.join(size_of)}")
    if request.is_variant:
        found = conditions.of_variants(
            perturbed, proteins, _grammar(request, proteins), request.isoform, request.control_labels,
            request.labels_at, request.on_invalid,
        )  # fmt: skip
    else:
        found = conditions.of_genes(
            perturbed, request.combination_separator, request.control_labels, request.labels_at, request.on_invalid
        )
    return found, size_of, dropped


def _grammar(request: Request, proteins: Sequence[Protein]) -> Grammar:
    return Grammar(
        request.gene, tuple({p.gene for p in proteins}), request.x_is_stop, request.ignore_case,
        request.allow_nonstandard,
    )  # fmt: skip


def _masked_genes(request: Request, genes: np.ndarray, found: Sequence[Condition]) -> tuple[list[str], list[str]]:
    """Return (genes taken out of the matrix, perturbed genes that the screen did not measure)."""
    measured = set(genes)
    perturbed = sorted({gene for condition in found if condition.usable for gene in condition.genes})
    unmeasured = [gene for gene in perturbed if gene not in measured]
    if request.mask_genes == ("none",):
        return [], unmeasured
    if request.mask_genes:
        absent = [gene for gene in request.mask_genes if gene not in measured]
        if absent:
            raise InputError(
                f"gene {', '.join(absent)} not found", where=f"{request.h5ad}, var (mask_genes)",
                hint=closest(absent[0], measured),
            )  # fmt: skip
        return sorted(set(request.mask_genes)), unmeasured
    if not request.is_variant:
        return [], unmeasured
    if unmeasured:
        log.warning(
            "%s: perturbed gene %s is not measured, nothing to mask", request.dataset, ", ".join(unmeasured)
        )  # fmt: skip
    return [gene for gene in perturbed if gene in measured], unmeasured


def _most_variable(
    request: Request,
    matrix: sp.csr_matrix,
    keep: np.ndarray,
    genes: np.ndarray,
    totals: np.ndarray,
    target_sum: float,
    in_training: np.ndarray,
    targets: set[str],
) -> np.ndarray:
    """Return `keep` narrowed to the most variable genes of the training controls; targets of gene screens stay."""
    columns = np.flatnonzero(keep)
    training = matrix[np.flatnonzero(in_training)][:, columns]
    expression = normalise.log_normalise(training, totals[in_training], target_sum)
    chosen = normalise.highly_variable(expression, genes[columns], request.n_top_genes)
    if not request.is_variant:
        chosen |= np.isin(genes[columns], sorted(targets))
    narrowed = np.zeros_like(keep)
    narrowed[columns[chosen]] = True
    return narrowed


def _used_proteins(found: Sequence[Condition]) -> list[Protein]:
    used = {condition.protein for condition in found if condition.protein is not None}
    return sorted(used, key=lambda protein: protein.header)
