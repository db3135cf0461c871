"""Which cells are kept, and which controls are held out: seeded, and independent of the order of rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vcbench.core.seeds import stream

EVALUATION, TRAINING = "A", "B"


def ranks(barcodes: np.ndarray) -> np.ndarray:
    """Return (cells,) positions of the barcodes in sorted order: the only order anything here depends on."""
    rank = np.empty(len(barcodes), np.int64)
    rank[np.argsort(barcodes.astype(str), kind="stable")] = np.arange(len(barcodes))
    return rank


def capped(rank: np.ndarray, largest: int, seed: int, dataset: str, perturbation: str) -> np.ndarray:
    """Return at most `largest` of the rows with these ranks (0 = all): indices into `rank`, in sorted rank order."""
    order = np.argsort(rank)
    if largest and len(order) > largest:
        chosen = stream(seed, "cells kept", dataset, perturbation).permutation(len(order))[:largest]
        order = order[np.sort(chosen)]
    return order


def control_halves(rank: np.ndarray, batches: Sequence[str], seed: int, dataset: str) -> np.ndarray:
    """Return (controls,) ``"A"`` (held out for evaluation) or ``"B"`` (training): halves within each batch.

    Odd batches give their extra cell to the two halves in turn; over all, B is never smaller than A.
    """
    labels = np.asarray(batches, dtype=object)
    half = np.full(len(rank), TRAINING, dtype=object)
    seen = 0
    for batch in sorted(set(labels)):
        rows = np.flatnonzero(labels == batch)
        rows = rows[np.argsort(rank[rows])]
        shuffled = rows[stream(seed, "control halves", dataset, batch).permutation(len(rows))]
        n_evaluation = (seen + len(rows)) // 2 - seen // 2
        half[shuffled[:n_evaluation]] = EVALUATION
        seen += len(rows)
    return half
