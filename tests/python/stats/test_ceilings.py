"""Dynamic range fractions and what they say of a metric (metrics.md 2.10, 7.5)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from simulated import GENES, panel_of

from vcbench.metrics import registry
from vcbench.stats import bootstrap, ceilings
from vcbench.stats.panel import Series

METRICS = registry.load()
PEARSON, MSE, NMSE = METRICS["dpearson_pm"], METRICS["mse"], METRICS["nmse_ctrl"]


def series(values, weight=1.0):
    values = np.atleast_2d(np.asarray(values, dtype=float))
    ones = np.where(np.isnan(values), np.nan, weight)
    return Series(values, ones, values, ones, (Counter(),), values.mean(1, keepdims=True), *[np.isnan(values)] * 2)


def panel(k, n=400):
    groups = bootstrap.clusters([f"c{i}" for i in range(k)], np.ones(k, dtype=int))
    return SimpleNamespace(groups=groups, weights=bootstrap.resamples(groups, n, np.random.default_rng(1)))


def test_fractions_by_hand():
    base, positive = np.array([0.2, 0.2, 0.5, np.nan]), np.array([1.0, 0.2, 0.25, 0.3])
    np.testing.assert_allclose(ceilings.fractions(base, positive, PEARSON), [1, 0, -0.5, np.nan], atol=1e-5)
    np.testing.assert_allclose(
        ceilings.fractions(np.array([0.2, 0.2, 0.1]), np.array([0.0, 0.2, 5.0]), MSE), [1, 0, -1], atol=1e-4
    )  # perfect 1, base 0, worse than the base clipped at -1


def test_resampled_medians_are_those_of_the_repeated_values():
    rng = np.random.default_rng(3)
    values = rng.normal(size=9)
    values[4] = np.nan
    counts = rng.integers(0, 3, (50, 9)).astype(float)
    expected = [np.nanmedian(np.repeat(values, row.astype(int))) if row[values == values].any() else np.nan
                for row in counts]  # fmt: skip
    np.testing.assert_allclose(ceilings.medians(values, counts), expected)


@pytest.mark.parametrize(
    ("positive", "spread", "expected"),
    [(0.7, 0.05, ceilings.USABLE), (0.15, 0.01, ceilings.LOW_RANGE), (0.3, 3.0, ceilings.LOW_RANGE)],
)
def test_a_metric_is_usable_when_its_median_range_is_large_and_certain(positive, spread, expected):
    k = 40
    rng = np.random.default_rng(5)
    found = ceilings.dynamic_range(
        panel(k), PEARSON, series(np.zeros(k)), 0, series(np.clip(rng.normal(positive, spread, k), -1, 1))
    )
    assert found.low <= found.median <= found.high
    assert ceilings.status_of(PEARSON, 0.5, True, found, True) == expected


def test_reasons_come_in_order():
    good = ceilings.Range(np.array([0.5]), 0.5, 0.4, 0.6)
    assert ceilings.status_of(PEARSON, np.nan, True, good, True) == ceilings.NO_CEILING
    assert ceilings.status_of(PEARSON, 0.5, False, good, None) == ceilings.NO_BASE
    assert ceilings.status_of(PEARSON, 0.5, True, good, False) == ceilings.NOT_DISCRIMINATING
    assert ceilings.status_of(replace(PEARSON, direction="target 1"), 0.5, True, good, True) == ceilings.NO_DIRECTION


def test_a_ratio_of_sums_has_one_range_over_all_perturbations():
    k = 50
    rng = np.random.default_rng(7)
    size = rng.uniform(1, 3, k)

    def ratio(share):
        return replace(series(share * size), denominator=size[None], imputed_denominator=size[None])

    found = ceilings.dynamic_range(panel(k), NMSE, ratio(1.0), 0, ratio(0.25))
    assert found.median == pytest.approx(0.75, abs=1e-5)
    assert (found.low, found.high) == (pytest.approx(0.75, abs=1e-5),) * 2
    assert found.values.shape == (1,)


def test_the_best_other_line_and_the_controls_stand_in_the_row():
    k = 60
    rng = np.random.default_rng(9)
    given = {("train_mean", "none", "none"): np.zeros(k), ("m", "none", "none"): rng.normal(0.4, 0.1, k)}
    lines = {(f"cross_line:{name}", "none", "none"): np.full(k, value) for name, value in (("a", 0.2), ("b", 0.3))}
    found = panel_of({**given, **lines}, duplicate=rng.normal(0.6, 0.05, k))
    row = ceilings.build(found, PEARSON, GENES, found.series(PEARSON, GENES)).row
    assert (row["cross_line"], row["cross_line_dataset"]) == (pytest.approx(0.3), "b")
    assert row["tech_duplicate"] == pytest.approx(0.6, abs=0.03)
    assert (row["status"], row["n"], row["base"]) == (ceilings.USABLE, k, "train_mean")
    assert row["drf"] == pytest.approx(row["tech_duplicate"], abs=0.02)  # base 0, perfect 1
    assert set(row) == set(ceilings.CEILINGS)
