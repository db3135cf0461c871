"""Sizes of predicted and measured effects, which the tables of known function rank variants by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vcbench.metrics import magnitude, registry, scoring
from vcbench.metrics.bundle import TruthBundle


def test_predicted_impact_by_hand(make_fold, compare):
    fold = make_fold(np.zeros((3, 4)), control_b=np.array([1.0, 0, 0, 0]), targets=([3], [], []),
                     expressed=np.array([True, True, False, True]))  # fmt: skip
    prediction = np.array([[4.0, 4, 9, 7], [1, 0, 9, 2], [1, 0, 0, 0]])
    outcome = magnitude.impact(compare(fold, prediction), "expr_nt")
    # genes 0, 1 and 3 count, for the first perturbation without its target 3
    np.testing.assert_allclose(outcome.values[:, 0], [5.0, 2.0, 0.0])
    assert outcome.n_genes.tolist() == [2, 3, 3]


def test_impact_does_not_look_at_the_truth(make_fold, compare, rng):
    prediction = rng.normal(size=(4, 30))
    pairs = np.stack([np.arange(4), rng.permutation(4)], axis=1)
    values = [magnitude.impact(compare(make_fold(truth), prediction, pairs=pairs), "expr_nt").values
              for truth in (np.zeros((4, 30)), rng.normal(size=(4, 30)))]  # fmt: skip
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0][:, 0], values[0][:, 1])


def test_noise_is_subtracted_on_average(make_fold, compare, rng):
    """Means of 8 cells without an effect, against a known control: the squared sizes average to 0, not to the noise."""
    g, n, spread = 400, 8, 0.5
    profile = rng.normal(0, spread / np.sqrt(n), (200, g))
    variance = np.full((200, g), spread**2 / n)
    fold = make_fold(profile, variance=variance, n_cells=np.full(200, 50))
    measured = magnitude.measured_impact(fold, "expr_nt")
    noise = g * spread**2 / n
    assert abs(np.mean(np.sign(measured) * measured**2)) < 0.02 * noise
    comparison = compare(fold, profile)
    for n_cells, expected in ((n, 0.0), (1, noise)):
        predicted = replace(comparison.predicted, variance=variance, n_cells=np.full(200, n_cells))
        found = magnitude.impact(replace(comparison, predicted=predicted), "expr_nt").values[:, 0]
        assert np.mean(np.sign(found) * found**2) == pytest.approx(expected, abs=0.02 * noise)


def test_too_few_cells_have_no_measured_impact(make_fold):
    fold = make_fold(np.ones((2, 9)), n_cells=np.array([9, 10]))
    np.testing.assert_allclose(magnitude.measured_impact(fold, "expr_nt"), [np.nan, 3.0])


def test_rows_of_the_score_table(make_fold, rng):
    fold = make_fold(rng.normal(size=(3, 12)))
    bundle = TruthBundle(np.arange(12).astype(str), (fold,), np.full(12, np.nan), np.zeros(12, dtype=bool),
                         {"dataset": "d", "split": "s"})  # fmt: skip
    metrics = {"impact": registry.load()["impact"]}
    model, facts = scoring.Rows("d", "s", "linear"), scoring.Rows("d", "s", "truth")
    aligned = scoring.align(fold, fold.ids[:2], np.ones((2, 12)), None, np.ones(2, dtype=int))
    scoring.score_combination(bundle, {1: aligned}, metrics, model, 0)
    scoring.add_truth_facts(bundle, facts)
    found = {row[7]: (row[10], row[14]) for row in model.rows}
    assert found[fold.ids[0]] == (pytest.approx(np.sqrt(12)), "ok")
    assert np.isnan(found[fold.ids[2]][0])
    assert found[fold.ids[2]][1] == "missing_pred"
    assert {row[3] for row in model.rows} == {"linear"}  # no shuffled labels: nothing depends on the truth
    of_truth = {row[7]: row[10] for row in facts.rows if row[8] == "impact"}
    for k, name in enumerate(fold.ids):
        assert of_truth[name] == pytest.approx(np.linalg.norm(fold.profile[k]))
