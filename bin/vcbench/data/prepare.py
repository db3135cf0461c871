"""PREPARE: a user's screen to the canonical dataset, perturbations.tsv, proteins and quality facts.

What a model or a metric may rest on is fixed here once: raw counts, the target sum (training controls only), the
genes, the perturbed gene left out, the held-out half of the controls.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vcbench.core import h5ad
from vcbench.core.errors import InputError
from vcbench.core.hashing import sha256_file
from vcbench.core.names import closest
from vcbench.core.tables import write_tsv
from vcbench.data import annotations, conditions, counts, normalise, sampling
from vcbench.data.conditions import Condition
from vcbench.variants.genes import gene_id, parse_genes
from vcbench.variants.grammar import CONTROL_WORDS, Grammar, LabelError
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

TABLE_COLUMNS = (
    "perturbation", "labels", "gene", "protein_id", "isoform", "sequence_sha256", "sequence_length", "hgvs_p",
    "consequence", "ref", "pos", "alt", "status", "reason", "n_cells_total", "n_cells", "severity", "domain",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """Everything PREPARE is told; see `vcb_prepare.py --help` for each field."""

    dataset: str
    h5ad: Path
    perturbation_type: str
    out_dir: Path
    perturbation_column: str = "perturbation"
    control_labels: tuple[str, ...] = ("control",)
    proteins: Path | None = None
    gene: str = ""
    isoform: str = ""
    cell_line: str = ""
    modality: str = ""
    batch_column: str = ""
    counts_layer: str = ""
    gene_column: str = ""
    mask_genes: tuple[str, ...] = ()
    annotations: Path | None = None
    drop_labels: tuple[str, ...] = ()
    combination_separator: str = "+"
    seed: int = 0
    min_cells_per_perturbation: int = 25
    max_cells_per_perturbation: int = 1000
    min_cells_per_gene: int = 3
    n_top_genes: int = 0
    target_sum: float = 0.0
    on_invalid: str = "error"
    on_few_cells: str = "skip"
    x_is_stop: bool = False
    ignore_case: bool = False
    allow_nonstandard: bool = False

    @property
    def is_variant(self) -> bool:
        """Whether the labels are protein variants (else perturbed genes)."""
        return self.perturbation_type == "variant"

    @property
    def labels_at(self) -> str:
        """File and column of the labels, for messages."""
        return f"{self.h5ad}, obs['{self.perturbation_column}']"


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
    n_read = len(labels)
    del screen

    found, sizes, dropped = _conditions(request, labels, proteins)
    masked, unmeasured = _masked_genes(request, genes, found)
    totals = counts.totals(matrix, np.flatnonzero(np.isin(genes, masked)))
    chosen, ids, half = _choose_cells(request, found, labels, barcodes, batches, totals)

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

    table, columns, unknown = _table(request, found, sizes)
    used = _used_proteins(found)
    facts = _facts(request, target_sum, masked, unmeasured, obs, in_training, adata.n_vars, used)
    request.out_dir.mkdir(parents=True, exist_ok=True)
    stem = request.out_dir / request.dataset
    write_tsv(f"{stem}.perturbations.tsv", table, columns)
    write_fasta(f"{stem}.proteins.fasta", used)
    quality = {
        "n_cells_read": n_read, "n_genes_read": len(keep), "n_genes_detected": n_detected, **facts["size"],
        **_quality(found, obs, matrix, masked, unmeasured, dropped, unknown, target_sum, sizes),
    }  # fmt: skip
    write_tsv(f"{stem}.quality.tsv", [{"metric": k, "value": v} for k, v in quality.items()], ("metric", "value"))
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
    for parameter, wanted in (("control_labels", request.control_labels), ("--drop-labels", request.drop_labels)):
        absent = [label for label in wanted if label not in size_of]
        if absent:
            none_left = parameter == "control_labels" and len(absent) == len(wanted)
            raise InputError(
                ("no control cells: " if none_left else "") + f"label {', '.join(absent)} not found",
                where=f"{request.labels_at} ({parameter})", hint=closest(absent[0], size_of),
            )  # fmt: skip
    both = set(request.control_labels) & set(request.drop_labels)
    if both:
        raise InputError(f"{', '.join(sorted(both))} is both control and dropped", where="--drop-labels")
    dropped = {label: size_of[label] for label in request.drop_labels}
    perturbed = {k: n for k, n in size_of.items() if k not in dropped and k not in request.control_labels}
    if MISSING_LABEL in perturbed:
        raise InputError(
            "cells without a label", where=request.labels_at, found=f"{perturbed[MISSING_LABEL]} cells",
            hint=f"label them, or leave them out with --drop-labels '{MISSING_LABEL}'",
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
                hint=closest(absent[0], measured) if len(measured) < 100_000 else "",
            )  # fmt: skip
        return sorted(set(request.mask_genes)), unmeasured
    if not request.is_variant:
        return [], unmeasured
    if unmeasured:
        log.warning(
            "%s: perturbed gene %s is not measured, nothing to mask", request.dataset, ", ".join(unmeasured)
        )  # fmt: skip
    return [gene for gene in perturbed if gene in measured], unmeasured


def _choose_cells(
    request: Request,
    found: Sequence[Condition],
    labels: np.ndarray,
    barcodes: np.ndarray,
    batches: np.ndarray,
    totals: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (rows, perturbation ids, control halves) of the cells kept, sorted by perturbation and barcode.

    Sets `n_cells` and, where there are too few, status and reason of each condition.
    """
    rank = sampling.ranks(barcodes)
    order = np.argsort(labels.astype(str), kind="stable")
    names, starts = np.unique(labels[order].astype(str), return_index=True)
    rows_of = {str(n): rows for n, rows in zip(names, np.split(order, starts[1:]), strict=True)}

    def rows_with(wanted: Sequence[str]) -> np.ndarray:
        rows = np.concatenate([rows_of[label] for label in wanted])
        return rows[totals[rows] > 0]  # a cell without counts cannot be scaled; counted in quality.tsv

    controls = rows_with(request.control_labels)
    controls = controls[np.argsort(rank[controls])]
    smallest = request.min_cells_per_perturbation
    if len(controls) < 2 * max(1, smallest):
        raise InputError(
            "too few control cells", where=request.labels_at, found=f"{len(controls)} cells",
            expected=f"at least {2 * max(1, smallest)}: two halves of --min-cells-per-perturbation",
        )  # fmt: skip
    blocks = {h5ad.CONTROL: controls}
    few = []
    for condition in found:
        if not condition.usable:
            continue
        rows = rows_with(condition.labels)
        if len(rows) < max(1, smallest):
            condition.status = "skipped_too_few_cells"
            condition.reason = f"found {len(rows)} cells; expected at least {max(1, smallest)}"
            few.append(f"{condition.id} {len(rows)}")
            continue
        rows = rows[sampling.capped(
            rank[rows], request.max_cells_per_perturbation, request.seed, request.dataset, condition.id
        )]  # fmt: skip
        condition.n_cells = len(rows)
        blocks[condition.id] = rows
    if few:
        _report_few_cells(request, few, usable=len(blocks) - 1)
    if len(blocks) == 1:
        raise InputError("no usable perturbation", where=request.labels_at, found=_reasons(found))
    half_of = dict(
        zip(
            controls,
            sampling.control_halves(rank[controls], batches[controls], request.seed, request.dataset),
            strict=True,
        )
    )
    ordered = sorted(blocks)
    chosen = np.concatenate([blocks[name] for name in ordered])
    ids = np.concatenate([np.full(len(blocks[name]), name, dtype=object) for name in ordered])
    half = np.array([half_of.get(row, "") for row in chosen], dtype=object)
    half[ids != h5ad.CONTROL] = ""
    return chosen, ids, half


