"""Average precision and its relatives (metrics.md 2.7, 11)."""

from __future__ import annotations

import numpy as np
import pytest

from vcbench.metrics import recovery


@pytest.mark.parametrize("ties", [1, 3, 50])
def test_average_precision_equals_sklearn(rng, ties):
    from sklearn.metrics import average_precision_score

    for _ in range(20):
        labels = rng.random(200) < rng.uniform(0.02, 0.5)
        labels[0] = True
        score = np.floor(np.abs(rng.normal(size=200)) * 200 / ties)
        mask = np.ones((1, 200), dtype=bool)
        found = recovery.average_precision(score, labels[None], mask)[0]
        assert found == pytest.approx(average_precision_score(labels, score), abs=1e-12)


def test_tied_genes_may_be_permuted(rng):
    score, labels = rng.integers(0, 4, 100).astype(float), rng.random(100) < 0.2
    mask = np.ones((1, 100), dtype=bool)
    values = set()
    for _ in range(20):
        order = rng.permutation(100)
        values.add(round(float(recovery.average_precision(score[order], labels[None, order], mask)[0]), 12))
    assert len(values) == 1


@pytest.mark.parametrize("positives", [1, 30, 99])
def test_a_constant_score(positives):
    labels = np.arange(100)[None] < positives
    mask = np.ones((1, 100), dtype=bool)
    pi = positives / 100
    assert recovery.average_precision(np.zeros(100), labels, mask)[0] == pytest.approx(pi, abs=1e-15)
    assert recovery.trapezoid_area(np.zeros(100), labels, mask)[0] == pytest.approx((1 + pi) / 2, abs=1e-15)


def test_genes_off_the_set_do_not_count(rng):
    score, labels, mask = rng.random(100), rng.random((1, 100)) < 0.3, rng.random((1, 100)) < 0.5
    inside = mask[0]
    expected = recovery.average_precision(score[inside], labels[:, inside], np.ones((1, inside.sum()), dtype=bool))
    np.testing.assert_allclose(recovery.average_precision(score, labels, mask), expected, atol=1e-15)


def test_no_change_scores_the_prevalence_of_each_variant(make_fold, compare, rng):
    control = rng.gamma(2, 1, 80)
    positive = rng.random((5, 80)) < 0.2
    positive[:, 0] = True
    fold = make_fold(control + rng.normal(size=(5, 80)), control_b=control, control_a=control, positive=positive)
    comparison = compare(fold, np.tile(control, (5, 1)).astype(np.float32))
    np.testing.assert_allclose(recovery.ap_de(comparison, "expr_nt").values[:, 0], positive.mean(1), atol=1e-15)
    np.testing.assert_allclose(recovery.ap_de_lift(comparison, "expr_nt").values, 0, atol=1e-15)
    # So does a shift that is the same for every gene.
    shifted = compare(fold, np.tile(control + 0.3, (5, 1)).astype(np.float32))
    np.testing.assert_allclose(recovery.ap_de(shifted, "expr_nt").values[:, 0], positive.mean(1), atol=1e-15)


def test_a_perfect_ranking_scores_one(make_fold, compare, rng):
    positive = rng.random((5, 80)) < 0.2
    positive[:, 0] = True
    fold = make_fold(positive * -2.0, positive=positive)
    comparison = compare(fold, positive * -1.0)
    assert (recovery.ap_de(comparison, "expr_nt").values == 1).all()
    assert (recovery.ap_de_lift(comparison, "expr_nt").values == 1).all()


def test_no_and_all_positives_are_undefined(make_fold, compare, rng):
    positive = np.zeros((3, 20), dtype=bool)
    positive[1] = True
    positive[2, :4] = True
    fold = make_fold(rng.normal(size=(3, 20)), positive=positive)
    outcome = recovery.ap_de(compare(fold, rng.normal(size=(3, 20))), "expr_nt")
    assert outcome.truth_reason.tolist() == ["no_de", "all_de", ""]
    assert np.isnan(outcome.values[:2]).all()
    assert not np.isnan(outcome.values[2, 0])


def test_the_target_gene_is_no_positive(make_fold, compare, rng):
    positive = np.zeros((1, 20), dtype=bool)
    positive[0, 5] = True
    fold = make_fold(rng.normal(size=(1, 20)), positive=positive, targets=(np.array([5]),))
    assert recovery.ap_de(compare(fold, rng.normal(size=(1, 20))), "expr_nt").truth_reason.tolist() == ["no_de"]


def test_random_predictions_have_no_lift(make_fold, compare, rng):
    k, g = 300, 200
    positive = rng.random((k, g)) < rng.uniform(0.02, 0.3, (k, 1))
    positive[:, 0], positive[:, 1] = True, False
    fold = make_fold(rng.normal(size=(k, g)), positive=positive)
    lift = recovery.ap_de_lift(compare(fold, rng.normal(size=(k, g))), "expr_nt").values[:, 0]
    # The finite-sample bias of average precision is upward and of the order of 1/G.
    assert lift.mean() == pytest.approx(0, abs=1.96 * lift.std() / np.sqrt(k) + 5 / g)
