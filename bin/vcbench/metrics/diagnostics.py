"""Properties of the measurement and of predictions that are no scores (metrics.md 7); ids in assets/metrics.yml.

Every value is a row of the score table with metric ``diag_*``; its gene set is the reference (``ctrl``, ``pm``, a
pathway, a bin), followed by ``:low`` or ``:high`` for the ends of its spread. All are computed on the genes expressed
in every fold without any perturbed gene, unless said otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vcbench.metrics import contract, count_realism, genewise, ranking, scoring
from vcbench.metrics.bundle import FoldTruth, TruthBundle
from vcbench.metrics.comparison import Comparison, Predicted
from vcbench.metrics.registry import Metric

#: Prefix of the metric ids of this module.
PREFIX = "diag_"
#: Bins of the size of a measured change (natural log units) for the direction accuracy.
EFFECT_BINS = (0.0, 0.1, 0.25, 0.5, np.inf)
#: A prediction closer to the training mean than this share of the true distance repeats the training mean.
NEAR_MEAN = 0.1
#: Levels of intervals for the calibration of a model's own variances.
LEVELS = tuple(i / 10 for i in range(1, 10))
#: Shares of the cells that make up the truth in the down-sampling sensitivity.
FRACTIONS = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Value:
    """One diagnostic: its id, what it refers to, its value with the ends of its spread, how many things it is over."""

    id: str
    reference: str
    value: float
    low: float = np.nan
    high: float = np.nan
    n: int = 0


def add(values: Sequence[Value], rows: scoring.Rows) -> None:
    """Add diagnostics over all folds as rows; the ends of a spread only where there is one."""
    for found in values:
        for suffix, value in (("", found.value), (":low", found.low), (":high", found.high)):
            if suffix and np.isnan(value):
                continue
            status = "few_cells" if np.isnan(value) else contract.OK
            rows.add(contract.ALL_FOLDS, "", found.id, found.reference + suffix, value, status=status,
                     n_perturbations=found.n)  # fmt: skip


def spread(name: str, reference: str, values: np.ndarray) -> Value:
    """Return the median of the known values with their quartiles."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Value(name, reference, np.nan)
    low, middle, high = np.percentile(known, (25, 50, 75))
    return Value(name, reference, float(middle), float(low), float(high), len(known))


# ---------------------------------------------------------------------------------------------------------------------
# The measurement


@dataclass(frozen=True)
class Panel:
    """The test perturbations of all folds, each once: (K, F) profiles and sampling variances on the common genes."""

    ids: tuple[str, ...]
    profile: np.ndarray
    variance: np.ndarray
    control_a: np.ndarray
    control_b: np.ndarray

    @property
    def others(self) -> np.ndarray:
        """(K, F) mean profile of all other perturbations, each with weight 1."""
        k = len(self.ids)
        return (self.profile.sum(0) - self.profile) / (k - 1)


def panel(bundle: TruthBundle) -> Panel:
    """Return the perturbations with enough cells for a profile, sorted by id."""
    expressed = np.logical_and.reduce([fold.expressed for fold in bundle.folds])
    targets = np.unique(np.concatenate([fold.panel_targets for fold in bundle.folds]))
    axis = np.setdiff1d(np.flatnonzero(expressed), targets)
    found: dict[str, tuple[FoldTruth, int]] = {}
    for fold in bundle.folds:
        for k, name in enumerate(fold.ids):
            if fold.n_cells[k] >= contract.MIN_CELLS_PROFILE:
                found.setdefault(name, (fold, k))
    names = tuple(sorted(found))
    shape = (len(names), len(axis))
    profile, variance = (
        np.array([getattr(fold, part)[k, axis] for fold, k in (found[name] for name in names)]).reshape(shape)
        for part in ("profile", "variance")
    )
    first = bundle.folds[0]
    return Panel(names, profile, variance, first.control_a[axis], first.control_b[axis])


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return (K, L) cosines of rows (K, F) and (L, F); NaN for a row of zeros."""
    with np.errstate(invalid="ignore", divide="ignore"):
        one = one / np.linalg.norm(one, axis=1, keepdims=True)
        other = other / np.linalg.norm(other, axis=1, keepdims=True)
        return one @ other.T


def pearsons(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return (K, L) Pearson correlations of rows."""
    return cosines(one - one.mean(1, keepdims=True), other - other.mean(1, keepdims=True))


