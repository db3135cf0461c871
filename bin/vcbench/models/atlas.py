"""Impacts of all substitutions of a protein, predicted by a fitted unit: `<unit>.atlas.tsv`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core import h5ad
from vcbench.core.errors import ModelError
from vcbench.core.h5ad import CONTROL
from vcbench.core.tables import write_tsv
from vcbench.core.units import Unit
from vcbench.models.base import CELLS, Model, Perturbation, Prediction, PredictionRequest
from vcbench.models.scaling import Scaling

if TYPE_CHECKING:
    from vcbench.models.fold_data import FoldData
    from vcbench.models.task import Task

log = logging.getLogger(__name__)

COLUMNS = ("perturbation", "role", "impact")
#: Substitutions predicted at once, and cells of each for models that predict cells and have no number of their own.
BLOCK, CELLS_OF_EACH = 512, 50
#: Most predicted numbers held at once (float32, 400 MB).
AT_ONCE = 100_000_000


def name_of(unit: Unit) -> str:
    """Return the name of the file of vectors of all substitutions."""
    return f"{unit.dataset}.{unit.encoder}.{unit.strategy}.atlas.h5ad"


def substitutions(path: Path) -> tuple[Perturbation, ...]:
    """Return the substitutions a file of vectors holds, in its order."""
    obs = h5ad.read(path).obs
    return tuple(
        Perturbation(str(name), (str(row["gene"]),), (int(row["pos"]),))
        for name, row in zip(obs.index, obs.to_dict("records"), strict=True)
        if name != CONTROL
    )


def impacts(
    prediction: Prediction, request: PredictionRequest, control: np.ndarray, genes: np.ndarray
) -> dict[str, float]:
    """Return {perturbation: |p - c|} over `genes` (G,) booleans without the perturbed gene.

    The sampling noise of predicted cells is subtracted from the square, as in the metric `impact`; `control` (G,) is
    the mean of the training controls.
    """
    position = {name: i for i, name in enumerate(request.genes)}
    labels = np.asarray(prediction.labels, dtype=object)
    found = {}
    for item in request.perturbations:
        rows = prediction.values[np.flatnonzero(labels == item.id)].astype(np.float64)
        squared = (rows.mean(axis=0) - control) ** 2
        if prediction.kind == CELLS and len(rows) > 1:
            squared -= rows.var(axis=0, ddof=1) / len(rows)
        use = genes.copy()
        use[[position[gene] for gene in item.genes if gene in position]] = False
        total = float(squared[use].sum())
        found[item.id] = float(np.sign(total) * np.sqrt(abs(total)))
    return found


def blocks(items: tuple[Perturbation, ...], numbers: int) -> Iterator[tuple[Perturbation, ...]]:
    """Yield the substitutions in parts small enough for memory; each is predicted as so many `numbers`."""
    size = max(1, min(BLOCK, AT_ONCE // max(1, numbers)))
    for start in range(0, len(items), size):
        yield items[start : start + size]


def write(
    unit: Unit, model: Model, scaling: Scaling, source: FoldData, path: Path, settings: dict[str, Any], device: str,
    out_dir: Path,
) -> Path:  # fmt: skip
    """Predict all substitutions of a file of vectors and write their impacts.

    Column `role` says what the fold did with a measured variant (train, valid, test); it is empty for all others.
    """
    from vcbench.models.fold_data import read_vectors
    from vcbench.models.prediction import check

    request, genes, control = source.request(unit.fold), source.expressed(unit.fold), source.control_mean()
    roles = source.roles(unit.fold)
    items = substitutions(path)
    vectors = scaling.apply(read_vectors(path, [item.id for item in items]))
    found: dict[str, float] = {}
    n_cells = settings.get("cells_per_perturbation", 0) or CELLS_OF_EACH
    rows = n_cells if "cells_per_perturbation" in settings else 1
    for part in blocks(items, rows * len(request.genes)):
        asked = replace(request, perturbations=part, n_cells=(n_cells,) * len(part), vectors=vectors)
        prediction = model.predict(asked, unit.seed, device)
        check(prediction, asked)
        if prediction.absent:
            name, reason = min(prediction.absent.items())
            raise ModelError(f"no atlas: {name} cannot be predicted: {reason}")
        found |= impacts(prediction, asked, control, genes)
    target = out_dir / f"{unit.id}.atlas.tsv"
    table = [{"perturbation": item.id, "role": roles.get(item.id, ""), "impact": found[item.id]} for item in items]
    write_tsv(target, table, COLUMNS)
    log.info("%s: %d substitutions", target.name, len(items))
    return target


def attempt(
    unit: Unit, model: Model, scaling: Scaling, source: FoldData, job: Task, settings: dict[str, Any]
) -> str:  # fmt: skip
    """Write the atlas of a unit (:func:`write`); return one line on why there is none, or an empty string."""
    name = name_of(unit)
    if name not in job.encodings:
        return f"no atlas: no encoding {name} among --encodings"
    try:
        write(unit, model, scaling, source, job.encodings[name], settings, job.device, job.options.out_dir)
    except ModelError as error:
        log.warning("%s: no atlas: %s", unit.id, error)
        return f"no atlas: {error}"
    return ""
