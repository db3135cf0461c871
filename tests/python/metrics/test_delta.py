"""Profile errors and delta correlations against closed forms (metrics.md 11.1)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from vcbench.metrics import delta, errors
from vcbench.metrics.comparison import Predicted

CORRELATIONS = (delta.pearson, delta.dpearson_ctrl, delta.dpearson_pm)
SETS = ("all", "expr", "expr_nt", "de20_nt", "sig")


@pytest.fixture
def fold(make_fold, rng):
    g = 60
    control = rng.gamma(2, 0.5, g)
    profile = control + rng.normal(0, 0.3, (6, g))
    return make_fold(
        profile,
        control_a=control,
        control_b=control,
        train_mean=control + rng.normal(0, 0.1, g),
        targets=tuple(np.array([0]) for _ in range(6)),
        weights=np.abs(rng.normal(size=(6, g))),
    )


@pytest.mark.parametrize("gene_set", SETS)
def test_perfect_prediction(fold, compare, gene_set):
    perfect = compare(fold, fold.profile)
    for metric in CORRELATIONS:
        np.testing.assert_allclose(metric(perfect, gene_set).values[:, 0], 1, atol=1e-12)
    assert (errors.mse(perfect, gene_set).values == 0).all()
    np.testing.assert_allclose(delta.r2w_delta(perfect, "all").values, 1, atol=1e-12)


def test_pearson_equals_scipy_on_the_gene_set(fold, compare, rng):
    prediction = fold.profile + rng.normal(0, 0.2, fold.profile.shape)
    found = delta.dpearson_ctrl(compare(fold, prediction), "de20_nt").values[:, 0]
    index = np.arange(1, 20)  # the target, gene 0, is not among them; only 20 genes are significant
    expected = [
        stats.pearsonr((p - fold.control_b)[index], (t - fold.control_a)[index]).statistic
        for p, t in zip(prediction, fold.profile, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_split_controls_fall_short_of_one_by_control_noise_only(fold, compare, rng):
    other = replace(fold, control_a=fold.control_a + rng.normal(0, 0.1, 60))
    assert (delta.dpearson_ctrl(compare(other, other.profile), "all").values < 1 - 1e-4).all()
    moved = other.profile - other.control_a + other.control_b
    np.testing.assert_allclose(delta.dpearson_ctrl(compare(other, moved), "all").values, 1, atol=1e-12)


def test_constant_prediction_is_undefined_also_in_single_precision(fold, compare):
    for reference, metric in (
        (fold.control_b, delta.dpearson_ctrl),
        (fold.train_mean, delta.dpearson_pm),
        (fold.train_mean, delta.r2w_delta),
    ):
        prediction = np.tile(reference, (6, 1)).astype(np.float32)
        outcome = metric(compare(fold, prediction), "all")
        assert np.isnan(outcome.values).all()
        assert outcome.constant_prediction.all()
        assert (outcome.truth_reason == "").all()


def test_constant_truth_is_a_reason_of_the_truth(fold, compare):
    flat = replace(fold, profile=np.tile(fold.control_a + 0.25, (6, 1)))
    assert (delta.dpearson_ctrl(compare(flat, fold.profile), "all").truth_reason == "const_true").all()


def test_single_and_double_precision_agree(fold, compare, rng):
    prediction = fold.profile + rng.normal(0, 0.2, fold.profile.shape)
    for metric in (*CORRELATIONS, errors.mse, delta.r2w_delta):
        single = metric(compare(fold, prediction.astype(np.float32)), "all").values
        np.testing.assert_allclose(single, metric(compare(fold, prediction), "all").values, atol=1e-6)


@pytest.mark.parametrize("scale", [0.3, 2.0, -1.0, -0.5])
def test_delta_correlations_see_the_sign_of_a_scaling_only(fold, compare, scale):
    prediction = fold.control_b + scale * (fold.profile - fold.control_b)
    found = delta.dpearson_ctrl(compare(fold, prediction), "expr_nt").values
    np.testing.assert_allclose(found, np.sign(scale), atol=1e-12)


def test_a_constant_added_everywhere_changes_no_delta_metric(fold, compare, rng):
    prediction = fold.profile + rng.normal(0, 0.2, fold.profile.shape)
    names = ("profile", "weight_profile", "control_a", "control_b", "train_mean")
    shifted = replace(fold, **{name: getattr(fold, name) + 0.7 for name in names})
    for metric in (delta.dpearson_ctrl, delta.dpearson_pm, delta.r2w_delta, delta.nmse_error, delta.nmse_effect):
        before = metric(compare(fold, prediction), "all").values
        np.testing.assert_allclose(metric(compare(shifted, prediction + 0.7), "all").values, before, atol=1e-9)


def test_an_undetected_gene_changes_no_expressed_set(fold, compare, rng):
    def wider(matrix):
        return np.concatenate([matrix, np.zeros((*matrix.shape[:-1], 1))], axis=-1)

    prediction = fold.profile + rng.normal(0, 0.2, fold.profile.shape)
    names = ("profile", "variance", "control_a", "control_b", "train_mean", "weights", "weight_profile",
             "control_a_variance", "control_b_variance")  # fmt: skip
    larger = replace(
        fold, **{name: wider(getattr(fold, name)) for name in names}, expressed=np.append(fold.expressed, False)
    )
    for metric in (*CORRELATIONS, delta.nmse_error):
        before = metric(compare(fold, prediction), "expr_nt").values
        np.testing.assert_array_equal(metric(compare(larger, wider(prediction)), "expr_nt").values, before)


def test_permuting_labels_of_both_sides_permutes_the_values(fold, compare, rng):
    order = rng.permutation(6)
    prediction = fold.profile + rng.normal(0, 0.2, fold.profile.shape)
    names = ("profile", "variance", "weights", "weight_profile")
    permuted = replace(fold, **{name: getattr(fold, name)[order] for name in names})
    for metric in (*CORRELATIONS, errors.mse, delta.r2w_delta, delta.nmse_error):
        before = metric(compare(fold, prediction), "all").values[order]
        np.testing.assert_allclose(metric(compare(permuted, prediction[order]), "all").values, before, atol=1e-12)


def test_nulls_come_from_the_truth_of_another_label(fold, compare, rng):
    prediction = fold.profile + rng.normal(0, 0.2, fold.profile.shape)
    pairs = np.stack([np.arange(6), np.roll(np.arange(6), 1)], axis=1)
    for metric in (errors.mse, delta.dpearson_pm, delta.r2w_delta, delta.nmse_error):
        both = metric(compare(fold, prediction, pairs=pairs), "all").values
        order = pairs[:, 1]
        names = ("profile", "weights", "weight_profile")
        other = replace(fold, **{name: getattr(fold, name)[order] for name in names})
        np.testing.assert_allclose(both[:, 1], metric(compare(other, prediction), "all").values[:, 0], atol=1e-12)


def test_small_gene_sets_and_few_cells_have_their_reason(make_fold, compare, rng):
    profile = rng.normal(size=(4, 30))
    lists = tuple(np.arange(n) for n in (0, 2, 5, 30))
    fold = make_fold(profile, significant=lists, n_cells=np.array([50, 50, 50, 24]))
    comparison = compare(fold, profile + 0.1 * rng.normal(size=profile.shape))
    correlation = delta.dpearson_ctrl(comparison, "de20_nt")
    assert correlation.truth_reason.tolist() == ["no_de", "few_genes", "", "few_cells"]
    assert correlation.flag.tolist() == ["", "n_lt_k", "n_lt_k", ""]
    error = errors.mse(comparison, "de20_nt")
    assert error.truth_reason.tolist() == ["no_de", "", "", "few_cells"]
    assert error.n_genes.tolist() == [0, 2, 5, 20]
    # Whole-profile metrics need 10 cells only.
    assert (delta.dpearson_ctrl(comparison, "expr_nt").truth_reason == "").all()


def test_target_genes_leave_the_list_before_it_is_cut(make_fold):
    fold = make_fold(np.zeros((1, 40)), significant=(np.arange(30),), targets=(np.array([3]),))
    assert fold.gene_set("de20_nt").index[0].tolist() == [i for i in range(21) if i != 3]
    assert fold.gene_set("de20").index[0].tolist() == list(range(20))
    assert 3 not in fold.gene_set("expr_nt").index[0]
    assert 3 in fold.gene_set("expr").index[0]


def nmse(comparison):
    return delta.nmse_error(comparison, "all").values.sum() / delta.nmse_effect(comparison, "all").values.sum()


def test_nmse_of_no_change_is_one_and_of_a_copy_not_positive(make_fold, compare, rng):
    # True effects of size 0.5 on 2,000 genes, 40 cells of unit variance each, 400 control cells per half.
    k, g, n, n_control = 30, 2000, 40, 400
    truth = rng.normal(0, 0.5, (k, g))
    fold = make_fold(
        truth + rng.normal(0, np.sqrt(1 / n), (k, g)),
        variance=np.full((k, g), 1 / n),
        control_a=rng.normal(0, np.sqrt(1 / n_control), g),
        control_b=rng.normal(0, np.sqrt(1 / n_control), g),
        control_a_variance=np.full(g, 1 / n_control),
        control_b_variance=np.full(g, 1 / n_control),
    )
    control = np.tile(fold.control_b, (k, 1))
    finite = Predicted(control, np.tile(fold.control_b_variance, (k, 1)), np.ones(k))
    assert nmse(compare(fold, control, predicted=finite)) == pytest.approx(1, abs=0.01)
    # The true effect itself, without noise, has no error left after subtracting the sampling variance.
    assert nmse(compare(fold, truth)) == pytest.approx(0, abs=0.01)
    assert nmse(compare(fold, fold.profile)) == pytest.approx(-(1 / n) / 0.25, abs=0.01)


def test_noise_of_a_prediction_is_credited_up_to_that_of_the_truth(make_fold, compare):
    fold = make_fold(np.ones((1, 4)), variance=np.full((1, 4), 0.1))
    noisy = Predicted(np.full((1, 4), 2.0), np.full((1, 4), 5.0), np.array([10]))
    error = delta.nmse_error(compare(fold, noisy.mean, predicted=noisy), "all").values[0, 0]
    assert error == pytest.approx(4 * (1 - 0.1 - 0.1))


def test_weighted_r2_by_hand(make_fold, compare):
    weights = np.array([[0.5, 0.25, 0.25]])
    true, predicted = np.array([[1.0, 3.0, 2.0]]), np.array([[1.5, 2.0, 2.0]])
    fold = make_fold(true, weights=weights, train_mean=np.array([0.5, 0.5, 0.5]))
    d = true[0] - 0.5
    centre = 0.5 * d[0] + 0.25 * d[1] + 0.25 * d[2]
    expected = 1 - (0.5 * 0.25 + 0.25 * 1) / (weights[0] @ (d - centre) ** 2)
    assert delta.r2w_delta(compare(fold, predicted), "all").values[0, 0] == pytest.approx(expected, abs=1e-12)


def test_no_weights_is_undefined_by_the_truth(make_fold, compare, rng):
    profile = rng.normal(size=(2, 8))
    fold = make_fold(profile, weights=np.zeros((2, 8)))
    outcome = delta.r2w_delta(compare(fold, profile * 0.5), "all")
    assert np.isnan(outcome.values).all()
    assert (outcome.truth_reason == "const_true").all()
