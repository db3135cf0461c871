"""Are predicted changes as large as measured ones? Targets are 1 (metrics.md 2.5)."""

from __future__ import annotations

import numpy as np

from vcbench.metrics.comparison import Comparison, Outcome
from vcbench.metrics.pairwise import compare, split_controls


def _slope(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    return delta_p @ delta_t.T / (delta_t**2).sum(axis=1)[None, :]


def _sd_ratio(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    return delta_p.std(axis=1)[:, None] / delta_t.std(axis=1)[None, :]


def _norm_ratio(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    return np.sqrt((delta_p**2).sum(axis=1))[:, None] / np.sqrt((delta_t**2).sum(axis=1))[None, :]


def lfc_slope(comparison: Comparison, gene_set: str) -> Outcome:
    """Slope through the origin of predicted on true deltas: sum d_p d_t / sum d_t^2."""
    return compare(comparison, gene_set, _slope, split_controls, flat_prediction=False)


def delta_sd_ratio(comparison: Comparison, gene_set: str) -> Outcome:
    """sd(d_p) / sd(d_t) over genes."""
    return compare(comparison, gene_set, _sd_ratio, split_controls, flat_prediction=False)


def norm_ratio(comparison: Comparison, gene_set: str) -> Outcome:
    """Euclidean norm of the predicted delta over that of the true one."""
    return compare(comparison, gene_set, _norm_ratio, split_controls, flat_prediction=False)
