"""Scaling of encoder vectors: fitted on the training perturbations of the fold, kept with the model, reused to predict.

Encoder scales differ by orders of magnitude and weigh in the loss of some models (specs: plm_encoders.md section 4,
consequence b). This is the one place where vectors are scaled, for every model, in TRAIN and in PREDICT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.core.settings import SCALING, SCALINGS
from vcbench.models import storage

if TYPE_CHECKING:
    from vcbench.models.base import Vectors

#: Parameters of `zscore` inside `<unit>.model/`; the other scalings have none.
FILE = "encoding_scaling.safetensors"


@dataclass(frozen=True)
class Scaling:
    """How vectors are scaled before a model sees them, the control's vector included.

    - ``none``: as they are.
    - ``zscore``: (v - mean) / sd per dimension, float64; a dimension without spread over the training perturbations
      (sd 0) is centred only.
    - ``l2``: v / ||v||; a zero vector stays zero.

    `mean` and `sd` are (D,) float64 for ``zscore``, else None.
    """

    method: str
    mean: np.ndarray | None = None
    sd: np.ndarray | None = None

    @classmethod
    def fit(cls, settings: Mapping[str, Any], vectors: Vectors | None, train_ids: Sequence[str]) -> Scaling:
        """Return the scaling a unit's settings ask for, fitted on the vectors of the training perturbations.

        The standard deviation is that of the population (divided by n). Raises :class:`ModelError` for an unknown
        method, and naming a training perturbation without a vector.
        """
        method = _method(settings)
        if method != "zscore" or vectors is None:
            return cls(method)
        matrix = vectors.of(list(train_ids)).astype(np.float64)
        if not len(matrix):
            raise ModelError(f"{SCALING} {method}: no training perturbation")
        mean, sd = matrix.mean(axis=0), matrix.std(axis=0)
        # equal values may differ from their computed mean by rounding: such a dimension has no spread to divide by
        flat = np.ptp(matrix, axis=0) == 0
        return cls(method, np.where(flat, matrix[0], mean), np.where(flat, 0.0, sd))

    def apply(self, vectors: Vectors | None) -> Vectors | None:
        """Return the scaled vectors, float32; None for a unit without encoder.

        Raises :class:`ModelError` for vectors of another width and for results that are not finite.
        """
        if vectors is None or self.method == "none":
            return vectors
        if self.mean is not None and vectors.width != len(self.mean):
            raise ModelError(f"vectors have {vectors.width} dimensions, their scaling has {len(self.mean)}")
        scaled = self._map(np.vstack([vectors.matrix, vectors.control]))
        bad = [name for name, row in zip([*vectors.ids, "control"], scaled, strict=True) if not np.isfinite(row).all()]
        if bad:
            raise ModelError(f"{SCALING} {self.method}: the scaled vector of {', '.join(bad[:5])} is not finite")
        return replace(vectors, matrix=scaled[:-1], control=scaled[-1])

    def save(self, folder: Path) -> None:
        """Write the parameters into a model folder; nothing when there are none."""
        from safetensors.numpy import save_file

        if self.mean is not None:
            save_file({"mean": self.mean, "sd": self.sd}, folder / FILE)

    @classmethod
    def load(cls, settings: Mapping[str, Any], folder: Path, encoded: bool) -> Scaling:
        """Return the scaling that :meth:`save` kept in a model folder; `encoded` tells whether the unit has an encoder.

        Raises :class:`ModelError` when the parameters do not belong to the method of the settings.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        method, path = _method(settings), folder / FILE
        expected = encoded and method == "zscore"
        if path.exists() != expected:
            raise ModelError(f"{folder.name}: {FILE} is {'missing' if expected else 'unexpected'} ({SCALING} {method})")
        if not expected:
            return cls(method)
        try:
            tensors = load_file(path)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"{path}: not readable: {error}") from error
        shape = next((tensor.shape for tensor in tensors.values()), ())
        storage.check_tensors(str(path), {"mean": shape, "sd": shape}, tensors)
        return cls(method, tensors["mean"], tensors["sd"])

    def _map(self, matrix: np.ndarray) -> np.ndarray:
        values = matrix.astype(np.float64)
        if self.method == "l2":
            spread = np.linalg.norm(values, axis=1, keepdims=True)
        else:
            values, spread = values - self.mean, self.sd
        with np.errstate(over="ignore"):  # what overflows is reported by its name
            return (values / np.where(spread == 0, 1.0, spread)).astype(np.float32)


def _method(settings: Mapping[str, Any]) -> str:
    method = settings.get(SCALING, "none")
    if method not in SCALINGS:
        raise ModelError(f"unknown {SCALING} '{method}', expected one of {', '.join(SCALINGS)}")
    return method
