"""The user's own vectors: a file of the encoding contract, read and checked (specs: plm_encoders.md 3.2).

h5ad: `obs` index = perturbations, `X` (n, D), optional ``layers["ref"]``, optional JSON in ``uns["vcbench"]`` or
``uns["plm"]``. npz (no pickles): `X`, `variant_id`, optional `ref`, optional `provenance` (one string of JSON).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vcbench.core import catalogue, h5ad
from vcbench.core.errors import InputError
from vcbench.encoders.provenance import DIFF_SIGN

ARRAYS = ("X", "variant_id", "ref", "provenance")
#: What `X` may be according to the file's provenance; without a word it is ALT.
KINDS = {"alt": "alt", "ref and alt": "alt", "diff": "diff", "ref": "ref"}


@dataclass(frozen=True)
class OwnVectors:
    """A checked file: `ids` (n,) names of rows, `x` (n, D) float32, `ref` (n, D) float32 or None.

    `kind` says what `x` is: ``alt``, ``diff`` or ``ref``. `facts` is the provenance in the file, as it stands there.
    """

    encoder: str
    path: Path
    ids: tuple[str, ...]
    x: np.ndarray
    ref: np.ndarray | None
    kind: str
    facts: Mapping[str, Any]
    rows: Mapping[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", {name: row for row, name in enumerate(self.ids)})

    def of(self, strategy: str) -> np.ndarray:
        """Return the (n, D) float32 vectors of a strategy: ``alt``, ``ref`` or ``diff`` = REF - ALT in fp32.

        Raises :class:`InputError` when the file does not hold what the strategy needs; nothing is made up.
        """
        if strategy == self.kind:
            return self.x
        if self.kind != "alt":
            raise InputError(
                f"the file holds {self.kind.upper()} vectors by its provenance, not what strategy '{strategy}' needs",
                where=str(self.path),
                hint=f"use --strategies {self.kind}",
            )
        if self.ref is None:
            place = "the array ref" if self.path.suffix == ".npz" else 'layers["ref"]'
            raise InputError(
                f"no REF vectors, which strategy '{strategy}' needs",
                where=str(self.path),
                hint=f"use --strategies alt, or add {place} with the vector of the reference for every row",
            )
        return self.ref if strategy == "ref" else self.ref - self.x


def read(path: Path) -> OwnVectors:
    """Return the vectors of a file; raises :class:`InputError` with one line for whatever is wrong with it."""
    encoder = catalogue.own_name(path.name, str(path))
    ids, x, ref, text = _read_npz(path) if path.suffix == ".npz" else _read_h5ad(path)
    where = str(path)
    _check_ids(ids, where)
    matrix = _matrix(x, "X", ids, where)
    other = None if ref is None else _matrix(ref, "ref", ids, where)
    if other is not None and other.shape != matrix.shape:
        raise InputError("X and ref differ in shape", where=where, found=f"{matrix.shape} and {other.shape}")
    facts = _facts(text, where)
    return OwnVectors(encoder, path, tuple(ids), matrix, other, _kind(facts, where), facts)


def _read_h5ad(path: Path) -> tuple[list[str], Any, Any, object]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # doubled row names are reported by us
        data = h5ad.read(path)
    if data.X is None:
        raise InputError("no vectors", where=str(path), expected="a matrix X, one row per perturbation")
    text = next((data.uns[key] for key in ("vcbench", "plm") if key in data.uns), None)
    return [str(name) for name in data.obs_names], data.X, data.layers.get("ref"), text


def _read_npz(path: Path) -> tuple[list[str], Any, Any, object]:
    import zipfile

    if not path.is_file():
        raise InputError("file not found", where=str(path))
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        # a bare .npy or a pickle under this name is no archive either
        hint = (
            "pickled objects are never read: save plain arrays"
            if "ickle" in str(error)
            else "write it with numpy.savez"
        )
        raise InputError("not a readable npz file", where=str(path), found=error, hint=hint) from error
    arrays = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
    if missing := [name for name in ARRAYS[:2] if name not in arrays]:
        raise InputError(
            f"missing array {', '.join(missing)}", where=str(path), found=", ".join(arrays) or "no array",
            expected="X, variant_id and, if you have them, ref and provenance",
        )  # fmt: skip
    if unknown := sorted(arrays.keys() - set(ARRAYS)):
        raise InputError(f"unknown array {', '.join(unknown)}", where=str(path), expected=", ".join(ARRAYS))
    ids = arrays["variant_id"]
    if ids.dtype.kind != "U" or ids.ndim != 1:
        raise InputError("variant_id is not a list of text", where=str(path), found=f"{ids.dtype} {ids.shape}")
    text = arrays.get("provenance")
    return (
        ids.tolist(),
        arrays["X"],
        arrays.get("ref"),
        str(text.item()) if text is not None and text.size == 1 else text,
    )


def _check_ids(ids: Sequence[str], where: str) -> None:
    if not ids:
        raise InputError("no vectors", where=where, expected="one row per perturbation")
    if blank := [number for number, name in enumerate(ids, start=1) if not name.strip()]:
        raise InputError("a row without a name", where=where, found=f"row {blank[0]}")
    if len(set(ids)) != len(ids):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise InputError("two vectors under one name", where=where, found=listed(twice))


def _matrix(values: Any, name: str, ids: Sequence[str], where: str) -> np.ndarray:
    """Return (n, D) float32 from a matrix of any real type, dense or sparse; checked cell by cell."""
    values = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    if values.dtype.kind not in "fiu":
        raise InputError(f"{name} does not hold numbers", where=where, found=values.dtype, expected="float32")
    if values.ndim != 2 or len(values) != len(ids) or not values.shape[1]:
        raise InputError(
            f"wrong shape of {name}", where=where, found=values.shape, expected=f"({len(ids)} rows, dimensions)"
        )
    with np.errstate(over="ignore"):
        matrix = values.astype(np.float32)
    if bad := [name for name, row in zip(ids, matrix, strict=True) if not np.isfinite(row).all()]:
        raise InputError(f"{name} holds values that are not finite in float32", where=where, found=listed(bad))
    return matrix


def _facts(text: object, where: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        facts = json.loads(text)
    except (TypeError, ValueError) as error:
        raise InputError(
            "the provenance is no JSON", where=where, found=error, expected="an object in a string"
        ) from error
    if not isinstance(facts, dict):
        raise InputError("the provenance is no JSON object", where=where, found=type(facts).__name__)
    return facts


def _kind(facts: Mapping[str, Any], where: str) -> str:
    stated = facts.get("strategy") or "alt"
    if str(stated).lower() not in KINDS:
        raise InputError("unknown strategy in the provenance", where=where, found=stated, expected=", ".join(KINDS))
    sign = facts.get("diff_sign")
    if sign not in (None, DIFF_SIGN):
        raise InputError(
            "wrong diff_sign in the provenance", where=where, found=sign, expected=DIFF_SIGN,
            hint="DIFF is REF minus ALT: turn the sign and say so in the file",
        )  # fmt: skip
    return KINDS[str(stated).lower()]


def listed(names: Sequence[str], most: int = 20) -> str:
    """Return names for a message, the first `most` of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
