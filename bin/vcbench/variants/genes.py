"""Labels of gene perturbations: `KLF1`, `A+ctrl`, doubles `A+B`."""

from __future__ import annotations

import re
from collections.abc import Collection

from vcbench.variants.grammar import CONTROL_WORDS, LabelError

_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@/-]*")


def parse_genes(label: str, separator: str = "+", control_words: Collection[str] = CONTROL_WORDS) -> tuple[str, ...]:
    """Return the perturbed genes of a label, sorted; empty for a control.

    Parts that are control words are dropped (`A+ctrl`, `ctrl+A`). Raises :class:`LabelError` for a part that is no
    symbol and for a gene named twice.
    """
    parts = [part.strip() for part in label.strip().split(separator)]
    genes = sorted(part for part in parts if part not in control_words)
    for gene in genes:
        if "~" in gene:
            raise LabelError("a protein variant; set perturbation_type to variant")
        if not _SYMBOL.fullmatch(gene):
            raise LabelError(f"'{gene}' is not a gene symbol (parts are joined by '{separator}')")
    if len(set(genes)) < len(genes):
        raise LabelError("a gene is named twice")
    return tuple(genes)


def gene_id(genes: tuple[str, ...]) -> str:
    """Canonical id of a gene perturbation: symbols sorted and joined by `+`."""
    return "+".join(sorted(genes))
