"""Rank statistics within folds against scikit-learn, scipy and examples by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from vcbench.explore import ranking


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261121)


def one(function, score, target, fold=None, weights=None):
    fold = np.zeros(len(score), dtype=int) if fold is None else np.asarray(fold)
    weights = np.ones((1, len(score))) if weights is None else np.asarray(weights, dtype=float)
    return function(np.asarray(score, dtype=float), np.asarray(target), fold, weights)


@pytest.mark.parametrize("n", [7, 40, 211])
def test_one_fold_is_the_usual_statistic(rng, n):
    score, value = np.round(rng.normal(size=n), 1), np.round(rng.normal(size=n), 1)  # with ties
    positive = value + rng.normal(size=n) > 0
    assert one(ranking.auroc, score, positive)[0] == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
    assert one(ranking.auprc, score, positive)[0] == pytest.approx(average_precision_score(positive, score), abs=1e-12)
    assert one(ranking.spearman, score, value)[0] == pytest.approx(spearmanr(score, value).statistic, abs=1e-12)
    assert ranking.prevalence(positive, np.zeros(n, dtype=int)) == pytest.approx(positive.mean())


def test_a_weight_counts_a_variant_that_often(rng):
    n = 60
    score, value = np.round(rng.normal(size=n), 1), np.round(rng.normal(size=n), 1)
    positive = value > 0.2
    weights = rng.integers(0, 4, (9, n))
    for function, target, usual in (
        (ranking.auroc, positive, lambda s, t: roc_auc_score(t, s)),
        (ranking.auprc, positive, lambda s, t: average_precision_score(t, s)),
        (ranking.spearman, value, lambda s, t: spearmanr(s, t).statistic),
    ):
        found = one(function, score, target, weights=weights)
        for row, times in zip(found, weights, strict=True):
            repeated = np.repeat(np.arange(n), times)
            assert row == pytest.approx(usual(score[repeated], target[repeated]), abs=1e-12)


def test_pairs_of_a_fold_only_by_hand():
    """Fold 1: 3 of 4 pairs right. Fold 2: 1 of 2, one tie. Across folds nothing is compared."""
    score = [4, 2, 3, 1, 100, 100, 101]
    positive = np.array([True, True, False, False, True, False, False])
    fold = [1, 1, 1, 1, 2, 2, 2]
    assert one(ranking.auroc, score, positive, fold)[0] == pytest.approx((3 + 0.5 + 0) / 6)
    # fold 1: precision 1/1 and 2/3; fold 2: the positive ties with one of two below the top, 1 of 3
    assert one(ranking.auprc, score, positive, fold)[0] == pytest.approx((1 + 2 / 3 + 1 / 3) / 3)
    assert ranking.prevalence(positive, np.array(fold)) == pytest.approx((2 * 1 / 2 + 1 * 1 / 3) / 3)


def test_scales_of_folds_do_not_count(rng):
    fold = np.repeat([1, 2, 3], 20)
    score, value = rng.normal(size=60), rng.normal(size=60)
    positive = value > 0
    drift = np.array([0.0, 50, -7])[fold - 1]
    for function, target in ((ranking.auroc, positive), (ranking.auprc, positive), (ranking.spearman, value)):
        assert one(function, score * 3 + drift, target, fold)[0] == one(function, score, target, fold)[0]
    # a model that predicts the same for all variants of a fold knows nothing, whatever its folds' levels
    assert one(ranking.auroc, drift, positive, fold)[0] == 0.5
    assert np.isnan(one(ranking.spearman, drift, value, fold)[0])
    assert one(ranking.auprc, drift, positive, fold)[0] == pytest.approx(ranking.prevalence(positive, fold))


def test_equal_folds_average(rng):
    score, value = rng.normal(size=(2, 30)), rng.normal(size=(2, 30))
    together = one(ranking.spearman, score.ravel(), value.ravel(), np.repeat([1, 2], 30))[0]
    assert together == pytest.approx(np.mean([spearmanr(s, v).statistic for s, v in zip(score, value, strict=True)]))


def test_sign_matters(rng):
    value = rng.normal(size=50)
    positive, score = value > 0, value + 0.3 * rng.normal(size=50)
    assert one(ranking.auroc, score, positive)[0] > 0.8
    assert one(ranking.auroc, -score, positive)[0] == pytest.approx(1 - one(ranking.auroc, score, positive)[0])
    assert one(ranking.spearman, -score, value)[0] == pytest.approx(-one(ranking.spearman, score, value)[0])
    assert one(ranking.auprc, -score, positive)[0] < positive.mean() < one(ranking.auprc, score, positive)[0]


def test_undefined(rng):
    yes = np.ones(5, dtype=bool)
    for function in (ranking.auroc, ranking.auprc):
        assert np.isnan(one(function, rng.normal(size=5), yes)[0])
    assert np.isnan(one(ranking.spearman, np.ones(5), rng.normal(size=5))[0])
    assert np.isnan(one(ranking.spearman, rng.normal(size=5), rng.normal(size=5), weights=np.zeros((1, 5)))[0])
    assert np.isnan(ranking.prevalence(yes, np.zeros(5, dtype=int)))
