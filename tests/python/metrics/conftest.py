"""A fold of truth built by hand, and predictions for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vcbench.metrics.bundle import FoldTruth
from vcbench.metrics.comparison import Comparison, Predicted

sys.path.insert(0, str(Path(__file__).parent))


def make_fold(profile: np.ndarray, **changes: object) -> FoldTruth:
    """Return a fold with these true profiles; everything else has a neutral default."""
    profile = np.asarray(profile, dtype=np.float64)
    k, g = profile.shape
    control = np.zeros(g)
    facts: dict[str, object] = {
        "fold": 1,
        "ids": tuple(f"TP53~V{i:03d}" for i in range(k)),
        "n_cells": np.full(k, 50),
        "profile": profile,
        "variance": np.zeros((k, g)),
        "control_a": control,
        "control_a_variance": np.zeros(g),
        "control_b": control,
        "control_b_variance": np.zeros(g),
        "control_all": control,
        "train_mean": np.zeros(g),
        "train_pc1": np.zeros(g),
        "expressed": np.ones(g, dtype=bool),
        "targets": tuple(np.array([], dtype=np.int64) for _ in range(k)),
        "weights": np.full((k, g), 1 / g),
        "weight_profile": profile,
        "weights_shared": np.zeros(k, dtype=bool),
        "first_half": np.full((5, k, g), np.nan),
        "n_first": np.zeros(k, dtype=np.int64),
        "significant": tuple(np.arange(min(g, 20)) for _ in range(k)),
        "positive": np.zeros((k, g), dtype=bool),
        "p_adj": np.ones((k, g)),
        "log2fc": np.zeros((k, g)),
        "cell_mean": profile.mean(axis=0),
        "listed": tuple(np.arange(min(g, 20)) for _ in range(k)),
        "compat_label": np.zeros((k, g), dtype=bool),
    }
    return FoldTruth(**{**facts, **changes})


def compare(fold: FoldTruth, prediction: np.ndarray, **changes: object) -> Comparison:
    """Return the comparison of a fold with (K, G) predicted profiles; NaN rows are missing predictions."""
    mean = np.asarray(prediction, dtype=np.float64)
    n_cells = np.where(np.isnan(mean).any(axis=1), 0, 1)
    predicted = Predicted(mean, np.zeros_like(mean), n_cells)
    facts = {"truth": fold, "predicted": predicted, "pairs": np.arange(len(mean))[:, None], **changes}
    return Comparison(**facts)


@pytest.fixture(name="make_fold", scope="session")
def _make_fold() -> Callable[..., FoldTruth]:
    return make_fold


@pytest.fixture(name="compare")
def _compare() -> Callable[..., Comparison]:
    return compare


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240501)
