"""The normalised variant: what a label says about a protein, in one form whatever its spelling."""

from __future__ import annotations

from dataclasses import dataclass

from vcbench.variants.alphabet import STOP, THREE_LETTER

#: Every consequence a variant can have.
CONSEQUENCES = (
    "wt", "synonymous", "missense", "missense_multi", "delins_inframe", "nonsense", "frameshift",
    "inframe_del", "inframe_ins", "start_lost", "extension", "unknown",
)  # fmt: skip

#: Name of the unchanged protein in canonical ids (`TP53~WT`).
WILD_TYPE = "WT"


@dataclass(frozen=True, order=True)
class Change:
    """One residue of the reference that a variant names: `ref` at 1-based `pos` becomes `alt` (one-letter codes).

    `alt` is ``"*"`` for a stop and empty where no residue replaces it (deletions, insertions, frameshifts).
    """

    pos: int
    ref: str
    alt: str = ""

    def __str__(self) -> str:
        return f"{self.ref}{self.pos}{self.alt}"


@dataclass(frozen=True)
class Variant:
    """One changed protein.

    Attributes
    ----------
    gene
        Symbol of the changed gene.
    consequence
        One of :data:`CONSEQUENCES`.
    changes
        Residues named, sorted by position; their `ref` is what must be found in the sequence. Empty for wild type.
    name
        Canonical one-letter name without the gene: ``R175H``, ``R175H;R248Q``, ``P359P``, ``WT``, ``R175fs``.
    hgvs_p
        HGVS protein name, three-letter, no parentheses: ``p.Arg175His``.
    accession
        Sequence accession the label itself stated, else empty.
    block
        For ``delins_inframe``: first position, last position and inserted residues, else None.
    """

    gene: str
    consequence: str
    changes: tuple[Change, ...]
    name: str
    hgvs_p: str
    accession: str = ""
    block: tuple[int, int, str] | None = None

    @property
    def id(self) -> str:
        """Canonical id, e.g. ``TP53~R175H;R248Q``."""
        return f"{self.gene}~{self.name}"

    @property
    def substitutes(self) -> bool:
        """Whether the protein keeps its length: wild type, synonymous, one or several substitutions."""
        return self.consequence in ("wt", "synonymous", "missense", "missense_multi")


def substitution(gene: str, changes: tuple[Change, ...], accession: str = "") -> Variant:
    """Return the variant of residue substitutions (alt = one residue each, positions distinct).

    Unchanged residues are left out when another one changes, because they name the same protein.
    """
    changed = tuple(sorted(change for change in changes if change.alt != change.ref))
    kept = changed or tuple(sorted(changes))
    if changed:
        consequence = "missense" if len(changed) == 1 else "missense_multi"
    else:
        consequence = "synonymous"
    name = ";".join(str(change) for change in kept)
    return Variant(gene, consequence, kept, name, _substitution_hgvs(kept), accession)


def wild_type(gene: str, accession: str = "") -> Variant:
    """Return the unchanged protein of a gene; it has no position."""
    return Variant(gene, "wt", (), WILD_TYPE, "p.=", accession)


def _substitution_hgvs(changes: tuple[Change, ...]) -> str:
    """HGVS name; neighbouring substitutions are one `delins`, separate ones a bracketed list (HGVS 21.0, protein)."""
    runs: list[list[Change]] = []
    for change in changes:
        if runs and change.pos == runs[-1][-1].pos + 1 and change.ref != change.alt:
            runs[-1].append(change)
        else:
            runs.append([change])
    parts = []
    for run in runs:
        first, last = run[0], run[-1]
        if len(run) > 1:
            inserted = "".join(THREE_LETTER[change.alt] for change in run)
            start, end = (f"{THREE_LETTER[c.ref]}{c.pos}" for c in (first, last))
            parts.append(f"{start}_{end}delins{inserted}")
        else:
            alt = "=" if first.ref == first.alt else THREE_LETTER[first.alt]
            parts.append(f"{THREE_LETTER[first.ref]}{first.pos}{alt}")
    return f"p.{parts[0]}" if len(parts) == 1 else f"p.[{';'.join(parts)}]"


def nonsense(gene: str, change: Change, accession: str = "") -> Variant:
    """Return the variant that stops at a residue, ``Q331*``."""
    name = f"{change.ref}{change.pos}{STOP}"
    return Variant(
        gene, "nonsense", (change,), name, f"p.{THREE_LETTER[change.ref]}{change.pos}Ter", accession
    )  # fmt: skip
