"""Scaled scores and families (metrics.md 2.10, 10.4)."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import GENES, METRICS, PRIMARY, panel_of

from vcbench.core.errors import InputError
from vcbench.stats import families, scaled


def made(rng, n=60, duplicate=0.8, noise=0.1, shift=0.0):
    difficulty = rng.normal(0, 0.1, n)
    values = {("train_mean", "none", "none"): shift + difficulty + noise * rng.normal(size=n)}
    values |= {(m, "e", "alt"): shift + level + difficulty + noise * rng.normal(size=n) for m, level in
               (("weak", 0.2), ("strong", 1.0))}  # fmt: skip
    return values, shift + duplicate + difficulty + noise * rng.normal(size=n)


def of(panel, metric=PRIMARY):
    found = scaled.scaled(panel, metric, GENES, panel.series(metric, GENES))
    return found, {p.of[0]: float(v) for p, v in zip(panel.plan, found.value, strict=True)}


def test_scaled_is_zero_at_the_train_mean_one_at_the_duplicate_and_not_cut():
    values, duplicate = made(np.random.default_rng(0))
    panel = panel_of(values, duplicate=duplicate)
    found, by_model = of(panel)
    base = values["train_mean", "none", "none"].mean()
    assert found.discriminates is True
    assert by_model["train_mean"] == 0
    for name in ("weak", "strong"):
        expected = (values[name, "e", "alt"].mean() - base) / (duplicate.mean() - base)
        assert by_model[name] == pytest.approx(expected, rel=1e-12)
    assert by_model["strong"] > 1  # a model may be better than a noisy half


def test_lower_is_better_scales_alike():
    values, duplicate = made(np.random.default_rng(1))
    turned = {name: 2 - v for name, v in values.items()}
    metric = METRICS["mse"]
    _, plain = of(panel_of(values, duplicate=duplicate))
    _, lower = of(panel_of(turned, duplicate=2 - duplicate, pair=("mse", GENES)), metric)
    assert lower == pytest.approx(plain, rel=1e-9)


def test_a_metric_that_cannot_discriminate_is_not_scaled():
    values, _ = made(np.random.default_rng(2))
    base = values["train_mean", "none", "none"]
    rng = np.random.default_rng(3)
    noise = rng.normal(size=60)
    noise -= noise.mean()
    error = noise.std(ddof=1) / np.sqrt(60)
    for factor, expected in ((2.9, False), (3.1, True), (-9, False)):
        found, by_model = of(panel_of(values, duplicate=base + noise + factor * error))
        assert found.discriminates is expected
        assert np.isnan(by_model["weak"]) == (not expected)
    assert of(panel_of(values))[0].discriminates is None  # no duplicate
    del values["train_mean", "none", "none"]
    assert of(panel_of(values, ("nearest",), duplicate=base))[0].discriminates is None


def test_contributions_give_the_error_of_a_ratio():
    """First-order contributions against the jack-knife over perturbations."""
    values, duplicate = made(np.random.default_rng(4), n=80)
    panel = panel_of(values, duplicate=duplicate)
    found, _ = of(panel)
    m = next(i for i, p in enumerate(panel.plan) if p.of[0] == "weak")
    base, model = values["train_mean", "none", "none"], values["weak", "e", "alt"]
    left = [((model - base).sum() - (model - base)[k]) / ((duplicate - base).sum() - (duplicate - base)[k])
            for k in range(80)]  # fmt: skip
    jackknife = np.sqrt(79 / 80 * ((left - np.mean(left)) ** 2).sum())
    first_order = np.sqrt(80 / 79 * (found.contributions[m] ** 2).sum())
    assert found.contributions[m].sum() == pytest.approx(0, abs=1e-12)
    assert first_order == pytest.approx(jackknife, rel=0.05)


def rows(panel, groups):
    series = panel.series(PRIMARY, GENES)
    return families.rows(panel, {(PRIMARY.id, GENES): (PRIMARY, series)}, groups)


def test_a_family_of_one_metric_is_its_scaled_score_and_coverage_of_its_interval():
    truth = 0.2 / 0.8
    hits = 0
    for replicate in range(200):
        values, duplicate = made(np.random.default_rng([5, replicate]))
        panel = panel_of(values, duplicate=duplicate, n_resamples=2)
        found = {(row["model"], row["family"]): row for row in rows(panel, {"one": [PRIMARY.column(GENES)]})}
        one, whole = found["weak", "one"], found["weak", "all"]
        assert (one["scaled"], one["ci_low"]) == (whole["scaled"], whole["ci_low"])
        hits += one["ci_low"] <= truth <= one["ci_high"]
    assert 0.91 <= hits / 200 <= 0.985
    assert one["scaled"] == pytest.approx(of(panel)[1]["weak"], rel=1e-9)


def test_families_name_what_they_leave_out():
    values, _ = made(np.random.default_rng(6))
    panel = panel_of(values, duplicate=values["train_mean", "none", "none"])
    found = rows(panel, {"one": [PRIMARY.column(GENES)]})
    assert {row["left_out"] for row in found} == {PRIMARY.column(GENES)}
    assert all(np.isnan(row["scaled"]) for row in found)
    with pytest.raises(InputError, match="not in the headline"):
        rows(panel, {"one": ["unknown__metric"]})
