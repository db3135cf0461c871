"""One dataset and split: every planned configuration with its scores, and the verdict against the best baseline."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from vcbench.report.inputs import Inputs, Row
from vcbench.report.names import Configuration, Metric, Names
from vcbench.report.text import decimals, parse

#: Level of the Holm-corrected test, as declared for the primary contrast.
ALPHA = 0.05
#: Which of the references of contrasts.tsv the verdict is about, and the one that asks what the encoder adds.
BEST_BASELINE = "best_baseline"
CONTROL_INPUT = "control_input"


@dataclass(frozen=True)
class Score:
    """A configuration's value of one metric with everything a reader needs to judge it; absent numbers are NaN."""

    value: float
    low: float
    high: float
    n: float
    n_expected: float
    null_mean: float
    null_low: float
    null_high: float
    ceiling: float
    ceiling_full: float
    imputed: float
    reasons: str
    method: str
    n_missing: int

    @property
    def as_no_skill(self) -> bool:
        """Return whether missing or undefined predictions had to be counted as no skill."""
        return math.isfinite(self.imputed) and not math.isclose(self.imputed, self.value, rel_tol=1e-9, abs_tol=1e-12)

    @property
    def shown(self) -> float:
        """Return the number the report shows and ranks by.

        A mean over the few perturbations a model happens to be defined on cannot be compared with others; there the
        value with undefined predictions at the metric's no-skill value stands in (metrics.md 1.3, rule 5).
        """
        return self.imputed if self.as_no_skill else self.value

    @property
    def incomplete(self) -> bool:
        """Return whether perturbations are missing from the value."""
        return math.isfinite(self.n_expected) and self.n < self.n_expected


@dataclass(frozen=True)
class Contrast:
    """Paired difference of a configuration to the best simple baseline (model minus baseline).

    `verdict` is better, worse or unresolved. Of the `n` perturbations, `n_missing` have no prediction of the
    configuration and `n_missing_reference` none of the baseline; these count as no skill. `fold_low` and `fold_high`
    are the interval between folds.
    """

    configuration: Configuration
    reference: Configuration
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    n: float
    detectable: float
    verdict: str
    n_clusters: float
    fold_low: float
    fold_high: float
    n_missing: int
    n_missing_reference: int


@dataclass(frozen=True)
class Panel:
    """One dataset and split.

    `contrasts` are with the best baseline, `control_inputs` with the same model on its best negative-control encoder.
    """

    dataset: str
    split: str
    primary: Metric
    configurations: tuple[Configuration, ...]
    scores: dict[tuple[Configuration, str], Score]
    contrasts: dict[Configuration, Contrast]
    states: dict[Configuration, Counter[str]]
    names: Names
    control_inputs: dict[Configuration, Contrast]

    @property
    def id(self) -> str:
        """Stem of the panel's section ids."""
        return f"{self.dataset}_{self.split}"

    def score(self, configuration: Configuration, metric: Metric) -> Score | None:
        """Return a configuration's score, None when it has no row (nothing of it succeeded)."""
        return self.scores.get((configuration, metric.key))

    def value(self, configuration: Configuration, metric: Metric) -> float:
        """Return the number the report shows for a configuration, NaN when it has none."""
        score = self.score(configuration, metric)
        return score.shown if score else math.nan

    def places(self) -> int:
        """Return the decimals of the primary metric."""
        values = [self.value(item, self.primary) for item in self.configurations]
        return decimals([*values, self.ceiling(self.primary)])

    def ranked(self) -> list[Configuration]:
        """Return all configurations, best primary value first, undefined ones last; ties by name."""
        sign = 1 if self.primary.lower_is_better else -1

        def key(configuration: Configuration) -> tuple[bool, float, Configuration]:
            value = self.value(configuration, self.primary)
            return (math.isnan(value), 0.0 if math.isnan(value) else sign * value, configuration)

        return sorted(self.configurations, key=key)

    @cached_property
    def _scored(self) -> frozenset[Configuration]:
        return frozenset(of for (of, _), score in self.scores.items() if math.isfinite(score.shown))

    def scored(self) -> frozenset[Configuration]:
        """Return the configurations with at least one number of any metric."""
        return self._scored

    def baselines(self) -> list[Configuration]:
        """Return the baselines that have scores."""
        scored = self.scored()
        return [item for item in self.configurations if self.names.is_baseline(item) and item in scored]

    def ceiling(self, metric: Metric, full: bool = False) -> float:
        """Return the split-half ceiling of a metric, or (`full`) what two full repeats would give; NaN without one."""
        return self._ceilings.get((metric.key, full), math.nan)

    @cached_property
    def _ceilings(self) -> dict[tuple[str, bool], float]:
        found: dict[tuple[str, bool], float] = {}
        for (_, key), score in sorted(self.scores.items()):
            for full, value in ((False, score.ceiling), (True, score.ceiling_full)):
                if math.isfinite(value):
                    found.setdefault((key, full), value)
        return found

    def reference(self) -> Configuration | None:
        """Return the best simple baseline: the one the contrasts were computed against."""
        return next((contrast.reference for contrast in self.contrasts.values()), None)

    def missing_controls(self) -> str:
        """Return why no score of this panel may be shown, empty when all controls are there."""
        if not self.scored():
            return "No unit of this dataset and split has a score."
        if not self.baselines():
            return "This run has no simple baseline with a score, so no score of a model can be judged."
        if math.isnan(self.ceiling(self.primary)):
            return (
                f"The ceiling of {self.primary.full_title} could not be measured "
                "(one half of the cells against the other), so no score of a model can be judged."
            )
        return ""

    def competitors(self) -> list[Contrast]:
        """Return the contrasts of models that are not baselines, most favourable difference first."""
        sign = 1 if self.primary.lower_is_better else -1
        found = [item for item in self.contrasts.values() if not self.names.is_baseline(item.configuration)]
        found = [item for item in found if math.isfinite(item.difference)]
        return sorted(found, key=lambda item: (sign * item.difference, item.configuration))

    def winners(self) -> list[Contrast]:
        """Return the competitors whose advantage is significant after Holm's correction."""
        return [item for item in self.competitors() if item.verdict == "better"]


