"""Rows of perturbations.tsv."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from vcbench.core.tables import OF_THE_SCREEN
from vcbench.data import annotations, conditions
from vcbench.data.conditions import Condition
from vcbench.data.request import Request
from vcbench.variants.genes import gene_id, parse_genes
from vcbench.variants.grammar import CONTROL_WORDS, Grammar, LabelError

log = logging.getLogger(__name__)

TABLE_COLUMNS = (*OF_THE_SCREEN, "severity", "domain")


def build(
    request: Request, found: Sequence[Condition], sizes: dict[str, int], grammar: Grammar
) -> tuple[list[dict[str, object]], list[str], list[str]]:
    """Return the rows and columns of perturbations.tsv, and the annotated labels that the screen lacks."""
    notes, extra, unknown = {}, [], []
    if request.annotations is not None:

        def canonical(label: str) -> str:
            try:
                if not request.is_variant:
                    return gene_id(parse_genes(label, request.combination_separator))
                return "+".join(sorted(variant.id for variant in grammar.parse(label)))
            except LabelError:
                return ""

        reserved = set(OF_THE_SCREEN)
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
