"""The catalogues `assets/{models,encoders,metrics}.yml`: one source for Nextflow, Python and the docs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vcbench.core import evaluators
from vcbench.core.errors import InputError
from vcbench.core.names import closest
from vcbench.core.units import NO_ENCODER

#: `bin/vcbench/core/catalogue.py` -> the project; tasks pass `--assets` because only `bin/` travels with them.
ASSETS = Path(__file__).resolve().parents[3] / "assets"

#: Class of the encoders that are files of the user (`--vectors`), and what their names may look like.
OWN = "user"
OWN_NAME = re.compile(r"[a-z0-9_]+")
OWN_SUFFIXES = (".h5ad", ".npz")

#: Class and process of the models that are predictions made elsewhere (`--predictions`).
EXTERNAL = "external"
IMPORT_PROCESS = "PREDICTIONS_IMPORT"


@cache
def load(kind: str, assets: Path = ASSETS) -> dict[str, Any]:
    """Return a catalogue: ``{"groups": {group: [names]}, "entries": {name: {...}}}``.

    An encoder of a family also knows the `siblings` of other sizes, ``{title: architecture}``.
    """
    path = assets / f"{kind}.yml"
    if not path.is_file():
        raise InputError("catalogue not found", where=str(path))
    # The C parser, where PyYAML has it, reads the metrics in a tenth of the time.
    found = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for entry in found["entries"].values():
        if "family" in entry:
            entry["siblings"] = {
                other["title"]: other["architecture"]
                for other in found["entries"].values()
                if other.get("family") == entry["family"] and other["architecture"] != entry["architecture"]
            }
    return found


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


def own_name(file: str, where: str, encoders: Mapping[str, Any] | None = None) -> str:
    """Return the encoder's name of a file of vectors, its stem.

    Raises :class:`InputError` for another type of file and for a name that is not plain or, given the catalogue, taken.
    """
    path = Path(file)
    if path.suffix not in OWN_SUFFIXES:
        raise InputError("not a file of vectors", where=where, found=path.name, expected=" or ".join(OWN_SUFFIXES))
    if not OWN_NAME.fullmatch(path.stem):
        raise InputError(
            "the encoder is called as its file, which must have a plain name", where=where, found=path.name,
            expected="a-z, 0-9 and _",
        )  # fmt: skip
    if path.stem == NO_ENCODER or (encoders and path.stem in {*encoders["groups"], *encoders["entries"]}):
        raise InputError(
            f"'{path.stem}' is the name of an encoder or group of the pipeline", where=where, hint="rename the file"
        )
    return path.stem


def own_names(files: Iterable[str], where: str, encoders: Mapping[str, Any]) -> list[str]:
    """Return the encoders' names of several files; raises :class:`InputError` also when two have one name."""
    return _once([own_name(file, where, encoders) for file in files], where)


def _once(names: list[str], where: str) -> list[str]:
    """Return the names of files; raises :class:`InputError` when two have one name."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError("two files of one name", where=where, found=", ".join(twice), hint="rename one")
    return names


def own_entry(name: str) -> dict[str, Any]:
    """Return what stands for a file of the user in the catalogue of encoders."""
    return {
        "title": name,
        "class": OWN,
        "description": "Vectors given with --vectors",
        "process": "VECTORS_IMPORT",
        "modalities": ["variant", "gene"],
        "licence": "unknown",
        "noncommercial": None,
    }


def external_name(file: str, where: str, models: Mapping[str, Any] | None = None) -> str:
    """Return the model's name of a file of predictions made elsewhere, its stem.

    Raises :class:`InputError` for another type of file and for a name that is not plain or, given the catalogue, taken.
    """
    path = Path(file)
    if path.suffix != ".h5ad":
        raise InputError("not a file of predictions", where=where, found=path.name, expected="<name>.h5ad")
    if not OWN_NAME.fullmatch(path.stem):
        raise InputError(
            "the model is called as its file, which must have a plain name", where=where, found=path.name,
            expected="a-z, 0-9 and _",
        )  # fmt: skip
    if models and path.stem in {*models["groups"], *models["entries"], *evaluators.RESERVED}:
        raise InputError(
            f"'{path.stem}' is the name of a model or group of the pipeline", where=where, hint="rename the file"
        )
    return path.stem


def external_names(files: Iterable[str], where: str, models: Mapping[str, Any]) -> list[str]:
    """Return the models' names of several files; raises :class:`InputError` also when two have one name."""
    return _once([external_name(file, where, models) for file in files], where)


def with_external(models: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the catalogue of models with entries for predictions made elsewhere."""
    entries = {
        name: {
            "title": name,
            "class": EXTERNAL,
            "description": "Predictions made elsewhere; that they saw no test cell is their maker's word, not checked",
            "process": IMPORT_PROCESS,
            "encoder": False,
            "modalities": ["variant", "gene"],
            "batch": 1,
            "settings": {},
        }
        for name in names
    }
    return {**models, "entries": {**models["entries"], **entries}}


def with_own(encoders: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the catalogue of encoders with entries for the user's own."""
    return {**encoders, "entries": {**encoders["entries"], **{name: own_entry(name) for name in names}}}
