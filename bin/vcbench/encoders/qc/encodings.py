"""The input of the quality control: `<dataset>.<encoder>.<strategy>.h5ad`, rows in the order of their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vcbench.core import h5ad
from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv
from vcbench.encoders.requests import GENE, PERTURBATION_COLUMNS

Row = Mapping[str, str]
#: Strategies from which the reference vector follows: REF itself, else ALT + DIFF.
ALT, DIFF, REF = "alt", "diff", "ref"


@dataclass(frozen=True)
class Encoding:
    """The vectors of one dataset, encoder and strategy, without the control row.

    Attributes
    ----------
    names
        (n,) perturbations, sorted.
    matrix
        (n, D) float64.
    rows
        (n,) rows of `<dataset>.perturbations.tsv` of these perturbations.
    owners
        (n,) rows of the perturbations whose vectors these are: another one's for the shuffled control, else `rows`.
    references
        (n,) names of the reference vectors: rows with the same one have the same REF; empty for genes and wild types.
    """

    dataset: str
    encoder: str
    strategy: str
    names: tuple[str, ...]
    matrix: np.ndarray
    rows: tuple[Row, ...]
    owners: tuple[Row, ...]
    references: tuple[str, ...]
    facts: Mapping[str, Any]

    @property
    def shuffled(self) -> bool:
        """True when perturbations hold the vectors of others."""
        return any(
            row["perturbation"] != owner["perturbation"] for row, owner in zip(self.rows, self.owners, strict=True)
        )

    @property
    def changed(self) -> np.ndarray:
        """(n,) bool: vectors of perturbations that change something; the others are wild type and synonymous."""
        return np.array([is_changed(row) for row in self.owners], dtype=bool)

    @property
    def silent(self) -> np.ndarray:
        """(n,) bool: vectors of synonymous variants, whose ALT is REF and whose DIFF is zero by definition."""
        return np.array([not is_changed(row) and bool(place(row)) for row in self.owners], dtype=bool)


def is_changed(row: Row) -> bool:
    """True for a gene perturbation and for a variant whose protein differs from the reference."""
    return row["consequence"] == GENE or (row["status"] == "encoded" and bool(row["pos"]))


def place(row: Row) -> str:
    """Return the protein and position of a variant, e.g. ``a5ce...:175``; empty for the wild type and for genes."""
    return f"{row['sequence_sha256']}:{row['pos']}" if row["pos"] and row["consequence"] != GENE else ""


def key(path: Path) -> tuple[str, str, str]:
    """Return (dataset, encoder, strategy) of a file name; raises :class:`InputError` for another layout."""
    parts = path.name.split(".")
    if len(parts) != 4 or parts[3] != "h5ad":
        raise InputError("not the name of an encoding", where=str(path), expected="<dataset>.<encoder>.<strategy>.h5ad")
    return parts[0], parts[1], parts[2]


def read_perturbations(paths: Iterable[Path]) -> dict[str, dict[str, Row]]:
    """Return {dataset: {perturbation: row}} of `<dataset>.perturbations.tsv` files."""
    return {
        path.name.split(".")[0]: {row["perturbation"]: row for row in read_tsv(path, PERTURBATION_COLUMNS)}
        for path in paths
    }


def read(path: Path, perturbations: Mapping[str, Mapping[str, Row]]) -> Encoding:
    """Return one encoding; raises :class:`InputError` for a perturbation that its dataset's table does not name."""
    dataset, encoder, strategy = key(path)
    if dataset not in perturbations:
        raise InputError(
            f"no perturbations of dataset '{dataset}'", where="--perturbations", found=", ".join(perturbations)
        )
    adata = h5ad.read(path)
    known = perturbations[dataset]
    names = sorted(name for name in adata.obs_names if name != h5ad.CONTROL)
    obs = adata.obs.loc[names]
    owners = list(obs["vector_of"].astype(str)) if "vector_of" in obs else names
    missing = sorted({*names, *owners} - set(known))
    if missing:
        raise InputError(
            f"{len(missing)} perturbations are not in the table of {dataset}",
            where=str(path),
            found=", ".join(missing[:5]),
        )
    matrix, facts = adata[names].X, h5ad.provenance(adata, path)
    windows = list(obs["window_start"].astype(str)) if "window_start" in obs else [""] * len(names)
    return Encoding(
        dataset,
        encoder,
        strategy,
        tuple(names),
        np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float64),
        tuple(known[name] for name in names),
        tuple(known[name] for name in owners),
        tuple(map(_reference_name, (known[name] for name in owners), windows, [facts.get("pooling")] * len(names))),
        facts,
    )


def _reference_name(row: Row, window: str, pooling: str | None) -> str:
    """Return the name of a variant's REF: of its residue, or under pooling ``mean`` of its protein's window."""
    return f"{row['sequence_sha256']}:{window}" if place(row) and pooling == "mean" else place(row)


def reference(encodings: Mapping[str, Encoding]) -> np.ndarray | None:
    """Return the (n, D) reference vectors of an encoder from its strategies: `ref`, else `alt` + `diff`, else None.

    DIFF = REF - ALT was rounded to fp32 once, so that ALT + DIFF is REF up to one unit in the last place.
    """
    if REF in encodings:
        return encodings[REF].matrix
    if ALT in encodings and DIFF in encodings:
        return encodings[ALT].matrix + encodings[DIFF].matrix
    return None
