"""The alignments of a run: each protein finds its own by sequence, never by a name (specs: plm_encoders.md 2.2).

The result is anchored at the protein: it is row 0, and every residue of it has one column.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vcbench.core.errors import InputError
from vcbench.core.hashing import sha256_file, sha256_text
from vcbench.encoders.esm_msa import formats, tokens

log = logging.getLogger(__name__)

HOW_TO = "docs/encoders/esm_msa1b.md says how to make alignments"

_NO_INSERTIONS = str.maketrans("", "", "abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class Alignment:
    """One protein's alignment.

    Attributes
    ----------
    path, sha256
        The file and its SHA-256.
    ids
        (rows, residues) uint8 token ids without ``<cls>``; row 0 is the protein.
    """

    path: Path
    sha256: str
    ids: np.ndarray


class Alignments:
    """The alignment files of a folder, or a single file; one file per protein.

    Raises :class:`InputError` for a folder without alignments, a file that cannot be read, and two files whose first
    row is the same protein.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
        files = [file for file in files if file.is_file() and formats.suffix(file) in formats.READERS]
        if not files:
            raise InputError(
                "no alignments found", where=str(path), found="none" if path.exists() else "no such folder",
                expected=f"files ending in {', '.join(formats.READERS)}, optionally .gz", hint=HOW_TO,
            )  # fmt: skip
        self.queries: dict[str, Path] = {}
        for file in files:
            query = residues(formats.read(file)[0][1])
            if query in self.queries:
                raise InputError(
                    "two alignments of one protein", where=str(path),
                    found=f"{self.queries[query].name} and {file.name}", expected="one file per protein",
                )  # fmt: skip
            self.queries[query] = file

    def find(self, protein: str) -> Alignment | None:
        """Return the alignment whose first row is the protein; else that of an aligned file in which it is a row.

        None when there is none. Raises :class:`InputError` for a malformed file and when several files qualify.
        """
        if protein in self.queries:
            return read(self.queries[protein], protein, 0)
        found = [
            (file, number)
            for file in self.queries.values()
            if _is_aligned(file)
            for number, (_, letters) in enumerate(formats.read(file))
            if residues(letters) == protein
        ]
        if not found:
            return None
        if len({file for file, _ in found}) > 1:
            raise InputError(
                "the protein is a row, but not the first, of several alignments", where=str(self.path),
                found=", ".join(sorted({file.name for file, _ in found})), expected="one whose first row it is",
            )  # fmt: skip
        file, number = found[0]
        log.info("%s: the protein is row %d; it becomes the first", file.name, number + 1)
        return read(file, protein, number)

    def missing(self, protein: str) -> InputError:
        """Return the error that says which proteins the alignments are of, and how they differ from this one."""
        queries = [f"{file.name}: {_difference(query, protein)}" for query, file in self.queries.items()]
        more = f" and {len(queries) - 4} more" if len(queries) > 4 else ""
        return InputError(
            f"no alignment of the protein {_short(protein)}", where=str(self.path),
            found="; ".join(queries[:4]) + more, expected="a first row that is this protein, letter for letter",
            hint=HOW_TO,
        )  # fmt: skip


def residues(letters: str) -> str:
    """Return a row without gaps, in upper case."""
    return letters.replace("-", "").replace(".", "").upper()


def read(path: Path, protein: str, query: int) -> Alignment:
    """Return an alignment, its row ``query`` first, with one column per residue of the protein.

    Columns in which the query has a gap are dropped. Raises :class:`InputError` for rows of unequal length, letters
    that are no amino acids, and a query some of whose residues have no column.
    """
    rows = formats.read(path)
    texts = columns(rows, path)
    matrix = np.frombuffer("".join(texts).encode("ascii"), dtype=np.uint8).reshape(len(texts), -1)
    ids = tokens.OF_BYTE[matrix]
    if (ids == tokens.UNKNOWN).any():
        row, column = np.argwhere(ids == tokens.UNKNOWN)[0]
        raise InputError(
            f"row '{rows[row][0]}' holds a letter that is no amino acid", where=str(path),
            found=f"{texts[row][column]!r} in column {column + 1}", expected=tokens.LETTERS,
            hint="write X for it, or remove the row",
        )  # fmt: skip
    ids = ids[[query, *(row for row in range(len(rows)) if row != query)]]
    ids = ids[:, ids[0] != tokens.GAP]
    if ids.shape[1] != len(protein):
        raise InputError(
            "some residues of the first row have no column: they are lower case, which means insertions",
            where=str(path), found=f"{ids.shape[1]} columns", expected=f"{len(protein)}",
        )  # fmt: skip
    return Alignment(path, sha256_file(path), np.ascontiguousarray(ids))


def columns(rows: Sequence[formats.Row], path: Path) -> list[str]:
    """Return rows of equal length, upper case, with ``-`` for every gap.

    In A3M a lower-case letter is an insertion that has no column: it is deleted. In files whose rows are equally long
    as they stand (all others, and FASTA that is no A3M) a letter's case means nothing. Raises :class:`InputError` for
    rows of unequal length.
    """
    letters = [text for _, text in rows]
    if _is_aligned(path) and (formats.suffix(path) not in (".fasta", ".fa", ".fas", ".afa") or _equal(letters)):
        texts = [text.upper().replace(".", "-") for text in letters]
    else:
        matches = [text.translate(_NO_INSERTIONS) for text in letters]
        # a dot pads an insertion (A2M); where that leaves unequal rows it stands for a gap in a column
        texts = [text.replace(".", "") for text in matches]
        if not _equal(texts):
            texts = [text.replace(".", "-") for text in matches]
    if not _equal(texts):
        small = [letter for letter in letters[0] if letter.islower()]
        if small and not _is_aligned(path):
            raise InputError(
                "the first row holds lower-case letters, which in A3M are insertions without a column", where=str(path),
                found=f"{len(small)} of {len(residues(letters[0]))} letters", expected="a first row in upper case",
                hint="write the protein in upper case",
            )  # fmt: skip
        wrong = next(number for number, text in enumerate(texts) if len(text) != len(texts[0]))
        raise InputError(
            "ragged alignment: rows have unequal lengths", where=str(path),
            found=f"row {wrong + 1} ('{rows[wrong][0]}') has {len(texts[wrong])} columns",
            expected=f"{len(texts[0])}, as the first row", hint="is the file cut off?",
        )  # fmt: skip
    return texts


def _is_aligned(path: Path) -> bool:
    """True when every row has a letter or gap per column, so that any row can be the query; not so in A3M."""
    return formats.suffix(path) not in (".a3m", ".a2m")


def _equal(texts: Sequence[str]) -> bool:
    return len({len(text) for text in texts}) == 1


def _short(sequence: str) -> str:
    return f"{sequence[:10]}... ({len(sequence)} residues, SHA-256 {sha256_text(sequence)[:12]})"


def _difference(query: str, protein: str) -> str:
    """Return in words how the query of an alignment differs from the protein."""
    if len(query) != len(protein):
        return _short(query)
    places = [index for index in range(len(query)) if query[index] != protein[index]]
    if len(places) > 3:
        return f"{_short(query)}, differs in {len(places)} residues"
    return "the same but for " + ", ".join(f"{protein[index]}{index + 1}{query[index]}" for index in places)
