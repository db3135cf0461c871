"""What the baselines share: a fitted baseline is a few named float64 arrays and some JSON facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from vcbench.models import storage
from vcbench.models.base import PROFILE, Prediction, PredictionRequest


class Baseline:
    """Base class: storage and the profile output. Subclasses fill `tensors`, `facts` in `fit`."""

    name: ClassVar[str]

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.tensors: dict[str, np.ndarray] = {}
        self.facts: dict[str, Any] = {}

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `config.json`."""
        storage.save(folder, self.name, self.settings, self.facts, self.tensors)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the fitted baseline."""
        config, tensors = storage.load(folder, cls.name)
        model = cls(config.pop("settings"))
        model.tensors = tensors
        model.facts = {key: value for key, value in config.items() if key not in ("model", "tensors")}
        return model

    def check_genes(self, request: PredictionRequest) -> None:
        """Raise :class:`ModelError` unless the request is for the genes of the training data."""
        storage.check_genes(self.facts["genes"], request.genes)

    def profile_of_all(self, request: PredictionRequest) -> Prediction:
        """Return the one stored `profile` for every perturbation of the request."""
        return self.profiles(request, np.tile(self.tensors["profile"], (len(request.ids), 1)))

    def profiles(self, request: PredictionRequest, values: np.ndarray, basis: list[str] | None = None) -> Prediction:
        """Return (perturbations, genes) float64 profiles, all in the order of the request, as its prediction."""
        self.check_genes(request)
        return Prediction(
            values=values.astype(np.float32),
            labels=np.array(request.ids, dtype=object),
            kind=PROFILE,
            basis=None if basis is None else np.array(basis, dtype=object),
        )
