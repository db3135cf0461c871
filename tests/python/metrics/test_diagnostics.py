"""Diagnostics against closed forms, simulation and brute force (metrics.md 7)."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from vcbench.metrics import contract, diagnostics, registry, scoring, truth_cli
from vcbench.metrics.bundle import TruthBundle
from vcbench.metrics.comparison import Predicted
from vcbench.metrics.truth import Roles

METRICS = registry.chosen(registry.load(), [])


def bundle_of(*folds):
    genes = folds[0].profile.shape[1]
    every = np.ones(genes, dtype=bool)
    folds = tuple(replace(fold, eligible=every) for fold in folds)
    names = np.array([f"g{i}" for i in range(genes)], dtype=object)
    return TruthBundle(names, folds, np.ones(genes), every, {"dataset": "d", "split": "s"})


def named(values):
    return {(value.id, value.reference): value for value in values}


def predicted(mean, variance=None):
    mean = np.asarray(mean, dtype=float)
    present = (~np.isnan(mean).any(1)).astype(np.int64)
    return {1: Predicted(mean, np.zeros_like(mean) if variance is None else variance, present)}


def systematic(bundle):
    return named(diagnostics.systematic(diagnostics.panel(bundle)))


def test_no_effect_looks_alike_under_a_shared_control_and_not_under_halves(make_fold, rng):
    """Expected cosine n_k / (n_k + n_c) with shared controls, 0 with one half of the controls for each of a pair."""
    k, g, n, n_control = 30, 4000, 100, 100
    half = rng.normal(0, np.sqrt(1 / n_control), (2, g))
    fold = make_fold(rng.normal(0, np.sqrt(1 / n), (k, g)), control_a=half[0], control_b=half[1])
    found = systematic(bundle_of(fold))
    assert found["diag_pairwise_cos", "ctrl"].value == pytest.approx(0, abs=0.01)
    assert found["diag_heterogeneity_median", "ctrl"].value == pytest.approx(0, abs=0.01)
    assert found["diag_sim_to_average", "ctrl"].value == pytest.approx(0, abs=0.03)
    shared = systematic(bundle_of(replace(fold, control_b=half[0])))
    assert shared["diag_pairwise_cos", "ctrl"].value == pytest.approx(0.5, abs=0.02)
    # what is left after the mean of K is taken off is correlated by -1/(K-1)
    assert found["diag_pairwise_cos", "pm"].value == pytest.approx(-1 / (k - 1), abs=0.01)


def test_known_shared_response(make_fold, rng):
    """A common shift of variance s against own effects of variance 1: cosine of a pair s/(s+1)."""
    k, g = 40, 5000
    profile = rng.normal(0, 2**0.5, g) + rng.normal(0, 1, (k, g))
    found = systematic(bundle_of(make_fold(profile)))
    assert found["diag_pairwise_cos", "ctrl"].value == pytest.approx(2 / 3, abs=0.02)
    assert found["diag_sim_to_average", "ctrl"].value == pytest.approx((2 / 3) ** 0.5, abs=0.03)
    average = [np.delete(profile, i, 0).mean(0) for i in range(k)]
    own = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(profile, average, strict=True)]
    assert found["diag_sim_to_average", "ctrl/mean"].value == pytest.approx(np.mean(own), abs=1e-12)
    assert np.isnan(found["diag_sim_to_average", "ctrl/mean"].low)
    assert found["diag_shift_norm", "ctrl"].value == pytest.approx((3 * g) ** 0.5, rel=0.02)
    assert found["diag_shift_norm", "pm"].value == pytest.approx((g * k / (k - 1)) ** 0.5, rel=0.02)
    assert found["diag_effective_rank", "pm"].value == pytest.approx(k - 1, rel=0.03)
    # one eigenvalue 2k+1, the others 1
    values = np.array([2 * k + 1, *np.ones(k - 1)])
    assert found["diag_effective_rank", "ctrl"].value == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=0.03)


def test_pairs_by_brute_force(make_fold, rng):
    profile, controls = rng.normal(size=(6, 50)), rng.normal(0, 0.5, (2, 50))
    found = systematic(bundle_of(make_fold(profile, control_a=controls[0], control_b=controls[1])))
    pearson, cosine = [], []
    for i, j in combinations(range(6), 2):
        both = [(profile[a] - controls[0], profile[b] - controls[1]) for a, b in ((i, j), (j, i))]
        pearson.append(np.mean([np.corrcoef(x, y)[0, 1] for x, y in both]))
        cosine.append(np.mean([x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in both]))
    value = found["diag_heterogeneity_median", "ctrl"]
    assert (value.value, value.low, value.high) == pytest.approx(tuple(np.percentile(pearson, (50, 25, 75))))
    assert value.n == 15
    assert found["diag_pairwise_cos", "ctrl"].value == pytest.approx(np.median(cosine))
    u = np.linalg.svd(profile - profile.mean(0), compute_uv=False) ** 2
    assert found["diag_pc1_share", "pm"].value == pytest.approx(u[0] / u.sum())


def test_share_of_noise(make_fold, rng):
    k, g = 60, 2000
    profile = rng.normal(0, 1, (k, g)) + rng.normal(0, 0.5, (k, g))
    found = systematic(bundle_of(make_fold(profile, variance=np.full((k, g), 0.25))))
    assert found["diag_noise_share", "pm"].value == pytest.approx(0.2, abs=0.01)


def test_a_perturbation_in_two_folds_counts_once(make_fold, rng):
    fold = make_fold(rng.normal(size=(5, 30)))
    other = replace(fold, fold=2, expressed=np.arange(30) < 20)
    of = diagnostics.panel(bundle_of(fold, other))
    assert len(of.ids) == 5
    assert of.profile.shape == (5, 20)


def test_ulm_is_the_slope_test_of_a_linear_regression(rng):
    delta, member = rng.normal(size=80), (np.arange(80) < 15).astype(float)
    expected = stats.linregress(member, delta)
    t, p = diagnostics.ulm(delta + 0.0, member)
    assert t == pytest.approx(expected.slope / expected.stderr)
    assert p == pytest.approx(expected.pvalue)


def test_pathway_values(make_fold, rng):
    profile = rng.normal(0, 0.1, (8, 60))
    profile[:, :20] += 1
    fold = make_fold(profile, sets={"UP": np.arange(20), "REST": np.arange(30, 60)})
    found = named(diagnostics.pathways(bundle_of(fold)))
    assert found["diag_pathway_shift", "UP"].value == pytest.approx(np.median(profile[:, :20].mean(1)))
    assert found["diag_pathway_ulm", "UP"].value > 20
    assert found["diag_pathway_ulm", "REST"].value < -3
    agree = named(diagnostics.pathway_agreement((fold,), predicted(profile)))
    assert agree["diag_pathway_r", "UP"].value == pytest.approx(1)
    against = named(diagnostics.pathway_agreement((fold,), predicted(-profile)))
    assert against["diag_pathway_r", "UP"].value == pytest.approx(-1)


def test_mode_collapse(make_fold, rng):
    k, g = 20, 3000
    effect = rng.normal(size=(k, g))
    noise = np.full((k, g), 0.3)
    fold = make_fold(effect + rng.normal(0, 0.3**0.5, (k, g)), variance=noise, train_mean=np.zeros(g))

    def found(mean):
        return named(diagnostics.collapse((fold,), predicted(mean)))

    right = found(effect)
    assert right["diag_variance_ratio", ""].value == pytest.approx(1, abs=0.02)
    assert right["diag_collapse_pearson", ""].value == pytest.approx(-1 / (k - 1), abs=0.01)
    assert right["diag_near_train_mean", ""].value == 0
    assert found(0.5 * effect)["diag_variance_ratio", ""].value == pytest.approx(0.25, abs=0.01)
    one = found(np.tile(fold.train_mean, (k, 1)))
    assert one["diag_variance_ratio", ""].value == pytest.approx(0, abs=1e-9)
    assert np.isnan(one["diag_collapse_pearson", ""].value)  # no difference, so no likeness
    assert one["diag_near_train_mean", ""].value == 1
    # all along one direction: any two are exactly alike or opposite
    line = found(np.linspace(1, 2, k)[:, None] * rng.normal(size=g))
    assert line["diag_collapse_pearson", ""].n == k * (k - 1) // 2
    gone = effect.copy()
    gone[3] = np.nan
    assert found(gone)["diag_near_train_mean", ""].n == k - 1


def test_finite_samples_of_predicted_cells_do_not_look_like_spread(make_fold, rng):
    k, g = 30, 3000
    fold = make_fold(rng.normal(size=(k, g)), train_mean=np.zeros(g))
    noise = np.full((k, g), 0.25)
    sampled = predicted(rng.normal(0, 0.5, (k, g)), noise)[1]
    sampled = {1: replace(sampled, n_cells=np.full(k, 50))}
    value = named(diagnostics.collapse((fold,), sampled))["diag_variance_ratio", ""].value
    assert value == pytest.approx(0, abs=0.01)
    # one profile for all (no change: the mean of the same control cells) has no spread, and no noise to take off
    same = named(diagnostics.collapse((fold,), predicted(np.ones((k, g)), noise)))["diag_variance_ratio", ""].value
    assert same == 0


def test_direction_by_size_of_change(make_fold, rng):
    profile = np.array([[0.05, -0.2, 0.3, -0.9, 0.6]])
    profile = np.vstack([profile, profile])
    prediction = np.array([[0.01, 0.2, 0.3, -0.1, 0.0], [-0.01, -0.2, 0.3, -0.1, 0.7]])
    found = named(diagnostics.direction((make_fold(profile),), predicted(prediction)))
    shares = {reference: (value.value, value.n) for (_, reference), value in found.items()}
    assert shares == {"0-0.1": (0.5, 2), "0.1-0.25": (0.5, 2), "0.25-0.5": (1.0, 2), ">0.5": (0.75, 4)}


@pytest.mark.parametrize(("claimed", "coverage"), [(1.0, 0.5), (4.0, 0.8227), (0.25, 0.264)])
def test_coverage_of_a_models_own_variance(make_fold, rng, claimed, coverage):
    """Standard normal errors: 50 % intervals hold 2 Phi(0.6745 s) - 1 when a model claims the variance s^2."""
    fold = make_fold(rng.normal(size=(20, 3000)))
    mean = np.zeros((20, 3000))
    mean[4] = np.nan
    given = {1: replace(predicted(mean)[1], predictive=np.full(mean.shape, claimed))}
    found = named(diagnostics.calibration((fold,), given))
    assert found["diag_coverage", "50%"].value == pytest.approx(coverage, abs=0.01)
    assert found["diag_coverage", "50%"].n == 19 * 3000
    levels = np.arange(1, 10) / 10
    z = stats.norm.ppf(0.5 + levels / 2) * claimed**0.5
    expected = np.abs(2 * stats.norm.cdf(z) - 1 - levels).mean()
    assert found["diag_calibration_error", ""].value == pytest.approx(expected, abs=0.01)
    assert not list(diagnostics.calibration((fold,), predicted(mean)))


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (50, 60), (7, 7)])
def test_wilson_agrees_with_scipy(successes, n):
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert diagnostics.wilson(successes, n) == pytest.approx((expected.low, expected.high))
    assert np.isnan(diagnostics.wilson(0, 0)).all()


def test_error_against_cells_agrees_with_scipy(make_fold, rng):
    n = np.array([20, 30, 30, 80, 200, 15])
    fold = make_fold(rng.normal(size=(6, 40)), n_cells=n)
    mean = rng.normal(size=(6, 40))
    errors = ((mean - fold.profile) ** 2).mean(1)
    value = diagnostics.error_against_cells((fold,), predicted(mean))
    assert value.value == pytest.approx(stats.spearmanr(errors, n).statistic)
    same = replace(fold, n_cells=np.full(6, 50))
    assert np.isnan(diagnostics.error_against_cells((same,), predicted(mean)).value)


def test_fewer_cells_lower_the_score_by_the_noise_they_add(make_fold, compare, rng):
    """A noise-free predictor's error against a share f of n cells is variance / (f n)."""
    k, g, n = 20, 3000, 80
    effect = rng.normal(0, 0.3, (k, g))
    quarters = effect + rng.normal(0, 1 / np.sqrt(n / 4), (4, k, g))
    fold = make_fold(
        quarters.mean(0), n_cells=np.full(k, n), n_first=np.full(k, n // 2), quarter=quarters[0],
        first_half=quarters[:2].mean(0)[None], variance=np.full((k, g), 1 / n),
        significant=tuple(np.arange(g) for _ in range(k)),
    )  # fmt: skip
    found = named(diagnostics.down_sampled((fold,), predicted(effect), METRICS))
    for fraction in ("0.25", "0.5", "1"):
        value = found["diag_cells", f"mse__de20_nt@{fraction}"]
        assert value.value == pytest.approx(1 / (n * float(fraction)), rel=0.2)
        assert value.n == k
    score = scoring.function_of(METRICS["dpearson_pm"])
    assert found["diag_cells", "dpearson_pm__expr_nt@1"].value == score(compare(fold, effect), "expr_nt").values.mean()
    pearson = [found["diag_cells", f"dpearson_pm__expr_nt@{f}"].value for f in ("0.25", "0.5", "1")]
    assert pearson == sorted(pearson)
    short = replace(fold, n_first=np.where(np.arange(k) < 5, 12, 40))
    found = named(diagnostics.down_sampled((short,), predicted(effect), METRICS))
    assert {found["diag_cells", f"mse__de20_nt@{f}"].n for f in ("0.25", "0.5", "1")} == {k - 5}
    assert not list(diagnostics.down_sampled((replace(fold, quarter=None),), predicted(effect), METRICS))


def test_rows_of_a_truth(make_fold, rng):
    fold = make_fold(rng.normal(size=(6, 40)))
    bundle = bundle_of(fold)
    bundle.facts.update(
        control_vs_control={"n_genes": 200, "n_below": 10, "n_significant": 0},
        position_seen={"1": dict.fromkeys(fold.ids[:4], True) | {fold.ids[4]: False}},
    )
    rows = scoring.Rows("d", "s", contract.TRUTH)
    diagnostics.add_truth(bundle, rows)
    found = {row[7:10]: row[10] for row in rows.rows}
    assert found["", "diag_control_vs_control", "p<0.05"] == 0.05
    low, _ = diagnostics.wilson(10, 200)
    assert found["", "diag_control_vs_control", "p<0.05:low"] == low
    assert found["", "diag_median_n_de", "ctrl"] == 20
    seen = [found.get((name, "diag_position_seen", "")) for name in fold.ids]
    assert seen == [1, 1, 1, 1, 0, None]
    ids = [row[:10] for row in rows.rows]
    assert len(set(ids)) == len(ids)


def test_positions_seen(tmp_path):
    path = tmp_path / "p.tsv"
    path.write_text(
        "perturbation\tgene\tpos\na\tG\t5\nb\tG\t5\nc\tH\t5\nd\tG\t5;9\ne\tG;H\t1;9\nf\tG\t\ng\tH\t9\n",
    )
    found = truth_cli.positions_seen(path, [Roles(1, ("a", "g"), ("b", "c", "d", "e", "f")), Roles(2, ("c",), ("a",))])
    assert found == {"1": {"b": True, "c": False, "d": True, "e": True}, "2": {"a": False}}
