"""Ceilings and positive controls against closed forms (metrics.md 4.8, 6.5, 10.5)."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from vcbench.core import catalogue, evaluators
from vcbench.core.errors import InputError
from vcbench.metrics import ceilings, contract, extra_truth, registry, scoring, truth
from vcbench.metrics.bundle import TruthBundle
from vcbench.metrics.extras import Extras
from vcbench.metrics.profiles import Moments

METRICS = registry.chosen(registry.load(), [])
MODELS = catalogue.load("models")["entries"]
SEEDS = 5


def bundle_of(*folds, eligible=None):
    genes = folds[0].profile.shape[1]
    eligible = np.ones(genes, dtype=bool) if eligible is None else eligible
    folds = tuple(replace(fold, eligible=eligible) for fold in folds)
    names = np.array([f"g{i}" for i in range(genes)], dtype=object)
    return TruthBundle(names, folds, np.ones(genes), eligible, {"dataset": "d", "split": "s"})


def measured(make_fold, rng, k=12, g=400, n=60, signal=0.3, noise=0.5, number=1):
    """A fold whose profiles are means of n cells with known signal and noise, and its halves."""
    effect = rng.normal(0, signal, (k, g))
    halves = effect + rng.normal(0, noise / np.sqrt(n / 2), (2, SEEDS, k, g))
    # the two halves of one split make up the profile; the splits share it only approximately
    halves[:, 1:] = halves[:, :1]
    return make_fold(
        halves[:, 0].mean(0), fold=number, ids=tuple(f"V{number}{i:02d}" for i in range(k)), n_cells=np.full(k, n),
        n_first=np.full(k, n // 2), first_half=halves[0], variance=np.full((k, g), noise**2 / n),
        train_mean=rng.normal(0, 0.01, g), duplicate_alpha=np.ones((2, k, g)),
    )  # fmt: skip


def table(rows):
    return {(row[3], row[2], row[7], row[8], row[9]): row for row in rows}


@pytest.mark.parametrize(
    ("half", "replicate", "full", "free"),
    [(0.5, "spearman_brown", 2 / 3, (2 / 3) ** 0.5), (1.0, "spearman_brown", 1, 1), (0.04, "halve", 0.02, 0.01),
     (-0.1, "spearman_brown", np.nan, np.nan), (0.9, "", np.nan, np.nan), (np.nan, "halve", np.nan, np.nan)],
)  # fmt: skip
def test_step_up_by_hand(half, replicate, full, free):
    np.testing.assert_allclose(ceilings.step_up(half, replicate), (full, free))


def test_full_size_rows_are_what_two_real_replicates_and_a_noise_free_prediction_score(make_fold, compare, rng):
    effect = rng.normal(0, 0.3, (40, 2000))

    def sample(n):
        return effect + rng.normal(0, 0.5 / np.sqrt(n), effect.shape)

    first, second, full = sample(30), sample(30), sample(60)
    fold = make_fold((first + second) / 2, n_cells=np.full(40, 60), n_first=np.full(40, 30),
                     first_half=np.stack([first]), variance=np.full(effect.shape, 0.25 / 60))  # fmt: skip
    bundle = bundle_of(fold)
    rows = table(ceilings.rows_of(bundle, METRICS))
    for metric in ("dpearson_ctrl", "mse"):
        one = rows[contract.FULL_VS_FULL, 0, "", metric, "expr_nt"][10]
        free = rows[contract.NOISE_FREE, 0, "", metric, "expr_nt"][10]
        score = scoring.function_of(METRICS[metric])
        assert one == pytest.approx(score(compare(fold, full), "expr_nt").values.mean(), rel=0.02)
        assert free == pytest.approx(score(compare(fold, effect), "expr_nt").values.mean(), rel=0.02)
    assert (contract.FULL_VS_FULL, 0, "", "c_acc", "expr_nt") not in rows  # nothing follows for ranks


def test_ceiling_of_pure_noise_is_undefined_with_a_reason_not_zero(make_fold, rng):
    fold = measured(make_fold, rng, signal=0.0, g=3000)
    # no effect and independent halves, made to disagree slightly
    fold = replace(fold, first_half=np.stack([-fold.profile + 1e-3 * rng.normal(size=fold.profile.shape)] * SEEDS))
    rows = table(ceilings.rows_of(bundle_of(fold), METRICS))
    row = rows[contract.FULL_VS_FULL, 0, "", "dpearson_ctrl", "expr_nt"]
    assert np.isnan(row[10])
    assert row[14] == ceilings.NO_SIGNAL


def test_genewise_reliability_is_signal_over_signal_and_noise(make_fold, rng):
    k, g = 400, 60
    signal = np.linspace(0, 1.5, g)
    folds = []
    for number in (1, 2):
        profile = number + rng.normal(size=(k, g)) * signal + rng.normal(0, 0.7, (k, g))  # folds differ: centred away
        folds.append(make_fold(profile, fold=number, variance=np.full((k, g), 0.49)))
    expected = (signal**2 / (signal**2 + 0.49)).mean()
    assert ceilings.genewise_reliability(bundle_of(*folds)) == pytest.approx(expected, abs=0.015)
    few = bundle_of(make_fold(rng.normal(size=(2, g))))
    assert np.isnan(ceilings.genewise_reliability(few))


def test_welch_p_with_an_overestimated_rest_agrees_with_scipy(rng):
    group, rest = rng.normal(0.3, 1, (12, 8)), rng.normal(0, 2, (90, 8))

    def moments(x):
        return Moments(np.array([len(x)], dtype=float), x.sum(0)[None], (x**2).sum(0)[None])

    found = truth.overestimated_p(moments(group), moments(rest))[0]
    expected = stats.ttest_ind_from_stats(
        group.mean(0), group.std(0, ddof=1), 12, rest.mean(0), rest.std(0, ddof=1), 12, equal_var=False
    ).pvalue
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_tiny_alphas_keep_their_digits(make_fold, rng):
    """Where nothing differs every adjusted p is nearly 1: what little the half says is read off to nine digits."""
    fold = measured(make_fold, rng)
    k, g = fold.profile.shape
    p = 1 - 1e-5 * rng.uniform(0.1, 1, (2, k, g))
    tested = np.arange(0, g, 2)
    alpha = truth._alpha(p, tested)
    adjusted = stats.false_discovery_control(p[..., tested], axis=-1)
    np.testing.assert_allclose(alpha[..., tested], 1 - adjusted, rtol=1e-9)
    assert not alpha[..., 1::2].any() and 0 < alpha.max() < 1e-4
    # at this size the direction of the prediction is that of alpha x (half - training mean) with the exact alpha
    half = scoring.half_truths(fold, 0)[0].profile - fold.train_mean
    found = ceilings.interpolated(replace(fold, duplicate_alpha=alpha), 0).mean - fold.train_mean
    exact = (1 - adjusted)[0] * half[:, tested]
    np.testing.assert_allclose(found[:, tested], exact, atol=1e-8 * np.abs(exact).max())


def test_interpolated_duplicate_lies_between_train_mean_and_half(make_fold, rng):
    fold = measured(make_fold, rng)
    alpha = rng.random((2, *fold.profile.shape))
    alpha[:, :, :5] = 0
    fold = replace(fold, duplicate_alpha=alpha)
    first, second = (half.profile for half in scoring.half_truths(fold, 0))
    for side, half in enumerate((first, second)):
        found = ceilings.interpolated(fold, side).mean
        np.testing.assert_allclose(found, alpha[side] * half + (1 - alpha[side]) * fold.train_mean)
        np.testing.assert_array_equal(found[:, :5], np.tile(fold.train_mean[:5], (len(found), 1)))
    with pytest.raises(InputError, match="interpolated"):
        ceilings.interpolated(replace(fold, duplicate_alpha=None), 0)


def test_interpolated_rows_at_both_ends_of_alpha(make_fold, rng):
    """alpha = 1 is the technical duplicate of that split, alpha = 0 the training mean against a half."""
    fold = measured(make_fold, rng)
    key = (1, "V103", "mse", "expr_nt")
    ends = {}
    for alpha in (0.0, 1.0):
        bundle = bundle_of(replace(fold, duplicate_alpha=np.full((2, *fold.profile.shape), alpha)))
        rows = table(ceilings.rows_of(bundle, METRICS))
        ends[alpha] = rows[(contract.INTERPOLATED_DUPLICATE, *key)][10]
        duplicate = rows[(contract.TECH_DUPLICATE, *key)][10]
    assert ends[1.0] == pytest.approx(duplicate)
    halves = [half.profile[3] for half in scoring.half_truths(fold, 0)]
    assert ends[0.0] == pytest.approx(np.mean([((half - fold.train_mean) ** 2).mean() for half in halves]))


def test_perfect_copy_attains_the_optimum_but_for_the_noise_of_two_controls(make_fold, rng):
    fold = measured(make_fold, rng)
    rows = table(ceilings.rows_of(bundle_of(fold), METRICS))

    def value(metric, gene_set="expr_nt", perturbation="V103", number=1):
        return rows[contract.PERFECT_COPY, number, perturbation, metric, gene_set][10]

    assert value("mse") == 0
    assert value("c_acc") == 1
    assert value("dpearson_pm") == pytest.approx(1)
    assert value("dpearson_ctrl") == pytest.approx(1)
    assert value("gw_pearson_wf", "eligible", "", 0) == pytest.approx(1)
    assert value("nmse_ctrl", perturbation="") <= 0
    apart = replace(fold, control_a=rng.normal(0, 0.1, fold.profile.shape[1]))
    rows = table(ceilings.rows_of(bundle_of(apart), METRICS))
    assert value("dpearson_ctrl") < 0.99
    assert value("dpearson_pm") == pytest.approx(1)


def test_bootstrap_duplicate_is_one_sampling_variance_from_the_truth(make_fold):
    """Of n cells, n drawn with replacement: (n - 1) / n of v lies between the means, where two halves differ by 4 v."""
    n, k, g = 50, 3, 3000
    ids = tuple(f"V{i}" for i in range(k))
    rng = np.random.default_rng(8)
    expression = sp.csr_matrix(rng.normal(2, 1, (n * k, g)).astype(np.float32))
    cells = SimpleNamespace(expression=expression, genes=np.arange(g))
    code = np.repeat(np.arange(k), n)
    _, drawn = extra_truth._spread(cells, code, np.arange(k), ids, "d", 0)
    profile = np.stack([np.asarray(expression[code == row].mean(axis=0)).ravel() for row in range(k)])
    variance = np.stack([expression[code == row].toarray().var(axis=0, ddof=1) / n for row in range(k)])
    assert drawn.shape == (SEEDS, k, g)
    error = ((drawn - profile) ** 2).mean(axis=(0, 2)) / (variance.mean(axis=1) * (n - 1) / n)
    # the draws are shared by the genes: five of them, each off by about sqrt(2 / n)
    np.testing.assert_allclose(error, 1, atol=0.25)
    assert len({row.tobytes() for draw in drawn for row in draw}) == SEEDS * k
    # the cells of a perturbation are drawn by its name, whichever others there are
    alone = extra_truth._spread(cells, code, np.array([2]), ids[2:], "d", 0)[1]
    np.testing.assert_array_equal(alone[:, 0], drawn[:, 2])
    assert not np.array_equal(extra_truth._spread(cells, code, np.arange(k), ids, "d", 1)[1], drawn)

    fold = make_fold(profile, ids=ids, n_cells=np.full(k, n), variance=variance, train_mean=np.full(g, 1.0),
                     control_a=np.full(g, 1.0), control_b=np.full(g, 1.0), extras=Extras(bootstrap=drawn))  # fmt: skip
    rows = table(ceilings.rows_of(bundle_of(fold), METRICS))
    of_first = rows[contract.BOOTSTRAP_DUPLICATE, 1, "V0", "mse", "expr_nt"]
    assert of_first[10] == pytest.approx(((drawn[:, 0] - profile[0]) ** 2).mean())
    # the variance of the truth is what is subtracted: without any error left
    assert rows[contract.BOOTSTRAP_DUPLICATE, 1, "", "nmse_ctrl", "expr_nt"][10] == pytest.approx(0, abs=1e-3)
    without = ceilings.rows_of(bundle_of(replace(fold, extras=Extras())), METRICS)
    assert contract.BOOTSTRAP_DUPLICATE not in {row[3] for row in without}


def test_cross_fitted_lists_have_no_ceiling(make_fold, rng):
    fold = measured(make_fold, rng)
    fold = replace(fold, significant_first=fold.significant)
    rows = ceilings.rows_of(bundle_of(fold), METRICS)
    assert rows
    assert not any(row[9].endswith("_xfit") for row in rows)


def test_mean_of_the_test_perturbations_by_hand(make_fold, rng):
    fold = measured(make_fold, rng, k=4, g=6)
    a, b = rng.normal(size=(2, 6))
    fold = replace(
        fold, control_a=a, control_b=b, n_cells=np.array([60, 60, 60, 9]),
        targets=(np.array([0, 5]), np.array([1, 5]), np.array([5]), np.array([2])),
    )  # fmt: skip
    wanted = []
    for gene, kept in enumerate([[1, 2], [0, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2], []]):  # the fourth has too few cells
        changes = [fold.profile[k, gene] - a[gene] for k in kept]
        wanted.append(b[gene] + (sum(changes) / len(changes) if changes else 0))
    np.testing.assert_allclose(ceilings.context_mean(fold), wanted)
    assert np.isnan(ceilings.context_mean(replace(fold, n_cells=np.full(4, 5)))).all()


def test_rows_of_the_test_mean_are_an_evaluators_and_their_scores_those_of_that_prediction(make_fold, compare, rng):
    fold = replace(measured(make_fold, rng), control_b=rng.normal(0, 0.1, 400))
    rows = table(ceilings.rows_of(bundle_of(fold), METRICS))
    predicted = np.tile(ceilings.context_mean(fold), (12, 1))
    for metric in ("mse", "dpearson_ctrl", "dpearson_pm", "r2w_delta"):
        gene_set = "all" if metric == "r2w_delta" else "expr_nt"
        wanted = scoring.function_of(METRICS[metric])(compare(fold, predicted), gene_set).values[:, 0]
        found = [rows[contract.CE2_CONTEXT_MEAN, 1, name, metric, gene_set][10] for name in fold.ids]
        np.testing.assert_allclose(found, wanted)
    accuracy = [rows[contract.CE2_CONTEXT_MEAN, 1, name, "c_acc", "expr_nt"][10] for name in fold.ids]
    assert np.mean(accuracy) == pytest.approx(0.5)  # one profile for all tells none from another
    assert contract.is_evaluator(contract.CE2_CONTEXT_MEAN)
    assert contract.CE2_CONTEXT_MEAN in evaluators.RESERVED and contract.CE2_CONTEXT_MEAN not in MODELS


def test_a_mean_of_halves_has_the_status_of_those_with_a_value():
    def row(value, status):
        return ("d", "s", 1, "duplicate", "none", "none", 0, "V1", "de_recall", "expr_nt", value, 5, 30, 30, status)

    both = scoring.averaged([(*row(np.nan, "no_de"), 1, 1), (*row(0.5, "ok"), 1, 1), (*row(0.7, "ok"), 1, 1)])
    assert both[10] == pytest.approx(0.6) and both[14] == contract.OK
    none = scoring.averaged([(*row(np.nan, "no_de"), 1, 1)] * 2)
    assert np.isnan(none[10]) and none[14] == "no_de"
    assert scoring.averaged([(*row(np.nan, "missing_pred"), 1, 1)])[14] == "few_cells"  # halves too small to be made