def _pairs(matrix: np.ndarray) -> np.ndarray:
    """Return the entries of each pair once, both orders averaged."""
    lower = np.tril_indices(len(matrix), -1)
    return ((matrix + matrix.T) / 2)[lower]


def participation(deltas: np.ndarray) -> float:
    """Return (sum of squared singular values)^2 / sum of their squares: the number of directions that carry deltas."""
    gram = deltas @ deltas.T
    total = np.trace(gram)
    return float(total**2 / (gram**2).sum()) if total > 0 else np.nan


def systematic(of: Panel) -> Iterator[Value]:
    """Yield how alike the perturbations are: similarity to the average, pairwise, rank, main axis (7.1 to 7.3).

    Members of a pair (and a perturbation and the average of the others) have different control halves: a shared one
    would make unrelated perturbations look alike.
    """
    shift_a, shift_b = of.profile - of.control_a, of.profile - of.control_b
    own = of.profile - of.others
    average = of.others - of.control_b
    similarity = np.array([cosines(a[None], b[None])[0, 0] for a, b in zip(shift_a, average, strict=True)])
    yield spread("diag_sim_to_average", "ctrl", similarity)
    known = similarity[~np.isnan(similarity)]
    yield Value("diag_sim_to_average", "ctrl/mean", float(known.mean()) if len(known) else np.nan, n=len(known))
    centred = of.profile - of.profile.mean(0)
    yield spread("diag_pairwise_cos", "ctrl", _pairs(cosines(shift_a, shift_b)))
    yield spread("diag_pairwise_cos", "pm", _pairs(cosines(centred, centred)))
    norms = np.linalg.norm(shift_a, axis=1), np.linalg.norm(own, axis=1)
    yield spread("diag_shift_norm", "ctrl", norms[0])
    yield spread("diag_shift_norm", "pm", norms[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        yield spread("diag_shift_norm", "pm/ctrl", norms[1] / norms[0])
    yield spread("diag_heterogeneity_median", "ctrl", _pairs(pearsons(shift_a, shift_b)))
    k = len(of.ids)
    yield Value("diag_effective_rank", "ctrl", participation(shift_a), n=k)
    yield Value("diag_effective_rank", "pm", participation(centred), n=k)
    values = np.linalg.eigvalsh(centred @ centred.T)
    yield Value("diag_pc1_share", "pm", float(values[-1] / values.sum()) if values.sum() > 0 else np.nan, n=k)
    # share of the measured between-perturbation variance that sampling of cells explains
    between = (centred**2).sum() / (k - 1)
    noise = of.variance.mean(0).sum()
    yield Value("diag_noise_share", "pm", float(noise / between) if between > 0 else np.nan, n=k)


def ulm(delta: np.ndarray, member: np.ndarray) -> tuple[float, float]:
    """Return t and two-sided p of the slope of a delta (F,) on membership (F,) of a gene set (univariate linear model).

    Genes are correlated, so p is descriptive. NaN for a set that holds no or every gene, or a constant delta.
    """
    from scipy.special import stdtr

    x = member - member.mean()
    y = delta - delta.mean()
    freedom = len(delta) - 2
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (x @ y) / np.sqrt((x @ x) * (y @ y))
        t = r * np.sqrt(freedom / (1 - r**2))
    return float(t), float(2 * stdtr(freedom, -abs(t)))


def pathways(bundle: TruthBundle) -> Iterator[Value]:
    """Yield per set of ``--gene-sets`` the shift of its genes and how far it stands out from all others (7.2)."""
    of = panel(bundle)
    expressed = np.logical_and.reduce([fold.expressed for fold in bundle.folds])
    targets = np.unique(np.concatenate([fold.panel_targets for fold in bundle.folds]))
    axis = np.setdiff1d(np.flatnonzero(expressed), targets)
    shift = of.profile - of.control_a
    for name, index in bundle.folds[0].sets.items():
        member = np.isin(axis, index).astype(np.float64)
        if member.sum() < contract.MIN_GENES_CORRELATION or len(of.ids) < 1:
            continue
        yield spread("diag_pathway_shift", name, shift[:, member > 0].mean(1))
        t, _ = ulm(shift.mean(0), member)
        yield Value("diag_pathway_ulm", name, t, n=int(member.sum()))


def add_truth(bundle: TruthBundle, rows: scoring.Rows) -> None:
    """Add the diagnostics of the measurement, and per test perturbation whether its residue occurs in training."""
    of = panel(bundle)
    values = list(systematic(of)) if len(of.ids) >= genewise.MIN_PERTURBATIONS and of.profile.shape[1] else []
    values += pathways(bundle)
    significant: dict[str, int] = {}
    for fold in bundle.folds:
        for k, name in enumerate(fold.ids):
            if fold.n_cells[k] >= contract.MIN_CELLS_DE:
                significant.setdefault(name, len(fold.significant[k]))
    values.append(spread("diag_median_n_de", "ctrl", np.array(list(significant.values()), dtype=np.float64)))
    effects = {
        name: p
        for fold in bundle.folds if fold.extras.cells is not None
        for name, p in zip(fold.ids, fold.extras.cells.etest_p, strict=True) if not np.isnan(p)
    }  # fmt: skip
    if effects:
        found = sum(p < contract.FDR for p in effects.values())
        values.append(Value("diag_n_etest_sig", "p<0.05", float(found), n=len(effects)))
    for fold in bundle.folds:
        if fold.extras.cells is not None:
            space = fold.extras.cells
            values.append(
                Value("diag_mmd_bandwidth", f"fold {fold.fold}", float(space.bandwidth), n=len(space.coordinates))
            )
    null = bundle.facts.get("control_vs_control")
    if null:
        n = null["n_genes"]
        low, high = wilson(null["n_below"], n)
        values.append(Value("diag_control_vs_control", "p<0.05", null["n_below"] / n, low, high, n))
        values.append(Value("diag_control_vs_control", "significant", float(null["n_significant"]), n=n))
    add(values, rows)
    seen = bundle.facts.get("position_seen", {})
    for fold in bundle.folds:
        for k, name in enumerate(fold.ids):
            known = seen.get(str(fold.fold), {}).get(name)
            if known is not None:
                rows.add(fold.fold, name, "diag_position_seen", "", float(known), n_cells_true=fold.n_cells[k])


# ---------------------------------------------------------------------------------------------------------------------
# Predictions


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share; NaN for n = 0."""
    if not n:
        return np.nan, np.nan
    z = 1.959963984540054
    share = successes / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _usable(fold: FoldTruth, predicted: Predicted) -> np.ndarray:
    return (predicted.n_cells > 0) & (fold.n_cells >= contract.MIN_CELLS_PROFILE)


def collapse(folds: Sequence[FoldTruth], predictions: Mapping[int, Predicted]) -> Iterator[Value]:
    """Yield whether predictions differ from each other at all, folds kept apart (7.5, mode collapse)."""
    pairs, between_p, between_t, near = [], 0.0, 0.0, []
    for fold in folds:
        predicted = predictions[fold.fold]
        use = _usable(fold, predicted)
        axis = genewise.panel_axis(fold, "expr_nt")
        p, t = predicted.mean[use][:, axis], fold.profile[use][:, axis]
        if len(p) < 2 or not len(axis):
            continue
        own = p - p.mean(0)
        # Rounding left over from a constant prediction is no direction.
        flat = contract.constant(own, p)
        if not flat.any():
            pairs.append(_pairs(pearsons(own, own)))
        # Only samples of cells of their own carry noise that looks like spread; a shared profile does not.
        sampled = np.where(predicted.n_cells[use, None] > 1, predicted.variance[use][:, axis], 0.0)
        between_p += (own**2).sum() - (1 - 1 / len(p)) * sampled.sum()
        between_t += ((t - t.mean(0)) ** 2).sum() - (1 - 1 / len(t)) * fold.variance[use][:, axis].sum()
        mean = fold.train_mean[axis]
        near.append(np.linalg.norm(p - mean, axis=1) < NEAR_MEAN * np.linalg.norm(t - mean, axis=1))
    found = np.concatenate(pairs) if pairs else np.array([])
    n = sum(len(part) for part in near)
    yield Value("diag_collapse_pearson", "", float(found.mean()) if len(found) else np.nan, n=len(found))
    yield Value("diag_variance_ratio", "", between_p / between_t if n and between_t > 0 else np.nan, n=n)
    repeated = sum(int(part.sum()) for part in near)
    yield Value("diag_near_train_mean", "", repeated / n if n else np.nan, *wilson(repeated, n), n=n)


def direction(folds: Sequence[FoldTruth], predictions: Mapping[int, Predicted]) -> Iterator[Value]:
    """Yield the share of right directions by the size of the measured change, over genes and perturbations (7.5).

    Genes of a perturbation are not independent, so the (Wilson) interval is a lower bound of the uncertainty.
    """
    right, count = np.zeros(len(EFFECT_BINS) - 1), np.zeros(len(EFFECT_BINS) - 1, dtype=np.int64)
    for fold in folds:
        predicted = predictions[fold.fold]
        for k, index in enumerate(fold.gene_set("expr_nt").index):
            if not _usable(fold, predicted)[k]:
                continue
            true = fold.profile[k, index] - fold.control_a[index]
            change = predicted.mean[k, index] - fold.control_b[index]
            agree = (np.sign(change) == np.sign(true)) & (np.abs(change) >= contract.TOLERANCE)
            size = np.digitize(np.abs(true), EFFECT_BINS[1:-1])
            right += np.bincount(size, agree, minlength=len(right))
            count += np.bincount(size, minlength=len(count))
    for i, (low, high) in enumerate(itertools.pairwise(EFFECT_BINS)):
        n = int(count[i])
        name = f"{low:g}-{high:g}" if np.isfinite(high) else f">{low:g}"
        yield Value("diag_direction", name, right[i] / n if n else np.nan, *wilson(right[i], n), n=n)


def counts(folds: Sequence[FoldTruth], predictions: Mapping[int, Predicted]) -> Iterator[Value]:
    """Yield whether predicted cells scatter as measured ones do, over perturbations (7.5, count realism).

    On expressed genes of perturbations whose cells differ; nothing without such cells or the truth for them.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for fold in folds:
        cells, measured = predictions[fold.fold].cells, fold.extras.counts
        if cells is None or cells.counts is None or measured is None:
            continue
        genes = np.flatnonzero(fold.expressed)
        for k in np.flatnonzero(cells.usable & _usable(fold, predictions[fold.fold])):
            for name, value in count_realism.compared(cells.counts, measured, k, genes).items():
                found.setdefault(name, []).append(value)
    for (name, reference), values in found.items():
        yield spread(name, reference, np.array(values))


def error_against_cells(folds: Sequence[FoldTruth], predictions: Mapping[int, Predicted]) -> Value:
    """Return the Spearman correlation of the error of a perturbation with its number of cells (7.5, 10.5)."""
    errors, cells = [], []
    for fold in folds:
        predicted = predictions[fold.fold]
        axis = genewise.panel_axis(fold, "expr_nt")
        for k in np.flatnonzero(_usable(fold, predicted)):
            errors.append(((predicted.mean[k, axis] - fold.profile[k, axis]) ** 2).mean())
            cells.append(float(fold.n_cells[k]))
    sides = [ranking.rank(-np.array([side])).middle[0] if side else np.array([]) for side in (errors, cells)]
    sides = [side - side.mean() if len(side) else side for side in sides]
    defined = len(errors) >= genewise.MIN_PERTURBATIONS and all(side.any() for side in sides)
    value = float(sides[0] @ sides[1] / np.sqrt((sides[0] @ sides[0]) * (sides[1] @ sides[1]))) if defined else np.nan
    return Value("diag_error_vs_cells", "", value, n=len(errors))


def pathway_agreement(folds: Sequence[FoldTruth], predictions: Mapping[int, Predicted]) -> Iterator[Value]:
    """Yield per pathway the correlation over perturbations of predicted and true change, folds centred (7.2)."""
    if not folds[0].sets:
        return
    true, predicted, number = [], [], []
    for fold in folds:
        use = _usable(fold, predictions[fold.fold])
        sides = genewise.features("pathway_pearson", fold, predictions[fold.fold].mean, "pathways", fold.expressed)
        true.append(sides[0][use])
        predicted.append(sides[1][use])
        number.append(np.full(int(use.sum()), fold.fold))
    folds_of = np.concatenate(number)
    if len(folds_of) < genewise.MIN_PERTURBATIONS:
        return
    found = genewise.gene_correlations(np.concatenate(true), np.concatenate(predicted), folds_of)
    for name, value in zip(folds[0].sets, found, strict=True):
        yield Value("diag_pathway_r", name, float(value), n=len(folds_of))


def calibration(folds: Sequence[FoldTruth], predictions: Mapping[int, Predicted]) -> Iterator[Value]:
    """Yield how often a model's own intervals hold the measurement, over genes and perturbations (7.5).

    `predictive` is the variance of a measured profile, so its noise is in it. Nothing for models without one.
    """
    from scipy.special import ndtri

    deviations = []
    for fold in folds:
        predicted = predictions[fold.fold]
        if predicted.predictive is None:
            return
        axis = genewise.panel_axis(fold, "expr_nt")
        use = np.flatnonzero(_usable(fold, predicted))
        error = np.abs(predicted.mean[use][:, axis] - fold.profile[use][:, axis])
        with np.errstate(invalid="ignore", divide="ignore"):
            deviations.append((error / np.sqrt(predicted.predictive[use][:, axis])).ravel())
    # A gene without error and without variance (0 / 0) is inside of every interval.
    found = np.nan_to_num(np.concatenate(deviations), nan=0.0, posinf=np.inf)
    if not len(found):
        return
    shares = {level: float((found <= ndtri(0.5 + level / 2)).mean()) for level in LEVELS}
    for level in (0.5, 0.9):
        yield Value("diag_coverage", f"{level:.0%}", shares[level], n=len(found))
    error = float(np.mean([abs(share - level) for level, share in shares.items()]))
    yield Value("diag_calibration_error", "", error, n=len(found))


def at_fraction(fold: FoldTruth, fraction: float) -> FoldTruth:
    """Return the fold with this share of each perturbation's cells as its truth; lists and labels stay those of all."""
    if fraction == 1.0:
        return fold
    n = fold.n_first if fraction == 0.5 else fold.n_first // 2
    profile = fold.first_half[0] if fraction == 0.5 else fold.quarter
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = fold.variance * (fold.n_cells / n)[:, None]
    # `n_cells` stays: it says whether the labels, which are those of all cells, can be trusted.
    return replace(fold, profile=profile, weight_profile=profile, variance=variance)


def down_sampled(
    folds: Sequence[FoldTruth], predictions: Mapping[int, Predicted], metrics: Mapping[str, Metric]
) -> Iterator[Value]:
    """Yield headline metrics against a quarter, a half and all cells, on the perturbations that have them all (10.5).

    Undefined values of a fraction leave the perturbation out of all; nothing without a quarter in the truth.
    """
    if any(fold.quarter is None for fold in folds):
        return
    for metric in metrics.values():
        if metric.level != "perturbation" or metric.compat or metric.cells or not metric.function:
            continue
        if metric.function.startswith("recovery."):  # of the labels, which stay those of all cells
            continue
        for gene_set in metric.headline:
            found = []
            for fraction in FRACTIONS:
                parts = []
                for fold in folds:
                    pairs = np.arange(len(fold.ids))[:, None]
                    comparison = Comparison(at_fraction(fold, fraction), predictions[fold.fold], pairs)
                    outcome = scoring.function_of(metric)(comparison, gene_set)
                    few = fold.n_first // 2 < contract.MIN_CELLS_PROFILE
                    parts.append(np.where(few, np.nan, scoring.defined(outcome, pairs)[:, 0]))
                found.append(np.concatenate(parts))
            values = np.stack(found)
            use = ~np.isnan(values).any(0)
            for fraction, value in zip(FRACTIONS, values, strict=True):
                mean = float(value[use].mean()) if use.any() else np.nan
                yield Value("diag_cells", f"{metric.column(gene_set)}@{fraction:g}", mean, n=int(use.sum()))


def add_prediction(
    bundle: TruthBundle, predictions: Mapping[int, Predicted], metrics: Mapping[str, Metric], rows: scoring.Rows
) -> None:
    """Add the diagnostics of one (model, encoder, strategy, seed) over the folds it has predictions for."""
    folds = [bundle.fold(number) for number in sorted(predictions)]
    add(
        [
            *collapse(folds, predictions), *direction(folds, predictions), error_against_cells(folds, predictions),
            *calibration(folds, predictions), *counts(folds, predictions), *pathway_agreement(folds, predictions),
            *down_sampled(folds, predictions, metrics),
        ],
        rows,
    )  # fmt: skip
