"""The scores of one dataset and split as arrays over its perturbations, missing ones explicit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from vcbench.metrics import contract
from vcbench.metrics.registry import Metric
from vcbench.stats.bootstrap import Clusters, ratio

#: A model with its encoder and strategy; seeds are replicates of it.
Combination = tuple[str, str, str]
#: (fold, perturbation) of each row of a panel.
Row = tuple[int, str]


@dataclass(frozen=True)
class Series:
    """One metric of one combination over the K perturbations of a panel, seeds averaged within perturbation.

    The value is sum(`numerator`) / sum(`denominator`): for a mean the denominators are 1, for gene-wise metrics the
    numerators are jack-knife terms shifted so that they average to the value. NaN marks absent perturbations. The
    `imputed_*` arrays hold the no-skill value where the prediction is missing or undefined; perturbations that the
    truth excludes stay NaN in every combination alike.
    """

    numerator: np.ndarray
    denominator: np.ndarray
    imputed_numerator: np.ndarray
    imputed_denominator: np.ndarray
    reasons: Counter
    seed_values: np.ndarray

    @property
    def value(self) -> float:
        """The metric over the perturbations on which it is defined."""
        return ratio(self.numerator, self.denominator)

    @property
    def imputed(self) -> float:
        """The metric with undefined predictions at their no-skill value."""
        return ratio(self.imputed_numerator, self.imputed_denominator)

    @property
    def n(self) -> int:
        """Number of perturbations behind the value."""
        return int((~np.isnan(self.numerator) & ~np.isnan(self.denominator)).sum())


@dataclass(frozen=True)
class Scores:
    """Lookup of score rows of one panel.

    `by_perturbation` maps (metric, gene set, model, encoder, strategy, seed) to {(fold, perturbation): (value,
    status)}; `over_folds` the same keys to (value, n_genes, status) of the row over all folds.
    """

    by_perturbation: dict[tuple, dict[Row, tuple[float, str]]]
    over_folds: dict[tuple, tuple[float, int, str]]


@dataclass(frozen=True)
class Panel:
    """One dataset and split: test perturbations `rows`, their clusters, shared resamples, and all scores."""

    dataset: str
    split: str
    rows: tuple[Row, ...]
    groups: Clusters
    weights: np.ndarray
    scores: Scores

    def expected(self, folds: set[int]) -> np.ndarray:
        """Return (K,) whether a combination planned for these folds should have a value."""
        return np.array([fold in folds for fold, _ in self.rows], dtype=bool)

    def no_skill(self, metric: str, gene_set: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (K,) no-skill values and (K,) the truth's reasons for excluding a perturbation (empty: none)."""
        found = self.scores.by_perturbation.get((metric, gene_set, contract.NO_SKILL, "none", "none", 0), {})
        values = np.array([found.get(row, (np.nan, ""))[0] for row in self.rows])
        reasons = [found[row][1] if row in found and found[row][1] != contract.OK else "" for row in self.rows]
        return values, np.array(reasons, dtype=object)

    def _values(self, metric: str, gene_set: str, of: Combination, seed: int) -> tuple[np.ndarray, list[str]]:
        found = self.scores.by_perturbation.get((metric, gene_set, *of, seed), {})
        values = np.array([found.get(row, (np.nan, ""))[0] for row in self.rows])
        return values, [found.get(row, (np.nan, "not_scored"))[1] for row in self.rows]

    def series(self, metric: Metric, gene_set: str, of: Combination, seeds: tuple[int, ...], folds: set[int]) -> Series:
        """Return one metric of a combination planned with these seeds and folds."""
        parts = [self._seed_series(metric, gene_set, of, seed, self.expected(folds)) for seed in seeds]
        numerator, denominator, imputed, imputed_denominator = (
            _mean_of_known(np.stack([part[i] for part in parts])) for i in range(4)
        )
        reasons = Counter(parts[0][4])
        for part in parts[1:]:
            for name, count in Counter(part[4]).items():
                reasons[name] = max(reasons[name], count)
        values = np.array([ratio(part[0], part[1]) for part in parts])
        return Series(numerator, denominator, imputed, imputed_denominator, reasons, values)

    def _seed_series(
        self, metric: Metric, gene_set: str, of: Combination, seed: int, expected: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
        if metric.numerator:
            top, statuses = self._values(metric.numerator, gene_set, of, seed)
            bottom, excluded = self.no_skill(metric.denominator, gene_set)
            absent = np.isnan(top)
            imputed = np.where(absent, bottom * float(metric.no_skill), top)
            usable = (excluded == "") & expected
            imputed, full = np.where(usable, imputed, np.nan), np.where(usable, bottom, np.nan)
            bottom = np.where(absent, np.nan, full)
            return top, bottom, imputed, full, _reasons(statuses, absent, excluded, expected)
        name = metric.jackknife or metric.id
        values, statuses = self._values(name, gene_set, of, seed)
        baseline, excluded = self.no_skill(name, gene_set)
        imputed_values = values
        if metric.jackknife:
            values, imputed_values = self._recentred(metric, gene_set, of, seed, values)
        absent = np.isnan(values)
        usable = (excluded == "") & expected
        imputed = np.where(usable, np.where(absent, baseline, imputed_values), np.nan)
        one = np.ones(len(self.rows))
        return (values, np.where(absent, np.nan, one), imputed, np.where(np.isnan(imputed), np.nan, one),
                _reasons(statuses, absent, excluded, expected))  # fmt: skip

    def _recentred(
        self, metric: Metric, gene_set: str, of: Combination, seed: int, terms: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return jack-knife terms that average to the value, and to the value with constant genes at no skill."""
        value, n_genes, _ = self.scores.over_folds.get((metric.id, gene_set, *of, seed), (np.nan, 0, ""))
        _, eligible, _ = self.scores.over_folds.get(
            (metric.id, gene_set, contract.NO_SKILL, "none", "none", 0), (np.nan, n_genes, "")
        )
        known = ~np.isnan(terms)
        if not known.any() or np.isnan(value):
            return np.full(len(terms), np.nan), np.full(len(terms), np.nan)
        shifted = terms - terms[known].mean() + value
        share = n_genes / eligible if eligible else 1.0
        no_skill = float(metric.no_skill)
        return shifted, no_skill + (shifted - no_skill) * share


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis without NaN; NaN where all are."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(0) / known.sum(0)


def _reasons(statuses: list[str], absent: np.ndarray, excluded: np.ndarray, expected: np.ndarray) -> list[str]:
    """Return why values that were expected are absent, one reason each; the truth's own reason goes first."""
    return [why or status for status, why, gone, due in zip(statuses, excluded, absent, expected, strict=True)
            if gone and due]  # fmt: skip
