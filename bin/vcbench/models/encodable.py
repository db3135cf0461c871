"""Perturbations that a unit's encoder declares to have no vector: not trained on, not predicted, counted with reason.

A vector that is missing without such a declaration stays an error that names the perturbation.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.core.h5ad import CONTROL
from vcbench.models.base import Prediction, PredictionRequest, TrainingData, Vectors


def training(data: TrainingData, vectors: Vectors | None) -> TrainingData:
    """Return the data with the vectors and without perturbations, and their cells, that have none by declaration.

    Raises :class:`ModelError` when no training perturbation is left.
    """
    if vectors is None or not vectors.absent:
        return replace(data, vectors=vectors)
    train, valid = (tuple(item for item in part if item.id not in vectors.absent) for part in (data.train, data.valid))
    if not train:
        raise ModelError(f"encoder {vectors.encoder} has no vector for any of {len(data.train)} training perturbations")
    kept = {CONTROL, *(item.id for item in (*train, *valid))}
    rows = np.flatnonzero([label in kept for label in data.labels])
    return replace(
        data, expression=data.expression[rows], counts=data.counts[rows], labels=data.labels[rows],
        batches=data.batches[rows], train=train, valid=valid, vectors=vectors,
        cache={},  # that of the data is shared with units of other encoders
    )  # fmt: skip


def request(asked: PredictionRequest, vectors: Vectors | None) -> PredictionRequest:
    """Return the request with the vectors and without perturbations that have none by declaration."""
    if vectors is None or not vectors.absent:
        return replace(asked, vectors=vectors)
    kept = [row for row, name in enumerate(asked.ids) if name not in vectors.absent]
    if not kept:
        raise ModelError(f"encoder {vectors.encoder} has no vector for any of {len(asked.ids)} test perturbations")
    return replace(
        asked, perturbations=tuple(asked.perturbations[row] for row in kept),
        n_cells=tuple(asked.n_cells[row] for row in kept), vectors=vectors,
    )  # fmt: skip


def declared(prediction: Prediction, vectors: Vectors | None) -> Prediction:
    """Return the prediction with the encoder's missing perturbations among those that the model cannot predict."""
    if vectors is None or not vectors.absent:
        return prediction
    return replace(prediction, absent={**prediction.absent, **vectors.absent})
