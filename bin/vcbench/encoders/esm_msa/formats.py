"""Reading alignment files as rows of text: A3M and aligned FASTA, Stockholm, Clustal, each optionally gzipped."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from vcbench.core.errors import InputError

#: One sequence of an alignment: its name and its letters as in the file.
Row = tuple[str, str]

#: Pseudo-sequences that HH-suite writes into its A3M files: secondary structure, accessibility, confidence.
ANNOTATIONS = ("ss_pred", "ss_conf", "ss_dssp", "sa_dssp", "aa_pred", "aa_dssp")

_CLUSTAL_LINE = re.compile(r"(\S+)\s+(\S+)(?:\s+\d+)?\s*")


def suffix(path: Path) -> str:
    """Return the ending that tells the format, without ``.gz``: ``.a3m``."""
    return Path(path.stem if path.suffix == ".gz" else path.name).suffix.lower()


def read(path: Path) -> list[Row]:
    """Return the rows of an alignment in file order.

    Raises :class:`InputError` for a file that is empty, unreadable or not in the format of its ending.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="ascii") as handle:
            lines = handle.read().splitlines()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("alignment cannot be read", where=str(path), found=error) from error
    except UnicodeDecodeError as error:
        raise InputError("not an alignment: not plain text", where=str(path), found=error) from error
    if not any(line.strip() for line in lines):
        raise InputError("the alignment is empty", where=str(path))
    rows = READERS[suffix(path)](lines, path)
    if not rows:
        raise InputError("no sequence in the alignment", where=str(path))
    for name, letters in rows:
        if not letters:
            raise InputError(f"row '{name}' has no letters", where=str(path))
    return rows


def fasta(lines: Sequence[str], path: Path) -> list[Row]:
    """Return the records of A3M or aligned FASTA; ``#`` lines (ColabFold) and HH-suite's annotations are skipped."""
    rows: list[tuple[str, list[str]]] = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text.startswith(">"):
            rows.append(((text[1:].split() or [""])[0], []))
        elif not text or text.startswith("#"):
            continue
        elif not rows:
            raise InputError(
                "not A3M or FASTA: text before the first '>'", where=f"{path}, line {number}", found=text[:40]
            )
        else:
            rows[-1][1].append(text)
    return [(name, "".join(parts)) for name, parts in rows if not name.startswith(ANNOTATIONS)]


def stockholm(lines: Sequence[str], path: Path) -> list[Row]:
    """Return the rows of a Stockholm file with one alignment, in blocks or not."""
    first = next(line for line in lines if line.strip())
    if not first.startswith("# STOCKHOLM"):
        raise InputError("not a Stockholm file", where=str(path), found=first[:40], expected="# STOCKHOLM 1.0")
    rows: dict[str, list[str]] = {}
    block: set[str] = set()
    ended = False
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text == "//":
            ended = True
        elif not text or text.startswith("#=GC"):  # the end of a block
            block.clear()
        elif not text.startswith("#"):
            parts = text.split()
            if ended or len(parts) != 2:
                raise InputError(
                    "more than one alignment in the file" if ended else "not a row of a Stockholm file",
                    where=f"{path}, line {number}", found=text[:40], expected="name and letters, one alignment a file",
                )  # fmt: skip
            _once(parts[0], block, f"{path}, line {number}")
            rows.setdefault(parts[0], []).append(parts[1])
    if not ended:
        raise InputError("the Stockholm file is cut off: it does not end with //", where=str(path))
    return _joined(rows)


def clustal(lines: Sequence[str], path: Path) -> list[Row]:
    """Return the rows of a Clustal file; lines of conservation marks and residue counts are skipped."""
    header = next(line for line in lines if line.strip())
    if not re.match(r"CLUSTAL|MUSCLE|PROBCONS|MSAPROBS|T-COFFEE", header, re.IGNORECASE):
        raise InputError("not a Clustal file", where=str(path), found=header[:40], expected="a first line CLUSTAL ...")
    rows: dict[str, list[str]] = {}
    block: set[str] = set()
    for number, line in enumerate(lines[lines.index(header) + 1 :], start=lines.index(header) + 2):
        if not line.strip() or line[0].isspace():  # the end of a block, or its conservation marks
            block.clear()
            continue
        match = _CLUSTAL_LINE.fullmatch(line)
        if match is None:
            raise InputError(
                "not a row of a Clustal file", where=f"{path}, line {number}", found=line[:40],
                expected="name and letters",
            )  # fmt: skip
        _once(match[1], block, f"{path}, line {number}")
        rows.setdefault(match[1], []).append(match[2])
    return _joined(rows)


def _once(name: str, block: set[str], where: str) -> None:
    """Add a row's name to those of its block; :class:`InputError` when it is there: rows are put together by name."""
    if name in block:
        raise InputError(
            f"two rows are called '{name}'", where=where, expected="a name of its own for every row of a block",
            hint="rename one of them",
        )  # fmt: skip
    block.add(name)


def _joined(blocks: dict[str, list[str]]) -> list[Row]:
    return [(name, "".join(parts)) for name, parts in blocks.items()]


READERS: dict[str, Callable[[Sequence[str], Path], list[Row]]] = {
    **dict.fromkeys((".a3m", ".a2m", ".fasta", ".fa", ".fas", ".afa"), fasta),
    **dict.fromkeys((".sto", ".stk", ".stockholm"), stockholm),
    **dict.fromkeys((".aln", ".clustal"), clustal),
}
