"""Genetic interactions of doubles (metrics.md 2.11): how two perturbations combine, measured and predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from vcbench.metrics import contract
from vcbench.metrics.bundle import FoldTruth
from vcbench.metrics.comparison import Comparison, Outcome, Predicted, flags, reasons

#: Subsets of two genes of the Theil-Sen estimate, and the state they are drawn with.
MAX_SUBSETS, RANDOM_STATE = 10_000, 1000
#: False discovery proportions at which the true positive rate is given.
PROPORTIONS = (0.1, 0.2, 0.5)


# ---------------------------------------------------------------------------------------------------------------------
# Estimates


@cache
def _subsets(n: int) -> np.ndarray:
    """Return (subsets, 2) pairs of rows: all of them, or `MAX_SUBSETS` drawn as scikit-learn draws them."""
    from itertools import combinations

    if n * (n - 1) // 2 <= MAX_SUBSETS:
        return np.array(list(combinations(range(n), 2)))
    state = np.random.RandomState(RANDOM_STATE)
    return np.array([state.choice(n, size=2, replace=False) for _ in range(MAX_SUBSETS)])


def theil_sen(a: np.ndarray, b: np.ndarray, double: np.ndarray) -> tuple[float, float]:
    """Return coefficients (c1, c2) of the double on the two singles, (n,) each, without intercept.

    Theil-Sen for several variables: the exact solution of every pair of genes, then their spatial median.
    """
    pairs = _subsets(len(double))
    x, y = np.stack([a, b], axis=1)[pairs], double[pairs]
    determinant = x[:, 0, 0] * x[:, 1, 1] - x[:, 0, 1] * x[:, 1, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        solutions = np.stack([
            (y[:, 0] * x[:, 1, 1] - y[:, 1] * x[:, 0, 1]) / determinant,
            (y[:, 1] * x[:, 0, 0] - y[:, 0] * x[:, 1, 0]) / determinant,
        ], axis=1)  # fmt: skip
    # Pairs that determine nothing, or hardly anything, get the solution of smallest norm.
    poor = np.abs(determinant) <= 1e-12 * (x**2).sum(axis=(1, 2))
    if poor.any():
        solutions[poor] = (np.linalg.pinv(x[poor]) @ y[poor, :, None])[..., 0]
    found = _spatial_median(solutions)
    return float(found[0]), float(found[1])


def _spatial_median(points: np.ndarray, max_iter: int = 300, tolerance: float = 1e-3) -> np.ndarray:
    """Return the point with the smallest sum of distances, by the modified Weiszfeld step (Vardi and Zhang 2000)."""
    median = points.mean(axis=0)
    for _ in range(max_iter):
        difference = points - median
        distance = np.sqrt((difference**2).sum(axis=1))
        away = distance >= np.finfo(float).eps
        if not away.any():
            return median
        at_point = float(not away.all())
        weights = 1 / distance[away]
        norm = np.sqrt((((difference[away]) * weights[:, None]).sum(axis=0) ** 2).sum())
        step = (points[away] * weights[:, None]).sum(axis=0) / weights.sum()
        eta = at_point / norm if norm > np.finfo(float).eps else 1.0
        new = max(0.0, 1 - eta) * step + min(1.0, eta) * median
        if ((new - median) ** 2).sum() < tolerance**2:
            return new
        median = new
    return median


def distance_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return the distance correlation of (n,) or (n, d) samples; NaN when one of them is constant."""
    from scipy.spatial.distance import cdist

    centred = []
    for part in (x, y):
        part = part.reshape(len(part), -1)
        distance = cdist(part, part)
        centred.append(distance - distance.mean(0) - distance.mean(1)[:, None] + distance.mean())
    first, second = centred
    spread = np.sqrt((first**2).mean() * (second**2).mean())
    return float(np.sqrt(max((first * second).mean(), 0.0) / spread)) if spread > 0 else float("nan")


@dataclass(frozen=True)
class Deltas:
    """Deltas (n, genes) against the control of each double and its two singles; NaN rows where one is not there."""

    double: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @property
    def deviation(self) -> np.ndarray:
        """(n, genes) double minus the sum of its singles."""
        return self.double - self.first - self.second

    @cached_property
    def coefficients(self) -> np.ndarray:
        """(n, 2) Theil-Sen coefficients of the singles; NaN where one is not there."""
        found = np.full((len(self.double), 2), np.nan)
        for row in np.flatnonzero(~np.isnan(self.deviation).any(axis=1)):
            found[row] = theil_sen(self.first[row], self.second[row], self.double[row])
        return found


