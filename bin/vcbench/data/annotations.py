"""What is known about perturbations beside the screen (severity, domain ...), joined by label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv
from vcbench.data.conditions import Condition


def join(
    path: Path | str,
    conditions: Sequence[Condition],
    known_labels: Sequence[str],
    canonical: Callable[[str], str],
    reserved: Sequence[str],
) -> tuple[dict[str, dict[str, str]], list[str], list[str]]:
    """Return ({perturbation id: {column: value}}, annotation columns, labels of the table that the screen lacks).

    A label matches as written in the screen, else by its canonical id (`canonical` returns "" for an unreadable one).
    `known_labels` are further labels of the screen that are no perturbation (controls, dropped ones).
    Raises :class:`InputError` for a missing `label` column, duplicate labels, columns named like one of the project's
    (`reserved`), and labels of one perturbation that contradict each other.
    """
    if not Path(path).is_file():
        raise InputError("file not found", where=str(path), expected="annotations TSV")
    rows = read_tsv(path, ("label",))
    columns = [name for name in rows[0] if name != "label"] if rows else []
    for name in columns:
        if name in reserved or not name:
            raise InputError(f"column '{name}' is a name of this project", where=str(path), hint="rename it")
    by_label = {label: condition.id for condition in conditions for label in condition.labels}
    ids = {condition.id for condition in conditions}
    joined: dict[str, dict[str, str]] = {}
    line_of: dict[str, int] = {}
    unknown = []
    for line, row in enumerate(rows, start=2):
        label = row["label"].strip()
        if label in line_of:
            raise InputError(
                f"duplicate label '{label}'", where=f"{path}, line {line}", found=f"also in line {line_of[label]}"
            )
        line_of[label] = line
        name = by_label.get(label) or canonical(label)
        if name not in ids:
            if label not in known_labels:
                unknown.append(label)
            continue
        values = {column: row[column] for column in columns}
        if joined.setdefault(name, values) != values:
            raise InputError(
                f"labels of {name} contradict each other", where=f"{path}, line {line}", found=values,
                expected=joined[name],
            )  # fmt: skip
    return joined, columns, sorted(unknown)
