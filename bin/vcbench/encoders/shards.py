"""Vectors in a store: what is in each shard, whether it is whole, and several shards of one encoder as one.

A shard is `<encoder>.<shard>.vectors.h5ad` and `<encoder>.<shard>.keys.txt`, which names the keys of its vectors and
the SHA-256 of the first file. It is written once and never changed; perturbations that come later make a further shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core import h5ad
from vcbench.core.errors import InputError
from vcbench.core.hashing import sha256_file

if TYPE_CHECKING:
    import anndata as ad

VECTORS, KEYS = ".vectors.h5ad", ".keys.txt"
_DIGEST = "# sha256 "

#: Facts that may differ between the shards of an encoder; any other difference is an error.
PER_SHARD = ("created", "device", "deterministic", "n_passes", "versions")
#: Facts about the proteins of a shard: united, an entry in several of them must be the same.
UNITED = ("msa", "sequence_sha256")


def write_keys(vectors: Path, keys: Iterable[str]) -> Path:
    """Write the keys file beside a file of vectors and return its path."""
    path = keys_file(vectors)
    path.write_text("\n".join([_DIGEST + sha256_file(vectors), *keys]) + "\n")
    return path


def keys_file(vectors: Path) -> Path:
    """Return the path of the keys file that belongs to a file of vectors."""
    return vectors.with_name(vectors.name.removesuffix(VECTORS) + KEYS)


def read_known(paths: Iterable[Path], encoder: str) -> set[str]:
    """Return the keys that the shards of an encoder hold already, from their keys files."""
    own = [path for path in paths if path.name.startswith(f"{encoder}.")]
    return {line for path in own for line in _lines(path)[1:]}


def check_whole(vectors: Path) -> None:
    """Raise :class:`InputError` naming what to delete when a file of vectors is not the one its keys file describes.

    Vectors without a keys file (control encoders, made by hand) are not checked.
    """
    keys = keys_file(vectors)
    if not keys.exists():
        return
    expected, found = _lines(keys)[0].removeprefix(_DIGEST), sha256_file(vectors)
    if found != expected:
        stored = vectors.resolve()
        raise InputError(
            "stored vectors are damaged (wrong SHA-256)", where=str(stored), found=found, expected=expected,
            hint=f"delete it and {keys_file(stored).name}; the next run encodes again",
        )  # fmt: skip


def read(paths: Sequence[Path]) -> dict[str, tuple[ad.AnnData, dict[str, Any]]]:
    """Return {encoder: (vectors, provenance)}, the shards of each encoder united.

    Raises :class:`InputError` for a damaged file and for shards that were not made in the same way.
    """
    found: dict[str, list[tuple[Path, ad.AnnData, dict[str, Any]]]] = {}
    for path in sorted(paths, key=lambda path: path.name):
        check_whole(path)
        adata = h5ad.read(path)
        facts = h5ad.provenance(adata, path)
        if "encoder_id" not in facts or "ref" not in adata.layers:
            raise InputError(
                "no vectors of an encoder", where=str(path), expected=f"<encoder>{VECTORS} as vcb_encode.py writes it"
            )
        found.setdefault(facts["encoder_id"], []).append((path, adata, facts))
    return {name: unite(shards) if len(shards) > 1 else shards[0][1:] for name, shards in found.items()}


def unite(shards: Sequence[tuple[Path, ad.AnnData, dict[str, Any]]]) -> tuple[ad.AnnData, dict[str, Any]]:
    """Return the rows of several shards, sorted by key, and their common provenance with one entry per shard.

    A key in several shards is taken from the first one. Raises :class:`InputError` when columns or facts differ.
    """
    import anndata as ad
    import pandas as pd

    path, first, facts = shards[0]
    for other, adata, others in shards[1:]:
        different = [
            name
            for name in sorted(facts.keys() | others.keys())
            if name not in (*PER_SHARD, *UNITED) and facts.get(name) != others.get(name)
        ]
        if not adata.var.equals(first.var) or list(adata.obs.columns) != list(first.obs.columns):
            different.append("columns")
        if different:
            name = different[0]
            raise InputError(
                f"vectors of {facts['encoder_id']} were made in different ways ({', '.join(different)})",
                where=f"{path.resolve()} and {other.resolve()}", found=_short(others.get(name)),
                expected=_short(facts.get(name)), hint="delete one of them; the next run encodes again",
            )  # fmt: skip
    keys = np.concatenate([adata.obs_names.to_numpy(object) for _, adata, _ in shards])
    _, rows = np.unique(keys.astype(str), return_index=True)  # sorted by key, first occurrence
    matrix = {
        name: np.vstack([np.asarray(adata.X if name == "alt" else adata.layers["ref"]) for _, adata, _ in shards])[rows]
        for name in ("alt", "ref")
    }
    obs = pd.concat([adata.obs.astype(object) for _, adata, _ in shards]).iloc[rows]
    united = ad.AnnData(matrix["alt"], obs=obs, var=first.var, layers={"ref": matrix["ref"]})
    return united, _united([facts for _, _, facts in shards], [path for path, _, _ in shards])


def _united(facts: Sequence[Mapping[str, Any]], paths: Sequence[Path]) -> dict[str, Any]:
    result = dict(max(facts, key=lambda each: each["created"]))  # decides `created` and `versions`
    result["sequence_sha256"] = sorted({digest for each in facts for digest in each["sequence_sha256"]})
    if isinstance(result["msa"], dict):
        result["msa"] = _merged([each["msa"] for each in facts], paths)
    result["n_passes"] = sum(each["n_passes"] for each in facts)
    result["deterministic"] = all(each["deterministic"] for each in facts)
    result["device"] = ", ".join(sorted({each["device"] for each in facts}))
    result["shards"] = [
        {"file": path.name, **{name: each[name] for name in PER_SHARD}} for path, each in zip(paths, facts, strict=True)
    ]
    return result


def _merged(parts: Sequence[Mapping[str, Any]], paths: Sequence[Path]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part, path in zip(parts, paths, strict=True):
        for name, value in part.items():
            if isinstance(value, dict) and isinstance(merged.get(name), dict):
                merged[name] = _merged([merged[name], value], [paths[0], path])
            elif merged.setdefault(name, value) != value:
                raise InputError(
                    f"vectors were made with different alignments ({name})", where=str(path.resolve()),
                    found=_short(value), expected=_short(merged[name]), hint="delete it; the next run encodes again",
                )  # fmt: skip
    return merged


def _lines(path: Path) -> list[str]:
    lines = path.read_text().splitlines() if path.is_file() else []
    if not lines or not lines[0].startswith(_DIGEST):
        raise InputError(
            "not a list of keys", where=str(path.resolve()), expected=f"a first line '{_DIGEST}...'",
            hint="delete it and the vectors beside it; the next run encodes again",
        )  # fmt: skip
    return lines


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
