"""Metrics of metrics.md 2.4 to 2.6 beyond the headline: against loops written differently, and mutated on purpose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from vcbench.metrics import delta, direction, discrimination, errors, magnitude

K, G = 7, 60


@pytest.fixture
def fold(make_fold, rng):
    """A fold with controls, targets and a train mean that all differ."""
    return make_fold(
        rng.normal(2, 1, (K, G)), control_a=rng.normal(2, 1, G), control_b=rng.normal(2, 1, G),
        train_mean=rng.normal(2, 1, G), targets=tuple(np.array([k]) for k in range(K)),
    )  # fmt: skip


@pytest.fixture
def predicted(fold, rng):
    """Predictions that have something to do with the truth."""
    return fold.profile + rng.normal(0, 1, fold.profile.shape)


def deltas(fold, predicted, k):
    """Return predicted and true delta of perturbation k on all genes but its target."""
    genes = [g for g in range(G) if g != k]
    return predicted[k, genes] - fold.control_b[genes], fold.profile[k, genes] - fold.control_a[genes]


LOOPS = {
    delta.dspearman_ctrl: lambda p, t: stats.spearmanr(p, t).statistic,
    delta.dcosine_ctrl: lambda p, t: p @ t / np.linalg.norm(p) / np.linalg.norm(t),
    magnitude.lfc_slope: lambda p, t: np.linalg.lstsq(t[:, None], p, rcond=None)[0][0],
    magnitude.delta_sd_ratio: lambda p, t: np.std(p) / np.std(t),
    magnitude.norm_ratio: lambda p, t: np.linalg.norm(p) / np.linalg.norm(t),
    direction.dir_acc: lambda p, t: np.mean([(a > 0) == (b > 0) for a, b in zip(p, t, strict=True)]),
    direction.dir_opposite: lambda p, t: np.mean([a * b < 0 for a, b in zip(p, t, strict=True)]),
    errors.mse_delta: lambda p, t: np.mean((p - t) ** 2),
    errors.mae_delta: lambda p, t: np.mean(np.abs(p - t)),
}


@pytest.mark.parametrize("metric", LOOPS, ids=lambda metric: metric.__name__)
def test_equals_a_loop_and_notices_every_mutation(metric, fold, predicted, compare):
    found = metric(compare(fold, predicted), "all_nt").values[:, 0]
    np.testing.assert_allclose(found, [LOOPS[metric](*deltas(fold, predicted, k)) for k in range(K)], atol=1e-12)
    mutants = {
        "gene set": metric(compare(fold, predicted), "all").values[:, 0],
        "controls": metric(compare(replace(fold, control_a=fold.control_b), predicted), "all_nt").values[:, 0],
        "sign": metric(compare(fold, 2 * fold.control_b - predicted), "all_nt").values[:, 0],
    }
    same = (
        {"magnitude": ["sign"]}.get(metric.__module__.rsplit(".", 1)[1], [])
        if metric is not magnitude.lfc_slope
        else []
    )
    for name, values in mutants.items():
        assert np.allclose(values, found, atol=1e-9) == (name in same), name


def test_errors(fold, predicted, compare):
    comparison = compare(fold, predicted)
    difference = predicted - fold.profile
    np.testing.assert_allclose(errors.mse(comparison, "all").values[:, 0], (difference**2).mean(1))
    np.testing.assert_allclose(errors.rmse(comparison, "all").values[:, 0], np.sqrt((difference**2).mean(1)))
    np.testing.assert_allclose(errors.mae(comparison, "all").values[:, 0], np.abs(difference).mean(1))
    rng = np.random.default_rng(3)
    weights, other = rng.random((K, G)), rng.normal(2, 1, (K, G))
    weighted = replace(fold, weights=weights, weight_profile=other)
    expected = [np.average((predicted[k] - other[k]) ** 2, weights=weights[k]) for k in range(K)]
    np.testing.assert_allclose(errors.wmse(compare(weighted, predicted), "all").values[:, 0], expected)


def test_no_change_is_wrong_half_or_zero(fold, compare):
    """Predicting the control: direction accuracy 0, half credit 1/2, nothing opposite, everything one-sided zero."""
    same = np.tile(fold.control_b, (K, 1)) + 5e-7
    comparison = compare(fold, same)
    assert (direction.dir_acc(comparison, "all").values == 0).all()
    assert (direction.dir_acc_half(comparison, "all").values == 0.5).all()
    assert (direction.dir_opposite(comparison, "all").values == 0).all()
    assert (direction.dir_zero(comparison, "all").values == 1).all()
    assert (magnitude.norm_ratio(compare(fold, np.tile(fold.control_b, (K, 1))), "all").values == 0).all()


def test_slope_scales_with_the_prediction(fold, predicted, compare):
    once = magnitude.lfc_slope(compare(fold, predicted), "all").values
    scaled = fold.control_b + 2.5 * (predicted - fold.control_b)
    np.testing.assert_allclose(magnitude.lfc_slope(compare(fold, scaled), "all").values, 2.5 * once)


def test_first_component_is_projected_out(fold, predicted, compare, rng):
    axis = rng.normal(size=G)
    axis /= np.linalg.norm(axis)
    with_axis = replace(fold, train_pc1=axis)
    found = delta.dpearson_pm_nopc1(compare(with_axis, predicted), "all").values[:, 0]
    basis = np.linalg.svd(axis[None], full_matrices=True)[2][1:]  # everything orthogonal to the axis
    for k in range(K):
        p, t = (basis.T @ (basis @ (side[k] - fold.train_mean)) for side in (predicted, fold.profile))
        assert found[k] == pytest.approx(stats.pearsonr(p, t).statistic, abs=1e-12)
    shifted = predicted + rng.normal(size=(K, 1)) * axis  # whatever happens along the axis is invisible
    np.testing.assert_allclose(
        delta.dpearson_pm_nopc1(compare(with_axis, shifted), "all").values[:, 0], found, atol=1e-12
    )
    mean = np.tile(fold.train_mean, (K, 1))
    assert delta.dpearson_pm_nopc1(compare(with_axis, mean), "all").constant_prediction.all()


DISTANCES = {
    discrimination.pds_l1: lambda p, t: np.abs(p - t).sum(),
    discrimination.pds_l2: lambda p, t: np.sqrt(((p - t) ** 2).sum()),
    discrimination.pds_cos: lambda p, t: 1 - p @ t / np.sqrt(p @ p) / np.sqrt(t @ t),
}


@pytest.mark.parametrize("metric", DISTANCES, ids=lambda metric: metric.__name__)
def test_discrimination_of_deltas(metric, fold, predicted, compare):
    genes = np.arange(K, G)  # the targets of the whole panel are left out
    p, t = predicted[:, genes] - fold.control_b[genes], fold.profile[:, genes] - fold.control_a[genes]
    predicted = 0.2 * predicted + 0.8 * predicted[::-1]
    p = predicted[:, genes] - fold.control_b[genes]
    table = np.array([[DISTANCES[metric](a, b) for b in t] for a in p])
    expected = [np.mean([table[k, j] > table[k, k] for j in range(K) if j != k]) for k in range(K)]
    np.testing.assert_allclose(metric(compare(fold, predicted), "all_nt").values[:, 0], expected)
    assert len(set(expected)) > 2  # neither perfect nor a constant
    constant = np.tile(predicted[0], (K, 1))
    assert metric(compare(fold, constant), "all_nt").values[:, 0].mean() == pytest.approx(0.5, abs=1e-12)
    assert discrimination.rank_t2p(compare(fold, constant), "all_nt").values.tolist() == [[0.5]] * K


def test_retrieval(fold, compare, rng):
    predicted = fold.profile[::-1] * 0.3 + rng.normal(2, 1, (K, G))
    comparison = compare(fold, predicted)
    table = ((predicted[:, None] - fold.profile[None]) ** 2).sum(2)
    ranks = np.array([1 + sum(table[k, j] < table[k, k] for j in range(K)) for k in range(K)])
    np.testing.assert_allclose(discrimination.mrr(comparison, "all").values[:, 0], 1 / ranks)
    np.testing.assert_allclose(discrimination.top1(comparison, "all").values[:, 0], ranks == 1)
    np.testing.assert_allclose(discrimination.top5(comparison, "all").values[:, 0], ranks <= 5)
    reverse = [np.mean([table[j, k] > table[k, k] for j in range(K) if j != k]) for k in range(K)]
    np.testing.assert_allclose(discrimination.rank_t2p(comparison, "all").values[:, 0], reverse)
    assert not np.allclose(reverse, discrimination.c_acc(comparison, "all").values[:, 0])
    assert discrimination.chance("mrr", fold) == pytest.approx(sum(1 / i for i in range(1, K + 1)) / K)
    assert discrimination.chance("top1", fold) == 1 / K and discrimination.chance("top5", fold) == 5 / K


def test_chance_is_what_guessing_scores(make_fold, compare, rng):
    """Predictions unrelated to the truth reach the printed chance of every retrieval metric."""
    found = {"mrr": [], "top1": [], "top5": []}
    for _ in range(60):
        fold = make_fold(rng.normal(size=(9, 200)))
        comparison = compare(fold, rng.normal(size=(9, 200)))
        for name, values in found.items():
            values.append(getattr(discrimination, name)(comparison, "all").values.mean())
    for name, values in found.items():
        error = np.std(values) / np.sqrt(len(values))
        assert np.mean(values) == pytest.approx(discrimination.chance(name, fold), abs=4 * error)
