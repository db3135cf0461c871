"""Hyper-parameters: defaults from the catalogue, overrides from a YAML file, both checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vcbench.core.errors import InputError
from vcbench.core.names import closest

#: Setting of every model that is given encoder vectors, besides those of its catalogue entry.
SCALING = "encoding_scaling"
SCALINGS = ("none", "zscore", "l2")

_TYPES = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
}


def read_overrides(path: Path | str | None, known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return ``{entry: {setting: value}}`` of a YAML file; names must be entries of the catalogue."""
    if path is None:
        return {}
    try:
        overrides = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError("not a readable YAML file", where=str(path), found=error) from error
    if not isinstance(overrides, dict) or not all(isinstance(value, dict) for value in overrides.values()):
        raise InputError("wrong layout", where=str(path), expected="name: {setting: value}")
    for name in overrides:
        if name not in known:
            raise InputError(f"unknown model or encoder '{name}'", where=str(path), hint=closest(str(name), known))
    return overrides


def of_model(entry: Mapping[str, Any], scaling: str = "none") -> dict[str, Any]:
    """Return the specification of a model's settings: its own, and how its encoder vectors are scaled (if it has any).

    `scaling` is the run's default; a model may be given another one like any other setting.
    """
    if not entry["encoder"]:
        return dict(entry["settings"])
    return {**entry["settings"], SCALING: {"type": "string", "default": scaling, "choices": list(SCALINGS)}}


def complete(name: str, specification: Mapping[str, Any], overrides: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return every setting of an entry with its value; raises :class:`InputError` for an unknown or wrong one."""
    for key, value in overrides.items():
        if key not in specification:
            raise InputError(f"unknown setting '{key}' of {name}", where=where, hint=closest(key, specification))
        _check(f"{name}.{key}", specification[key], value, where)
    return {key: overrides.get(key, spec["default"]) for key, spec in sorted(specification.items())}


def _check(label: str, spec: Mapping[str, Any], value: Any, where: str) -> None:
    if not _TYPES[spec["type"]](value):
        raise InputError(f"wrong type of {label}", where=where, found=repr(value), expected=spec["type"])
    if spec["type"] == "list":
        if not value and spec["default"]:
            raise InputError(f"{label} is empty", where=where, expected="at least one value")
        for item in value:
            _check(f"{label} item", {**spec, "type": spec["items"]}, item, where)
        return
    if "choices" in spec and value not in spec["choices"]:
        raise InputError(
            f"wrong value of {label}", where=where, found=repr(value), expected=f"one of {spec['choices']}"
        )
    for bound, wrong in (("min", lambda a, b: a < b), ("max", lambda a, b: a > b)):
        if bound in spec and wrong(value, spec[bound]):
            raise InputError(
                f"{label} is out of range", where=where, found=value, expected=f"{bound}imum {spec[bound]}"
            )
