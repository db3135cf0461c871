"""Cluster bootstrap and t intervals (metrics.md 10.2)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vcbench.stats import bootstrap


def one(values, groups, weights):
    values = np.asarray(values, dtype=float)
    return bootstrap.interval([(values, np.where(np.isnan(values), np.nan, 1.0))], [1.0], groups, weights)


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
    found = bootstrap.interval([(numerator, denominator)], [1.0], groups, weights)
    # Numerator and denominator vary together, so the ratio does not vary at all.
    assert (found.low, found.high) == pytest.approx((2, 2), abs=1e-12)


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