def top_genes(truth: FoldTruth) -> np.ndarray:
    """Return the genes of highest mean control expression (sorted): the gene set ``top1000ctrl``."""
    return truth.gene_set("top1000ctrl").index[0] if truth.ids else np.array([], dtype=np.int64)


def observed(truth: FoldTruth) -> Deltas:
    """Return the measured deltas of the fold's doubles: test perturbations against half A, training ones against B."""
    doubles, axis = truth.extras.doubles, top_genes(truth)
    control = np.where((doubles.test_row >= 0)[:, None], truth.control_a[axis], truth.control_b[axis])
    singles = doubles.profile[:, axis] - control
    return _deltas(doubles, truth.profile[doubles.row][:, axis] - truth.control_a[axis], singles)


def forecast(truth: FoldTruth, predicted: Predicted) -> Deltas:
    """Return the predicted deltas of the fold's doubles; singles are measured in training, predicted in the test."""
    doubles, axis = truth.extras.doubles, top_genes(truth)
    profile = predicted.mean[:, axis]
    tested = doubles.test_row >= 0
    singles = np.where(tested[:, None], profile[np.maximum(doubles.test_row, 0)], doubles.profile[:, axis])
    return _deltas(doubles, profile[doubles.row] - truth.control_b[axis], singles - truth.control_b[axis])


def _deltas(doubles, double: np.ndarray, singles: np.ndarray) -> Deltas:
    def of(index: np.ndarray) -> np.ndarray:
        missing = np.full((1, double.shape[1]), np.nan)
        return np.concatenate([singles, missing])[index]

    return Deltas(double, of(doubles.first), of(doubles.second))


# ---------------------------------------------------------------------------------------------------------------------
# Properties of one double: deltas of all doubles, the row of one -> value

Property = Callable[[Deltas, int, FoldTruth], float]


def _magnitude(deltas: Deltas, row: int, truth: FoldTruth) -> float:
    return float(np.hypot(*deltas.coefficients[row]))


def _dominance(deltas: Deltas, row: int, truth: FoldTruth) -> float:
    c1, c2 = deltas.coefficients[row]
    return abs(float(np.log10(c1 / c2))) if c1 * c2 > 0 else float("nan")


def _corr_fit(deltas: Deltas, row: int, truth: FoldTruth) -> float:
    c1, c2 = deltas.coefficients[row]
    fitted, double = c1 * deltas.first[row] + c2 * deltas.second[row], deltas.double[row]
    if contract.constant(fitted[None], fitted[None])[0] or contract.constant(double[None], double[None])[0]:
        return float("nan")
    return float(np.corrcoef(fitted, double)[0, 1])


def _dcor_singles(deltas: Deltas, row: int, truth: FoldTruth) -> float:
    return distance_correlation(deltas.first[row], deltas.second[row])


def _dcor(deltas: Deltas, row: int, truth: FoldTruth) -> float:
    return distance_correlation(np.stack([deltas.first[row], deltas.second[row]], axis=1), deltas.double[row])


def _equality(deltas: Deltas, row: int, truth: FoldTruth) -> float:
    both = [distance_correlation(single[row], deltas.double[row]) for single in (deltas.first, deltas.second)]
    return min(both) / max(both) if max(both) > 0 else float("nan")


def _score(deltas: Deltas, row: int, truth: FoldTruth) -> float:
    return float(np.sqrt((deltas.deviation[row] ** 2).mean()))


def classes(double: np.ndarray, a: np.ndarray, b: np.ndarray, truth: FoldTruth) -> dict[str, np.ndarray]:
    """Return which genes deviate beyond the cuts, by class: the double beyond, short of or against a + b."""
    additive = a + b
    deviation = double - additive
    beyond = (deviation > truth.extras.doubles.upper) | (deviation < truth.extras.doubles.lower)
    against = beyond & (np.sign(double) * np.sign(additive) < 0)
    stronger = beyond & ~against & (np.abs(double) > np.abs(additive))
    return {"synergistic": stronger, "buffering": beyond & ~against & ~stronger, "opposite": against}


def _count(name: str) -> Property:
    def count(deltas: Deltas, row: int, truth: FoldTruth) -> float:
        return float(classes(deltas.double[row], deltas.first[row], deltas.second[row], truth)[name].sum())

    return count


