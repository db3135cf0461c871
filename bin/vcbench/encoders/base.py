"""What every encoder implements, and what it is given.

Adding an encoder: one module ``vcbench/encoders/<name>.py`` that exposes its class as ``ENCODER``, one entry in
``assets/encoders.yml``. One file per encoder, so that a content digest per encoder is possible. Protein language models
share `plm/`; an entry with a `family` names the package that holds its network (see `plm/network.py`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vcbench.core.errors import InputError
from vcbench.core.names import closest

if TYPE_CHECKING:
    from vcbench.encoders.requests import Request

#: To which datasets a column of the matrix belongs: `any`; `variant` (datasets of variants only); `used` (datasets in
#: which some perturbation has a value other than zero there: the columns of one-hot vectors over genes or positions).
#: DERIVE drops the other columns, so that a dataset's vectors never depend on which datasets were encoded beside it.
SCOPES = ("any", "variant", "used")

#: Encoders of the catalogue that are made by DERIVE from another encoder's vectors.
DERIVED = ("shuffled",)


@dataclass(frozen=True)
class Context:
    """What an encoder may know besides the requests: its settings and catalogue entry, device, seed and folders.

    `weights` is the folder of official or converted weights, or the folder above; `inputs` holds further inputs
    (the alignments of ESM-MSA, the file of gene sets): what the parameter named `inputs` in the entry holds.
    """

    name: str
    entry: Mapping[str, Any]
    settings: Mapping[str, Any]
    weights: Path | None = None
    inputs: Path | None = None
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class Encoded:
    """REF and ALT vectors of the requests that are not `skipped`, in their order.

    Attributes
    ----------
    alt, ref
        (requests, D) float32. REF is the vector of the reference residue in the reference sequence.
    columns, scopes
        (D,) names of the columns and their scopes (see :data:`SCOPES`).
    facts
        Provenance this encoder knows: any of the keys of `vcbench.encoders.provenance.MANDATORY`, and further ones.
    rows
        Extra facts per encoded request, written as columns of `obs`; strings, `;`-joined over several positions.
    skipped
        {key: reason} of requests that have no vector in this encoder, for which zeros would be wrong. Models of the
        encoder neither train on them nor predict them (scored as `missing_pred`); a reason is one short line.
    """

    alt: np.ndarray
    ref: np.ndarray
    columns: tuple[str, ...]
    scopes: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


class Encoder(Protocol):
    """One encoder, built as ``ENCODER(context)``, which raises :class:`InputError` when weights are not in order."""

    def __init__(self, context: Context) -> None: ...

    def encode(self, requests: Sequence[Request]) -> Encoded:
        """Return one REF and one ALT vector per request that is not skipped, whatever the order of the requests."""


def load(name: str, catalogue: Mapping[str, Any]) -> type[Encoder]:
    """Return the class of an encoder of the catalogue; raises :class:`InputError` with the nearest name otherwise."""
    computed = [known for known in catalogue["entries"] if known not in DERIVED]
    if name in DERIVED:
        raise InputError(
            f"'{name}' is not computed but derived from another encoder",
            where="--encoders",
            hint="use vcb_derive.py --shuffled-base",
        )
    if name not in computed:
        raise InputError(f"unknown encoder '{name}'", where="--encoders", hint=closest(name, computed))
    entry = catalogue["entries"][name]
    module = entry.get("module") or ("plm.encoder" if "family" in entry else name)
    return importlib.import_module(f"vcbench.encoders.{module}").ENCODER
