"""agreement.tsv: do metrics, and do datasets and splits, order the configurations alike? (metrics.md 10.4)"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from vcbench.metrics.registry import Metric
from vcbench.stats.numbers import tidy

AGREEMENT = (
    "compared", "dataset", "split", "metric", "gene_set", "other_dataset", "other_split", "other_metric",
    "other_gene_set", "tau", "n_configurations",
)  # fmt: skip
METRICS = "metrics"
PANELS = "panels"


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Return Kendall's tau-b of two sets of values; NaN below two or when one side is all tied."""
    from scipy.stats import kendalltau

    if len(x) < 2 or len(set(x.tolist())) < 2 or len(set(y.tolist())) < 2:
        return float("nan")
    return float(kendalltau(x, y).statistic)


def rows(
    board: Iterable[Mapping[str, Any]], metrics: Mapping[str, Metric], primary: tuple[str, str]
) -> list[dict[str, Any]]:
    """Return Kendall's tau between headline metrics of a panel, and between panels for the primary metric.

    `board` are rows of leaderboard.tsv. Values are those with undefined predictions at no skill, larger = better.
    """
    values: dict[tuple[str, str], dict[tuple[str, str], dict[tuple[str, ...], float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for row in board:
        metric = metrics[row["metric"]]
        if metric.direction in ("higher", "lower") and row["gene_set"] in metric.headline and not metric.compat:
            value = row["value_imputed"] * (1 if metric.direction == "higher" else -1)
            if not np.isnan(value):
                of = (row["model"], row["encoder"], row["strategy"])
                values[row["dataset"], row["split"]][row["metric"], row["gene_set"]][of] = value
    found = []
    for panel, by_metric in values.items():
        for one, other in combinations(by_metric, 2):
            found.append(_row(METRICS, panel, one, by_metric[one], panel, other, by_metric[other]))
    for panel, other in combinations(values, 2):
        if primary in values[panel] and primary in values[other]:
            found.append(_row(PANELS, panel, primary, values[panel][primary], other, primary, values[other][primary]))
    return found


def _row(
    kind: str, panel: tuple[str, str], metric: tuple[str, str], x: Mapping[Any, float], other_panel: tuple[str, str],
    other: tuple[str, str], y: Mapping[Any, float],
) -> dict[str, Any]:  # fmt: skip
    common = sorted(set(x) & set(y))
    tau = kendall(np.array([x[of] for of in common]), np.array([y[of] for of in common]))
    return {
        "compared": kind, "dataset": panel[0], "split": panel[1], "metric": metric[0], "gene_set": metric[1],
        "other_dataset": other_panel[0], "other_split": other_panel[1], "other_metric": other[0],
        "other_gene_set": other[1], "tau": tidy(tau), "n_configurations": len(common),
    }  # fmt: skip
