"""Do predicted changes go up and down where the measured ones do? (metrics.md 2.5)"""

from __future__ import annotations

import numpy as np

from vcbench.metrics.comparison import Comparison, Outcome
from vcbench.metrics.pairwise import compare, split_controls

#: A predicted change below this is no prediction of a direction.
NO_CHANGE = 1e-6


def _signs(delta_p: np.ndarray, delta_t: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return up, down and zero as 0/1 floats: of predictions (..., K, n), then of truths, these as (..., n, T)."""
    up_p, down_p = delta_p >= NO_CHANGE, delta_p <= -NO_CHANGE
    known = ~np.isnan(delta_p)
    zero_p = known & ~up_p & ~down_p
    true = np.swapaxes(delta_t, -1, -2)
    return tuple(part.astype(np.float64) for part in (up_p, down_p, zero_p, true > 0, true < 0, true == 0))


def _blank(values: np.ndarray, delta_p: np.ndarray) -> np.ndarray:
    values[np.isnan(delta_p).any(axis=-1)] = np.nan
    return values


def _correct(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    up_p, down_p, _, up_t, down_t, _ = _signs(delta_p, delta_t)
    return _blank((up_p @ up_t + down_p @ down_t) / delta_t.shape[-1], delta_p)


def _correct_half(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    zero_p = _signs(delta_p, delta_t)[2]
    return _correct(delta_p, delta_t) + 0.5 * zero_p.mean(axis=-1)[..., None]


def _opposite(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    up_p, down_p, _, up_t, down_t, _ = _signs(delta_p, delta_t)
    return _blank((up_p @ down_t + down_p @ up_t) / delta_t.shape[-1], delta_p)


def _one_zero(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    _, _, zero_p, _, _, zero_t = _signs(delta_p, delta_t)
    return _blank((zero_p @ (1 - zero_t) + (1 - zero_p) @ zero_t) / delta_t.shape[-1], delta_p)


def _of(kernel, comparison: Comparison, gene_set: str) -> Outcome:
    return compare(comparison, gene_set, kernel, split_controls, 1, flat_prediction=False, flat_truth=False)


def dir_acc(comparison: Comparison, gene_set: str) -> Outcome:
    """Share of genes with sign(p - c_B) = sign(t - c_A); a predicted change below 1e-6 is wrong."""
    return _of(_correct, comparison, gene_set)


def dir_acc_half(comparison: Comparison, gene_set: str) -> Outcome:
    """As :func:`dir_acc`, but a predicted change below 1e-6 counts half."""
    return _of(_correct_half, comparison, gene_set)


def dir_opposite(comparison: Comparison, gene_set: str) -> Outcome:
    """Share of genes with strictly opposite signs."""
    return _of(_opposite, comparison, gene_set)


def dir_zero(comparison: Comparison, gene_set: str) -> Outcome:
    """Share of genes where exactly one side does not change."""
    return _of(_one_zero, comparison, gene_set)
