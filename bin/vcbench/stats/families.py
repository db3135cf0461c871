"""families.tsv: scaled scores averaged within the four families of metrics, and over the families (metrics.md 10.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vcbench.core.errors import InputError
from vcbench.metrics.registry import Metric
from vcbench.stats import bootstrap
from vcbench.stats.numbers import named, tidied
from vcbench.stats.panel import Panel, Series
from vcbench.stats.scaled import scaled

FAMILIES = (
    "dataset", "split", "model", "encoder", "strategy", "family", "scaled", "ci_low", "ci_high", "n_metrics",
    "n_declared", "metrics", "left_out", "n_clusters",
)  # fmt: skip
#: The mean of the families, each with weight 1.
ALL = "all"


def rows(
    panel: Panel, found: Mapping[tuple[str, str], tuple[Metric, Series]], families: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Return one row per family and scored combination, then the mean of the families.

    `families` names columns (``mse__de20_nt``) by family; metrics that do not discriminate on this dataset are left out
    and named. A family without any is empty, and the mean is given only over all families together.
    """
    columns = {metric.column(gene_set): (metric, gene_set, series) for (_, gene_set), (metric, series) in found.items()}
    rated: dict[str, tuple[np.ndarray, np.ndarray, list[str], list[str]]] = {}
    for family, members in families.items():
        values, contributions, used, left_out = [], [], [], []
        for name in members:
            if name not in columns:
                raise InputError(f"metric {name} of family {family} is not in the headline", where="metrics.yml")
            one = scaled(panel, *columns[name])
            (used if one.discriminates else left_out).append(name)
            if one.discriminates:
                values.append(one.value)
                contributions.append(one.contributions)
        size = (len(panel.plan), len(panel.rows))
        rated[family] = (
            np.mean(values, axis=0) if used else np.full(size[0], np.nan),
            _mean_contribution(contributions) if used else np.full(size, np.nan),
            used, left_out,
        )  # fmt: skip
    rated[ALL] = (
        np.mean([part[0] for part in rated.values()], axis=0),
        _mean_contribution([part[1] for part in rated.values()]),
        [name for part in rated.values() for name in part[2]], [name for part in rated.values() for name in part[3]],
    )  # fmt: skip
    result = []
    for family, (value, contributions, used, left_out) in rated.items():
        error, count = bootstrap.robust_error(contributions, panel.groups)
        half = np.where(np.isnan(value), np.nan, bootstrap.t_quantile(count) * error)
        numbers = {"scaled": value, "ci_low": value - half, "ci_high": value + half}
        for m in np.flatnonzero(panel.scored):
            result.append({
                "dataset": panel.dataset, "split": panel.split, **named(panel.plan[m].of), "family": family,
                "n_metrics": len(used), "n_declared": len(used) + len(left_out), "metrics": ";".join(used),
                "left_out": ";".join(left_out), "n_clusters": int(count[m]), **tidied(numbers, m),
            })  # fmt: skip
    return result


def _mean_contribution(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of contributions (M, K); a perturbation absent from some moves only the others."""
    known = ~np.isnan(np.stack(parts))
    total = np.where(known, np.stack(parts), 0.0).sum(0) / len(parts)
    return np.where(known.any(0), total, np.nan)