def build(inputs: Inputs, dataset: str, split: str) -> Panel:
    """Join the plan with the leaderboard and the contrasts, by label; what the plan lists cannot vanish."""
    names, primary = inputs.names, inputs.names.primary()

    def mine(rows: list[Row]) -> list[Row]:
        return [row for row in rows if row["dataset"] == dataset and row["split"] == split]

    states: dict[Configuration, Counter[str]] = {}
    for row in mine(inputs.plan):
        if row.get("trained_on"):  # a unit of the learning curve
            continue
        states.setdefault(_configuration(row), Counter())[row["state"]] += 1
    scores = {}
    for row in mine(inputs.leaderboard):
        # Evaluator rows (ceiling, nulls) are no configurations: their numbers are in columns of every row.
        if _configuration(row) in states:
            configuration, metric = _configuration(row), names.metric(row["metric"], row["gene_set"])
            # VariantCellBench's own formulas are shown as they come out.
            impute = states[configuration]["ok"] > 0 and not metric.compat
            scores[configuration, metric.key] = _score(row, impute)
    contrasts: dict[str, dict[Configuration, Contrast]] = {BEST_BASELINE: {}, CONTROL_INPUT: {}}
    for row in mine(inputs.contrasts):
        kind = row.get("reference", BEST_BASELINE)
        if (row["metric"], row["gene_set"]) == (primary.id, primary.gene_set) and kind in contrasts:
            contrasts[kind][_configuration(row)] = _contrast(row, primary)
    return Panel(
        dataset=dataset,
        split=split,
        primary=primary,
        configurations=tuple(sorted(states)),
        scores=scores,
        contrasts=contrasts[BEST_BASELINE],
        control_inputs=contrasts[CONTROL_INPUT],
        states=states,
        names=names,
    )


def _configuration(row: Row, prefix: str = "") -> Configuration:
    return Configuration(row[f"{prefix}model"], row[f"{prefix}encoder"], row[f"{prefix}strategy"])


def _score(row: Row, impute: bool) -> Score:
    """Return a row's numbers; nothing is imputed for a configuration of which no unit succeeded."""
    numbers = {name: parse(row[name]) for name in ("value", "n", "n_expected", "null_mean", "null_low", "null_high")}
    return Score(
        **numbers,
        low=parse(row["ci_low"]),
        high=parse(row["ci_high"]),
        ceiling=parse(row["ceiling"]),
        ceiling_full=parse(row.get("ceiling_full")),
        imputed=parse(row.get("value_imputed")) if impute else math.nan,
        reasons=row.get("reasons", ""),
        method=row.get("interval", ""),
        n_missing=int(row.get("n_missing_pred") or 0) if impute else 0,
    )


def _contrast(row: Row, metric: Metric) -> Contrast:
    difference, p_holm = parse(row["difference"]), parse(row["p_holm"])
    said = "unresolved" if not p_holm < ALPHA else "better" if metric.better(difference) else "worse"
    return Contrast(
        configuration=_configuration(row),
        reference=_configuration(row, "reference_"),
        difference=difference,
        low=parse(row["ci_low"]),
        high=parse(row["ci_high"]),
        p=parse(row["p"]),
        p_holm=p_holm,
        n=parse(row["n"]),
        detectable=parse(row.get("detectable")),
        verdict=row.get("verdict") or said,
        n_clusters=parse(row.get("n_clusters")),
        fold_low=parse(row.get("fold_ci_low")),
        fold_high=parse(row.get("fold_ci_high")),
        n_missing=int(row.get("n_missing_pred") or 0),
        n_missing_reference=int(row.get("n_missing_reference") or 0),
    )
