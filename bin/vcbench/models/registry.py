"""From a model's name to its class: `vcbench/models/<name>.py`, attribute ``MODEL``."""

from __future__ import annotations

import importlib
from pathlib import Path

import vcbench.models
from vcbench.core.errors import InputError
from vcbench.core.names import closest
from vcbench.models.base import Model


def names() -> list[str]:
    """Return the names of all models: modules of the package that set ``MODEL``."""
    files = [path for folder in vcbench.models.__path__ for path in Path(folder).glob("*.py")]
    return sorted(path.stem for path in files if "\nMODEL = " in path.read_text())


def load(name: str) -> type[Model]:
    """Return the class of a model; raises :class:`InputError` with the nearest name for an unknown one."""
    if name not in names():
        raise InputError(f"unknown model '{name}'", where="models", hint=closest(name, names()))
    return importlib.import_module(f"vcbench.models.{name}").MODEL
