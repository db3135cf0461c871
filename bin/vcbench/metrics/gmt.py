"""Gene sets chosen in advance, in the GMT format: name, description and genes of a set on one tab-separated line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vcbench.core.errors import InputError
from vcbench.core.names import closest

#: The set that is scored on its own when the file holds it: the pathway of the best-studied variant screens.
DEFAULT_FIXED = "HALLMARK_P53_PATHWAY"


def read(path: Path | str) -> dict[str, tuple[str, ...]]:
    """Return the genes of each set by name; raises :class:`InputError` for lines that are no set, or a doubled name."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("not a readable gene set file", where=str(path), found=error, expected="GMT") from error
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *rest = (part.strip() for part in line.split("\t"))
        genes = tuple(dict.fromkeys(gene for gene in rest[1:] if gene))
        if not name or not genes:
            raise InputError("not a gene set", where=f"{path}, line {number}", found=line[:40],
                             expected="name, description and genes, separated by tabs")  # fmt: skip
        if name in found:
            raise InputError("gene set given twice", where=f"{path}, line {number}", found=name)
        found[name] = genes
    if not found:
        raise InputError("no gene sets", where=str(path))
    return found


def choose(path: Path | None, fixed: Sequence[str] | None) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Return the gene sets of a file and which of them are scored on their own.

    Without a choice that is :data:`DEFAULT_FIXED` where the file holds it; :class:`InputError` for an unknown choice.
    """
    if path is None:
        if fixed:
            raise InputError("--fixed-sets needs --gene-sets", where="--fixed-sets", found=", ".join(fixed))
        return {}, ()
    sets = read(path)
    if fixed is None:
        return sets, tuple(name for name in (DEFAULT_FIXED,) if name in sets)
    for name in fixed:
        if name not in sets:
            raise InputError(f"no gene set '{name}'", where=str(path), hint=closest(name, list(sets)))
    return sets, tuple(fixed)
