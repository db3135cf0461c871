"""factors.tsv: how much of the score depends on model, encoder, strategy and their interplay (metrics.md 10.3).

Balanced analysis with perturbations as blocks: every perturbation has a score for each cell of a full crossing
model x encoder x strategy, so the least-squares effects are differences of marginal means, taken within perturbation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from vcbench.metrics.registry import Metric
from vcbench.stats import bootstrap, contrasts
from vcbench.stats.numbers import tidied, tidy
from vcbench.stats.panel import Panel, Series
from vcbench.stats.scores import Combination

FACTORS = (
    "dataset", "split", "metric", "gene_set", "effect", "level", "estimate", "ci_low", "ci_high", "interval", "size",
    "size_low", "size_high", "size_debiased", "share", "df", "p", "p_holm", "n", "n_clusters", "levels", "left_out",
)  # fmt: skip
NAMES = ("model", "encoder", "strategy")


def full_crossing(found: Sequence[Combination]) -> tuple[list[list[str]], list[str]]:
    """Return the sorted levels of each factor such that every cell exists, and the levels left out for that.

    The level with the smallest share of its cells goes first, until none is missing; ties leave out the last name of
    the last factor. Combinations without an encoder are no part of it.
    """
    cells = {of for of in found if of[1] != "none"}
    levels = [sorted({of[axis] for of in cells}) for axis in range(3)]
    left_out: list[str] = []
    while cells and len(cells) < np.prod([len(part) for part in levels]):
        shares = []
        for axis, part in enumerate(levels):
            possible = np.prod([len(other) for i, other in enumerate(levels) if i != axis])
            for place, level in enumerate(part):
                shares.append((sum(of[axis] == level for of in cells) / possible, -axis, -place, level))
        _, axis, _, level = min(shares)
        left_out.append(f"{NAMES[-axis]} {level}")
        levels[-axis].remove(level)
        cells = {of for of in cells if of[-axis] != level}
    return levels, left_out


def effects(values: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
    """Return the main effects and interactions of values (K, a, b, c) within each block.

    Keys are the axes 0, 1, 2 of the factors of an effect with more than one level each; values (K, ...) over their
    levels, each sums to 0 over every axis. Block mean plus all effects give back the values.
    """
    used = [axis for axis in range(3) if values.shape[axis + 1] > 1]
    found: dict[tuple[int, ...], np.ndarray] = {(): values.mean(axis=(1, 2, 3), keepdims=True)}
    for order in range(1, len(used) + 1):
        for axes in combinations(used, order):
            rest = tuple(axis + 1 for axis in range(3) if axis not in axes)
            marginal = values.mean(axis=rest, keepdims=True)
            found[axes] = marginal - sum(part for key, part in found.items() if set(key) < set(axes))
    return {
        axes: part.reshape(len(values), *(values.shape[a + 1] for a in axes)) for axes, part in found.items() if axes
    }


def rows(panel: Panel, metric: Metric, gene_set: str, series: Series, negative: set[str]) -> list[dict[str, Any]]:
    """Return one row per effect, and one per level of each main effect; none without a crossing of two levels.

    Scores at no skill where predictions are undefined; negative controls left out. `size` is the root mean square
    effect over cells in units of the metric, `share` its part of all variation between cells, p a flip of whole
    clusters of the effect, so that a factor with two levels gets the paired sign-flip test.
    """
    if metric.direction not in ("higher", "lower") or metric.numerator:
        return []
    place = {p.of: m for m, p in enumerate(panel.plan) if panel.scored[m] and not negative & set(p.of[:2])}
    levels, left_out = full_crossing(list(place))
    shape = tuple(len(part) for part in levels)
    if min(shape) < 1 or max(shape) < 2:
        return []
    members = [place[a, b, c] for a in levels[0] for b in levels[1] for c in levels[2]]
    block = ~np.isnan(series.imputed_numerator[members]).any(0)
    values = series.imputed_numerator[members][:, block].T.reshape(int(block.sum()), *shape)
    groups = _kept(panel.groups, block)
    weights = panel.weights[:, np.unique(panel.groups.code[block])]
    parts = effects(values)
    if len(values) < 2 or groups.n < 2:
        return []
    squares = {axes: float((part.mean(0) ** 2).mean()) for axes, part in parts.items()}
    total = sum(squares.values())
    p = np.array([contrasts.joint_flip(_by_cluster(part, groups).T, panel.flips) for part in parts.values()])
    p_holm = contrasts.holm(p)
    shared = {
        "dataset": panel.dataset, "split": panel.split, "metric": metric.id, "gene_set": gene_set, "n": len(values),
        "n_clusters": groups.n, "left_out": ";".join(left_out),
        "levels": " x ".join(f"{size} {name}s" if size > 1 else f"1 {name}" for size, name in
                             zip(shape, NAMES, strict=True)).replace("strategys", "strategies"),
    }  # fmt: skip
    result = []
    for i, (axes, part) in enumerate(parts.items()):
        name = ":".join(NAMES[axis] for axis in axes)
        flat = part.reshape(len(part), -1).T
        error, _ = bootstrap.robust_error((flat - flat.mean(1, keepdims=True)) / flat.shape[1], groups)
        low, high = _size_interval(flat, groups, weights)
        numbers = {
            "size": np.sqrt(squares[axes]), "size_low": low, "size_high": high,
            "size_debiased": np.sqrt(max(0.0, squares[axes] - float((error**2).mean()))),
            "share": squares[axes] / total if total > 0 else np.nan, "p": p[i], "p_holm": p_holm[i],
        }  # fmt: skip
        result.append({
            **shared, "effect": name, "level": "", "estimate": np.nan, "ci_low": np.nan, "ci_high": np.nan,
            "interval": bootstrap.BOOTSTRAP if groups.n >= bootstrap.MIN_CLUSTERS else "",
            "df": int(np.prod([shape[axis] - 1 for axis in axes])),
            **{key: tidy(value) for key, value in numbers.items()},
        })  # fmt: skip
        if len(axes) == 1:
            result += _level_rows(shared, name, levels[axes[0]], flat, groups, weights)
    return result


def _level_rows(
    shared: dict[str, Any], name: str, levels: Sequence[str], flat: np.ndarray, groups: bootstrap.Clusters,
    weights: np.ndarray,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the rows of the levels of a main effect: marginal mean minus mean of all, with its interval."""
    ci = bootstrap.intervals(flat, np.ones(flat.shape), groups, weights)
    numbers = {"estimate": ci.estimate, "ci_low": ci.low, "ci_high": ci.high}
    empty = dict.fromkeys(("size", "size_low", "size_high", "size_debiased", "share", "df", "p", "p_holm"), np.nan)
    return [
        {**shared, **empty, "effect": name, "level": level, "interval": ci.method[i], **tidied(numbers, i)}
        for i, level in enumerate(levels)
    ]


def _kept(groups: bootstrap.Clusters, block: np.ndarray) -> bootstrap.Clusters:
    """Return the clusters of the marked perturbations (K,)."""
    present, code = np.unique(groups.code[block], return_inverse=True)
    return bootstrap.Clusters(code.ravel(), groups.stratum[present])


def _by_cluster(part: np.ndarray, groups: bootstrap.Clusters) -> np.ndarray:
    """Return (D, C) sums over clusters of an effect (K, ...)."""
    return groups.sums(part.reshape(len(part), -1).T)


def _size_interval(flat: np.ndarray, groups: bootstrap.Clusters, weights: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of the root mean square effect (D, K); NaN below 30 clusters."""
    if groups.n < bootstrap.MIN_CLUSTERS:
        return np.nan, np.nan
    drawn = bootstrap.resampled(flat, np.ones(flat.shape), groups, weights)
    low, high = bootstrap.percentiles(np.sqrt((drawn**2).mean(0))[None], (2.5, 97.5))
    return float(low[0]), float(high[0])
