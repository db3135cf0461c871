"""Gene-wise metrics (metrics.md 2.8, 11)."""

from __future__ import annotations

import numpy as np
import pytest

from vcbench.metrics import genewise


def within_fold(true, predicted, folds):
    return genewise.correlation(true, predicted, folds, 8, "single_pert")


def pooled(true, predicted, folds):
    return genewise.correlation(true, predicted, np.zeros_like(folds), 3, "single_pert")


def test_equals_the_definition(rng):
    folds = np.repeat([1, 2, 3], [5, 4, 4])
    true, predicted = rng.normal(size=(13, 6)), rng.normal(size=(13, 6))
    expected = []
    for g in range(6):
        top = left = right = 0.0
        for f in (1, 2, 3):
            t, p = true[folds == f, g], predicted[folds == f, g]
            top += ((t - t.mean()) * (p - p.mean())).sum()
            left += ((t - t.mean()) ** 2).sum()
            right += ((p - p.mean()) ** 2).sum()
        expected.append(top / np.sqrt(left * right))
    assert within_fold(true, predicted, folds).value == pytest.approx(np.mean(expected), abs=1e-12)


def test_per_fold_train_means(rng):
    """A model that only knows the mean of the other folds: undefined within fold, negative by construction pooled."""
    for k, expected in ((30, -0.23), (99, -0.13)):
        folds = np.repeat([1, 2, 3], k // 3)
        true = rng.normal(size=(k, 3000))
        predicted = np.stack([true[folds != f].mean(0) for f in folds])
        result = within_fold(true, predicted, folds)
        assert np.isnan(result.value)
        assert result.status == "const_pred"
        found = pooled(true, predicted, folds).value
        assert found == pytest.approx(expected, abs=0.01)
        assert found == pytest.approx(-np.sqrt(np.pi / (2 * (k - 1))), abs=0.01)


def test_leave_one_out_means_are_exactly_anticorrelated(rng):
    true = rng.normal(size=(12, 50))
    predicted = (true.sum(0) - true) / 11
    assert pooled(true, predicted, np.arange(12)).value == pytest.approx(-1, abs=1e-12)


def test_predicting_the_gene_mean_scores_one(rng):
    true = rng.normal(3, 1, size=(20, 40))
    mean = np.tile(true.mean(0), (20, 1))
    assert genewise.normalised_error(true, mean).value == pytest.approx(1, abs=1e-12)
    assert genewise.normalised_error(true, true).value == 0


def test_too_few_perturbations(rng):
    true = rng.normal(size=(7, 10))
    for result in (within_fold(true, true, np.zeros(7)), genewise.normalised_error(true, true)):
        assert np.isnan(result.value)
        assert result.status == "single_pert"
    assert pooled(true[:3], true[:3], np.zeros(3)).value == pytest.approx(1)
    assert np.isnan(pooled(true[:2], true[:2], np.zeros(2)).value)


def test_single_precision_means_of_identical_cells_stay_constant():
    """The mean of n identical single-precision cells, n different, must not look variable over perturbations."""
    from vcbench.metrics.profiles import moments

    cells = np.random.default_rng(0).gamma(2, 1, 300).astype(np.float32)
    sizes = np.arange(20, 60)
    matrix = np.repeat(cells[None], sizes.sum(), axis=0)
    profiles = moments(matrix, np.repeat(np.arange(40), sizes), 40).mean
    assert (profiles == profiles[0]).all()
    noise = np.random.default_rng(1).normal(size=(40, 300))
    assert np.isnan(within_fold(noise, profiles, np.zeros(40)).value)
    # float32 sums do what the rule is there for
    single = np.stack([matrix[:n].sum(axis=0, dtype=np.float32) / np.float32(n) for n in sizes])
    assert (single != single[0]).any()
    assert np.isnan(within_fold(noise, single.astype(float), np.zeros(40)).value)


@pytest.mark.parametrize("metric", ["correlation", "error"])
def test_terms_are_leave_one_out_pseudo_values(rng, metric):
    folds = np.repeat([1, 2], [6, 7])
    true, predicted = rng.normal(size=(13, 5)), rng.normal(size=(13, 5))

    def value(keep):
        if metric == "correlation":
            return genewise.correlation(true[keep], predicted[keep], folds[keep], 3, "").value
        return genewise.normalised_error(true[keep], predicted[keep]).value

    result = (
        within_fold(true, predicted, folds) if metric == "correlation" else genewise.normalised_error(true, predicted)
    )
    for k in range(13):
        keep = np.arange(13) != k
        assert result.terms[k] == pytest.approx(13 * result.value - 12 * value(keep), abs=1e-9)


def test_a_gene_that_one_perturbation_alone_makes_vary_stays_finite(rng):
    true = rng.normal(size=(10, 4))
    true[:, 0] = 0
    true[3, 0] = 1
    assert np.isfinite(genewise.normalised_error(true, rng.normal(size=(10, 4))).terms).all()
    assert np.isfinite(within_fold(true, rng.normal(size=(10, 4)), np.zeros(10)).terms).all()
