"""The samplesheet: one row per dataset, checked against `assets/schema_input.json`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from vcbench.core.errors import InputError
from vcbench.core.names import closest


def read(path: Path | str, schema_path: Path | str) -> list[dict[str, str]]:
    """Return the rows with every column of the schema present (defaults filled, else empty).

    Raises :class:`InputError` that names the file, the line and the column for the first problem.
    """
    import jsonschema

    schema = json.loads(Path(schema_path).read_text())
    properties = schema["items"]["properties"]
    rows = _rows(Path(path), set(properties))
    for line, row in rows:
        given = {column: value for column, value in row.items() if value != ""}
        error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema["items"]).iter_errors(given))
        if error is not None:
            raise InputError(
                *_explain(error), where=f"{path}, line {line}{_column(error)}", **_found(error, properties)
            )
    filled = [{name: row.get(name) or spec.get("default", "") for name, spec in properties.items()} for _, row in rows]
    _check_across(filled, [line for line, _ in rows], path)
    return filled


def _rows(path: Path, known: set[str]) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, row) pairs; the header and the number of fields are checked here."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, skipinitialspace=True)
            header = reader.fieldnames or []
            if len(header) < 2:
                raise InputError("not a comma-separated table", where=str(path), found=f"header '{','.join(header)}'")
            for column in header:
                if column not in known:
                    raise InputError(f"unknown column '{column}'", where=f"{path}, line 1", hint=closest(column, known))
            if len(set(header)) != len(header):
                raise InputError("duplicate column", where=f"{path}, line 1", found=", ".join(header))
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(
                        "wrong number of fields",
                        where=f"{path}, line {reader.line_num}",
                        expected=f"{len(header)} comma-separated",
                    )
                rows.append((reader.line_num, {column: value.strip() for column, value in row.items()}))
    except OSError as error:
        raise InputError("cannot be read", where=str(path), found=error.strerror) from error
    except UnicodeDecodeError as error:
        raise InputError("not a text file", where=str(path), expected="a CSV file in UTF-8") from error
    if not rows:
        raise InputError("no dataset", where=str(path), expected="one row per dataset below the header")
    return rows


def _explain(error: object) -> tuple[str]:
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return (f"'{missing}' is missing or empty",)
    return ("value not allowed",)


def _column(error: object) -> str:
    return f", column {error.absolute_path[-1]}" if error.absolute_path else ""


def _found(error: object, properties: dict[str, dict]) -> dict[str, object]:
    if error.validator == "required":
        return {}
    expected = {"pattern": "text like {}", "enum": "one of {}"}.get(error.validator, "{}")
    hint = properties.get(error.absolute_path[-1], {}).get("description", "") if error.absolute_path else ""
    value = error.validator_value
    return {
        "found": f"'{error.instance}'",
        "expected": expected.format(", ".join(map(str, value)) if isinstance(value, list) else value),
        "hint": hint,
    }


def _check_across(rows: list[dict[str, str]], lines: list[int], path: Path | str) -> None:
    """Raise for duplicate dataset names and for variants without what they need."""
    first: dict[str, int] = {}
    for line, row in zip(lines, rows, strict=True):
        name = row["dataset"]
        if name.lower() in first:  # file systems may ignore case
            raise InputError(
                f"duplicate dataset '{name}'", where=f"{path}, line {line}", found=f"also on line {first[name.lower()]}"
            )
        first[name.lower()] = line
        if row["perturbation_type"] == "variant" and not row["proteins"]:
            raise InputError(
                "'proteins' is missing or empty",
                where=f"{path}, line {line}",
                hint="variants need the FASTA of their protein",
            )
