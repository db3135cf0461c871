"""What is known of each variant: columns of the user's annotations, as `--known_function` names them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcbench.core.errors import InputError
from vcbench.core.names import closest
from vcbench.core.tables import OF_THE_SCREEN, read_tsv

#: Classes understood without being told, compared without regard to case, `_` and `-`; others are left out and named.
DAMAGING = frozenset((
    "pathogenic", "likely pathogenic", "pathogenic/likely pathogenic", "damaging", "deleterious", "probably damaging",
    "non functional", "nonfunctional", "loss of function", "lof", "dne lof", "notdne lof", "impactful", "oncogenic",
    "likely oncogenic", "true", "yes",
))  # fmt: skip
HARMLESS = frozenset((
    "benign", "likely benign", "benign/likely benign", "tolerated", "neutral", "functional", "wt like",
    "wild type like", "notdne notlof", "likely neutral", "synonymous", "false", "no",
))  # fmt: skip

_ITEM = re.compile(r"(?P<low>-?)(?P<column>[^,<>=]+?)\s*(?:(?P<rule>>=|<=|=)\s*(?P<value>[^,<>=]+))?")
EXPECTED = "COLUMN, -COLUMN, COLUMN>=0.5, COLUMN<=0.5 or COLUMN=class|class, separated by commas"


@dataclass(frozen=True)
class Known:
    """One item of `--known_function`.

    `low` is true when low values are the damaging ones. `rule` is ``>=`` or ``<=`` with a number, ``=`` with the
    damaging classes (every other class is harmless), or empty.
    """

    text: str
    column: str
    low: bool
    rule: str
    value: str


@dataclass(frozen=True)
class Values:
    """What a column says of some variants, in their order; None where it says nothing.

    `numbers` are oriented so that high is damaging (None for a column of classes), `damaging` are labels (None for a
    column of numbers without a rule). `left_out` counts classes that are neither.
    """

    numbers: list[float] | None
    damaging: list[bool | None] | None
    left_out: dict[str, int]
    problem: str = ""


def parse(text: str, where: str = "--known_function") -> list[Known]:
    """Return the items of a list; :class:`InputError` for one that cannot be read."""
    found = []
    for item in (part.strip() for part in text.split(",")):
        if not item:
            continue
        match = _ITEM.fullmatch(item)
        number = match is not None and match["rule"] in (">=", "<=")
        if match is None or (number and not is_number(match["value"])) or (match["low"] and match["rule"] == "="):
            raise InputError("not a rule", where=where, found=item, expected=EXPECTED)
        found.append(Known(item, match["column"].strip(), bool(match["low"]) or match["rule"] == "<=",
                           match["rule"] or "", (match["value"] or "").strip()))  # fmt: skip
    return found


def is_number(text: str) -> bool:
    """Return whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def values(known: Known, rows: Sequence[Mapping[str, str]]) -> Values:
    """Return what the column says of the variants of these rows; `problem` tells why it says nothing usable."""
    texts = [row.get(known.column, "").strip() for row in rows]
    given = [text for text in texts if text]
    if not given:
        return Values(None, None, {}, f"no variant has a value in column {known.column}")
    if known.rule == "=":
        classes = {_plain(part) for part in known.value.split("|")}
        if not classes & {_plain(text) for text in given}:
            return Values(None, None, {}, without_class(known, rows))
        return Values(None, [_plain(text) in classes if text else None for text in texts], {})
    if all(is_number(text) for text in given):
        sign = -1.0 if known.low else 1.0
        numbers = [sign * float(text) if text else math.nan for text in texts]
        if not known.rule:
            return Values(numbers, None, {})
        cut = sign * float(known.value)
        return Values(numbers, [None if math.isnan(number) else number >= cut for number in numbers], {})
    if known.rule or known.low:
        bad = next(text for text in given if not is_number(text))
        return Values(None, None, {}, f"column {known.column} holds '{bad}', which is no number")
    labels = [_understood(text) for text in texts]
    left_out = Counter(text for text, label in zip(texts, labels, strict=True) if text and label is None)
    problem = ""
    if len(set(labels) - {None}) < 2:
        some = ", ".join(sorted(set(given))[:5])
        problem = (
            f"classes are not understood or all alike ({some}); name the damaging ones: {known.column}=class|class"
        )
    return Values(None, labels, dict(sorted(left_out.items())), problem)


def without_class(known: Known, rows: Sequence[Mapping[str, str]]) -> str:
    """Return which of the classes an item names no variant of these rows has, and which there are; empty: none."""
    given = sorted({row.get(known.column, "").strip() for row in rows} - {""})
    there = {_plain(text) for text in given}
    absent = [part.strip() for part in known.value.split("|") if _plain(part) not in there]
    if known.rule != "=" or not absent or not given:
        return ""
    names = ", ".join(f"'{name}'" for name in absent)
    what = f"class {names} does not occur" if len(absent) == 1 else f"classes {names} do not occur"
    return f"{what} in column {known.column}; found: {_listed(given)}"


def without_column(known: Known, columns: Sequence[str]) -> str:
    """Return that no dataset has the column an item names, and which there are; empty where one has it."""
    if known.column in columns:
        return ""
    return f"no dataset has an annotation column '{known.column}'; found: {_listed(sorted(columns)) or 'none'}"


def check(text: str, tables: Sequence[Path], where: str = "--known_function") -> None:
    """Raise :class:`InputError` for a column that no annotations table has, or classes that none of their rows has.

    `tables` are the annotations of all datasets. Whether variants of the screen have values is known later.
    """
    rows = [row for path in tables for row in read_tsv(path)]
    columns = {name for row in rows for name in row} - {"label"}
    for known in parse(text, where):
        if known.column in OF_THE_SCREEN:
            continue
        if without_column(known, sorted(columns)):
            raise InputError(
                f"no annotations table has a column '{known.column}'", where=where, found=f"'{known.text}'",
                expected=f"a column of {', '.join(sorted({path.name for path in tables})) or 'annotations'}",
                hint=closest(known.column, columns) if columns else "name the table in column annotations of --input",
            )  # fmt: skip
        if reason := without_class(known, rows):
            raise InputError(reason, where=where, hint="classes are separated by |, not by commas")


def _listed(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _understood(text: str) -> bool | None:
    name = _plain(text)
    return True if name in DAMAGING else False if name in HARMLESS else None
