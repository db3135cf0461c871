"""What metrics outside the default group need of the truth beyond profiles; empty unless their group was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp

    from vcbench.metrics.half_cells import HalfCells

#: Groups of assets/metrics.yml for which the truth holds extras; the others need none.
CELLS, VCC, LOG_OF_MEAN, INTERACTIONS, EXTENDED = "cells", "vcc", "lm", "interactions", "extended"
GROUPS = (CELLS, VCC, LOG_OF_MEAN, INTERACTIONS, EXTENDED)


@dataclass(frozen=True)
class Spread:
    """Between-cell spread of the true cells of each perturbation: (K, G) lowest and highest value and their sd."""

    lowest: np.ndarray
    highest: np.ndarray
    sd: np.ndarray


@dataclass(frozen=True)
class CellTruth:
    """True cells of a fold in the space of the distribution metrics (metrics.md 2.9).

    `genes` (H,) highly variable genes (positions), `centre` (H,) and `components` (H, D) of the PCA, `coordinates`
    (M, D) of at most `MAX_CELLS` cells of each perturbation, `owner` (M,) its row, `control` (C, D) of training
    controls, `bandwidth` of the Gaussian kernel, `etest_distance` and `etest_p` (K,) against the held-out controls.
    """

    genes: np.ndarray
    centre: np.ndarray
    components: np.ndarray
    coordinates: np.ndarray
    owner: np.ndarray
    control: np.ndarray
    bandwidth: float
    etest_distance: np.ndarray
    etest_p: np.ndarray


@dataclass(frozen=True)
class Counts:
    """Cells of each perturbation gene by gene: (K, G) share of zeros, mean and variance of linear values, float32."""

    zeros: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True)
class Controls:
    """Control cells against which predicted cells are tested: (C, G) log1p CSR, whether a training one, target sum."""

    expression: sp.csr_matrix
    training: np.ndarray
    target_sum: float


@dataclass(frozen=True)
class VccTruth:
    """Truth of the challenge metrics: `listed` the ordered significant genes of each perturbation, `baseline` (K, 3).

    `baseline` holds what the cell mean scores (model `ce_mean`: mean of the profiles of the training perturbations and
    of the training controls): `vcc_des`, `vcc_pds`, `vcc_mae`.
    """

    listed: tuple[np.ndarray, ...]
    baseline: np.ndarray


@dataclass(frozen=True)
class LogOfMean:
    """Profiles log1p(S * share of the sum over cells): (K, G) truth, (G,) controls and mean of training profiles."""

    profile: np.ndarray
    control_a: np.ndarray
    control_b: np.ndarray
    train_mean: np.ndarray


@dataclass(frozen=True)
class Doubles:
    """The test perturbations that combine two others: `row` (n,), their singles `first` and `second` (n,).

    Singles are positions in `profile` (S, G); -1 where a single is neither a training nor a test perturbation of the
    fold. `test_row` (S,) is the row of a single among the test perturbations of the fold, -1 for training ones.
    `upper` and `lower` are deviations from additivity beyond which the local false discovery rate is below 5 %,
    infinite where there are none.
    """

    row: np.ndarray
    first: np.ndarray
    second: np.ndarray
    profile: np.ndarray
    test_row: np.ndarray
    upper: float
    lower: float


@dataclass(frozen=True)
class Classes:
    """Classes of perturbations (metrics.md 2.15): `names` (C,) what defines them, items of `--known_function`.

    `damaging` (C, K) 1, 0 or NaN for unknown; `prototypes` (C, 2, G) mean profile of the training perturbations of the
    fold that are harmless and of those that are damaging, NaN without any.
    """

    names: np.ndarray
    damaging: np.ndarray
    prototypes: np.ndarray


@dataclass(frozen=True)
class Extras:
    """Extras of one fold; `halves` and `bootstrap` are there while the dataset is read and in no file.

    `bootstrap` (draws, K, G) are means of as many cells of a perturbation as it has, drawn with replacement.
    """

    spread: Spread | None = None
    cells: CellTruth | None = None
    counts: Counts | None = None
    controls: Controls | None = None
    vcc: VccTruth | None = None
    log_of_mean: LogOfMean | None = None
    doubles: Doubles | None = None
    classes: Classes | None = None
    halves: HalfCells | None = None
    bootstrap: np.ndarray | None = None


_KINDS: dict[str, type] = {
    "spread": Spread, "cells": CellTruth, "counts": Counts, "vcc": VccTruth, "log_of_mean": LogOfMean,
    "doubles": Doubles, "classes": Classes,
}  # fmt: skip


def to_uns(folds: Iterable[tuple[int, Extras]]) -> dict[str, Any]:
    """Return the extras by fold as a dictionary that anndata can write; empty when there are none."""
    found: dict[str, Any] = {}
    for number, extras in folds:
        for kind in _KINDS:
            part = getattr(extras, kind)
            if part is not None:
                found.setdefault(f"fold_{number}", {})[kind] = _packed(part)
        if extras.controls is not None:
            # The same for every fold.
            found["controls"] = {
                "expression": extras.controls.expression,
                "training": extras.controls.training,
                "target_sum": extras.controls.target_sum,
            }
    return found


def from_uns(stored: Mapping[str, Any] | None, number: int) -> Extras:
    """Return the extras of one fold from what :func:`to_uns` wrote."""
    if not stored:
        return Extras()
    parts = {kind: _unpacked(_KINDS[kind], part) for kind, part in stored.get(f"fold_{number}", {}).items()}
    if "controls" in stored:
        found = stored["controls"]
        parts["controls"] = Controls(found["expression"], np.asarray(found["training"]), float(found["target_sum"]))
    return Extras(**parts)


def _packed(part: Any) -> dict[str, Any]:
    packed = {}
    for item in fields(part):
        value = getattr(part, item.name)
        if isinstance(value, tuple):
            packed[f"{item.name}_of"] = np.cumsum([0, *(len(index) for index in value)])
            value = np.concatenate([np.array([], dtype=np.int64), *value])
        packed[item.name] = value
    return packed


def _unpacked(kind: type, packed: Mapping[str, Any]) -> Any:
    found = {}
    for item in fields(kind):
        value = np.asarray(packed[item.name])
        if f"{item.name}_of" in packed:
            found[item.name] = tuple(np.split(value, np.asarray(packed[f"{item.name}_of"])[1:-1]))
        else:
            found[item.name] = float(value) if value.ndim == 0 else value
    return kind(**found)
