"""Is the right perturbation the nearest one? (metrics.md 2.6)"""

from __future__ import annotations

import numpy as np

from vcbench.metrics import contract
from vcbench.metrics.comparison import Comparison, Outcome, flags, reasons

#: Squared distances that differ by less than this share of the squared norms are ties: rounding of the product form.
_TIE = 1e-11


def squared_distances(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (P, T) squared Euclidean distances and the (P, 1) width of a tie.

    NaN rows give NaN. Both sides are centred on the true mean first, which keeps the product form accurate.
    """
    centre = np.nanmean(true, axis=0)
    p, t = predicted - centre, true - centre
    p2, t2 = (p**2).sum(1)[:, None], (t**2).sum(1)[None, :]
    return np.maximum(p2 + t2 - 2 * (p @ t.T), 0.0), _TIE * (p2 + np.nanmax(t2, initial=0.0))


def _panel_axis(comparison: Comparison, gene_set: str) -> np.ndarray:
    """Return the gene positions: for ``_nt`` the targets of the whole panel go, so no row sees another's target."""
    truth = comparison.truth
    axis = np.flatnonzero(truth.expressed) if gene_set.startswith("expr") else np.arange(len(truth.expressed))
    return axis[~np.isin(axis, truth.panel_targets)] if gene_set.endswith("_nt") else axis


def c_acc(comparison: Comparison, gene_set: str) -> Outcome:
    """Share of the other truths farther from prediction k than its own, ties half; the control is no distractor."""
    truth = comparison.truth
    axis = _panel_axis(comparison, gene_set)
    usable = (truth.n_cells >= contract.MIN_CELLS_PROFILE) & ~np.isnan(truth.profile).any(axis=1)
    n = int(usable.sum())
    values = np.full(comparison.pairs.shape, np.nan)
    if n >= 2 and len(axis):
        distances, tie = squared_distances(comparison.predicted.mean[:, axis], truth.profile[:, axis])
        own = comparison.take(distances)
        others = distances[:, None, usable] - own[:, :, None]
        credit = (others > tie[:, :, None]).sum(2) + 0.5 * ((np.abs(others) <= tie[:, :, None]).sum(2) - 1)
        values = np.where(usable[comparison.pairs] & ~np.isnan(own), credit / (n - 1), np.nan)
    none = np.zeros(len(truth.ids), dtype=bool)
    return Outcome(
        values,
        np.full(len(truth.ids), len(axis)),
        reasons(truth, (~usable, "few_cells"), (n < 2, "single_pert"), (len(axis) == 0, "few_genes")),
        none,
        flags(none, ""),
    )


def c_acc_ctrl(comparison: Comparison, gene_set: str) -> Outcome:
    """1 when the prediction is farther from the held-out controls than from its own truth, ties half."""
    truth = comparison.truth
    axis = _panel_axis(comparison, gene_set)
    values = np.full(comparison.pairs.shape, np.nan)
    if len(axis):
        true = np.vstack([truth.profile[:, axis], truth.control_a[None, axis]])
        distances, tie = squared_distances(comparison.predicted.mean[:, axis], true)
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
