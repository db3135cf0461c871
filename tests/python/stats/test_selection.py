"""Selection without looking, and the luck of the best of many (metrics.md 10.3)."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import GENES, METRICS, PRIMARY, panel_of

from vcbench.stats import selection


def rows(panel, negative=(), metric=PRIMARY):
    found = selection.rows(panel, metric, GENES, panel.series(metric, GENES), set(negative))
    return {row["model"]: row for row in found}


def test_each_fold_is_judged_by_what_the_others_chose():
    """Brute force: mean over the other folds per configuration, the winner's score on this fold."""
    rng = np.random.default_rng(0)
    values = {("m", f"e{i}", s): rng.normal(size=45) for i in range(4) for s in ("alt", "diff")}
    folds = rng.integers(1, 4, 45)
    panel = panel_of(values, (), folds=folds)
    row = rows(panel)["m"]
    parts, chosen = [], []
    for fold in (1, 2, 3):
        best = max(sorted(values), key=lambda of: values[of][folds != fold].mean())
        parts.append(values[best][folds == fold])
        chosen.append(f"{fold}:{best[1]}.{best[2]}")
    assert row["value"] == pytest.approx(np.concatenate(parts).mean(), rel=1e-9)
    assert row["chosen"] == ";".join(chosen)
    naive = max(sorted(values), key=lambda of: values[of].mean())
    assert row["naive"] == pytest.approx(values[naive].mean(), rel=1e-9)
    assert (row["naive_encoder"], row["naive_strategy"]) == naive[1:]
    assert row["optimism"] == pytest.approx(row["naive"] - row["value"], rel=1e-6)
    assert row["n_configurations"] == 8


def test_the_maximum_is_too_high_and_the_honest_score_is_not():
    """Ten equal configurations with true score 0: the naive best averages E max of ten normals / sqrt(n)."""
    n, naive, honest = 60, [], []
    for replicate in range(150):
        rng = np.random.default_rng(replicate)
        values = {("m", f"e{i}", "alt"): rng.normal(size=n) for i in range(10)}
        row = rows(panel_of(values, (), n_resamples=10))["m"]
        naive.append(row["naive"])
        honest.append(row["value"])
    assert np.mean(naive) == pytest.approx(1.5388 / np.sqrt(n), rel=0.08)
    assert abs(np.mean(honest)) < 3 / np.sqrt(150 * n)


def test_negative_controls_are_no_candidates():
    values = {("m", e, "alt"): np.full(30, v) for e, v in (("random", 0.9), ("plm", 0.5))}
    row = rows(panel_of(values, ()), ["random"])["m"]
    assert (row["value"], row["n_configurations"], row["optimism"]) == (0.5, 1, 0)


def test_one_fold_leaves_nothing_to_choose_on():
    rng = np.random.default_rng(1)
    values = {("m", f"e{i}", "alt"): rng.normal(size=30) for i in range(2)} | {("one", "e", "alt"): rng.normal(size=30)}
    found = rows(panel_of(values, (), folds=np.ones(30, dtype=int)))
    assert found["m"]["status"] == "one_fold"
    assert np.isnan(found["m"]["value"])
    assert found["one"]["value"] == pytest.approx(values["one", "e", "alt"].mean(), rel=1e-9)


def test_lower_is_better():
    rng = np.random.default_rng(2)
    values = {("m", f"e{i}", "alt"): 1 + i + 0.1 * rng.random(30) for i in range(3)}
    metric = METRICS["mse"]
    row = rows(panel_of(values, (), pair=("mse", GENES)), metric=metric)["m"]
    assert row["chosen"] == "1:e0.alt;2:e0.alt;3:e0.alt"
    assert row["naive_encoder"] == "e0"


def test_the_best_baseline_is_not_compared_with_itself():
    rng = np.random.default_rng(3)
    values = {("nearest", "e0", "alt"): rng.normal(1, 0.1, 40), ("m", "e0", "alt"): rng.normal(2, 0.1, 40),
              ("train_mean", "none", "none"): rng.normal(0, 0.1, 40)}  # fmt: skip
    found = rows(panel_of(values))
    assert np.isnan(found["nearest"]["p"])
    assert found["m"]["verdict"] == "better"
    assert found["m"]["reference_model"] == "nearest"
    assert found["train_mean"]["verdict"] == "worse"
    gain = values["m", "e0", "alt"].mean() - values["nearest", "e0", "alt"].mean()
    assert found["m"]["difference"] == pytest.approx(gain, rel=1e-9)
