"""Rank statistics within folds, for many weightings of the variants at once (bootstrap resamples).

Predictions of different folds come from different models, so only variants of the same fold are compared: a model whose
scale drifts from fold to fold gains and loses nothing by it, and a constant has an AUROC of exactly 0.5. With one fold
and weights of 1 these are the usual statistics (scikit-learn, scipy). A weight w counts a variant w times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def _folds(fold: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(fold == number) for number in np.unique(fold)]


def _quotient(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


@dataclass(frozen=True)
class _Ties:
    """Values (n,) in ascending order: groups of equal ones, and the group of each value."""

    order: np.ndarray
    starts: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> _Ties:
        order = np.argsort(values, kind="stable")
        new = np.concatenate([[True], values[order][1:] != values[order][:-1]])
        group = np.empty(len(values), dtype=np.int64)
        group[order] = new.cumsum() - 1
        return cls(order, np.flatnonzero(new), group)

    def sums(self, weights: np.ndarray) -> np.ndarray:
        """Return (R, groups) sums of weights (R, n)."""
        return np.add.reduceat(weights[:, self.order], self.starts, axis=1)


def auroc(score: np.ndarray, positive: np.ndarray, fold: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (R,) the share of pairs (positive, negative) of a fold in which the positive scores higher, ties half.

    Parameters
    ----------
    score, positive, fold
        (K,) finite scores, boolean labels, folds.
    weights
        (R, K) how often each variant counts. NaN where no fold has both classes.
    """
    top, bottom = np.zeros((2, len(weights)))
    for rows in _folds(fold):
        ties, own, yes = _Ties.of(score[rows]), weights[:, rows], positive[rows]
        hits, misses = ties.sums(own * yes), ties.sums(own * ~yes)
        top += (hits * (misses.cumsum(1) - misses / 2)).sum(1)
        bottom += hits.sum(1) * misses.sum(1)
    return _quotient(top, bottom)


def auprc(score: np.ndarray, positive: np.ndarray, fold: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (R,) average precision: the mean over positives of the precision among scores at least theirs.

    Each positive meets the variants of its own fold; folds without both classes are left out (arguments as
    :func:`auroc`). Equal scores enter together, as in scikit-learn.
    """
    top, bottom = np.zeros((2, len(weights)))
    for rows in _folds(fold):
        ties, own = _Ties.of(-score[rows]), weights[:, rows]
        hits = ties.sums(own * positive[rows])
        seen, found = ties.sums(own).cumsum(1), hits.cumsum(1)
        precision = np.divide(found, seen, out=np.zeros_like(seen), where=seen > 0)
        usable = (found[:, -1] > 0) & (found[:, -1] < seen[:, -1])
        top += np.where(usable, (hits * precision).sum(1), 0.0)
        bottom += np.where(usable, found[:, -1], 0.0)
    return _quotient(top, bottom)


def prevalence(positive: np.ndarray, fold: np.ndarray) -> float:
    """Return what :func:`auprc` of a score without skill is: the share of positives, folds weighted as there."""
    parts = [(positive[rows].sum(), positive[rows].mean()) for rows in _folds(fold)]
    parts = [(count, share) for count, share in parts if 0 < share < 1]
    return float(sum(c * s for c, s in parts) / sum(c for c, _ in parts)) if parts else float("nan")


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (R, n) mid-ranks of values (n,), each counted as often as its weight says, centred and divided by n."""
    ties = _Ties.of(values)
    size = ties.sums(weights)
    ranks = (size.cumsum(1) - size / 2)[:, ties.group]
    total = weights.sum(1, keepdims=True)
    return np.divide(ranks - total / 2, total, out=np.zeros_like(ranks), where=total > 0)


def spearman(score: np.ndarray, value: np.ndarray, fold: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (R,) the rank correlation of scores and values within folds.

    Ranks are taken within the fold, as shares of its size, and centred there; their products are summed over folds. NaN
    where scores or values do not differ within any fold.
    """
    products = np.zeros((3, len(weights)))
    for rows in _folds(fold):
        own = weights[:, rows]
        left, right = _ranks(score[rows], own), _ranks(value[rows], own)
        products += [(own * a * b).sum(1) for a, b in ((left, right), (left, left), (right, right))]
    covariance, one, other = products
    tiny = 1e-12
    return np.clip(_quotient(np.where(one * other > tiny, covariance, 0.0),
                             np.where(one * other > tiny, np.sqrt(one * other), 0.0)), -1, 1)  # fmt: skip
