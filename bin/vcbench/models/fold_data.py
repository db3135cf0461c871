"""From the files of a dataset to what a model may see of one fold: matched by label, test cells never included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vcbench.core import h5ad
from vcbench.core.errors import InputError, ModelError
from vcbench.core.h5ad import CONTROL
from vcbench.core.seeds import stream
from vcbench.core.tables import OF_THE_SCREEN, read_tsv
from vcbench.core.units import ALL, subset_size
from vcbench.models.base import Perturbation, PredictionRequest, TrainingData, Vectors

if TYPE_CHECKING:
    import scipy.sparse as sp

ROLES = ("train", "valid", "test", "excluded")
#: `obs["control_half"]` of the control cells models may see; the other half is kept for the evaluation.
TRAINING_HALF = "B"


class FoldData:
    """A dataset with its perturbations and the folds of one split.

    Parameters
    ----------
    dataset, perturbations, folds
        `<dataset>.h5ad`, `<dataset>.perturbations.tsv` and `<dataset>.<split>.folds.tsv`.

    Raises
    ------
    InputError
        When a column or layer is missing, or perturbations of the files do not fit together.
    """

    def __init__(self, dataset: Path, perturbations: Path, folds: Path) -> None:
        import scipy.sparse as sp

        self._folds_path = folds
        data = h5ad.read(dataset)
        for kind, names, found in (
            ("obs", ("perturbation", "control_half", "batch"), data.obs.columns),
            ("layers", ("counts",), data.layers.keys()),
        ):
            if missing := [name for name in names if name not in found]:
                raise InputError(
                    f"missing {kind} {', '.join(missing)}", where=str(dataset), hint="use the h5ad that PREPARE wrote"
                )
        self.genes = tuple(map(str, data.var_names))
        self._barcodes = np.asarray(data.obs_names, dtype=str)
        self._labels, self._half, self._batches = (
            data.obs[name].astype(str).to_numpy(dtype=object) for name in ("perturbation", "control_half", "batch")
        )
        self._expression, self._counts = sp.csr_matrix(data.X), sp.csr_matrix(data.layers["counts"])
        self._table = {row["perturbation"]: row for row in read_tsv(perturbations, ("perturbation", "gene", "pos"))}
        self._roles = read_folds(folds)
        self._check(dataset, perturbations)

    def training(self, fold: int, trained_on: str = ALL, seed: int = 0) -> TrainingData:
        """Return training and validation perturbations with their cells, and the training half of the controls.

        A unit of the learning curve (`trained_on`) gets the first of its fold's training perturbations in an order
        drawn from its seed: a larger set holds every smaller one. Validation perturbations are always the same.
        """
        train, valid = self._with_role(fold, "train"), self._with_role(fold, "valid")
        if trained_on:
            order = stream(seed, "learning curve", self._folds_path.name, fold).permutation(len(train))
            train = tuple(train[i] for i in sorted(order[: subset_size(trained_on, len(train))].tolist()))
        wanted = {item.id for item in (*train, *valid)}
        rows = self._sorted(np.array([label in wanted for label in self._labels]) | self._is_training_control())
        return TrainingData(
            expression=self._expression[rows],
            labels=self._labels[rows],
            batches=self._batches[rows],
            genes=self.genes,
            train=train,
            valid=valid,
            vectors=None,
            counts=self._counts[rows],
        )

    def request(self, fold: int, cells_per_perturbation: int = 0, role: str = "test") -> PredictionRequest:
        """Return the perturbations of a role with as many cells as were measured, or a fixed number of each."""
        wanted = self._with_role(fold, role)
        return PredictionRequest(
            perturbations=wanted,
            n_cells=tuple(cells_per_perturbation or int(self._table[item.id]["n_cells"]) for item in wanted),
            controls=self._controls(),
            genes=self.genes,
            vectors=None,
        )

    def roles(self, fold: int) -> dict[str, str]:
        """Return the role of each perturbation in a fold."""
        return dict(self._roles[fold])

    def control_mean(self) -> np.ndarray:
        """Return (genes,) float64 mean of the training half of the controls."""
        return np.asarray(self._controls().mean(axis=0, dtype=np.float64)).ravel()

    def expressed(self, fold: int, share: float = 0.05) -> np.ndarray:
        """Return (genes,) booleans: detected in this share of training control or of training perturbed cells."""
        wanted = {item.id for item in self._with_role(fold, "train")}
        perturbed = np.array([label in wanted for label in self._labels])
        return np.any(
            [
                np.asarray((self._expression[rows] > 0).mean(axis=0)).ravel() >= share
                for rows in (perturbed, self._is_training_control())
            ],
            axis=0,
        )

    def _controls(self) -> sp.csr_matrix:
        return self._expression[self._sorted(self._is_training_control())]

    def _is_training_control(self) -> np.ndarray:
        return (self._labels == CONTROL) & (self._half == TRAINING_HALF)

    def _sorted(self, mask: np.ndarray) -> np.ndarray:
        """Row numbers in the order of the barcodes, so that the order of the file never matters."""
        rows = np.flatnonzero(mask)
        return rows[np.argsort(self._barcodes[rows], kind="stable")]

    def _with_role(self, fold: int, role: str) -> tuple[Perturbation, ...]:
        if fold not in self._roles:
            raise InputError("no such fold", where=str(self._folds_path), found=fold, expected=sorted(self._roles))
        names = sorted(name for name, its_role in self._roles[fold].items() if its_role == role)
        return tuple(_perturbation(self._table[name]) for name in names)

    def _check(self, dataset: Path, perturbations: Path) -> None:
        if not self._is_training_control().any():
            raise InputError("no training control cells", where=str(dataset), expected="control_half B")
        used = {name for roles in self._roles.values() for name, role in roles.items() if role != "excluded"}
        for where, known in ((perturbations, self._table.keys()), (dataset, set(self._labels))):
            if absent := sorted(used - set(known)):
                raise InputError(
                    f"perturbations of {self._folds_path.name} are missing",
                    where=str(where),
                    found=f"{len(absent)} missing, first {', '.join(absent[:3])}",
                    hint="the files are not of the same PREPARE and SPLIT run",
                )


def read_folds(path: Path) -> dict[int, dict[str, str]]:
    """Return by fold the role of each perturbation; :class:`InputError` for an unknown role or one listed twice."""
    roles: dict[int, dict[str, str]] = {}
    for number, row in enumerate(read_tsv(path, ("perturbation", "fold", "role")), start=2):
        where = f"{path}, line {number}"
        if row["role"] not in ROLES:
            raise InputError("unknown role", where=where, found=row["role"], expected=", ".join(ROLES))
        if not row["fold"].isdigit():
            raise InputError("fold is not a number", where=where, found=row["fold"])
        fold = roles.setdefault(int(row["fold"]), {})
        if row["perturbation"] in fold:
            raise InputError("perturbation twice in a fold", where=where, found=row["perturbation"])
        fold[row["perturbation"]] = row["role"]
    return roles


def _perturbation(row: dict[str, str]) -> Perturbation:
    parts = {name: tuple(part for part in row[name].split(";") if part) for name in ("gene", "pos")}
    annotations = {name: value for name, value in row.items() if name not in OF_THE_SCREEN}
    return Perturbation(row["perturbation"], parts["gene"], tuple(int(part) for part in parts["pos"]), annotations)


def read_vectors(path: Path, ids: Sequence[str]) -> Vectors:
    """Return the vectors of these perturbations from `<dataset>.<encoder>.<strategy>.h5ad`.

    Ids without a vector are left out; asking :meth:`Vectors.of` for them is the error that names them, unless the
    encoder declared that they have none (`Vectors.absent`).
    Raises :class:`ModelError` for doubled rows, values that are not finite and a missing `control` row.
    """
    data = h5ad.read(path)
    _, encoder, strategy = path.name.removesuffix(".h5ad").removesuffix(".atlas").split(".")
    if not data.obs_names.is_unique:
        raise ModelError(f"{path.name}: a perturbation has two vectors")
    if CONTROL not in data.obs_names:
        raise ModelError(f"{path.name}: no row '{CONTROL}'")
    known = tuple(name for name in ids if name in data.obs_names)
    matrix = np.asarray(data[[*known, CONTROL]].X, dtype=np.float32)
    bad = [name for name, row in zip((*known, CONTROL), matrix, strict=True) if not np.isfinite(row).all()]
    if bad:
        raise ModelError(f"{path.name}: the vector of {', '.join(bad[:5])} is not finite")
    declared = h5ad.provenance(data, path).get("not_encoded", {})
    absent = {name: declared[name] for name in ids if name in declared and name not in known}
    return Vectors(known, matrix[:-1], encoder, strategy, matrix[-1], absent)
