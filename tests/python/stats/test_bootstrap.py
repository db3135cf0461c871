"""Cluster bootstrap and t intervals (metrics.md 10.2)."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from vcbench.stats import bootstrap


def one(values, groups, weights):
    """Interval of the mean of one series."""
    values = np.asarray(values, dtype=float)[None]
    found = bootstrap.intervals(values, np.where(np.isnan(values), np.nan, 1.0), groups, weights)
    return SimpleNamespace(low=found.low[0], high=found.high[0], method=found.method[0],
                           standard_error=found.standard_error[0])  # fmt: skip


def alone(k):
    return bootstrap.clusters([f"p{i:03d}" for i in range(k)], np.arange(k) % 3)


def test_clusters_are_kept_whole_and_stratified_by_fold():
    names = ["TP53 175", "TP53 175", "TP53 248", "TP53 273", "TP53 282", "TP53 10", "TP53 11"]
    folds = np.array([1, 2, 1, 1, 2, 2, 2])
    groups = bootstrap.clusters(names, folds)
    assert groups.n == 6
    assert groups.code[0] == groups.code[1]
    weights = bootstrap.resamples(groups, 500, np.random.default_rng(0))
    code = dict(zip(names, groups.code, strict=True))
    in_fold_1 = weights[:, [code["TP53 248"], code["TP53 273"]]].sum(1)
    in_fold_2 = weights[:, [code["TP53 282"], code["TP53 10"], code["TP53 11"]]].sum(1)
    # The cluster of two folds would be alone in its stratum; it joins another, which then draws one more.
    assert set(in_fold_1 + weights[:, code["TP53 175"]]) == {3}
    assert set(in_fold_2) == {3}


def test_few_clusters_get_t_intervals():
    values = np.random.default_rng(0).normal(size=12)
    groups = alone(12)
    found = one(values, groups, bootstrap.resamples(groups, 10, np.random.default_rng(0)))
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert found.method == "t_approximate"
    assert found.standard_error == pytest.approx(stats.sem(values))


def test_many_clusters_get_bootstrap_intervals():
    values = np.random.default_rng(0).normal(size=200)
    groups = bootstrap.clusters([str(i) for i in range(200)], np.ones(200, dtype=int))
    found = one(values, groups, bootstrap.resamples(groups, 4000, np.random.default_rng(0)))
    assert found.method == "bootstrap"
    assert found.low == pytest.approx(values.mean() - 1.96 * stats.sem(values), abs=0.01)
    assert found.high == pytest.approx(values.mean() + 1.96 * stats.sem(values), abs=0.01)


def test_dependence_within_clusters_widens_the_interval():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=40), 4)
    folds = np.ones(160, dtype=int)
    clustered = bootstrap.clusters([str(i // 4) for i in range(160)], folds)
    single = bootstrap.clusters([str(i) for i in range(160)], folds)
    widths = []
    for groups in (clustered, single):
        found = one(values, groups, bootstrap.resamples(groups, 2000, np.random.default_rng(1)))
        widths.append(found.high - found.low)
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.1)  # sqrt(4) copies


def test_many_series_at_once_are_those_one_by_one():
    """Resample by resample, without arrays: clusters repeated as often as drawn."""
    rng = np.random.default_rng(5)
    names = [f"c{i // 2:02d}" for i in range(70)]
    groups = bootstrap.clusters(names, np.arange(70) // 2 % 3)
    weights = bootstrap.resamples(groups, 60, rng)
    numerator, denominator = rng.normal(size=(4, 70)), rng.gamma(2, 1, (4, 70))
    numerator[1, rng.random(70) < 0.1] = np.nan
    denominator[2, rng.random(70) < 0.05] = np.nan
    numerator[3, 20:] = np.nan  # ten clusters
    found = bootstrap.intervals(numerator, denominator, groups, weights)
    assert found.method.tolist() == ["bootstrap"] * 3 + ["t_approximate"]
    for m in range(3):
        values = []
        for drawn in weights:
            top = bottom = 0.0
            for k in range(70):
                if not np.isnan(numerator[m, k] + denominator[m, k]):
                    top += drawn[groups.code[k]] * numerator[m, k]
                    bottom += drawn[groups.code[k]] * denominator[m, k]
            values.append(top / bottom)
        assert (found.low[m], found.high[m]) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), abs=1e-12)
    both = ~np.isnan(numerator[3])
    estimate = numerator[3, both].sum() / denominator[3, both].sum()
    residual = numerator[3, both] - estimate * denominator[3, both]
    sums = np.array([residual[groups.code[both] == c].sum() for c in np.unique(groups.code[both])])
    error = np.sqrt(10 / 9 * (sums**2).sum()) / denominator[3, both].sum()
    assert found.standard_error[3] == pytest.approx(error)
    assert found.high[3] - found.low[3] == pytest.approx(2 * stats.t.ppf(0.975, 9) * error)


def test_coverage_of_the_mean_of_a_skewed_score():
    rng = np.random.default_rng(7)
    hits = {10: 0, 40: 0}
    for k in hits:
        groups = bootstrap.clusters([str(i) for i in range(k)], np.ones(k, dtype=int))
        weights = bootstrap.resamples(groups, 500, rng)
        for _ in range(400):
            found = one(rng.exponential(size=k), groups, weights)
            hits[k] += found.low <= 1 <= found.high
    assert 0.85 <= hits[10] / 400 <= 0.97  # t, called approximate
    assert 0.89 <= hits[40] / 400 <= 0.98


def test_ratios_are_recomputed_within_each_resample():
    rng = np.random.default_rng(3)
    denominator = rng.gamma(1, 1, 60)
    numerator = 2 * denominator
    groups = bootstrap.clusters([str(i) for i in range(60)], np.ones(60, dtype=int))
    weights = bootstrap.resamples(groups, 200, rng)
    found = bootstrap.intervals(numerator[None], denominator[None], groups, weights)
    # Numerator and denominator vary together, so the ratio does not vary at all.
    assert (found.low[0], found.high[0]) == pytest.approx((2, 2), abs=1e-12)


def test_absent_perturbations_and_degenerate_cases():
    groups = alone(40)
    weights = bootstrap.resamples(groups, 300, np.random.default_rng(0))
    values = np.full(40, np.nan)
    assert np.isnan(one(values, groups, weights).low)
    values[3] = 1.0
    assert np.isnan(one(values, groups, weights).low)
    values[:5] = 2.0
    found = one(values, groups, weights)
    assert (found.low, found.high) == (2.0, 2.0)
    assert np.isnan(bootstrap.ratio(np.ones(2), np.array([1.0, -1.0])))
