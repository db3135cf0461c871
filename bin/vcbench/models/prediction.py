"""The PREDICT step: predict the test perturbations with fitted units and check what comes out."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vcbench.core import h5ad
from vcbench.core.errors import ModelError
from vcbench.core.status import Status
from vcbench.core.units import NO_ENCODER, Unit
from vcbench.models import atlas, encodable, registry, task
from vcbench.models.base import CELLS, PROFILE, Model, Prediction, PredictionRequest, Vectors
from vcbench.models.scaling import Scaling

log = logging.getLogger(__name__)


def check(prediction: Prediction, request: PredictionRequest) -> None:
    """Raise :class:`ModelError` unless the prediction is finite and holds exactly what was asked for.

    Perturbations the model declares `absent` need no row; they are counted as not predicted, with its reasons.
    """
    values, labels = np.asarray(prediction.values), np.asarray(prediction.labels)
    if prediction.kind not in (PROFILE, CELLS):
        raise ModelError(f"unknown kind of prediction '{prediction.kind}'")
    if values.ndim != 2 or values.shape[1] != len(request.genes):
        raise ModelError(f"predicted values have shape {values.shape}, expected (rows, {len(request.genes)} genes)")
    if len(labels) != len(values):
        raise ModelError(f"{len(values)} predicted rows have {len(labels)} labels")
    if prediction.basis is not None and len(prediction.basis) != len(values):
        raise ModelError(f"{len(values)} predicted rows have {len(prediction.basis)} bases")
    _check_variance(prediction, values.shape)
    names, counts = np.unique(labels.astype(str), return_counts=True)
    found, wanted = dict(zip(names.tolist(), counts.tolist(), strict=True)), set(request.ids)
    if unknown := sorted(prediction.absent.keys() - wanted | prediction.absent.keys() & found.keys()):
        raise ModelError(f"declared absent, but predicted or never asked for: {', '.join(unknown[:3])}")
    if missing := sorted(wanted - found.keys() - prediction.absent.keys()):
        raise ModelError(f"no prediction for {len(missing)} perturbations, first {', '.join(missing[:3])}")
    if unexpected := sorted(found.keys() - wanted):
        raise ModelError(f"predicted perturbations nobody asked for: {', '.join(unexpected[:3])}")
    expected = dict(zip(request.ids, request.n_cells, strict=True))
    for name in sorted(wanted - prediction.absent.keys()):
        rows = 1 if prediction.kind == PROFILE else expected[name]
        if found[name] != rows:
            raise ModelError(f"{found[name]} predicted rows for {name}, expected {rows} ({prediction.kind})")
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        shown = ", ".join(sorted(set(labels[bad].astype(str)))[:3])
        raise ModelError(f"predicted values are not finite (NaN or infinite) in {bad.sum()} rows, first {shown}")


def absences(prediction: Prediction, request: PredictionRequest) -> str:
    """Return a line on what the model declares it cannot predict and why, the most frequent reasons first; or ""."""
    if not prediction.absent:
        return ""
    reasons = Counter(prediction.absent.values())
    shown = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:3]
    others = f" and {len(reasons) - 3} more reasons" if len(reasons) > 3 else ""
    listed = "; ".join(f"{reason} ({count})" for reason, count in shown)
    return f"no prediction for {len(prediction.absent)} of {len(request.ids)} test perturbations: {listed}{others}"


def _check_variance(prediction: Prediction, shape: tuple[int, ...]) -> None:
    if prediction.variance is None:
        return
    variance = np.asarray(prediction.variance)
    if variance.shape != shape:
        raise ModelError(f"the variance has shape {variance.shape}, the predicted values {shape}")
    if not (np.isfinite(variance) & (variance >= 0)).all():
        raise ModelError("the variance of the predicted values is negative or not finite")


def write(unit: Unit, prediction: Prediction, request: PredictionRequest, code: str, path: Path) -> None:
    """Write a file of predictions."""
    import anndata as ad
    import pandas as pd

    obs = pd.DataFrame({"perturbation": prediction.labels.astype(str).astype(object)})
    if prediction.basis is not None:
        obs["basis"] = prediction.basis.astype(object)
    number = obs.groupby("perturbation").cumcount()
    obs.index = pd.Index(
        [f"{label}:{row}" for label, row in zip(obs["perturbation"], number, strict=True)], dtype=object
    )
    var = pd.DataFrame(index=pd.Index(request.genes, dtype=object, name="gene"))
    data = ad.AnnData(np.ascontiguousarray(prediction.values, dtype=np.float32), obs=obs, var=var)
    if prediction.variance is not None:
        data.layers["predictive_variance"] = np.ascontiguousarray(prediction.variance, dtype=np.float32)
    facts = {"unit": unit.id, **asdict(unit), "kind": prediction.kind, "code": code}
    if prediction.absent:
        facts["absent"] = dict(prediction.absent)
    h5ad.write(data, path, facts)


def load(unit: Unit, folder: Path, settings: dict[str, Any]) -> Model:
    """Return the fitted model; raises :class:`ModelError` when it was trained with other settings."""
    model = registry.load(unit.model).load(folder)
    different = sorted(
        name for name in model.settings.keys() | settings.keys() if model.settings.get(name) != settings.get(name)
    )
    if different:
        raise ModelError(f"{folder.name} was trained with other settings: {', '.join(different)}")
    return model


def predict(job: task.Task) -> None:
    """Predict with the units of a task; see :func:`vcbench.models.task.run` for what happens to failures."""
    folders = {path.name: path for path in job.options.models}
    source = job.read_data()

    def work(unit: Unit, status: Status) -> None:
        tested, validated = (job.options.out_dir / f"{unit.id}.{name}.h5ad" for name in ("predictions", "validation"))
        for path in (tested, validated):
            path.unlink(missing_ok=True)
        if f"{unit.id}.model" not in folders:
            status.facts.update(
                state="blocked", reason=f"no fitted model {unit.id}.model (TRAIN failed or was not run)"
            )
            return
        settings = job.settings[unit.model]
        folder = folders[f"{unit.id}.model"]
        model = load(unit, folder, settings)
        scaling = Scaling.load(settings, folder, encoded=unit.encoder != NO_ENCODER)

        def of(request: PredictionRequest, vectors: Vectors | None) -> Prediction:
            possible = encodable.request(request, scaling.apply(vectors))
            prediction = encodable.declared(model.predict(possible, unit.seed, job.device), vectors)
            check(prediction, request)
            return prediction

        n_cells = settings.get("cells_per_perturbation", 0)
        request = source.request(unit.fold, n_cells)
        if not request.ids:
            raise ModelError(f"fold {unit.fold} has no test perturbation")
        prediction = of(request, job.vectors(unit, request.ids))
        status.facts["note"] = absences(prediction, request)
        if status.facts["note"]:
            log.warning("%s: %s", unit.id, status.facts["note"])
        # what chooses between configurations; units of the learning curve are not chosen from
        choosing = source.request(unit.fold, n_cells, "valid")
        vectors = job.vectors(unit, choosing.ids)
        known = [name for name in choosing.ids if vectors is None or name not in vectors.absent]
        if known and not unit.trained_on:
            write(unit, of(choosing, vectors), choosing, job.options.code, validated)
        write(unit, prediction, request, job.options.code, tested)
        if unit.id in job.options.atlas:
            # the predictions stand without the atlas; plan.tsv repeats the note
            note = atlas.attempt(unit, model, scaling, source, job, settings)
            status.facts["note"] = "; ".join(text for text in (status.facts["note"], note) if text)

    task.run(job, "predict", work)
