"""Centroid accuracy (metrics.md 2.6, 11.1)."""

from __future__ import annotations

import numpy as np
import pytest

from vcbench.metrics import discrimination


def by_hand(predicted, true):
    n = len(true)
    values = []
    for k in range(n):
        d = np.sqrt(((predicted[k] - true) ** 2).sum(1))
        values.append(sum((d[j] > d[k]) + 0.5 * (d[j] == d[k]) for j in range(n) if j != k) / (n - 1))
    return values


def test_equals_the_definition(make_fold, compare, rng):
    true, predicted = rng.normal(size=(9, 30)), rng.normal(size=(9, 30))
    found = discrimination.c_acc(compare(make_fold(true), predicted), "expr_nt").values[:, 0]
    np.testing.assert_allclose(found, by_hand(predicted, true), atol=1e-12)


def test_perfect_and_constant_predictions(make_fold, compare, rng):
    true = rng.normal(size=(7, 30)) + 5
    fold = make_fold(true)
    assert (discrimination.c_acc(compare(fold, true), "expr_nt").values == 1).all()
    for dtype in (np.float32, np.float64):
        same = np.tile(rng.normal(size=30) + 5, (7, 1)).astype(dtype)
        assert discrimination.c_acc(compare(fold, same), "expr_nt").values.mean() == pytest.approx(0.5, abs=1e-15)


def test_identical_truths_share_the_credit(make_fold, compare, rng):
    true = rng.normal(size=(3, 30))
    true[1] = true[0]
    found = discrimination.c_acc(compare(make_fold(true), true), "expr_nt").values[:, 0]
    np.testing.assert_allclose(found, [0.75, 0.75, 1.0])


def test_one_perturbation_is_undefined_two_are_not(make_fold, compare, rng):
    true = rng.normal(size=(2, 30))
    alone = discrimination.c_acc(compare(make_fold(true[:1]), true[:1]), "expr_nt")
    assert np.isnan(alone.values).all()
    assert alone.truth_reason.tolist() == ["single_pert"]
    assert (discrimination.c_acc(compare(make_fold(true), true), "expr_nt").values == 1).all()


def test_perturbations_with_few_cells_are_no_distractors(make_fold, compare, rng):
    true, predicted = rng.normal(size=(5, 30)), rng.normal(size=(5, 30))
    fold = make_fold(true, n_cells=np.array([50, 50, 9, 50, 50]))
    outcome = discrimination.c_acc(compare(fold, predicted), "expr_nt")
    keep = [0, 1, 3, 4]
    np.testing.assert_allclose(outcome.values[keep, 0], by_hand(predicted[keep], true[keep]))
    assert outcome.truth_reason[2] == "few_cells"


def test_missing_predictions_do_not_change_the_others(make_fold, compare, rng):
    true, predicted = rng.normal(size=(5, 30)), rng.normal(size=(5, 30))
    expected = by_hand(predicted, true)
    predicted[2] = np.nan
    found = discrimination.c_acc(compare(make_fold(true), predicted), "expr_nt").values[:, 0]
    assert np.isnan(found[2])
    np.testing.assert_allclose(np.delete(found, 2), np.delete(expected, 2))


def test_targets_of_the_whole_panel_are_left_out(make_fold, compare, rng):
    # Each perturbation silences its own gene: seen by row, a copy of the mean would be recognised by it.
    true = np.ones((4, 10)) + 1e-3 * rng.normal(size=(4, 10))
    true[np.arange(4), np.arange(4)] = 0
    fold = make_fold(true, targets=tuple(np.array([k]) for k in range(4)))
    predicted = np.ones((4, 10))
    predicted[np.arange(4), np.arange(4)] = 0
    with_targets = discrimination.c_acc(compare(fold, predicted), "expr").values
    without = discrimination.c_acc(compare(fold, predicted), "expr_nt")
    assert (with_targets == 1).all()
    assert without.values.mean() == pytest.approx(0.5)
    assert (without.n_genes == 6).all()


def test_own_truth_against_control(make_fold, compare):
    true = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    fold = make_fold(true, control_a=np.zeros(2))
    predicted = np.array([[0.9, 0.0], [0.0, 0.1], [0.3, 0.0]])
    found = discrimination.c_acc_ctrl(compare(fold, predicted), "expr_nt").values[:, 0]
    assert found.tolist() == [1.0, 0.0, 0.5]


def test_distances_survive_a_large_offset(rng):
    true, predicted = rng.normal(size=(4, 50)), rng.normal(size=(4, 50))
    expected = ((predicted[:, None] - true[None]) ** 2).sum(2)
    found, _ = discrimination.squared_distances(predicted + 1000, true + 1000)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
