"""Class mean: the mean of the training variants of the same annotated class, else the train mean (metrics.md 6.1)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.models.base import Perturbation, Prediction, PredictionRequest, TrainingData
from vcbench.models.baseline import Baseline

log = logging.getLogger(__name__)


class ClassMean(Baseline):
    """p_k = mean of t_j over the training variants whose value in an annotation column is of the same class as k's.

    The column is the setting `column` (AlphaMissense class, severity ...). Words are classes as they stand. A column in
    which every annotated training variant has a number, with more different numbers than the setting `bins`, is cut at
    the quantiles of the training variants into that many classes. A variant without a value, or of a class without
    training variant, gets the train mean; `Prediction.basis` says which it was, and both are counted.
    """

    name = "class_mean"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Store the means of the classes; the log has one row per class."""
        column = self.settings["column"]
        values = [item.annotations.get(column, "").strip() for item in data.train]
        known = [value for value in values if value]
        if not known:
            filled = sorted({name for item in data.train for name, value in item.annotations.items() if value.strip()})
            raise ModelError(
                f"class_mean: no training perturbation has a value in column '{column}' of the annotations; "
                f"columns with values: {', '.join(filled) or 'none'}"
            )
        edges = _edges(known, self.settings["bins"])
        classes = [_class(value, edges) for value in values]
        names = sorted(set(classes) - {""})
        profiles = data.profiles.of(data.train_ids)
        self.tensors = {
            "means": np.array([profiles[[found == name for found in classes]].mean(axis=0) for name in names]),
            "train_mean": data.profiles.train_mean(data.train_ids),
        }
        self.facts = {"genes": list(data.genes), "classes": names, "edges": edges}
        return [
            {"class": name or "(none)", "train_perturbations": classes.count(name)} for name in sorted(set(classes))
        ]

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return the mean of each perturbation's class, or the train mean."""
        names, edges = self.facts["classes"], self.facts["edges"]
        values = np.tile(self.tensors["train_mean"], (len(request.ids), 1))
        basis = []
        for row, item in enumerate(request.perturbations):
            found = _class(self._value(item), edges)
            if found in names:
                values[row] = self.tensors["means"][names.index(found)]
            basis.append(f"class {found}" if found in names else "unseen_class" if found else "unannotated")
        log.info(
            "class_mean: %d of %d perturbations without a value in %s, %d of a class without training perturbation",
            basis.count("unannotated"), len(basis), self.settings["column"], basis.count("unseen_class"),
        )  # fmt: skip
        return self.profiles(request, values, basis)

    def _value(self, item: Perturbation) -> str:
        return item.annotations.get(self.settings["column"], "").strip()


def _edges(values: Sequence[str], bins: int) -> list[float]:
    """Return the inner quantiles of numeric values, [] when the values are classes themselves."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return []
    if not np.isfinite(numbers).all():
        raise ModelError("class_mean: a value of the annotations is not a finite number")
    if len(np.unique(numbers)) <= bins:
        return []
    return [float(edge) for edge in np.quantile(numbers, np.arange(1, bins) / bins)]


def _class(value: str, edges: Sequence[float]) -> str:
    """Return the class of a value: the value itself, or `q1`, `q2`, ... by quantile (an edge belongs below)."""
    if not value or not edges:
        return value
    try:
        number = float(value)
    except ValueError as error:
        raise ModelError(f"class_mean: '{value}' is not a number, as the training perturbations have") from error
    if np.isnan(number):
        raise ModelError("class_mean: a value of the annotations is not a number (NaN)")
    return f"q{int(np.searchsorted(edges, number, side='left')) + 1}"


MODEL = ClassMean
