"""known_function.tsv: do predicted impacts rank variants as deep mutational scans, AlphaMissense or ClinVar do?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcbench.core.known_columns import Known, Values, values
from vcbench.explore import ranking
from vcbench.explore.intervals import Estimate, Sample, estimate
from vcbench.stats.numbers import tidy

COLUMNS = (
    "dataset", "split", "variants", "known", "statistic", "model", "encoder", "strategy", "class", "value", "ci_low",
    "ci_high", "interval", "chance", "n", "n_expected", "n_positive", "n_clusters", "zero_shot_difference",
    "difference_low", "difference_high", "left_out", "reason",
)  # fmt: skip

#: Which variants a row is about.
HELD_OUT, ALL_UNMEASURED = "held_out", "unmeasured"
#: Predictors beside the models, by their class.
ZERO_SHOT, MEASURED = "zero_shot", "measured"
FEWEST = 4


@dataclass(frozen=True)
class Predictor:
    """A ranking of variants: (K,) impact, high is damaging, NaN where there is none."""

    model: str
    encoder: str
    strategy: str
    kind: str
    impact: np.ndarray


@dataclass(frozen=True)
class Variants:
    """K variants of a dataset and split: annotations, folds, clusters with their draws, and who ranks them.

    The first predictor of kind `zero_shot` is the baseline of all others.
    """

    dataset: str
    split: str
    which: str
    annotations: Sequence[Mapping[str, str]]
    fold: np.ndarray
    sample: Sample
    predictors: Sequence[Predictor]


def rows(variants: Variants, wanted: Sequence[Known]) -> list[dict[str, Any]]:
    """Return one row per known column, statistic and predictor; a column without use is one row with its reason.

    Columns the dataset does not have are left out: other datasets may have them.
    """
    found: list[dict[str, Any]] = []
    for known in wanted:
        if not any(known.column in row for row in variants.annotations):
            continue
        of = values(known, variants.annotations)
        if of.problem:
            found.append(_row(variants, known, of, reason=of.problem))
            continue
        for name, target, statistic, limits in _statistics(of):
            found += _of_statistic(variants, known, of, name, target, statistic, limits)
    return found


def unused(known: Known, reason: str = "") -> dict[str, Any]:
    """Return the row of an item that is of no use in any dataset, for the `reason` (empty: nothing was scored)."""
    reason = reason or "no variant was scored"
    return dict.fromkeys(COLUMNS) | {
        "known": known.text, "n": 0, "n_expected": 0, "n_clusters": 0, "reason": reason,
    }  # fmt: skip


def _statistics(of: Values) -> Iterator[tuple[str, np.ndarray, Callable[..., np.ndarray], tuple[float, float]]]:
    """Yield name, target (K,) with NaN for unknown, function and range of the statistics a column allows."""
    if of.damaging is not None:
        target = np.array([math.nan if label is None else float(label) for label in of.damaging])
        yield "auroc", target, ranking.auroc, (0.0, 1.0)
        yield "auprc", target, ranking.auprc, (0.0, 1.0)
    if of.numbers is not None:
        yield "spearman", np.array(of.numbers), ranking.spearman, (-1.0, 1.0)


def _of_statistic(
    variants: Variants, known: Known, of: Values, name: str, target: np.ndarray,
    function: Callable[..., np.ndarray], limits: tuple[float, float],
) -> list[dict[str, Any]]:  # fmt: skip
    expected = ~np.isnan(target)
    baseline = next((item for item in variants.predictors if item.kind == ZERO_SHOT), None)

    def against(items: Sequence[Predictor], use: np.ndarray, limits: tuple[float, float]) -> Estimate:
        """Return the statistic of one predictor, or the difference of two, on the variants in use."""
        goal = target[use] if name == "spearman" else target[use] > 0
        fold = variants.fold[use]

        def value(weights: np.ndarray) -> np.ndarray:
            parts = [function(item.impact[use], goal, fold, weights) for item in items]
            return parts[0] if len(parts) == 1 else parts[0] - parts[1]

        return estimate(value, variants.sample.of(use), limits)

    result = []
    for item in variants.predictors:
        use = expected & ~np.isnan(item.impact)
        reason = _why_not(use, target, name, variants.fold)
        one = Estimate(math.nan) if reason else against([item], use, limits)
        if not reason and math.isnan(one.value):
            reason = "impacts or known values do not differ within any fold"
        difference = Estimate(math.nan)
        if baseline is not None and item is not baseline and not reason:
            common = use & ~np.isnan(baseline.impact)
            if not _why_not(common, target, name, variants.fold):
                span = limits[1] - limits[0]
                difference = against([item, baseline], common, (-span, span))
        chance = {"auroc": 0.5, "spearman": 0.0}.get(name, math.nan)
        if name == "auprc" and not reason:
            chance = ranking.prevalence(target[use] > 0, variants.fold[use])
        result.append(_row(
            variants, known, of, name, item, one, difference, chance, use=use, expected=expected,
            n_positive=None if name == "spearman" else int((target[use] > 0).sum()), reason=reason,
        ))  # fmt: skip
    return result


def _why_not(use: np.ndarray, target: np.ndarray, name: str, fold: np.ndarray) -> str:
    """Return why a statistic of the variants in use is undefined, or an empty string."""
    if use.sum() < FEWEST:
        return f"fewer than {FEWEST} variants with a prediction and a known value"
    if name != "spearman" and not any(len(set(target[use & (fold == number)])) == 2 for number in np.unique(fold)):
        return "no fold has damaging and harmless variants"
    return ""


def _row(
    variants: Variants, known: Known, of: Values, statistic: str = "", item: Predictor | None = None,
    one: Estimate | None = None, difference: Estimate | None = None, chance: float = math.nan,
    use: np.ndarray | None = None, expected: np.ndarray | None = None, n_positive: int | None = None, reason: str = "",
) -> dict[str, Any]:  # fmt: skip
    one, difference = one or Estimate(math.nan), difference or Estimate(math.nan)
    return {
        "dataset": variants.dataset, "split": variants.split, "variants": variants.which, "known": known.text,
        "statistic": statistic, "model": item.model if item else "", "encoder": item.encoder if item else "",
        "strategy": item.strategy if item else "", "class": item.kind if item else "", "value": tidy(one.value),
        "ci_low": tidy(one.low), "ci_high": tidy(one.high), "interval": one.method, "chance": tidy(chance),
        "n": 0 if use is None else int(use.sum()), "n_expected": 0 if expected is None else int(expected.sum()),
        "n_positive": n_positive,
        "n_clusters": 0 if use is None else len(variants.sample.of(use).present),
        "zero_shot_difference": tidy(difference.value), "difference_low": tidy(difference.low),
        "difference_high": tidy(difference.high),
        "left_out": ";".join(f"{name}:{count}" for name, count in of.left_out.items()), "reason": reason,
    }  # fmt: skip