def _report_few_cells(request: Request, few: Sequence[str], usable: int) -> None:
    problem = InputError(
        f"{len(few)} perturbation{'s' if len(few) > 1 else ''} with too few cells", where=request.labels_at,
        found=", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else ""),
        expected=f"at least {request.min_cells_per_perturbation} cells each",
        hint="lower --min-cells-per-perturbation" if request.on_few_cells == "error" else "left out",
    )  # fmt: skip
    if request.on_few_cells == "error" or not usable:
        raise problem
    log.warning("%s", problem)


def _reasons(found: Sequence[Condition]) -> str:
    statuses: dict[str, int] = {}
    for condition in found:
        statuses[condition.status] = statuses.get(condition.status, 0) + 1
    return ", ".join(f"{n} {status}" for status, n in sorted(statuses.items()))


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


def _table(
    request: Request, found: Sequence[Condition], sizes: dict[str, int]
) -> tuple[list[dict[str, object]], list[str], list[str]]:
    """Return the rows and columns of perturbations.tsv, and the annotated labels that the screen lacks."""
    notes, extra, unknown = {}, [], []
    if request.annotations is not None:
        grammar = _grammar(request, _proteins(request))

        def canonical(label: str) -> str:
            try:
                if not request.is_variant:
                    return gene_id(parse_genes(label, request.combination_separator))
                return "+".join(sorted(variant.id for variant in grammar.parse(label)))
            except LabelError:
                return ""

        reserved = set(TABLE_COLUMNS) - {"severity", "domain"}
        notes, extra, unknown = annotations.join(
            request.annotations, found, [*sizes, *CONTROL_WORDS], canonical, sorted(reserved)
        )
        if unknown:
            log.warning("%s: %d labels of %s are not in the screen", request.dataset, len(unknown), request.annotations)
    columns = [*TABLE_COLUMNS, *(name for name in extra if name not in TABLE_COLUMNS)]
    rows = [{**dict.fromkeys(columns, ""), **_row(c), **notes.get(c.id, {})} for c in found]
    return rows, columns, unknown


