"""Holding variants against the protein: status of each, and what is wrong with the numbering when they do not fit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vcbench.core.errors import InputError
from vcbench.core.names import closest
from vcbench.variants.alphabet import STOP
from vcbench.variants.proteins import Protein
from vcbench.variants.record import Change, Variant, substitution

#: Consequences that leave no residue to encode at the position, or move every later one: never given a vector.
SKIPPED = (
    "nonsense",
    "frameshift",
    "start_lost",
    "inframe_del",
    "inframe_ins",
    "delins_inframe",
    "extension",
    "unknown",
)

#: Numbering offsets tried when reference residues do not match: initiator methionine, signal peptides, tags.
MAX_OFFSET = 60


@dataclass(frozen=True)
class Verdict:
    """What validation says: `status` of the table, a `reason` when it is not plain, the variant (blocks resolved)."""

    variant: Variant
    status: str
    reason: str = ""


def check(variant: Variant, protein: Protein) -> Verdict:
    """Return the verdict on a variant: position in range, reference residue as in the sequence, consequence usable.

    Failures come before skips: a stop codon at a residue that is not there is a wrong numbering, not a stop codon.
    """
    length = len(protein.sequence)
    for change in variant.changes:
        last = length + 1 if change.ref == STOP else length
        if not 1 <= change.pos <= last:
            reason = f"residue {change.pos} is outside the protein (1..{length}, {protein.header})"
            return Verdict(variant, "failed_out_of_range", reason)
    for change in variant.changes:
        found = _residue(protein.sequence, change.pos)
        if found != change.ref:
            reason = f"residue {change.pos} of {protein.header} is {found}, not {change.ref}"
            if found == change.alt:
                reason += f" (reversed? {change.alt}{change.pos}{change.ref})"
            return Verdict(variant, "failed_ref_mismatch", reason)
    variant = _resolved(variant, protein.sequence)
    if variant.consequence in SKIPPED:
        return Verdict(variant, f"skipped_{variant.consequence}", f"{variant.consequence} variants have no vector")
    unchanged = variant.consequence in ("wt", "synonymous")
    return Verdict(variant, "identical_to_ref" if unchanged else "encoded")


def candidates(
    proteins: Sequence[Protein], gene: str, isoform: str = "", accession: str = ""
) -> tuple[list[Protein], str]:
    """Return the proteins a variant may mean (one when all is well) and, when there is none, the reason.

    `gene` may be empty when the label states an `accession`. `isoform` (an isoform or accession of the FASTA) chooses
    among several; a stated accession must be met, with its version when both state one.
    """
    found = [p for p in proteins if not gene or p.gene == gene]
    if not found:
        return [], f"gene {gene} is not in the FASTA ({closest(gene, {p.gene for p in proteins})})"
    if accession:
        found = [p for p in found if _same_accession(p.accession, accession)]
        if not found:
            return [], f"protein {accession} of the label is not in the FASTA"
    chosen = [p for p in found if isoform and isoform in (p.isoform, p.accession)]
    return chosen or found, ""


def matching(variants: Collection[Variant], protein: Protein) -> int:
    """Return how many variants have all their reference residues in place in a protein."""
    return _matching([variant.changes for variant in variants], protein.sequence, 0)


def check_isoform(proteins: Sequence[Protein], isoform: str, gene: str, where: str) -> None:
    """Raise :class:`InputError` when the requested isoform is not in the FASTA (of `gene`, when given)."""
    known = [p for p in proteins if not gene or p.gene == gene]
    names = {name for p in known for name in (p.isoform, p.accession) if name}
    if isoform and isoform not in names:
        raise InputError(
            f"isoform '{isoform}'{f' of {gene}' if gene else ''} is not in the FASTA",
            where=where,
            hint=closest(isoform, names),
        )


def diagnose(variants: Collection[Variant], used: Protein, proteins: Sequence[Protein]) -> str:
    """Return one sentence on the numbering of a gene's labels; a diagnosis only, never applied.

    Counts how many labels have all their reference residues in place: in the protein used, in every other isoform,
    and in the protein used with all positions shifted by up to :data:`MAX_OFFSET`.
    """
    asked = [variant.changes for variant in variants if variant.changes]
    total = len(asked)
    here = _matching(asked, used.sequence, 0)
    if here == total:
        return ""
    parts = [f"{here} of {total} labels of {used.gene} match {used.header}"]
    others = [(_matching(asked, p.sequence, 0), p) for p in proteins if p.gene == used.gene and p != used]
    parts += [f"{n} of {total} match isoform {p.header}" for n, p in others]
    offsets = [offset for offset in range(-MAX_OFFSET, MAX_OFFSET + 1) if offset]
    best = max(offsets, key=lambda offset: (_matching(asked, used.sequence, offset), -abs(offset)))
    at_best = _matching(asked, used.sequence, best)
    if at_best > here:
        parts.append(f"{at_best} of {total} match at offset {best:+d} (residue = position in the label {best:+d})")
    better = max([n for n, _ in others], default=0)
    if better > max(here, at_best):
        parts.append("choose the isoform with --isoform")
    elif at_best > here:
        parts.append("the labels are numbered on another sequence: give its FASTA or renumber them")
    else:
        parts.append("no offset or isoform fits better: these labels themselves look wrong")
    return "; ".join(parts)


def _matching(asked: Sequence[tuple[Change, ...]], sequence: str, offset: int) -> int:
    return sum(all(_residue(sequence, c.pos + offset) == c.ref for c in changes) for changes in asked)


def _residue(sequence: str, position: int) -> str:
    """Residue at a 1-based position, the stop one past the end, empty outside."""
    if position == len(sequence) + 1:
        return STOP
    return sequence[position - 1] if 1 <= position <= len(sequence) else ""


def _resolved(variant: Variant, sequence: str) -> Variant:
    """Turn a deletion-insertion of equal length into substitutions: the sequence knows its inner residues."""
    if variant.block is None or variant.consequence != "delins_inframe" or ";" in variant.name:
        return variant
    first, last, inserted = variant.block
    if last - first + 1 != len(inserted):
        return variant
    positions = range(first, last + 1)
    changes = tuple(Change(p, sequence[p - 1], new) for p, new in zip(positions, inserted, strict=True))
    return substitution(variant.gene, changes, variant.accession)


def _same_accession(a: str, b: str) -> bool:
    if a == b:
        return True
    (root_a, _, version_a), (root_b, _, version_b) = a.partition("."), b.partition(".")
    return root_a == root_b and not (version_a and version_b)
