"""Encodings for programs without anndata: plain arrays, a table and JSON (specs: plm_encoders.md 3.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core.tables import write_tsv

if TYPE_CHECKING:
    import anndata as ad

#: Time stamp of every member, so that equal arrays make equal files.
_EPOCH = (1980, 1, 1, 0, 0, 0)
#: Facts that travel inside the npz, so that its vectors are never taken for those of another strategy or protein.
IDENTITY = ("encoder_id", "strategy", "diff_sign", "sequence_sha256", "licence", "noncommercial")


def write(adata: ad.AnnData, stem: Path, facts: Mapping[str, Any]) -> None:
    """Write `<stem>.npz`, `<stem>.tsv` (obs) and `<stem>.json` (facts).

    The npz holds X float32, variant_id unicode and provenance (what the vectors are, one string of JSON); no pickles.
    """
    identity = {key: facts[key] for key in IDENTITY if key in facts}
    arrays = {
        "X": np.ascontiguousarray(adata.X, np.float32),
        "variant_id": np.array(adata.obs_names.to_list(), np.str_),
        "provenance": np.array(json.dumps(identity, sort_keys=True)),
    }
    save(Path(f"{stem}.npz"), arrays)
    rows = [
        {"variant_id": name, **row} for name, row in zip(adata.obs_names, adata.obs.to_dict("records"), strict=True)
    ]
    write_tsv(f"{stem}.tsv", rows, ["variant_id", *adata.obs.columns])
    Path(f"{stem}.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an npz file that ``numpy.load(path, allow_pickle=False)`` reads; `numpy.savez` would store the time."""
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
