"""Reading and writing the project's h5ad files; `uns["vcbench"]` is one JSON string (opens in any anndata)."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench.core.errors import InputError

if TYPE_CHECKING:
    import anndata as ad

SCHEMA_VERSION = 1

#: Canonical label of control cells in every file of the pipeline.
CONTROL = "control"


def read(path: Path | str) -> ad.AnnData:
    """Return an AnnData; raises :class:`InputError` when the file is missing or is not h5ad."""
    import anndata as ad

    if not Path(path).exists():
        raise InputError("file not found", where=str(path))
    try:
        return ad.read_h5ad(path)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            "not a readable h5ad file", where=str(path), found=error, hint="write it with anndata's write_h5ad"
        ) from error


def provenance(adata: ad.AnnData, where: Path | str = "h5ad file") -> dict[str, Any]:
    """Return the decoded `uns["vcbench"]` of one of the project's own files; :class:`InputError` for any other file."""
    return decoded(adata.uns.get("vcbench"), where)


def decoded(recorded: Any, where: Path | str) -> dict[str, Any]:
    """Return the provenance from what `uns["vcbench"]` holds; :class:`InputError` unless this project wrote it."""
    try:
        return dict(json.loads(recorded))
    except (ValueError, TypeError) as error:
        raise InputError(
            "not a file of this pipeline", where=str(where), found="no provenance in uns['vcbench']"
        ) from error


def write(adata: ad.AnnData, path: Path | str, facts: dict[str, Any]) -> None:
    """Write with `facts` as provenance; string columns as plain objects, so that old anndata versions open the file.

    The file is written under a temporary name first: an interrupted task never leaves half a file.
    """
    adata.uns["vcbench"] = json.dumps({"schema_version": SCHEMA_VERSION, **facts}, sort_keys=True)
    logging.getLogger("anndata").setLevel(logging.ERROR)
    for frame in (adata.obs, adata.var):
        for column in frame.columns:
            if frame[column].dtype.name in ("string", "str"):
                frame[column] = frame[column].astype(object)
    partial = Path(f"{path}.partial")
    adata.write_h5ad(partial, compression="lzf")
    partial.rename(path)
