"""The scores of one dataset and split as arrays over its perturbations, missing ones explicit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vcbench.core import seeds
from vcbench.core.errors import InputError
from vcbench.metrics import contract, registry
from vcbench.metrics.registry import Metric
from vcbench.stats import bootstrap
from vcbench.stats.bootstrap import Clusters, ratio
from vcbench.stats.contrasts import Flips
from vcbench.stats.scores import NOT_SCORED, Combination, Row, Scores

#: The baseline that is the zero of skill: every table shows the difference to it.
TRAIN_MEAN = "train_mean"
#: Stands in the catalogue for every gene set that was chosen in advance.
FIXED = "fixed_nt"


@dataclass(frozen=True)
class Planned:
    """A planned combination: its class, seeds, folds and how many of its units have scores."""

    of: Combination
    kind: str
    seeds: tuple[int, ...]
    folds: frozenset[int]
    units: int
    units_ok: int


@dataclass(frozen=True)
class Series:
    """One metric of M combinations over the K perturbations of a panel, seeds averaged within perturbation.

    The value of a combination is sum(`numerator`) / sum(`denominator`) over its row of (M, K): for a mean the
    denominators are 1, for gene-wise metrics the numerators are jack-knife terms shifted so that they average to the
    value. NaN marks absent perturbations. The `imputed_*` arrays hold the no-skill value where the prediction is
    missing or undefined; perturbations that the truth excludes stay NaN in every combination alike. `reasons` counts
    per combination why values are absent, `seed_values` (M, S) are the values of each seed, `no_prediction` (M, K)
    marks perturbations for which no seed predicted anything; a prediction of undefined score is none of them. `missing`
    (M, K) marks those that a seed did not predict and that take the no-skill value for it: where that value is better
    than what the configuration would have scored, it gains by not answering.
    """

    numerator: np.ndarray
    denominator: np.ndarray
    imputed_numerator: np.ndarray
    imputed_denominator: np.ndarray
    reasons: tuple[Counter, ...]
    seed_values: np.ndarray
    no_prediction: np.ndarray
    missing: np.ndarray

    @cached_property
    def value(self) -> np.ndarray:
        """(M,) the metric over the perturbations on which it is defined."""
        return ratio(self.numerator, self.denominator)

    @cached_property
    def imputed(self) -> np.ndarray:
        """(M,) the metric with undefined predictions at their no-skill value."""
        return ratio(self.imputed_numerator, self.imputed_denominator)

    @cached_property
    def n(self) -> np.ndarray:
        """(M,) number of perturbations behind the value."""
        return (~np.isnan(self.numerator) & ~np.isnan(self.denominator)).sum(1)


@dataclass(frozen=True)
class Panel:
    """One dataset and split: its planned combinations, clusters, shared resamples and flips, and all scores."""

    dataset: str
    split: str
    plan: tuple[Planned, ...]
    groups: Clusters
    weights: np.ndarray
    flips: Flips
    scores: Scores

    @cached_property
    def _missing(self) -> list[int]:
        """Positions of the statuses of predictions that do not exist."""
        return [-1, *(i for i, name in enumerate(self.scores.statuses) if name == "missing_pred")]

    @property
    def rows(self) -> tuple[Row, ...]:
        """(fold, perturbation) of the K test perturbations."""
        return self.scores.rows

    @cached_property
    def folds(self) -> np.ndarray:
        """(K,) fold of each perturbation."""
        return np.array([fold for fold, _ in self.rows], dtype=int)

    def position(self, model: str) -> int | None:
        """Return the position in the plan of the first scored combination of a model, None without one."""
        return next((m for m, planned in enumerate(self.plan) if planned.of[0] == model and planned.units_ok), None)

    @cached_property
    def scored(self) -> np.ndarray:
        """(M,) whether a planned combination has any scored unit."""
        return np.array([planned.units_ok > 0 for planned in self.plan], dtype=bool)

    def evaluator(self, model: str, metric: Metric, gene_set: str) -> Series:
        """Return the rows of an evaluator id, a series of one combination."""
        of = (model, "none", "none")
        return self.series(metric, gene_set, [Planned(of, "", (0,), frozenset(self.folds.tolist()), 0, 0)])

    def duplicate(self, metric: Metric, gene_set: str) -> Series:
        """Return the split-half ceiling, a series of one combination."""
        return self.evaluator(contract.TECH_DUPLICATE, metric, gene_set)

    def expected(self, plan: Sequence[Planned]) -> np.ndarray:
        """Return (M, K) whether each combination should have a value, given the folds it was planned for."""
        due = [np.isin(self.folds, sorted(planned.folds)) for planned in plan]
        return np.array(due, dtype=bool).reshape(len(plan), len(self.rows))

    def no_skill(self, metric: str, gene_set: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (K,) no-skill values and (K,) the truth's reason for excluding a perturbation (empty: none)."""
        where = self.scores.configurations.get((contract.NO_SKILL, "none", "none", 0), -1)
        values, status = self.scores.of(metric, gene_set, np.array(where))
        names = np.array([*self.scores.statuses, ""], dtype=object)[status]
        return values, np.where(names == contract.OK, "", names)

    def series(self, metric: Metric, gene_set: str, plan: Sequence[Planned] | None = None) -> Series:
        """Return one metric of all planned combinations, or of those given."""
        plan = self.plan if plan is None else plan
        where, planned = self.scores.at([p.of for p in plan], [p.seeds for p in plan])
        name = metric.numerator or metric.jackknife or metric.id
        baseline, excluded = self.no_skill(metric.denominator if metric.numerator else name, gene_set)
        values, status = self.scores.of(name, gene_set, where)
        expected = self.expected(plan)
        usable = (excluded == "") & expected
        imputed_values = values
        if metric.jackknife:
            values, imputed_values = self._recentred(metric, gene_set, where, values)
        absent = np.isnan(values)
        if metric.numerator:
            instead, weight = baseline * float(metric.no_skill), baseline
            imputed = np.where(usable, np.where(absent, instead, imputed_values), np.nan)
            imputed_weight = np.broadcast_to(np.where(usable, weight, np.nan), values.shape)
            denominator = np.where(absent, np.nan, imputed_weight)
        else:
            imputed = np.where(usable, np.where(absent, baseline, imputed_values), np.nan)
            imputed_weight = np.where(np.isnan(imputed), np.nan, 1.0)
            denominator = np.where(absent, np.nan, 1.0)
        unanswered = np.isin(status, self._missing)
        parts = [values, denominator, imputed, imputed_weight]
        # A combination with fewer seeds than another has no opinion about the others.
        parts = [np.where(planned[..., None], part, np.nan) for part in parts]
        return Series(
            *(_mean_of_known(part) for part in parts),
            self._reasons(status, excluded, absent & expected & planned[..., None]),
            ratio(parts[0], parts[1]).T,
            (unanswered | ~planned[..., None]).all(0),
            (unanswered & planned[..., None] & usable).any(0),
        )

    def _recentred(
        self, metric: Metric, gene_set: str, where: np.ndarray, terms: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return jack-knife terms (S, M, K) that average to the value, and to it with constant genes at no skill."""
        scores = self.scores
        pair = scores.pairs.get((metric.id, gene_set))
        value, n_genes, eligible = np.full(where.shape, np.nan), np.zeros(where.shape), np.zeros(where.shape)
        if pair is not None:
            value = np.where(where >= 0, scores.over_folds[pair][where], np.nan)
            n_genes = np.where(where >= 0, scores.n_genes[pair][where], 0)
            no_skill = scores.configurations.get((contract.NO_SKILL, "none", "none", 0), -1)
            listed = no_skill >= 0 and scores.has_over_folds[pair, no_skill]
            eligible = np.full(where.shape, scores.n_genes[pair, no_skill]) if listed else n_genes
        known = ~np.isnan(terms)
        with np.errstate(invalid="ignore", divide="ignore"):
            centre = np.where(known, terms, 0.0).sum(-1) / known.sum(-1)
            share = np.where(eligible > 0, n_genes / eligible, 1.0)
        shifted = terms - centre[..., None] + value[..., None]
        return shifted, float(metric.no_skill) + (shifted - float(metric.no_skill)) * share[..., None]

    def _reasons(self, status: np.ndarray, excluded: np.ndarray, gone: np.ndarray) -> tuple[Counter, ...]:
        """Return per combination why values that were expected are absent, the truth's own reason first.

        Over seeds, `gone` (S, M, K), the largest count of each reason stands.
        """
        names = np.where(excluded != "", excluded, np.array([*self.scores.statuses, NOT_SCORED], dtype=object)[status])
        found: list[Counter] = [Counter() for _ in range(gone.shape[1])]
        for s, m in np.argwhere(gone.any(-1)):
            for name, count in Counter(names[s, m][gone[s, m]].tolist()).items():
                found[m][name] = max(found[m][name], count)
        return tuple(found)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis without NaN; NaN where all are."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(0) / known.sum(0)


def combinations(plan: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[Planned, ...]]:
    """Return the planned combinations of each (dataset, split), sorted; rows must have their `state`.

    Units of the learning curve are none: they are no entries of a leaderboard.
    """
    units: dict[tuple[str, str], dict[Combination, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in plan:
        if row.get("trained_on"):
            continue
        units[row["dataset"], row["split"]][row["model"], row["encoder"], row["strategy"]].append(row)
    return {
        panel: tuple(
            Planned(
                of,
                rows[0]["class"],
                tuple(sorted({int(row["seed"]) for row in rows})),
                frozenset(int(row["fold"]) for row in rows),
                len(rows),
                sum(row["state"] == "ok" for row in rows),
            )
            for of, rows in sorted(found.items())
        )
        for panel, found in sorted(units.items())
    }


def build(
    dataset: str, split: str, plan: Sequence[Planned], scores: Scores, clusters: Mapping[str, str], seed: int,
    n_resamples: int,
) -> Panel:  # fmt: skip
    """Return the panel of a dataset and split; :class:`InputError` for a perturbation without its cluster."""
    unknown = [name for _, name in scores.rows if name not in clusters]
    if unknown:
        raise InputError(f"perturbation {unknown[0]} is not listed", where=f"{dataset}.perturbations.tsv")
    groups = bootstrap.clusters(
        [clusters[name] for _, name in scores.rows], np.array([fold for fold, _ in scores.rows], dtype=int)
    )
    weights = bootstrap.resamples(groups, n_resamples, seeds.stream(seed, "bootstrap", dataset, split))
    flips = Flips(lambda: seeds.stream(seed, "sign flips", dataset, split))
    return Panel(dataset, split, tuple(plan), groups, weights, flips, scores)


def pairs(metrics: Mapping[str, Metric], scores: Scores) -> list[tuple[Metric, str]]:
    """Return the (metric, gene set) pairs of a panel.

    Compat lists and gene sets chosen in advance go by the names under which they were scored.
    """
    present = {metrics[metric].group for metric, _ in scores.pairs if metric in metrics}
    wanted = []
    for metric, gene_set in registry.reported(registry.chosen(dict(metrics), sorted(present))):
        if gene_set == "listed":
            wanted += sorted(((metric, s) for m, s in scores.pairs if m == metric.id), key=lambda pair: pair[1])
        elif gene_set == FIXED:
            wanted += [(metric, s) for m, s in sorted(scores.pairs) if m == metric.id and s.startswith("fixed_")]
        elif gene_set == registry.PHENOTYPE:
            wanted += [(metric, s) for m, s in sorted(scores.pairs) if m == metric.id]
        elif gene_set not in registry.OPTIONAL_SETS or (metric.id, gene_set) in scores.pairs:
            wanted.append((metric, gene_set))
    return wanted
