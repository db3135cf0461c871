"""Building the extras of the truth (:mod:`vcbench.metrics.extras`) from the measured cells, group by group."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core import seeds
from vcbench.core.h5ad import CONTROL
from vcbench.metrics import (
    cell_space,
    contract,
    count_realism,
    extras,
    half_cells,
    interactions,
    local_fdr,
    profiles,
    vcc,
)
from vcbench.metrics.bundle import FoldTruth
from vcbench.metrics.comparison import Comparison, Predicted, PredictedCells

if TYPE_CHECKING:
    import scipy.sparse as sp

    from vcbench.metrics.truth import Cells, Roles


def add(
    folds: Sequence[FoldTruth], roles: Sequence[Roles], cells: Cells, groups: Collection[str],
    targets: Mapping[str, Sequence[str]], dataset: str, seed: int, first: np.ndarray,
    classes: Mapping[str, Mapping[str, bool]],
) -> list[FoldTruth]:  # fmt: skip
    """Return the folds with the extras that `groups` need (names of :data:`extras.GROUPS`; others need none).

    `first` (seeds, cells) says which cells are in the first half of each random split; `classes` whether perturbations
    are damaging, by what says so.
    """
    wanted = set(groups) & set(extras.GROUPS)
    if not wanted:
        return list(folds)
    names = sorted({name for role in roles for name in (*role.train, *role.test)})
    code = profiles.codes(cells.labels, names)
    control = cells.labels == CONTROL
    training, held_out = control & (cells.half == "B"), control & (cells.half == "A")
    linear = [profiles.Wanted(np.where(held_out, len(names), np.where(training, len(names) + 1, code)),
                              len(names) + 2, profiles.LINEAR, squares=False)]  # fmt: skip
    every = [profiles.Wanted(np.where(training, len(names), code), len(names) + 1)]
    moments, of_linear = profiles.collect(cells.expression, every + linear)
    by_name = dict(zip(names, range(len(names)), strict=True))
    shared = {}
    if wanted & {extras.CELLS, extras.VCC}:
        at = np.flatnonzero(control)
        matrix = profiles.take(cells.expression, at)
        shared["controls"] = extras.Controls(matrix, training[at], cells.target_sum)
    role_of = {role.fold: role for role in roles}
    result = []
    for fold in folds:
        rows, role = np.array([by_name[name] for name in fold.ids], dtype=int), role_of[fold.fold]
        train = np.array([by_name[name] for name in sorted(role.train)], dtype=int)
        found: dict[str, Any] = dict(shared)
        if extras.EXTENDED in wanted:
            found["spread"], found["bootstrap"] = _spread(cells, code, rows, fold.ids, dataset, seed)
            if classes:
                known = moments.mean[train]
                found["classes"] = _classes(classes, fold.ids, sorted(role.train), known)
        if extras.LOG_OF_MEAN in wanted:
            lm = cell_space.log_of_mean(of_linear.mean)
            found["log_of_mean"] = extras.LogOfMean(lm[rows], lm[-2], lm[-1], lm[train].mean(axis=0))
        if extras.CELLS in wanted:
            genes = cell_space.variable_genes(moments[np.append(train, len(names))].pooled(), fold.expressed)
            found["cells"] = cell_space.build(
                cells.expression, [np.flatnonzero(code == row) for row in rows], np.flatnonzero(held_out),
                np.flatnonzero(training), genes, fold.ids, dataset, seed,
            )  # fmt: skip
            found["counts"] = count_realism.of_groups(cells.expression, [np.flatnonzero(code == row) for row in rows])
        baseline = None
        if extras.VCC in wanted:
            # `ce_mean` of metrics.md 6.1: every training perturbation is one group, and so are the training controls
            cell_mean = moments.mean[np.append(train, len(names))].mean(axis=0)
            baseline = partial(_vcc_truth, cell_mean=cell_mean, controls=shared["controls"].expression)
            found["vcc"] = _vcc(fold, cells, code, rows, shared["controls"], baseline)
        if extras.INTERACTIONS in wanted:
            # what is neither trained on nor tested in this fold, such as its validation perturbations, is no single
            own = {name: by_name[name] for name in sorted({*role.train, *fold.ids})}
            found["doubles"] = _doubles(fold, moments.mean, own, targets)
        if wanted & {extras.CELLS, extras.VCC, extras.LOG_OF_MEAN}:
            row = profiles.codes(cells.labels, fold.ids)
            at_a = np.flatnonzero(held_out[control])
            found["halves"] = half_cells.HalfCells(cells, row, first, at_a, seed, baseline)
        result.append(replace(fold, extras=extras.Extras(**found)))
    if extras.INTERACTIONS in wanted:
        result = _with_cuts(result)
    return result


def _classes(
    classes: Mapping[str, Mapping[str, bool]], ids: Sequence[str], train: Sequence[str], profile: np.ndarray
) -> extras.Classes:
    """Return the classes of test perturbations `ids`, and prototypes from (R, G) profiles of training perturbations.

    No test perturbation has a say in a prototype.
    """
    damaging = np.full((len(classes), len(ids)), np.nan)
    prototypes = np.full((len(classes), 2, profile.shape[1]), np.nan)
    for number, of in enumerate(classes.values()):
        damaging[number] = [float(of[name]) if name in of else np.nan for name in ids]
        for side in (False, True):
            members = [row for row, name in enumerate(train) if of.get(name) == side]
            if members:
                prototypes[number, int(side)] = profile[members].mean(axis=0)
    return extras.Classes(np.array(list(classes), dtype=object), damaging, prototypes)


def _spread(
    cells: Cells, code: np.ndarray, rows: np.ndarray, ids: Sequence[str], dataset: str, seed: int
) -> tuple[extras.Spread, np.ndarray]:
    """Return lowest, highest and sd of log1p values over the cells of each perturbation, and (draws, K, G) means.

    Each of these means is of as many cells as there are, drawn with replacement (metrics.md 6.5).
    """
    shape = (len(rows), len(cells.genes))
    lowest, highest, sd = np.zeros((3, *shape))
    drawn = np.full((contract.N_HALF_SPLITS, *shape), np.nan)
    groups = [np.flatnonzero(code == row) for row in rows]
    for k, values in enumerate(profiles.each(cells.expression, groups)):
        lowest[k], highest[k] = (
            np.asarray(part.todense()).ravel() for part in (values.min(axis=0), values.max(axis=0))
        )
        moments = profiles.moments(values, np.zeros(values.shape[0], dtype=int), 1)
        sd[k] = np.sqrt(np.nan_to_num(moments.variance[0]))
        n = values.shape[0]
        times = seeds.stream(seed, "bootstrap duplicate", dataset, ids[k]).multinomial(n, np.full(n, 1 / n), len(drawn))
        drawn[:, k] = (values.T.astype(np.float64) @ (times.T / n)).T
    return extras.Spread(lowest, highest, sd), drawn


def _vcc(
    fold: FoldTruth, cells: Cells, code: np.ndarray, rows: np.ndarray, controls: extras.Controls,
    truth_of: Callable[[FoldTruth, tuple[np.ndarray, ...]], extras.VccTruth],
) -> extras.VccTruth:  # fmt: skip
    """Return the true lists of significant genes and what the cell mean (`ce_mean`) scores against them."""
    k = len(fold.ids)
    at = np.flatnonzero(np.isin(code, rows))
    row_of = np.full(int(code.max()) + 1, -1)
    row_of[rows] = np.arange(k)
    enough = fold.n_cells >= contract.MIN_CELLS_PROFILE
    listed = vcc.lists(profiles.take(cells.expression, at), row_of[code[at]], k, controls, fold.profile, enough)
    return truth_of(fold, listed)


def _vcc_truth(
    fold: FoldTruth, listed: tuple[np.ndarray, ...], cell_mean: np.ndarray, controls: sp.csr_matrix
) -> extras.VccTruth:
    """Return these lists and what `cell_mean`, as often as a perturbation has cells, scores against them."""
    k, n_genes = fold.profile.shape
    fold = replace(fold, extras=extras.Extras(vcc=extras.VccTruth(listed, np.zeros((k, 3)))))
    p = vcc.constant_cells(cell_mean.astype(np.float32), fold.n_cells, controls)
    control = profiles.moments(controls, np.zeros(controls.shape[0], dtype=int), 1).mean[0]
    of_mean = tuple(vcc.ordered(row, cell_mean, control) for row in p)
    every, nothing = np.ones(k, dtype=bool), np.zeros((0, 0))
    stand_in = PredictedCells(every, every, fold.n_cells, nothing, (), nothing, nothing, nothing, nothing, of_mean)
    predicted = Predicted(np.tile(cell_mean, (k, 1)), np.zeros((k, n_genes)), fold.n_cells, stand_in)
    comparison = Comparison(fold, predicted, np.arange(k)[:, None])
    return extras.VccTruth(listed, vcc.baseline(comparison, of_mean))


def singles_of(name: str, targets: Mapping[str, Sequence[str]], by_name: Mapping[str, int]) -> tuple[str, str] | None:
    """Return the two perturbations that a double combines, None for another perturbation.

    Parts of the id around ``+``; otherwise the perturbations of each of its two genes alone. A part that was not
    measured keeps its name.
    """
    parts = name.split("+")
    if len(parts) == 2:
        return parts[0], parts[1]
    genes = tuple(targets.get(name, ()))
    if len(parts) == 1 and len(genes) == 2 and "~" not in name:
        alone = {targets[other][0]: other for other in by_name if len(targets.get(other, ())) == 1}
        return alone.get(genes[0], genes[0]), alone.get(genes[1], genes[1])
    return None


def _doubles(
    fold: FoldTruth, mean: np.ndarray, by_name: Mapping[str, int], targets: Mapping[str, Sequence[str]]
) -> extras.Doubles:
    """Return the doubles of the fold; their singles are among `by_name`, rows of `mean` by perturbation."""
    pairs = {row: found for row, name in enumerate(fold.ids) if (found := singles_of(name, targets, by_name))}
    singles = sorted({name for pair in pairs.values() for name in pair if name in by_name})
    position = {name: i for i, name in enumerate(singles)}
    test_row = {name: row for row, name in enumerate(fold.ids)}
    n_genes = fold.profile.shape[1]
    return extras.Doubles(
        np.array(list(pairs), dtype=np.int64),
        np.array([position.get(first, -1) for first, _ in pairs.values()], dtype=np.int64),
        np.array([position.get(second, -1) for _, second in pairs.values()], dtype=np.int64),
        mean[[by_name[name] for name in singles]].reshape(len(singles), n_genes),
        np.array([test_row.get(name, -1) for name in singles], dtype=np.int64),
        np.inf,
        -np.inf,
    )


def _with_cuts(folds: Sequence[FoldTruth]) -> list[FoldTruth]:
    """Return the folds with the cuts of the local false discovery rate over all measured deviations."""
    parts = [interactions.observed(fold).deviation for fold in folds if len(fold.extras.doubles.row)]
    every = np.concatenate([part[~np.isnan(part).any(axis=1)].ravel() for part in parts]) if parts else np.array([])
    upper, lower = local_fdr.cuts(every) if len(every) >= local_fdr.N_BINS else (np.inf, -np.inf)
    return [
        replace(fold, extras=replace(fold.extras, doubles=replace(fold.extras.doubles, upper=upper, lower=lower)))
        for fold in folds
    ]
