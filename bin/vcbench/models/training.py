"""The TRAIN step: fit every unit of a task and write `<unit>.model/` and `<unit>.train.status.json`."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench.core.errors import ModelError
from vcbench.core.status import Status
from vcbench.core.tables import write_tsv
from vcbench.core.units import Unit
from vcbench.models import encodable, registry, storage, task
from vcbench.models.scaling import Scaling

if TYPE_CHECKING:
    from vcbench.models.base import TrainingData


def fit(unit: Unit, data: TrainingData, settings: dict[str, Any], device: str, out_dir: Path) -> Path:
    """Fit one unit and return its model folder, which appears only when it is complete.

    The model sees scaled vectors; the scaling is fitted on its training perturbations and kept in the folder.
    """
    model = registry.load(unit.model)(settings)
    scaling = Scaling.fit(settings, data.vectors, data.train_ids)
    rows = model.fit(replace(data, vectors=scaling.apply(data.vectors)), unit.seed, device)
    if not rows:
        raise ModelError(f"{unit.model} returned no training log")
    folder, partial = out_dir / f"{unit.id}.model", out_dir / f"{unit.id}.model.partial"
    for old in (folder, partial):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir()
    try:
        model.save(partial)
        scaling.save(partial)
        write_tsv(partial / "log.tsv", rows, list(rows[0]))
        for name in (storage.WEIGHTS, storage.CONFIG):
            if not (partial / name).is_file():
                raise ModelError(f"{unit.model} saved no {name}")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def train(job: task.Task) -> None:
    """Train the units of a task; see :func:`vcbench.models.task.run` for what happens to failures."""
    source = job.read_data()
    shared: dict[tuple[int, str, int], TrainingData] = {}

    def work(unit: Unit, status: Status) -> None:
        shutil.rmtree(job.options.out_dir / f"{unit.id}.model", ignore_errors=True)
        key = (unit.fold, unit.trained_on, unit.seed if unit.trained_on else 0)
        if key not in shared:
            shared[key] = source.training(*key)
        data = shared[key]
        data = encodable.training(data, job.vectors(unit, [*data.train_ids, *data.valid_ids]))
        status.facts["n_train"] = len(data.train)
        fit(unit, data, job.settings[unit.model], job.device, job.options.out_dir)

    task.run(job, "train", work)
