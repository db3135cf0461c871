"""Protein sequences: reading and writing FASTA, and changing a sequence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcbench.core.errors import InputError
from vcbench.core.hashing import sha256_text
from vcbench.variants.alphabet import NONSTANDARD, STANDARD
from vcbench.variants.record import Change

_HEADER = "GENE|accession|isoform, or UniProt's sp|accession|name ... GN=GENE"


@dataclass(frozen=True)
class Protein:
    """One reference protein; `sequence` is one-letter, upper case, without stop."""

    gene: str
    accession: str
    isoform: str
    sequence: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the sequence: the real identity of a protein."""
        return sha256_text(self.sequence)

    @property
    def header(self) -> str:
        """``GENE|accession|isoform``."""
        return f"{self.gene}|{self.accession}|{self.isoform}"


def read_fasta(path: Path | str, allow_nonstandard: bool = False) -> list[Protein]:
    """Return the proteins of a FASTA file, in file order.

    Raises :class:`InputError` naming file and line: file missing or empty, text before the first header, a header
    without gene and accession, duplicate identifiers, an empty sequence, a letter that is not an upper-case residue.
    """
    if not Path(path).is_file():
        raise InputError("file not found", where=str(path), expected="protein FASTA")
    proteins: list[Protein] = []
    first_line: dict[str, int] = {}
    header_line, header, letters = 0, "", []

    def finish() -> None:
        gene, accession, isoform = _names(header, f"{path}, line {header_line}")
        protein = Protein(gene, accession, isoform, "".join(letters))
        if not protein.sequence:
            raise InputError("protein without a sequence", where=f"{path}, line {header_line}", found=f">{header}")
        if protein.header in first_line:
            raise InputError(
                "duplicate protein",
                where=f"{path}, line {header_line}",
                found=f"{protein.header}, also in line {first_line[protein.header]}",
                expected="each GENE|accession|isoform once",
            )
        first_line[protein.header] = header_line
        proteins.append(protein)

    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError("not a text file", where=str(path), expected="protein FASTA, not compressed") from error
    for number, raw in enumerate(lines, start=1):
        line = raw.strip()
        if line.startswith(">"):
            if header_line:
                finish()
            header_line, header, letters = number, line[1:].strip(), []
        elif line:
            if not header_line:
                raise InputError(
                    "text before the first header", where=f"{path}, line {number}", found=line[:20], expected=">"
                )
            _check_letters(line, f"{path}, line {number}", allow_nonstandard)
            letters.append(line)
    if not header_line:
        raise InputError("no protein in the file", where=str(path), expected=f"headers {_HEADER}")
    finish()
    return proteins


def write_fasta(path: Path | str, proteins: Iterable[Protein]) -> None:
    """Write proteins under ``>GENE|accession|isoform``, 60 residues a line."""
    with open(path, "w", encoding="utf-8", newline="") as handle:
        for protein in proteins:
            handle.write(f">{protein.header}\n")
            for start in range(0, len(protein.sequence), 60):
                handle.write(protein.sequence[start : start + 60] + "\n")


def apply(sequence: str, changes: Sequence[Change]) -> str:
    """Return `sequence` with residues substituted; positions are 1-based.

    Raises ValueError when a position is outside the sequence, its residue is not the stated one, or the change is
    not a substitution by one residue: a sequence is never changed on trust.
    """
    residues = list(sequence)
    for change in changes:
        if not 1 <= change.pos <= len(sequence):
            raise ValueError(f"{change}: position outside 1..{len(sequence)}")
        if sequence[change.pos - 1] != change.ref:
            raise ValueError(f"{change}: residue {change.pos} is {sequence[change.pos - 1]}, not {change.ref}")
        if len(change.alt) != 1 or change.alt not in STANDARD + NONSTANDARD:
            raise ValueError(f"{change}: not a substitution by one residue")
        residues[change.pos - 1] = change.alt
    return "".join(residues)


def _names(header: str, where: str) -> tuple[str, str, str]:
    """Gene, accession and isoform of a header."""
    fields = (header.split() or [""])[0].split("|")
    if fields[0] in ("sp", "tr") and len(fields) >= 2:
        gene = re.search(r"\bGN=(\S+)", header)
        if gene is None or not fields[1]:
            raise InputError("UniProt header without a gene (GN=)", where=where, found=f">{header}", expected=_HEADER)
        return gene[1], fields[1], ""
    if len(fields) not in (2, 3) or not fields[0] or not fields[1]:
        raise InputError("header not understood", where=where, found=f">{header}", expected=_HEADER)
    return fields[0], fields[1], fields[2] if len(fields) == 3 else ""


def _check_letters(line: str, where: str, allow_nonstandard: bool) -> None:
    allowed = STANDARD + NONSTANDARD if allow_nonstandard else STANDARD
    wrong = sorted({letter for letter in line if letter not in allowed})
    if not wrong:
        return
    shown = " ".join(wrong[:8])
    if any(letter.upper() in allowed for letter in wrong if letter.islower()):
        raise InputError("lower-case residues", where=where, found=shown, expected="upper case, unmasked")
    if set(wrong) & {"-", "."}:
        raise InputError("gaps in the sequence", where=where, found=shown, expected="one unaligned protein")
    if set(wrong) == {"*"}:
        raise InputError("stop symbol in the sequence", where=where, found="*", expected="residues only")
    if set(wrong) <= set(NONSTANDARD):
        raise InputError(
            "non-standard residues",
            where=where,
            found=shown,
            expected="the 20 standard ones",
            hint="--allow-nonstandard accepts U O X B Z",
        )
    raise InputError("not protein letters", where=where, found=shown, expected="the 20 standard residues")
