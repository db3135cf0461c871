"""Is the right perturbation the nearest one? (metrics.md 2.6)"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vcbench.metrics import contract
from vcbench.metrics.bundle import FoldTruth
from vcbench.metrics.comparison import Comparison, Outcome, flags, reasons
from vcbench.metrics.genewise import panel_axis

#: Squared distances that differ by less than this share of the squared norms are ties: rounding of the product form.
_TIE = 1e-11
#: Distances computed directly are ties within this share of the largest one.
_TIE_DISTANCE = 1e-9


def squared_distances(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (P, T) squared Euclidean distances and the (P, 1) width of a tie.

    NaN rows give NaN. Both sides are centred on the true mean first, which keeps the product form accurate.
    """
    centre = np.nanmean(true, axis=0)
    p, t = predicted - centre, true - centre
    p2, t2 = (p**2).sum(1)[:, None], (t**2).sum(1)[None, :]
    return np.maximum(p2 + t2 - 2 * (p @ t.T), 0.0), _TIE * (p2 + np.nanmax(t2, initial=0.0))


def _usable(truth: FoldTruth) -> np.ndarray:
    return (truth.n_cells >= contract.MIN_CELLS_PROFILE) & ~np.isnan(truth.profile).any(axis=1)


def _nearest(comparison: Comparison, distances: np.ndarray, tie: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (K, R) credit over the other truths (1 when farther than the own one, ties half) and (K, R) own distances.

    Parameters
    ----------
    distances
        (K, K) of predictions to truths.
    tie
        (K, 1) or (K, K) width within which two distances are equal.
    """
    usable = _usable(comparison.truth)
    own = comparison.take(distances)
    others = distances[:, None, usable] - own[:, :, None]
    width = np.broadcast_to(tie, distances.shape)[:, None, usable]
    credit = (others > width).sum(2) + 0.5 * ((np.abs(others) <= width).sum(2) - 1)
    return np.where(usable[comparison.pairs] & ~np.isnan(own), credit, np.nan), own


def _outcome(comparison: Comparison, values: np.ndarray, n_axis: int, no_control: bool = False) -> Outcome:
    truth = comparison.truth
    usable = _usable(truth)
    none = np.zeros(len(truth.ids), dtype=bool)
    return Outcome(
        values,
        np.full(len(truth.ids), n_axis),
        reasons(
            truth,
            (~usable, "few_cells"),
            (no_control, "no_control"),
            (usable.sum() < 2, "single_pert"),
            (n_axis == 0, "few_genes"),
        ),
        none,
        flags(none, ""),
    )


def _ranks(comparison: Comparison, gene_set: str) -> tuple[np.ndarray, int, int]:
    """Return (K, R) credit by Euclidean distance of profiles, the number of usable truths and of genes."""
    return comparison.once(("ranks", gene_set), lambda: _ranked(comparison, gene_set))


def _ranked(comparison: Comparison, gene_set: str) -> tuple[np.ndarray, int, int]:
    truth = comparison.truth
    axis = panel_axis(truth, gene_set)
    n = int(_usable(truth).sum())
    if n < 2 or not len(axis):
        return np.full(comparison.pairs.shape, np.nan), n, len(axis)
    distances, tie = squared_distances(comparison.predicted.mean.take(axis, axis=1), truth.profile.take(axis, axis=1))
    return _nearest(comparison, distances, tie)[0], n, len(axis)


def c_acc(comparison: Comparison, gene_set: str) -> Outcome:
    """Share of the other truths farther from prediction k than its own, ties half; the control is no distractor."""
    credit, n, n_axis = _ranks(comparison, gene_set)
    return _outcome(comparison, credit / max(n - 1, 1), n_axis)


def mrr(comparison: Comparison, gene_set: str) -> Outcome:
    """Reciprocal of the mid-rank of the own truth among all truths, nearest first."""
    credit, n, n_axis = _ranks(comparison, gene_set)
    return _outcome(comparison, 1.0 / (n - credit), n_axis)


def _top(comparison: Comparison, gene_set: str, most: int) -> Outcome:
    credit, n, n_axis = _ranks(comparison, gene_set)
    return _outcome(comparison, np.where(np.isnan(credit), np.nan, n - credit <= most), n_axis)


def top1(comparison: Comparison, gene_set: str) -> Outcome:
    """1 when the own truth is the nearest one (mid-rank at most 1)."""
    return _top(comparison, gene_set, 1)


def top5(comparison: Comparison, gene_set: str) -> Outcome:
    """1 when the own truth is among the five nearest (mid-rank at most 5)."""
    return _top(comparison, gene_set, 5)


def chance(metric: str, truth: FoldTruth) -> float:
    """Return what guessing scores in `mrr`, `top1`, `top5`, `vcc_pds`; NaN below two truths.

    H_n/n, 1/n, min(5, n)/n and (n + 1)/2n of n truths.
    """
    n = int(_usable(truth).sum())
    if n < 2:
        return float("nan")
    return {"mrr": float((1 / np.arange(1, n + 1)).sum()) / n, "top1": 1 / n, "top5": min(5, n) / n,
            "vcc_pds": (n + 1) / (2 * n)}[metric]  # fmt: skip


def rank_t2p(comparison: Comparison, gene_set: str) -> Outcome:
    """Share of the other predictions farther from truth k than its own prediction, ties half."""
    truth = comparison.truth
    axis = panel_axis(truth, gene_set)
    present = ~np.isnan(comparison.predicted.mean).any(axis=1)
    n = int(present.sum())
    values = np.full(comparison.pairs.shape, np.nan)
    if n >= 2 and len(axis):
        sides = (profile.take(axis, axis=1) for profile in (comparison.predicted.mean, truth.profile))
        distances, tie = squared_distances(*sides)
        for k, rows in enumerate(comparison.pairs):
            if present[k]:
                gap = distances[np.ix_(present, rows)] - distances[k, rows]
                width = np.maximum(tie[present], tie[k])
                values[k] = ((gap > width).sum(0) + 0.5 * ((np.abs(gap) <= width).sum(0) - 1)) / (n - 1)
        values[~_usable(truth)[comparison.pairs]] = np.nan
    # a prediction alone has no other one to be nearer than: those that are missing leave it undefined
    alone = flags(np.full(len(present), n < 2), "missing_pred")
    return replace(_outcome(comparison, values, len(axis)), prediction_reason=alone)


def _pds(comparison: Comparison, gene_set: str, metric: str) -> Outcome:
    """Perturbation discrimination on deltas against split controls, with SciPy's distances."""
    from scipy.spatial.distance import cdist

    truth = comparison.truth
    axis = panel_axis(truth, gene_set)
    usable = _usable(truth)
    n = int(usable.sum())
    delta_p = comparison.predicted.mean.take(axis, axis=1) - truth.control_b[axis]
    delta_t = truth.profile.take(axis, axis=1) - truth.control_a[axis]
    values = np.full(comparison.pairs.shape, np.nan)
    flat = np.zeros(len(usable), dtype=bool)
    if metric == "cosine" and len(axis):  # only a vector of zeros has no direction
        limit = contract.TOLERANCE * np.maximum(1.0, np.abs(comparison.predicted.mean.take(axis, axis=1)).max(axis=1))
        flat = np.abs(delta_p).max(axis=1) <= limit
    no_control = bool(np.isnan(truth.control_a).any())
    if n >= 2 and len(axis) and not no_control:
        if metric == "euclidean":  # squares order alike, and are a matrix product
            distances, tie = squared_distances(delta_p, delta_t)
        else:
            distances = cdist(delta_p, delta_t, metric)
            distances[flat, :] = np.nan
            tie = _TIE_DISTANCE * np.nanmax(distances[:, usable], axis=1, initial=0.0)[:, None]
        values = _nearest(comparison, distances, tie)[0] / (n - 1)
    outcome = _outcome(comparison, values, len(axis), no_control)
    return replace(outcome, constant_prediction=flat)


def pds_l1(comparison: Comparison, gene_set: str) -> Outcome:
    """As :func:`c_acc`, by the sum of absolute differences of deltas."""
    return _pds(comparison, gene_set, "cityblock")


def pds_l2(comparison: Comparison, gene_set: str) -> Outcome:
    """As :func:`c_acc`, by the Euclidean distance of deltas."""
    return _pds(comparison, gene_set, "euclidean")


def pds_cos(comparison: Comparison, gene_set: str) -> Outcome:
    """As :func:`c_acc`, by the cosine distance of deltas."""
    return _pds(comparison, gene_set, "cosine")


def c_acc_ctrl(comparison: Comparison, gene_set: str) -> Outcome:
    """1 when the prediction is farther from the held-out controls than from its own truth, ties half."""
    truth = comparison.truth
    axis = panel_axis(truth, gene_set)
    values = np.full(comparison.pairs.shape, np.nan)
    if len(axis):
        true = np.vstack([truth.profile.take(axis, axis=1), truth.control_a[None, axis]])
        distances, tie = squared_distances(comparison.predicted.mean.take(axis, axis=1), true)
        gap = distances[:, -1:] - comparison.take(distances[:, :-1])
        values = np.where(np.isnan(gap), np.nan, (gap > tie) + 0.5 * (np.abs(gap) <= tie))
    none = np.zeros(len(truth.ids), dtype=bool)
    return Outcome(
        values,
        np.full(len(truth.ids), len(axis)),
        reasons(
            truth,
            (truth.n_cells < contract.MIN_CELLS_PROFILE, "few_cells"),
            (bool(np.isnan(truth.control_a).any()), "no_control"),
            (len(axis) == 0, "few_genes"),
        ),
        none,
        flags(none, ""),
    )
