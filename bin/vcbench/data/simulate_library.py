"""The TP53 variant library of Ursu et al. 2022: which labels exist, and the facts known about each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv

GENE = "TP53"
ISOFORM = "R72"
WILD_TYPE = "WT"
CLASSES = ("WT-like", "Impactful I", "Impactful II")

#: Domains of p53, first and last residue (1-based, inclusive); residues between two domains are ``linker``.
DOMAINS = {
    "transactivation": (1, 61),
    "proline_rich": (62, 94),
    "DNA_binding": (102, 292),
    "tetramerisation": (325, 356),
    "regulatory": (364, 393),
}


@dataclass(frozen=True)
class LibraryVariant:
    """One label of the screen; NaN marks a number that is not known (data spec, section 6.2).

    `cells_low` is the lower edge of the bin of cell numbers (bins are 100 wide, 1000 means 1000 or more), `d2` the
    squared Mahalanobis distance to the controls in 20 principal components, `transgene_log2fc` the transgene level
    relative to wild type.
    """

    label: str
    position: int  # 0 for wild type
    kind: str  # wild_type, synonymous, exac or tumour
    impact: str  # one of CLASSES
    cells_low: int
    d2: float
    alphamissense: float
    dominant_negative: float
    transgene_log2fc: float

    @property
    def is_control(self) -> bool:
        """Wild type and synonymous variants are the controls."""
        return self.kind in ("wild_type", "synonymous")

    @property
    def domain(self) -> str:
        """Domain of the residue; empty for wild type."""
        if not self.position:
            return ""
        return next((name for name, (low, high) in DOMAINS.items() if low <= self.position <= high), "linker")


def read_library(assets: Path) -> tuple[LibraryVariant, ...]:
    """Return the 99 labels of `simulate/tp53_variants.tsv`, by position."""
    path = assets / "simulate" / "tp53_variants.tsv"
    if not path.is_file():
        raise InputError("variant library not found", where=str(path), hint="pass the project's assets with --assets")

    def number(text: str) -> float:
        return float(text) if text else float("nan")

    return tuple(
        LibraryVariant(
            label=row["variant"],
            position=int(row["position"] or 0),
            kind=row["kind"],
            impact=row["class"],
            cells_low=int(row["cells_low"]),
            d2=number(row["d2"]),
            alphamissense=number(row["alphamissense"]),
            dominant_negative=number(row["giacomelli_wt_nutlin"]),
            transgene_log2fc=number(row["transgene_log2fc"]),
        )
        for row in read_tsv(path, ["variant", "position", "kind", "class", "cells_low", "d2"])
    )


def read_fasta(assets: Path) -> str:
    """Return the text of the R72 p53 protein, one FASTA record ``>TP53|P04637|R72``."""
    return (assets / "simulate" / "tp53.fasta").read_text()


def subset(library: tuple[LibraryVariant, ...], n_variants: int) -> tuple[LibraryVariant, ...]:
    """Return the controls and `n_variants` missense variants (0 = all), evenly spread over classes and positions.

    Raises :class:`InputError` when more are asked for than the library holds.
    """
    missense = sorted(
        (variant for variant in library if not variant.is_control),
        key=lambda variant: (CLASSES.index(variant.impact), variant.position, variant.label),
    )
    if n_variants > len(missense):
        raise InputError(
            "more variants asked for than the library holds",
            where="--variants",
            found=n_variants,
            expected=f"at most {len(missense)}",
        )
    if not n_variants:
        return library
    kept = {missense[(2 * index + 1) * len(missense) // (2 * n_variants)].label for index in range(n_variants)}
    return tuple(variant for variant in library if variant.is_control or variant.label in kept)
