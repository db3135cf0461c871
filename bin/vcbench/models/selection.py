"""Choosing hyper-parameters on training perturbations only: seeded inner folds that never split a residue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vcbench.core.seeds import stream
from vcbench.models.base import Perturbation

FOLDS = 5
#: Errors that differ by a smaller share are equal; candidates are listed simplest first, so the simplest is taken.
TIE = 1e-9


def residue_groups(perturbations: Sequence[Perturbation]) -> np.ndarray:
    """Return (perturbations,) integer codes, equal for perturbations that share a residue, directly or through others.

    Perturbations without a residue (genes) are groups of their own. Codes count from 0 in order of first appearance.
    """
    group_of: dict[tuple[str, int], int] = {}
    codes = np.arange(len(perturbations))
    for row, perturbation in enumerate(perturbations):
        for site in sorted(perturbation.sites):
            other = group_of.setdefault(site, codes[row])
            if other != codes[row]:
                old, new = max(other, codes[row]), min(other, codes[row])
                codes[codes == old] = new
                group_of = {known: new if code == old else code for known, code in group_of.items()}
    return np.unique(codes, return_inverse=True)[1]


def inner_folds(perturbations: Sequence[Perturbation], seed: int) -> np.ndarray:
    """Return the inner fold (0, 1, ...) of each perturbation: at most :data:`FOLDS`, balanced, residues kept together.

    Groups are shuffled, then dealt from the largest to the smallest, each to the fold that is smallest so far. With a
    single group there is one fold and nothing to select with.
    """
    groups = residue_groups(perturbations)
    sizes = np.bincount(groups)
    order = stream(seed, "inner folds").permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(min(FOLDS, len(sizes)), dtype=int)
    fold_of = np.zeros(len(sizes), dtype=int)
    for group in order:
        fold_of[group] = np.argmin(filled)
        filled[fold_of[group]] += sizes[group]
    return fold_of[groups]


def smallest(errors: Sequence[float] | np.ndarray) -> int:
    """Return the first candidate whose error is the smallest (to :data:`TIE`), and 0 when there is no error at all."""
    values = np.asarray(errors, dtype=np.float64)
    if np.isnan(values).any():
        return 0
    return int(np.argmax(values <= values.min() * (1 + TIE)))