_PROPERTIES: dict[str, Property] = {
    "gi_c1": lambda deltas, row, truth: float(deltas.coefficients[row, 0]),
    "gi_c2": lambda deltas, row, truth: float(deltas.coefficients[row, 1]),
    "gi_magnitude": _magnitude,
    "gi_dominance": _dominance,
    "gi_corr_fit": _corr_fit,
    "gi_dcor_singles": _dcor_singles,
    "gi_dcor": _dcor,
    "gi_equality": _equality,
    "gi_score": _score,
    "gi_class_synergistic": _count("synergistic"),
    "gi_class_buffering": _count("buffering"),
    "gi_class_opposite": _count("opposite"),
}
NAMES = tuple(_PROPERTIES)


def values(name: str, truth: FoldTruth, deltas: Deltas) -> np.ndarray:
    """Return (doubles,) one property of measured or predicted doubles; NaN where a part is missing."""
    found = np.full(len(deltas.double), np.nan)
    for row in np.flatnonzero(~np.isnan(deltas.deviation).any(axis=1)):
        found[row] = _PROPERTIES[name](deltas, row, truth)
    return found


def _property(comparison: Comparison, name: str) -> Outcome:
    """Return a property of the predicted doubles: of the prediction alone, so the same under shuffled labels."""
    truth = comparison.truth
    doubles = truth.extras.doubles
    k = len(truth.ids)
    missing = (doubles.first < 0) | (doubles.second < 0)
    found = np.full(k, np.nan)
    predicted = comparison.once("predicted doubles", lambda: forecast(truth, comparison.predicted))
    found[doubles.row] = values(name, truth, predicted)
    is_double, no_single, absent = np.zeros((3, k), dtype=bool)
    is_double[doubles.row], no_single[doubles.row] = True, missing
    absent[doubles.row] = np.isnan(predicted.deviation).any(axis=1)
    why = "sign_mismatch" if name == "gi_dominance" else "const_pred"
    reason = np.where(absent, "missing_pred", np.where(np.isnan(found), why, "")).astype(object)
    return Outcome(
        np.repeat(found[:, None], comparison.pairs.shape[1], axis=1),
        np.full(k, len(top_genes(truth))),
        reasons(
            truth,
            (~is_double, contract.NO_DOUBLE),
            (truth.n_cells < contract.MIN_CELLS_PROFILE, "few_cells"),
            (bool(np.isnan(truth.control_a).any()), "no_control"),
            (no_single, "no_single"),
        ),
        np.zeros(k, dtype=bool),
        flags(np.zeros(k, dtype=bool), ""),
        reason,
    )


def _of(name: str) -> Callable[[Comparison, str], Outcome]:
    def metric(comparison: Comparison, gene_set: str) -> Outcome:
        return _property(comparison, name)

    metric.__name__ = name
    metric.__doc__ = f"`{name}` of the predicted doubles."
    return metric


gi_c1, gi_c2, gi_magnitude, gi_dominance, gi_corr_fit = (_of(name) for name in NAMES[:5])
gi_dcor_singles, gi_dcor, gi_equality, gi_score = (_of(name) for name in NAMES[5:9])
gi_class_synergistic, gi_class_buffering, gi_class_opposite = (_of(name) for name in NAMES[9:])


# ---------------------------------------------------------------------------------------------------------------------
# Are interactions predicted? Over all pairs of double and gene


def rates(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return true positive rate and false discovery proportion down the ranking of (n,) scores, highest first.

    Ties are taken together. The proportion is made monotone: its running maximum.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.cumsum(positive[order])[ends].astype(np.float64)
    return hits / positive.sum(), np.maximum.accumulate(1 - hits / (ends + 1))


def tpr_at(score: np.ndarray, positive: np.ndarray, proportion: float) -> float:
    """Return the true positive rate at a false discovery proportion, read off a curve of 101 points.

    0 where the first call already exceeds it.
    """
    tpr, fdp = rates(score, positive)
    # The largest rate reached at each proportion; proportions may repeat.
    levels, first = np.unique(fdp[::-1], return_index=True)
    best = tpr[::-1][first]
    grid = np.linspace(0, 1, 101)
    return float(np.interp(proportion, grid, np.interp(grid, levels, best, left=0.0)))


def interaction_ap(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the step-wise average precision of (n,) scores, ties together."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.cumsum(positive[order])[ends].astype(np.float64)
    return float((np.diff(hits, prepend=0.0) * hits / (ends + 1)).sum() / positive.sum())
