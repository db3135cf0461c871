"""Simulated situations with a known expected value (metrics.md 11.2)."""

from __future__ import annotations

import numpy as np
import pytest

from vcbench.metrics import compat, delta, discrimination, errors, pairwise


@pytest.mark.parametrize(("n", "n_control", "expected"), [(100, 200, 0.58), (100, 2000, 0.22), (50, 500, 0.30)])
def test_shared_controls_give_correlation_without_effect(make_fold, compare, rng, n, n_control, expected):
    k, g = 40, 3000
    half = rng.normal(0, np.sqrt(1 / n_control), (2, g))
    fold = make_fold(rng.normal(0, np.sqrt(1 / n), (k, g)), control_a=half[0], control_b=half[1])
    population = np.zeros((k, g))
    shared = pairwise.compare(
        compare(fold, population), "all", delta.pearson_kernel, lambda _: (half[0], half[0])
    ).values.mean()
    assert shared == pytest.approx(np.sqrt(n / (n + n_control)), abs=0.02)
    assert shared == pytest.approx(expected, abs=0.02)
    assert delta.dpearson_ctrl(compare(fold, population), "all").values.mean() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("r", [4, 66])
def test_population_mean_under_the_train_mean_reference(make_fold, compare, rng, r):
    k, g = 40, 3000
    fold = make_fold(rng.normal(size=(k, g)), train_mean=rng.normal(size=(r, g)).mean(0))
    found = delta.dpearson_pm(compare(fold, np.zeros((k, g))), "all").values.mean()
    assert found == pytest.approx(np.sqrt(1 / (1 + r)), abs=0.02)


@pytest.mark.parametrize(("k", "expected"), [(5, -0.65), (10, -0.54), (33, -0.33), (100, -0.20)])
def test_train_mean_is_negative_by_construction_in_compat_dspcc(make_fold, compare, rng, k, expected):
    found = []
    for _ in range(8):
        profile = rng.normal(size=(k, 500))
        listed = tuple(np.argsort(-np.abs(row))[:20] for row in profile)
        fold = make_fold(profile, listed=listed, cell_mean=profile.mean(0))
        values = compat.dspcc_cw_de(compare(fold, np.zeros((k, 500))), "listed").values
        found.append(values.mean())
    assert np.mean(found) == pytest.approx(expected, abs=0.1)


def test_half_half_errors_and_correlations(make_fold, compare, rng):
    """Half against half has twice the error of full against full; correlations step up by Spearman-Brown."""
    k, g, n = 30, 4000, 40
    truth = rng.normal(0, 0.2, (k, g))
    control = np.zeros(g)

    def measured(cells):
        return truth + rng.normal(0, np.sqrt(1 / cells), (k, g))

    def score(metric, profile, prediction):
        fold = make_fold(profile, control_a=control, control_b=control)
        return metric(compare(fold, prediction), "all").values.mean()

    half_error = score(errors.mse, measured(n // 2), measured(n // 2))
    assert half_error == pytest.approx(2 / (n / 2), rel=0.02)
    assert score(errors.mse, measured(n), measured(n)) == pytest.approx(half_error / 2, rel=0.02)
    assert score(errors.mse, measured(n), truth) == pytest.approx(half_error / 4, rel=0.02)
    half = score(delta.dpearson_ctrl, measured(n // 2), measured(n // 2))
    full = 2 * half / (1 + half)
    assert score(delta.dpearson_ctrl, measured(n), measured(n)) == pytest.approx(full, abs=0.01)
    assert score(delta.dpearson_ctrl, measured(n), truth) == pytest.approx(np.sqrt(full), abs=0.01)


def test_shuffled_labels_score_one_half(make_fold, compare, rng):
    k = 33
    profile = rng.normal(size=(k, 200))
    pairs = np.stack([np.arange(k), *(rng.permutation(k) for _ in range(200))], axis=1)
    found = discrimination.c_acc(
        compare(make_fold(profile), profile + rng.normal(size=profile.shape), pairs=pairs), "all"
    )
    assert found.values[:, 0].mean() > 0.95
    assert found.values[:, 1:].mean() == pytest.approx(0.5, abs=0.02)
    # The chance band of one permutation: 0.5 +- 1.96 * 0.289 / sqrt(K)
    assert np.std(found.values[:, 1:].mean(0)) == pytest.approx(0.289 / np.sqrt(k), rel=0.25)
