"""Small data for models: in memory, and as the files of PREPARE, SPLIT and DERIVE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcbench.core import h5ad
from vcbench.core.tables import write_tsv
from vcbench.models.base import Perturbation, PredictionRequest, TrainingData, Vectors


def vectors(table: Mapping[str, Sequence[float]]) -> Vectors:
    """Return encoder vectors by perturbation."""
    return Vectors(tuple(table), np.array(list(table.values()), np.float32), "toy", "alt")


def training(
    cells: Mapping[str, Sequence[Sequence[float]]],
    train: Sequence[Perturbation | str],
    valid: Sequence[str] = (),
    encoded: Vectors | None = None,
) -> TrainingData:
    """Return training data from the cells of each label (the control's label is `control`)."""
    labels = np.array([label for label, rows in cells.items() for _ in rows], dtype=object)
    matrix = sp.csr_matrix(np.array([row for rows in cells.values() for row in rows], np.float32))
    items = [
        tuple(p if isinstance(p, Perturbation) else Perturbation(p, ("T",)) for p in part) for part in (train, valid)
    ]
    genes = tuple(f"g{number}" for number in range(matrix.shape[1]))
    return TrainingData(matrix, labels, np.full(len(labels), "b", object), genes, *items, encoded, matrix)


def request(
    data: TrainingData, wanted: Sequence[Perturbation | str], encoded: Vectors | None = None, n_cells: int = 1
) -> PredictionRequest:
    """Return a request for perturbations with the controls of the training data."""
    items = tuple(p if isinstance(p, Perturbation) else Perturbation(p, ("T",)) for p in wanted)
    controls = data.expression[np.flatnonzero(data.labels == "control")]
    return PredictionRequest(items, (n_cells,) * len(items), controls, data.genes, encoded)


#: Role of each variant of the toy screen in folds 1 and 2.
ROLES = {
    "A1C": ("train", "test"), "A1D": ("test", "train"), "A2E": ("train", "train"), "A2F": ("train", "valid"),
    "A3G": ("train", "train"), "A3H": ("valid", "test"), "A4I": ("test", "train"), "A5K": ("train", "train"),
    "A6L": ("test", "excluded"),
}  # fmt: skip
N_CELLS = 12
N_GENES = 30


class Screen:
    """A toy screen of nine variants on disk: `toy.h5ad`, perturbations, folds of split `variant`, two encodings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(5)
        self.ids = [f"T~{name}" for name in ROLES]
        labels = np.repeat([*self.ids, "control"], [N_CELLS] * len(ROLES) + [40]).astype(object)
        half = np.where(labels == "control", np.where(np.arange(len(labels)) % 2, "A", "B"), "").astype(object)
        shift = {name: rng.normal(0, 0.4, N_GENES) for name in self.ids} | {"control": np.zeros(N_GENES)}
        means = np.exp(0.5 + np.array([shift[label] for label in labels]))
        counts = rng.poisson(means).astype(np.float32)
        order = rng.permutation(len(labels))
        obs = pd.DataFrame(
            {"perturbation": labels, "condition": labels, "cell_line": "x", "batch": "b1", "control_half": half,
             "n_counts": counts.sum(1)},
            index=[f"cell{number:03d}" for number in order],
        )  # fmt: skip
        var = pd.DataFrame({"expressed": True, "is_target": False}, index=[f"G{i}" for i in range(N_GENES)])
        self.data = ad.AnnData(sp.csr_matrix(np.log1p(counts)), obs=obs, var=var)
        self.data.layers["counts"] = sp.csr_matrix(counts)
        table = [
            {"perturbation": f"T~{name}", "gene": "T", "pos": name[1:-1], "n_cells": N_CELLS, "status": "encoded"}
            for name in ROLES
        ]
        write_tsv(folder / "toy.perturbations.tsv", table, list(table[0]))
        folds = [
            {"perturbation": f"T~{name}", "fold": fold, "role": roles[fold - 1], "reason": ""}
            for fold in (1, 2)
            for name, roles in ROLES.items()
        ]
        write_tsv(folder / "toy.variant.folds.tsv", folds, list(folds[0]))
        self.vectors = rng.normal(size=(len(ROLES), 5)).astype(np.float32)
        self.write_vectors("random", self.ids, self.vectors)
        self.write_vectors("constant", self.ids, np.ones_like(self.vectors))
        self.write()

    def write(self) -> None:
        """Write the cells."""
        h5ad.write(self.data.copy(), self.folder / "toy.h5ad", {"dataset": "toy"})

    def write_vectors(self, encoder: str, ids: Sequence[str], matrix: np.ndarray, **facts: object) -> None:
        """Write `toy.<encoder>.alt.h5ad` with the explicit control row and facts of the encoder."""
        matrix = np.vstack([matrix, np.zeros((1, matrix.shape[1]), np.float32)])
        data = ad.AnnData(matrix, obs=pd.DataFrame(index=[*ids, "control"]))
        h5ad.write(data, self.folder / f"toy.{encoder}.alt.h5ad", facts)

    def arguments(self, units: Sequence[str], settings: str, out: str, *more: str) -> list[str]:
        """Return the command line of TRAIN or PREDICT."""
        f = self.folder
        encodings = [str(path) for path in sorted(f.glob("toy.*.alt.h5ad"))]
        return [
            "--units", *units, "--settings", settings, "--dataset", str(f / "toy.h5ad"),
            "--perturbations", str(f / "toy.perturbations.tsv"), "--folds", str(f / "toy.variant.folds.tsv"),
            "--encodings", *encodings, "--code", "c0de", "--out-dir", str(f / out), *more,
        ]  # fmt: skip
