"""Selection by validation, and the luck of the best of many (metrics.md 10.3)."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import GENES, METRICS, PRIMARY, chooser, panel_of

from vcbench.stats import selection


def rows(panel, chosen_by, negative=(), metric=PRIMARY):
    found = selection.rows(panel, metric, GENES, panel.series(metric, GENES), set(negative), chosen_by)
    return {row["model"]: row for row in found}


def test_each_fold_is_judged_on_test_by_what_its_validation_chose():
    """Brute force: mean over the fold's validation per configuration, the winner's score on the fold's test."""
    rng = np.random.default_rng(0)
    of = [("m", f"e{i}", s) for i in range(4) for s in ("alt", "diff")]
    values, validation = ({name: rng.normal(size=n) for name in of} for n in (45, 18))
    folds, of_validation = rng.integers(1, 4, 45), np.arange(18) % 3 + 1
    panel = panel_of(values, (), folds=folds)
    row = rows(panel, chooser(validation, folds=of_validation))["m"]
    parts, chosen = [], []
    for fold in (1, 2, 3):
        best = max(sorted(values), key=lambda of: validation[of][of_validation == fold].mean())
        parts.append(values[best][folds == fold])
        chosen.append(f"{fold}:{best[1]}.{best[2]}")
    assert row["value"] == pytest.approx(np.concatenate(parts).mean(), rel=1e-9)
    assert row["chosen"] == ";".join(chosen)
    naive = max(sorted(values), key=lambda of: values[of].mean())
    assert row["naive"] == pytest.approx(values[naive].mean(), rel=1e-9)
    assert (row["naive_encoder"], row["naive_strategy"]) == naive[1:]
    assert row["optimism"] == pytest.approx(row["naive"] - row["value"], rel=1e-6)
    assert (row["n_configurations"], row["chosen_by"], row["n_validation"]) == (8, "dpearson_pm__expr_nt", 6)


def test_test_scores_have_no_say():
    rng = np.random.default_rng(8)
    of = [("m", f"e{i}", "alt") for i in range(5)]
    validation = chooser({name: rng.normal(size=12) for name in of})
    chosen = {rows(panel_of({name: rng.normal(size=30) for name in of}, ()), validation)["m"]["chosen"]
              for _ in range(5)}  # fmt: skip
    assert len(chosen) == 1


def test_the_maximum_is_too_high_and_the_honest_score_is_not():
    """Ten equal configurations with true score 0: the naive best averages E max of ten normals / sqrt(n)."""
    n, naive, honest = 60, [], []
    for replicate in range(150):
        rng = np.random.default_rng(replicate)
        of = [("m", f"e{i}", "alt") for i in range(10)]
        values, validation = ({name: rng.normal(size=size) for name in of} for size in (n, 12))
        row = rows(panel_of(values, (), n_resamples=10), chooser(validation))["m"]
        naive.append(row["naive"])
        honest.append(row["value"])
    assert np.mean(naive) == pytest.approx(1.5388 / np.sqrt(n), rel=0.08)
    assert abs(np.mean(honest)) < 3 / np.sqrt(150 * n)


def test_negative_controls_are_no_candidates():
    values = {("m", e, "alt"): np.full(30, v) for e, v in (("random", 0.9), ("plm", 0.5))}
    row = rows(panel_of(values, ()), chooser(values), ["random"])["m"]
    assert (row["value"], row["n_configurations"], row["optimism"], row["chosen_by"]) == (0.5, 1, 0, "")


def test_without_validation_only_a_single_candidate_has_a_score():
    rng = np.random.default_rng(1)
    values = {("m", f"e{i}", "alt"): rng.normal(size=30) for i in range(2)} | {("one", "e", "alt"): rng.normal(size=30)}
    found = rows(panel_of(values), chooser(None))
    assert (found["m"]["status"], found["m"]["chosen"], found["m"]["verdict"]) == ("no_validation", "", "unresolved")
    assert np.isnan(found["m"]["value"])
    assert found["one"]["value"] == pytest.approx(values["one", "e", "alt"].mean(), rel=1e-9)


