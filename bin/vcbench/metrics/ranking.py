"""Genes ranked by predicted change, ties explicit: what every metric of ranked lists is computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vcbench.metrics import contract


def scores(delta: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Return |delta| (K, G) with rounding noise removed: below tolerance 0, and 0 throughout when delta is constant.

    A prediction equal to the control must tie all genes, whatever single precision did to it.
    """
    magnitude = np.abs(delta)
    limit = contract.TOLERANCE * np.maximum(1.0, np.abs(raw).max(axis=1, keepdims=True))
    magnitude = np.where(magnitude <= limit, 0.0, magnitude)
    return np.where(contract.constant(delta, raw)[:, None], 0.0, magnitude)


@dataclass(frozen=True)
class Ranking:
    """Genes of an axis ranked by the scores of each row, highest first.

    `above` is (..., n) how many genes score more than the gene, `called` how many score at least as much: the ends of
    its group of ties.
    """

    above: np.ndarray
    called: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """(..., n) mid-ranks, 1 = highest."""
        return (self.above + self.called + 1) / 2


def rank(score: np.ndarray) -> Ranking:
    """Return the ranking of (..., n) scores along the last axis; rows with NaN have no meaningful ranks."""
    order = np.argsort(-score, axis=-1)  # the order within ties is never looked at
    ordered = np.take_along_axis(score, order, axis=-1)
    n = score.shape[-1]
    change = ordered[..., 1:] != ordered[..., :-1]
    edge = np.ones((*score.shape[:-1], 1), dtype=bool)
    positions = np.arange(n)
    start = np.maximum.accumulate(np.where(np.concatenate([edge, change], axis=-1), positions, 0), axis=-1)
    stop = np.where(np.concatenate([change, edge], axis=-1), positions, n)[..., ::-1]
    stop = np.minimum.accumulate(stop, axis=-1)[..., ::-1] + 1
    above, called = np.empty((2, *score.shape), dtype=np.int64)
    np.put_along_axis(above, order, start, axis=-1)
    np.put_along_axis(called, order, stop, axis=-1)
    return Ranking(above, called)


def without(called: np.ndarray, above: np.ndarray, removed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `called` and `above` (m,) of some genes when the genes whose ends are `removed` leave the axis."""
    removed = np.sort(removed)
    return called - np.searchsorted(removed, called, "right"), above - np.searchsorted(removed, above, "right")


def average_precision(called: np.ndarray, removed: np.ndarray) -> float:
    """Return the step-wise average precision of positives with ends `called`; a constant score gives the prevalence.

    Ties are grouped: the precision at a positive is that at the end of its group.
    """
    called = np.sort(called)
    hits = np.searchsorted(called, called, "right")
    return float((hits / (called - np.searchsorted(np.sort(removed), called, "right"))).mean())


def roc_area(called: np.ndarray, above: np.ndarray, removed: np.ndarray, n_genes: int) -> float:
    """Return the area under the ROC curve of positives among `n_genes`, ties half."""
    called, above = without(called, above, removed)
    n = len(called)
    return float(1 - (((above + called + 1) / 2).sum() - n * (n + 1) / 2) / (n * (n_genes - n)))


def membership(called: np.ndarray, above: np.ndarray, k: int) -> np.ndarray:
    """Return how much of each gene is in the list of the `k` highest: 1, 0, or the share of the places its ties get."""
    return np.clip((k - above) / (called - above), 0.0, 1.0)
