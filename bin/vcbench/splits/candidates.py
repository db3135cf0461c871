"""Perturbations as the splits see them: read from perturbations.tsv, never from cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv

_COLUMNS = (
    "perturbation",
    "gene",
    "sequence_sha256",
    "consequence",
    "ref",
    "pos",
    "alt",
    "status",
    "reason",
    "n_cells",
)


@dataclass(frozen=True)
class Candidate:
    """One perturbation: residues are (gene, position) pairs, empty for gene perturbations and wild type."""

    id: str
    genes: tuple[str, ...]
    residues: tuple[tuple[str, int], ...]
    sequence: str
    n_cells: int
    is_variant: bool

    @property
    def group(self) -> tuple[str, int]:
        """Gene and residue by which the variant split groups: the first residue, 0 for wild type."""
        return self.residues[0] if self.residues else (self.genes[0], 0)


def read(path: Path | str) -> tuple[list[Candidate], dict[str, str]]:
    """Return the perturbations with cells, sorted by id, and why each of the others is excluded.

    `sequence` of a candidate identifies the changed protein (reference hash and changes): equal for synonymous
    variants and wild type. Raises :class:`InputError` when the table is not one of PREPARE's.
    """
    if not Path(path).is_file():
        raise InputError("file not found", where=str(path), expected="perturbations.tsv of vcb_prepare.py")
    found, excluded = [], {}
    seen: set[str] = set()
    for line, row in enumerate(read_tsv(path, _COLUMNS), start=2):
        name = row["perturbation"]
        if name in seen:
            raise InputError(f"duplicate perturbation '{name}'", where=f"{path}, line {line}")
        seen.add(name)
        if not row["n_cells"].isdigit():
            raise InputError("not a number of cells", where=f"{path}, line {line}, n_cells", found=row["n_cells"])
        if int(row["n_cells"]) == 0:
            excluded[name] = row["status"] + (f": {row['reason']}" if row["reason"] else "")
            continue
        found.append(_candidate(row, f"{path}, line {line}"))
    kinds = {candidate.is_variant for candidate in found}
    if len(kinds) > 1:
        raise InputError("variants and gene perturbations in one table", where=str(path))
    return sorted(found, key=lambda candidate: candidate.id), excluded


def _candidate(row: dict[str, str], where: str) -> Candidate:
    genes = tuple(row["gene"].split(";"))
    if row["consequence"] == "gene":
        return Candidate(row["perturbation"], genes, (), f"gene:{row['perturbation']}", int(row["n_cells"]), False)
    try:
        columns = [row[name].split(";") if row[name] else [] for name in ("pos", "ref", "alt")]
        changes = sorted((int(pos), ref, alt) for pos, ref, alt in zip(*columns, strict=True))
    except ValueError as error:
        raise InputError("ref, pos and alt do not belong together", where=where, found=row["pos"]) from error
    residues = tuple((genes[0], pos) for pos, _, _ in changes)
    changed = ";".join(f"{ref}{pos}{alt}" for pos, ref, alt in changes if ref != alt)
    sequence = f"{row['sequence_sha256']}:{changed}"
    return Candidate(row["perturbation"], genes, residues, sequence, int(row["n_cells"]), True)


def total_cells(candidates: Sequence[Candidate]) -> int:
    """Return the summed number of cells."""
    return sum(candidate.n_cells for candidate in candidates)
