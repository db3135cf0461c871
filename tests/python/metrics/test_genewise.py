"""Gene-wise metrics (metrics.md 2.8, 11)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vcbench.metrics import bundle, contract, genewise, registry, scoring
from vcbench.metrics.comparison import Predicted
from vcbench.stats import panel, scores


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


# ---------------------------------------------------------------------------------------------------------------------
# Effect sizes and pathways


def two_folds(make_fold, rng, k=7, g=40, **changes):
    """Return two folds that differ in controls and expressed genes."""
    return [
        make_fold(
            rng.normal(size=(k, g)),
            fold=number,
            control_a=rng.normal(size=g),
            control_b=rng.normal(size=g),
            targets=tuple(np.array([i]) for i in range(k)),
            **changes,
        )
        for number in (1, 2)
    ]


def over_folds(function, folds, predictions, gene_set="expr_nt", terms=True):
    sides = [genewise.features(function, f, p, gene_set, np.ones(p.shape[1], bool))
             for f, p in zip(folds, predictions, strict=True)]  # fmt: skip
    number = np.repeat([f.fold for f in folds], [len(f.ids) for f in folds])
    true, predicted = (np.concatenate([pair[side] for pair in sides]) for side in (0, 1))
    return getattr(genewise, function)(true, predicted, number, terms), (true, predicted, number)


def test_effect_rank_of_one_fold_is_spearman(make_fold, rng):
    fold = two_folds(make_fold, rng)[0]
    predicted = fold.profile * 0.5 + rng.normal(size=fold.profile.shape)
    found, _ = over_folds("effect_rank", [fold], [predicted])
    genes = np.arange(7, 40)  # without the targets of the whole panel
    norms = [np.linalg.norm((side - c)[:, genes], axis=1) for side, c in ((predicted, fold.control_b),
                                                                          (fold.profile, fold.control_a))]  # fmt: skip
    assert found.value == pytest.approx(stats.spearmanr(*norms).statistic, abs=1e-12)
    shrunk = fold.control_b + 0.1 * (predicted - fold.control_b)
    assert over_folds("effect_rank", [fold], [shrunk])[0].value == pytest.approx(found.value, abs=1e-12)
    best = fold.control_b + (fold.profile - fold.control_a)
    assert over_folds("effect_rank", [fold], [best])[0].value == pytest.approx(1, abs=1e-12)


def test_effect_rank_keeps_folds_apart(make_fold, rng):
    """A constant prediction for each fold has no ranks, although its norm differs between folds."""
    folds = two_folds(make_fold, rng)
    constant = [np.tile(rng.normal(size=40), (7, 1)).astype(np.float32).astype(float) for _ in folds]
    found, _ = over_folds("effect_rank", folds, constant)
    assert (found.status, np.isnan(found.value)) == ("const_pred", True)
    predicted = [f.profile + rng.normal(size=f.profile.shape) for f in folds]
    found, (true, p, number) = over_folds("effect_rank", folds, predicted)
    ranks = [np.concatenate([stats.rankdata(side[number == f, 0]) - 4 for f in (1, 2)]) for side in (true, p)]
    assert found.value == pytest.approx(stats.pearsonr(*ranks).statistic, abs=1e-12)


def test_terms_of_panel_metrics_are_the_jackknife(make_fold, rng):
    folds = two_folds(make_fold, rng, sets={"a": np.arange(5, 20), "b": np.arange(15, 40)})
    predicted = [f.profile * 0.5 + rng.normal(size=f.profile.shape) for f in folds]
    for function in ("effect_rank", "pathway_pearson"):
        found, (true, p, number) = over_folds(function, folds, predicted)
        metric = getattr(genewise, function)
        without = []
        for k in range(len(true)):
            keep = np.arange(len(true)) != k
            without.append(metric(true[keep], p[keep], number[keep], terms=False).value)
        expected = len(true) * found.value - (len(true) - 1) * np.array(without)
        np.testing.assert_allclose(found.terms, expected, atol=1e-10)
        assert np.isnan(metric(true, p, number, terms=False).terms).all()


def test_pathways_are_mean_deltas(make_fold, rng):
    sets = {"a": np.arange(3, 20), "b": np.arange(15, 40)}
    fold = two_folds(make_fold, rng, sets=sets)[0]
    predicted = fold.profile + rng.normal(size=fold.profile.shape)
    found, _ = over_folds("pathway_pearson", [fold], [predicted], "pathways")
    expected = []
    for index in sets.values():
        genes = [g for g in index if g >= 7]
        p = [(predicted[k] - fold.control_b)[genes].mean() for k in range(7)]
        t = [(fold.profile[k] - fold.control_a)[genes].mean() for k in range(7)]
        expected.append(stats.pearsonr(p, t).statistic)
    assert found.value == pytest.approx(np.mean(expected), abs=1e-12)
    assert found.n_genes == 2
    for function in ("effect_rank", "pathway_pearson"):
        small = np.ones((2, 1)), np.ones((2, 1)), np.ones(2)
        assert getattr(genewise, function)(*small).status == "single_pert"


def test_gene_wise_error_is_a_mean_over_perturbations(make_fold, compare, rng):
    from vcbench.metrics import errors

    eligible = rng.random(30) < 0.5
    fold = make_fold(rng.normal(size=(9, 30)), eligible=eligible)
    predicted = rng.normal(size=(9, 30))
    per_gene = ((fold.profile - predicted)[:, eligible] ** 2).mean(axis=0)
    found = errors.gw_mse(compare(fold, predicted), "eligible")
    assert found.values.mean() == pytest.approx(per_gene.mean(), abs=1e-12)
    none = errors.gw_mse(compare(make_fold(fold.profile, eligible=np.zeros(30, bool)), predicted), "eligible")
    assert set(none.truth_reason) == {"few_genes"}


FEW = {
    # perturbations, changed genes vary, eligible genes -> the truth's reason
    "too few perturbations": (7, True, True, "single_pert"),
    "no eligible gene": (12, True, False, "few_genes"),
    "nothing varies": (12, False, True, "const_true"),
}


@pytest.mark.parametrize("case", FEW)
@pytest.mark.parametrize("metric", ["gw_pearson_wf", "gw_nmse"])
def test_what_the_truth_does_not_allow_is_excluded_for_all_and_not_filled_with_no_skill(make_fold, rng, case, metric):
    k, varies, eligible, reason = FEW[case]
    profile = rng.normal(size=(k, 20)) if varies else np.zeros((k, 20))
    fold = make_fold(profile, eligible=np.full(20, eligible))
    facts = {"dataset": "d", "split": "s"}
    truth = bundle.TruthBundle(np.arange(20).astype(str), (fold,), np.ones(20), np.full(20, eligible), facts)
    metrics = {name: registry.load()[name] for name in (metric, f"{metric}_term")}
    collected = []
    for name, predicted in (("a", rng.normal(size=(k, 20))), ("b", np.zeros((k, 20)))):
        rows = scoring.Rows("d", "s", name)
        given = Predicted(predicted, np.zeros((k, 20)), np.ones(k, dtype=int))
        scoring.score_combination(truth, {1: given}, metrics, rows, 0)
        collected += rows.rows
    rows = scoring.Rows("d", "s", contract.NO_SKILL)
    scoring.add_no_skill(truth, metrics, rows)
    collected += rows.rows
    assert {row[14] for row in rows.rows} == {reason} and np.isnan([row[10] for row in rows.rows]).all()
    plan = [{"dataset": "d", "split": "s", "fold": 1, "model": name, "encoder": "none", "strategy": "none", "seed": 0,
             "class": "baseline", "state": "ok"} for name in ("a", "b")]  # fmt: skip
    of = scores.by_panel(scoring.to_table(collected, {}))["d", "s"]
    one = panel.build("d", "s", panel.combinations(plan)["d", "s"], of, {name: name for name in fold.ids}, 0, 20)
    series = one.series(metrics[metric], "eligible")
    assert np.isnan(series.imputed).all() and np.isnan(series.value).all()
    assert [dict(found) for found in series.reasons] == [{reason: k}] * 2


def test_a_constant_prediction_of_a_truth_that_varies_is_still_filled_with_no_skill(make_fold, rng):
    fold = make_fold(rng.normal(size=(12, 20)), eligible=np.ones(20, dtype=bool))
    truth = bundle.TruthBundle(np.arange(20).astype(str), (fold,), np.ones(20), np.ones(20, dtype=bool),
                               {"dataset": "d", "split": "s"})  # fmt: skip
    metrics = {name: registry.load()[name] for name in ("gw_pearson_wf", "gw_pearson_wf_term")}
    rows = scoring.Rows("d", "s", contract.NO_SKILL)
    scoring.add_no_skill(truth, metrics, rows)
    assert {(row[10], row[14]) for row in rows.rows} == {(0.0, contract.OK)}
    rows = scoring.Rows("d", "s", "a")
    given = Predicted(np.zeros((12, 20)), np.zeros((12, 20)), np.ones(12, dtype=int))
    scoring.score_combination(truth, {1: given}, metrics, rows, 0, nulls=False)
    assert {row[14] for row in rows.rows} == {"const_pred"}
