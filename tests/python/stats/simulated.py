"""Panels made from arrays of scores, for tests and benchmarks of the statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vcbench.metrics import contract, registry
from vcbench.stats import panel, selection
from vcbench.stats.panel import Panel, Planned
from vcbench.stats.scores import Combination, Scores

METRICS = registry.load()
PRIMARY = METRICS["dpearson_pm"]
GENES = "expr_nt"
STATUSES = (contract.OK, "missing_pred", "const_pred", "few_cells")


def panel_of(
    values: Mapping[Combination, np.ndarray], baselines: Sequence[str] = ("train_mean", "nearest"),
    clusters: Sequence[str] | None = None, folds: np.ndarray | None = None, duplicate: np.ndarray | None = None,
    missing: Mapping[Combination, np.ndarray] | None = None, excluded: np.ndarray | None = None, n_resamples: int = 500,
    seed: int = 0, pair: tuple[str, str] = (PRIMARY.id, GENES),
) -> Panel:  # fmt: skip
    """Return a panel of one metric: scores (K,), or (seeds, K), of each configuration.

    NaN is a prediction that does not differ from the reference (no skill: 0), `missing` marks predictions that do not
    exist, `excluded` (K,) perturbations that the truth leaves out. One cluster for each perturbation unless given.
    """
    n = np.atleast_2d(next(iter(values.values()))).shape[1]
    folds = np.arange(n) % 3 + 1 if folds is None else np.asarray(folds)
    labels = [f"p{k:04d}" for k in range(n)]
    rows = tuple(sorted((int(fold), label) for fold, label in zip(folds, labels, strict=True)))
    order = [labels.index(label) for _, label in rows]
    no_skill = (contract.NO_SKILL, "none", "none", 0)
    by_configuration: dict[tuple[str, str, str, int], np.ndarray] = {no_skill: np.zeros(n)}
    for of, found in values.items():
        for s, series in enumerate(np.atleast_2d(found)):
            by_configuration[(*of, s)] = np.asarray(series, dtype=float)
    if duplicate is not None:
        by_configuration[contract.TECH_DUPLICATE, "none", "none", 0] = np.asarray(duplicate, dtype=float)
    table = np.stack(list(by_configuration.values()))
    status = np.where(np.isnan(table), STATUSES.index("const_pred"), 0)
    names = list(by_configuration)
    for of, marks in (missing or {}).items():
        at = names.index((*of, 0))
        table[at, marks], status[at, marks] = np.nan, STATUSES.index("missing_pred")
    if excluded is not None:
        table[:, excluded], status[:, excluded] = np.nan, STATUSES.index("few_cells")
    shape = (1, len(names))
    scores = Scores(
        {pair: 0}, {name: i for i, name in enumerate(names)}, rows, STATUSES, table[None][..., order],
        status[None][..., order], np.full(shape, np.nan), np.zeros(shape, dtype=int), np.zeros(shape, dtype=bool),
        np.full((*shape, 0), np.nan), np.array([[20.0, 7.0]]),
    )  # fmt: skip
    plan = tuple(
        Planned(of, "baseline" if of[0] in baselines else "supervised", tuple(range(len(np.atleast_2d(found)))),
                frozenset(folds.tolist()), 3, 3)
        for of, found in sorted(values.items())
    )  # fmt: skip
    names_of = dict(zip(labels, labels if clusters is None else map(str, clusters), strict=True))
    return panel.build("screen", "variant", plan, scores, names_of, seed, n_resamples)


def chooser(values: Mapping[Combination, np.ndarray] | None, **kwargs) -> selection.Choosing:
    """Return what chooses by the primary metric over these validation scores; None: there are none."""
    validation = panel_of(values or {("none", "none", "none"): np.zeros(0)}, (), **kwargs)
    return selection.choosing(validation, PRIMARY, GENES)
