"""Tab-separated tables without pandas: light to import, byte-identical for identical rows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vcbench.core.errors import InputError

#: Columns of perturbations.tsv that the screen itself gives, in their order; all others are annotations of the user.
OF_THE_SCREEN = (
    "perturbation", "labels", "gene", "protein_id", "isoform", "sequence_sha256", "sequence_length", "hgvs_p",
    "consequence", "ref", "pos", "alt", "status", "reason", "n_cells_total", "n_cells",
)  # fmt: skip


def read_tsv(path: Path | str, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return the rows of a TSV with header as dicts of strings.

    Raises :class:`InputError` naming the file when it or a required column is missing or a row is ragged.
    """
    if not Path(path).exists():
        raise InputError("file not found", where=str(path))
    with open(path, newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = [column for column in required if column not in (reader.fieldnames or [])]
        if missing:
            raise InputError(
                f"missing column {', '.join(missing)}",
                where=str(path),
                found=", ".join(reader.fieldnames or []) or "an empty file",
            )
        rows = []
        for number, row in enumerate(reader, start=2):
            if None in row or None in row.values():
                raise InputError(
                    "wrong number of fields",
                    where=f"{path}, line {number}",
                    expected=f"{len(reader.fieldnames or [])} tab-separated",
                )
            rows.append(row)
    return rows


def format_value(value: object) -> str:
    """Return the text of one cell: empty for None and NaN, shortest exact form for floats, true/false for booleans."""
    if value is None or value != value:
        return ""
    if hasattr(value, "item"):  # numpy scalar
        value = value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    text = str(value)
    return " ".join(text.split()) if any(c in text for c in "\t\n\r") else text


def write_tsv(path: Path | str, rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Write rows under exactly these columns, in this order, with ``\\n`` line ends."""
    with open(path, "w", newline="", encoding="utf-8") as handle:
        handle.write("\t".join(columns) + "\n")
        for row in rows:
            handle.write("\t".join(format_value(row[column]) for column in columns) + "\n")
