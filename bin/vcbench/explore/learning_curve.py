"""learning_curve.tsv: scores against the number of training perturbations, on the same test perturbations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vcbench.core.units import ALL, Unit
from vcbench.metrics import registry
from vcbench.metrics.registry import Metric
from vcbench.stats import bootstrap, contrast_table, leaderboard
from vcbench.stats.numbers import named, row_statistic, standard_deviation, tidied
from vcbench.stats.panel import Panel, Planned

COLUMNS = (
    "dataset", "split", "model", "encoder", "strategy", "metric", "gene_set", "trained_on", "n_train", "n_train_min",
    "n_train_max", "value", "ci_low", "ci_high", "interval", "n", "n_expected", "n_clusters", "n_seeds", "seed_sd",
    "gain_to_all", "gain_low", "gain_high", "baseline", "baseline_model", "baseline_encoder", "baseline_strategy",
    "reasons", "units_ok", "units_planned",
)  # fmt: skip
#: What an ordinary unit was trained on, as the table says it.
EVERYTHING = "all"

#: (model, encoder, strategy) and what it was trained on.
Point = tuple[tuple[str, str, str], str]


def points(plan: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[Point, list[Mapping[str, Any]]]]:
    """Return the units of each point by (dataset, split), of combinations that have a curve; sorted."""
    found: dict[tuple[str, str], dict[Point, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in plan:
        of = (row["model"], row["encoder"], row["strategy"])
        found[row["dataset"], row["split"]][of, row.get("trained_on", ALL)].append(row)
    curves = {}
    for panel, units in sorted(found.items()):
        with_curve = {of for of, trained_on in units if trained_on}
        if with_curve:
            curves[panel] = {point: units[point] for point in sorted(units) if point[0] in with_curve}
    return curves


def _planned(point: Point, units: Sequence[Mapping[str, Any]]) -> Planned:
    """Return the units of a point as a combination under the name of its rows in the score table."""
    (model, encoder, strategy), trained_on = point
    name = Unit("", "", 0, model, encoder, strategy, 0, trained_on).scored_as
    return Planned(
        (name, encoder, strategy), units[0]["class"], tuple(sorted({int(row["seed"]) for row in units})),
        frozenset(int(row["fold"]) for row in units), len(units), sum(row["state"] == "ok" for row in units),
    )  # fmt: skip


def rows(
    panel: Panel, units: Mapping[Point, Sequence[Mapping[str, Any]]], metrics: Mapping[str, Metric], negative: set[str]
) -> list[dict[str, Any]]:
    """Return one row per combination, headline metric and point, smallest training set first.

    Values are with undefined and missing predictions at no skill: all sizes are compared on the same perturbations.
    `gain_to_all` is the paired difference of everything to this point, positive where training on more is better; the
    baseline is the best simple one trained on everything (`negative` names models and encoders that cannot be).
    """
    planned = [_planned(point, of) for point, of in units.items()]
    full = {point[0]: at for at, point in enumerate(units) if not point[1]}
    result: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    for order, (metric, gene_set) in enumerate(registry.reported(registry.headline(dict(metrics)))):
        if metric.compat or metric.direction not in ("higher", "lower"):
            continue
        series = panel.series(metric, gene_set, planned)
        scored = np.array([item.units_ok > 0 for item in planned])
        top = np.where(scored[:, None], series.imputed_numerator, np.nan)
        ci = bootstrap.intervals(top, series.imputed_denominator, panel.groups, panel.weights)
        against = [full.get(point[0], at) for at, point in enumerate(units)]
        sign = 1 if metric.direction == "higher" else -1
        gain = bootstrap.intervals(
            sign * (top[against] - top), series.imputed_denominator, panel.groups, panel.weights
        )  # fmt: skip
        of_all = panel.series(metric, gene_set)
        candidates = contrast_table.baselines(panel.plan, of_all, negative)
        best = contrast_table.best(metric, panel.plan, of_all.imputed, candidates)
        baseline = np.nan if best is None else of_all.imputed[best]
        reference = named(panel.plan[best].of if best is not None else ("", "", ""), "baseline_")
        numbers = {
            "value": ci.estimate, "ci_low": leaderboard.within(ci.low, metric),
            "ci_high": leaderboard.within(ci.high, metric), "gain_to_all": gain.estimate, "gain_low": gain.low,
            "gain_high": gain.high, "seed_sd": row_statistic(series.seed_values, standard_deviation, 2),
            "baseline": np.full(len(planned), baseline),
        }  # fmt: skip
        expected = panel.expected(planned).sum(1)
        for at, (point, of) in enumerate(units.items()):
            sizes = [int(row["n_train"]) for row in of if row["n_train"]]
            mean = float(np.mean(sizes)) if sizes else None
            row = {
                "dataset": panel.dataset, "split": panel.split, **named(point[0]), "metric": metric.id,
                "gene_set": gene_set, "trained_on": point[1] or EVERYTHING, "n_train": mean,
                "n_train_min": min(sizes, default=None), "n_train_max": max(sizes, default=None),
                "interval": ci.method[at], "n": int(series.n[at]), "n_expected": int(expected[at]),
                "n_clusters": int(ci.n_clusters[at]), "n_seeds": len(planned[at].seeds),
                "reasons": ";".join(f"{name}:{count}" for name, count in sorted(series.reasons[at].items())),
                "units_ok": planned[at].units_ok, "units_planned": planned[at].units, **reference,
                **tidied(numbers, at),
            }  # fmt: skip
            if not point[1]:
                row |= dict.fromkeys(("gain_to_all", "gain_low", "gain_high"))
            result.append(((point[0], order, not point[1], mean or 0.0, point[1]), row))
    return [row for _, row in sorted(result, key=lambda item: item[0])]
