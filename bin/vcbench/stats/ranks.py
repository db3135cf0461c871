"""ranks.tsv: configurations ranked within each perturbation, with the critical-difference view (metrics.md 10.4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from vcbench.metrics.registry import Metric
from vcbench.stats import bootstrap, contrasts
from vcbench.stats.contrast_table import ALPHA, differences_to
from vcbench.stats.numbers import named, tidied, tidy
from vcbench.stats.panel import Panel, Series

RANKS = (
    "dataset", "split", "metric", "gene_set", "model", "encoder", "strategy", "place", "mean_rank", "rank_low",
    "rank_high", "value_imputed", "groups", "winner_share", "n_missing", "n_blocks", "n_configurations", "n_clusters",
    "friedman_chi2", "iman_davenport_f", "p", "critical_difference",
)  # fmt: skip


def mid_ranks(values: np.ndarray) -> np.ndarray:
    """Return (M, K) ranks of M configurations within each of K blocks: 1 is the largest value, ties share the mean."""
    from scipy.stats import rankdata

    return rankdata(-values, axis=0) if values.size else np.zeros(values.shape)


@dataclass(frozen=True)
class Friedman:
    """Friedman's chi2 (corrected for ties), Iman and Davenport's F and its p value."""

    chi2: float
    f: float
    p: float


def friedman(ranks: np.ndarray) -> Friedman:
    """Return the test that k configurations rank alike over N blocks, ranks (k, N).

    chi2 = 12 N / (k (k + 1)) sum (Rbar_j - (k + 1) / 2)^2, divided by 1 - sum (t^3 - t) / (N k (k^2 - 1)) for ties;
    F = (N - 1) chi2 / (N (k - 1) - chi2) with k - 1 and (k - 1)(N - 1) degrees of freedom. Blocks are taken as
    independent, which variants of one trained model are not: descriptive. NaN below two of either, or all tied.
    """
    from scipy.special import fdtrc

    k, n = ranks.shape
    if k < 2 or n < 2:
        return Friedman(np.nan, np.nan, np.nan)
    # Without ties the squared deviations of a block add up to k (k^2 - 1) / 12.
    spread = ((ranks - (k + 1) / 2) ** 2).sum() / (k - 1)
    if spread <= 0:
        return Friedman(np.nan, np.nan, np.nan)
    chi2 = float(n**2 * ((ranks.mean(1) - (k + 1) / 2) ** 2).sum() / spread)
    rest = n * (k - 1) - chi2
    if rest <= 1e-9 * chi2:  # all blocks agree
        return Friedman(chi2, np.inf, 0.0)
    f = (n - 1) * chi2 / rest
    return Friedman(chi2, f, float(fdtrc(k - 1, (k - 1) * (n - 1), f)))


@lru_cache
def critical_value(k: int) -> float:
    """Return q(.05) of Nemenyi's test of k configurations: the studentised range over sqrt(2); NaN below two."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - ALPHA, k, np.inf) / np.sqrt(2)) if k > 1 else np.nan


def critical_difference(k: int, n: int) -> float:
    """Return by how much the mean ranks of two of k configurations must differ over n blocks (Nemenyi)."""
    return critical_value(k) * float(np.sqrt(k * (k + 1) / (6 * n))) if n else np.nan


def runs(separated: np.ndarray) -> list[tuple[int, int]]:
    """Return the longest runs (first, last) of neighbours without a separated pair; `separated` (M, M) in rank order.

    They are the bars of the diagram; a configuration that is separated from both neighbours is in none.
    """
    found: list[tuple[int, int]] = []
    size = len(separated)
    for first in range(size):
        last = first
        while last + 1 < size and not separated[first : last + 1, last + 1].any():
            last += 1
        if last > first and not (found and found[-1][1] >= last):
            found.append((first, last))
    return found


def separated_pairs(panel: Panel, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return (M, M) which pairs of series (M, K) differ by the sign-flip test after Holm over all pairs."""
    size = len(numerator)
    first, second = np.triu_indices(size, 1)
    separated = np.zeros((size, size), dtype=bool)
    if not len(first):
        return separated
    scaled = []
    for m in range(size - 1):
        differences, _, scale = differences_to(numerator[m + 1 :], numerator[m], denominator)
        scaled.append(differences / scale[:, None])
    p = contrasts.sign_flip(np.concatenate(scaled), panel.groups, panel.flips, bounded=True)
    reject = contrasts.holm(p) < ALPHA
    separated[first, second] = separated[second, first] = reject
    return separated


def winner_share(values: np.ndarray) -> np.ndarray:
    """Return (M,) in which share of resamples each row of values (M, resamples) is the largest; ties share."""
    known = ~np.isnan(values).any(0)
    if not known.any():
        return np.full(len(values), np.nan)
    best = values[:, known] >= values[:, known].max(0) - 1e-12
    return (best / best.sum(0)).mean(1)


def rows(panel: Panel, metric: Metric, gene_set: str, series: Series) -> list[dict[str, Any]]:
    """Return one row per scored configuration, best mean rank first.

    A missing prediction ranks last, an undefined one counts at its no-skill value. Blocks are the perturbations that
    every configuration was to predict and that the truth does not exclude.
    """
    members = np.flatnonzero(panel.scored)
    if metric.direction not in ("higher", "lower") or not len(members):
        return []
    better = 1.0 if metric.direction == "higher" else -1.0
    numerator, denominator = series.imputed_numerator[members], series.imputed_denominator[members]
    block = ~np.isnan(numerator).any(0)
    missing = series.no_prediction[members] & block
    oriented = np.where(missing, -np.inf, better * numerator)[:, block]
    ranks = np.full(numerator.shape, np.nan)
    ranks[:, block] = mid_ranks(oriented)
    test = friedman(ranks[:, block])
    mean_rank = bootstrap.intervals(ranks, np.where(block, 1.0, np.full(ranks.shape, np.nan)), panel.groups,
                                    panel.weights)  # fmt: skip
    value = bootstrap.ratio(numerator, denominator)
    drawn = bootstrap.resampled(better * numerator, denominator, panel.groups, panel.weights)
    order = sorted(range(len(members)), key=lambda i: (tidy(mean_rank.estimate[i]), panel.plan[members[i]].of))
    bars = runs(separated_pairs(panel, numerator[order], denominator[0])) if block.any() else []
    numbers = {
        "mean_rank": mean_rank.estimate, "rank_low": np.maximum(mean_rank.low, 1.0),
        "rank_high": np.minimum(mean_rank.high, len(members)), "value_imputed": value,
        "winner_share": winner_share(drawn),
    }  # fmt: skip
    n_blocks = int(block.sum())
    shared = {
        "dataset": panel.dataset, "split": panel.split, "metric": metric.id, "gene_set": gene_set, "n_blocks": n_blocks,
        "n_configurations": len(members), "friedman_chi2": tidy(test.chi2), "iman_davenport_f": tidy(test.f),
        "p": tidy(test.p), "critical_difference": tidy(critical_difference(len(members), n_blocks)),
    }  # fmt: skip
    result = []
    for place, i in enumerate(order):
        in_bars = [str(number) for number, (first, last) in enumerate(bars, 1) if first <= place <= last]
        result.append({
            **shared, **named(panel.plan[members[i]].of), "place": place + 1, "groups": ";".join(in_bars),
            "n_missing": int(missing[i].sum()), "n_clusters": int(mean_rank.n_clusters[i]), **tidied(numbers, i),
        })  # fmt: skip
    return result