def _row(condition: Condition) -> dict[str, object]:
    protein = condition.protein
    row: dict[str, object] = {
        "perturbation": condition.id, "labels": " | ".join(sorted(condition.labels)),
        "gene": ";".join(condition.genes), "status": condition.status, "reason": condition.reason,
        "n_cells_total": condition.n_total, "n_cells": condition.n_cells,
    }  # fmt: skip
    if condition.variants:
        changes = [change for variant in condition.variants for change in variant.changes]
        consequences = {variant.consequence for variant in condition.variants}
        row["consequence"] = consequences.pop() if len(consequences) == 1 else "unknown"
        names = [variant.hgvs_p for variant in condition.variants]
        row["hgvs_p"] = names[0] if len(names) == 1 else ";".join(f"p.[{name.removeprefix('p.')}]" for name in names)
        row |= {
            "ref": ";".join(change.ref for change in changes),
            "pos": ";".join(str(change.pos) for change in changes),
            "alt": ";".join(change.alt for change in changes),
        }
    elif condition.genes:
        row["consequence"] = conditions.GENE
    else:
        row["consequence"] = "unknown"
    if protein is not None:
        row |= {
            "protein_id": protein.accession, "isoform": protein.isoform, "sequence_sha256": protein.sha256,
            "sequence_length": len(protein.sequence),
        }  # fmt: skip
    return row


def _used_proteins(found: Sequence[Condition]) -> list[Protein]:
    used = {condition.protein for condition in found if condition.protein is not None}
    return sorted(used, key=lambda protein: protein.header)


def _facts(
    request: Request,
    target_sum: float,
    masked: Sequence[str],
    unmeasured: Sequence[str],
    obs: object,
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


def _quality(
    found: Sequence[Condition],
    obs: object,
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
    rows: dict[str, object] = {
        "n_labels_read": len(sizes),
        "n_perturbations": len(found),
        "n_perturbations_used": len(kept),
    }
    for condition in found:
        rows[f"n_status_{condition.status}"] = rows.get(f"n_status_{condition.status}", 0) + 1
    rows["n_batches"] = obs["batch"].nunique()
    rows["target_sum"] = target_sum
    for name, values in (
        ("counts_per_cell", depth), ("genes_per_cell", genes_per_cell), ("cells_per_perturbation", np.array(kept)),
    ):  # fmt: skip
        for share, label in ((0, "min"), (0.25, "q25"), (0.5, "median"), (0.75, "q75"), (1, "max")):
            rows[f"{name}_{label}"] = float(np.quantile(values, share))
    rows["share_zero"] = 1 - matrix.nnz / (matrix.shape[0] * matrix.shape[1])
    rows["masked_genes"] = ";".join(masked)
    rows["perturbed_genes_not_measured"] = ";".join(unmeasured)
    rows["n_cells_over_cap"] = sum(c.n_total - c.n_cells for c in found if c.n_cells)
    rows["n_cells_excluded"] = sum(c.n_total for c in found if not c.n_cells) + sum(dropped.values())
    for label, n_cells in sorted(dropped.items()):
        rows[f"excluded:{label}"] = f"{n_cells} cells: dropped on request"
    for condition in found:
        if not condition.n_cells:
            rows[f"excluded:{condition.id}"] = f"{condition.n_total} cells: {condition.status}: {condition.reason}"
    rows["n_annotations_unknown"] = len(unknown)
    rows["annotations_unknown"] = ";".join(unknown)
    return rows
