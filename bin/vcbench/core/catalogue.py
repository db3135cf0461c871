"""The catalogues `assets/{models,encoders,metrics}.yml`: one source for Nextflow, Python and the docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vcbench.core.errors import InputError
from vcbench.core.names import closest

#: `bin/vcbench/core/catalogue.py` -> the project; tasks pass `--assets` because only `bin/` travels with them.
ASSETS = Path(__file__).resolve().parents[3] / "assets"


@cache
def load(kind: str, assets: Path = ASSETS) -> dict[str, Any]:
    """Return a catalogue: ``{"groups": {group: [names]}, "entries": {name: {...}}}``."""
    path = assets / f"{kind}.yml"
    if not path.is_file():
        raise InputError("catalogue not found", where=str(path))
    return yaml.safe_load(path.read_text())


def resolve(kind: str, requested: Sequence[str], catalogue: Mapping[str, Any], parameter: str) -> list[str]:
    """Return entry names in request order, groups expanded, duplicates removed.

    Raises :class:`InputError` with the nearest name for an unknown one.
    """
    names: list[str] = []
    for item in requested:
        if item in catalogue["groups"]:
            found = catalogue["groups"][item]
        elif item in catalogue["entries"]:
            found = [item]
        else:
            raise InputError(
                f"unknown {kind} '{item}'",
                where=parameter,
                hint=closest(item, [*catalogue["groups"], *catalogue["entries"]]),
            )
        names += [name for name in found if name not in names]
    return names