def test_a_configuration_that_predicted_no_validation_perturbation_of_a_fold_is_not_chosen_there():
    """No skill (0) would be better than what the others score."""
    of = [("m", "e0", "alt"), ("m", "e1", "alt")]
    validation = {of[0]: np.full(9, -0.5), of[1]: np.full(9, -0.1)}
    by = chooser(validation, missing={of[1]: np.array([0, 3, 6])})  # all of fold 1
    values = {name: np.full(30, 0.2) for name in of}
    assert rows(panel_of(values, ()), by)["m"]["chosen"] == "1:e0.alt;2:e1.alt;3:e1.alt"
    # one of its three missing counts as no skill, as everywhere
    by = chooser(validation, missing={of[0]: np.array([0, 3])})
    assert rows(panel_of(values, ()), by)["m"]["chosen"] == "1:e1.alt;2:e1.alt;3:e1.alt"


def test_the_primary_metric_chooses_for_every_metric():
    of = [("m", "e0", "alt"), ("m", "e1", "alt")]
    by = chooser({of[0]: np.full(9, 0.1), of[1]: np.full(9, 0.4)})
    values = {of[0]: np.full(30, 0.2), of[1]: np.full(30, 0.3)}  # of an error: the first is better
    found = rows(panel_of(values, (), pair=("mse", GENES)), by, metric=METRICS["mse"])["m"]
    assert (found["chosen"], found["chosen_by"]) == ("1:e1.alt;2:e1.alt;3:e1.alt", "dpearson_pm__expr_nt")
    assert (found["naive_encoder"], found["value"]) == ("e0", pytest.approx(0.3))
    assert found["optimism"] == pytest.approx(0.1)


def test_only_perturbations_with_a_value_are_counted_as_choosing():
    of = [("m", "e0", "alt"), ("m", "e1", "alt")]
    values = {name: np.full(30, 0.2) for name in of}
    better = {of[0]: np.full(9, 0.1), of[1]: np.full(9, 0.4)}
    by = chooser(better, excluded=np.array([0, 3]))  # two of the three of fold 1
    assert rows(panel_of(values, ()), by)["m"]["n_validation"] == 1
    by = chooser(better, excluded=np.array([0, 3, 6]))
    found = rows(panel_of(values, ()), by)["m"]
    assert (found["n_validation"], found["status"]) == (0, "no_validation")


def test_lower_is_better():
    rng = np.random.default_rng(2)
    values = {("m", f"e{i}", "alt"): 1 + i + 0.1 * rng.random(30) for i in range(3)}
    by = selection.choosing(panel_of(values, (), pair=("mse", GENES)), METRICS["mse"], GENES)
    row = rows(panel_of(values, (), pair=("mse", GENES)), by, metric=METRICS["mse"])["m"]
    assert row["chosen"] == "1:e0.alt;2:e0.alt;3:e0.alt"
    assert row["naive_encoder"] == "e0"


def test_the_best_baseline_is_not_compared_with_itself():
    rng = np.random.default_rng(3)
    values = {("nearest", "e0", "alt"): rng.normal(1, 0.1, 40), ("m", "e0", "alt"): rng.normal(2, 0.1, 40),
              ("train_mean", "none", "none"): rng.normal(0, 0.1, 40)}  # fmt: skip
    found = rows(panel_of(values), chooser(None))
    assert np.isnan(found["nearest"]["p"])
    assert found["m"]["verdict"] == "better"
    assert found["m"]["reference_model"] == "nearest"
    assert found["train_mean"]["verdict"] == "worse"
    gain = values["m", "e0", "alt"].mean() - values["nearest", "e0", "alt"].mean()
    assert found["m"]["difference"] == pytest.approx(gain, rel=1e-9)


def test_missing_predictions_of_the_best_baseline_stand_beside_the_contrast():
    rng = np.random.default_rng(4)
    values = {("nearest", "e0", "alt"): rng.normal(1, 0.1, 40), ("m", "e0", "alt"): rng.normal(2, 0.1, 40)}
    found = rows(panel_of(values, missing={("nearest", "e0", "alt"): np.arange(7)}), chooser(None))
    assert (found["m"]["reference_model"], found["m"]["n_missing_reference"]) == ("nearest", 7)
    assert rows(panel_of(values), chooser(None))["m"]["n_missing_reference"] == 0
