"""Average precision and its relatives (metrics.md 2.7, 11)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vcbench.metrics import recovery


@pytest.mark.parametrize("ties", [1, 3, 50])
def test_areas_equal_sklearn(make_fold, compare, rng, ties):
    """Also when each perturbation leaves out other genes."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    k, g = 8, 200
    positive = rng.random((k, g)) < rng.uniform(0.05, 0.5, (k, 1))
    up = rng.random((k, g)) < 0.5
    targets = tuple(rng.choice(g, 5, replace=False) for _ in range(k))
    fold = make_fold(rng.normal(size=(k, g)), positive=positive, targets=targets, log2fc=np.where(up, 1.0, -1.0))
    predicted = np.floor(rng.normal(size=(k, g)) * 50 / ties)
    pairs = np.stack([np.arange(k), rng.permutation(k)], axis=1)
    comparison = compare(fold, predicted, pairs=pairs)
    for metric, labels, sign in ((recovery.ap_de, positive, 0), (recovery.auroc_de, positive, 0),
                                 (recovery.ap_signed_up, positive & up, 1),
                                 (recovery.ap_signed_down, positive & ~up, -1)):  # fmt: skip
        external = roc_auc_score if metric is recovery.auroc_de else average_precision_score
        score = sign * predicted if sign else np.abs(predicted)
        found = metric(comparison, "expr_nt").values
        for i in range(k):
            for column, j in enumerate(pairs[i]):
                inside = ~np.isin(np.arange(g), targets[j])
                expected = external(labels[j][inside], score[i][inside])
                assert found[i, column] == pytest.approx(expected, abs=1e-12)


def test_tied_genes_may_be_permuted(make_fold, compare, rng):
    score, labels = rng.integers(0, 4, 100).astype(float), rng.random((1, 100)) < 0.2
    values = set()
    for _ in range(20):
        order = rng.permutation(100)
        fold = make_fold(np.zeros((1, 100)), positive=labels[:, order])
        values.add(round(float(recovery.ap_de(compare(fold, score[None, order]), "expr").values[0, 0]), 12))
    assert len(values) == 1


@pytest.mark.parametrize("positives", [1, 30, 99])
def test_a_constant_score(make_fold, compare, positives):
    labels = np.arange(100)[None] < positives
    mask = np.ones((1, 100), dtype=bool)
    pi = positives / 100
    fold = make_fold(np.zeros((1, 100)), positive=labels)
    constant = compare(fold, np.full((1, 100), 0.7))
    assert recovery.ap_de(constant, "expr").values[0, 0] == pytest.approx(pi, abs=1e-15)
    assert recovery.auroc_de(constant, "expr").values[0, 0] == pytest.approx(0.5, abs=1e-15)
    assert recovery.trapezoid_area(np.zeros(100), labels, mask)[0] == pytest.approx((1 + pi) / 2, abs=1e-15)


def test_no_change_scores_the_prevalence_of_each_variant(make_fold, compare, rng):
    control = rng.gamma(2, 1, 80)
    positive = rng.random((5, 80)) < 0.2
    positive[:, 0] = True
    fold = make_fold(control + rng.normal(size=(5, 80)), control_b=control, control_a=control, positive=positive)
    comparison = compare(fold, np.tile(control, (5, 1)).astype(np.float32))
    np.testing.assert_allclose(recovery.ap_de(comparison, "expr_nt").values[:, 0], positive.mean(1), atol=1e-15)
    assert (recovery.ap_de_lift(comparison, "expr_nt").values == 0).all()  # and no 3e-18
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


# ---------------------------------------------------------------------------------------------------------------------
# Top lists and sizes of changes


def overlap_by_breaking_ties(p, t, k, rng, n=4000):
    """Return the mean common share of top-k lists whose ties are broken at random, each side by itself."""
    found = []
    for _ in range(n):
        lists = [set(np.lexsort((rng.random(len(x)), -np.abs(x)))[:k]) for x in (p, t)]
        found.append(len(lists[0] & lists[1]) / k)
    return np.mean(found), np.std(found) / np.sqrt(n)


def test_overlap_is_the_mean_over_broken_ties(make_fold, compare, rng):
    p, t = np.round(rng.normal(size=60)), rng.normal(size=60)
    t[40:] = 0.3  # ties on both sides
    fold = make_fold(t[None], targets=(np.array([3, 17]),))
    inside = np.setdiff1d(np.arange(60), [3, 17])
    for metric, k in ((recovery.overlap_k20, 20), (recovery.overlap_k50, 50)):
        expected, error = overlap_by_breaking_ties(p[inside], t[inside], k, rng)
        found = metric(compare(fold, p[None]), "expr_nt").values[0, 0]
        assert found == pytest.approx(expected, abs=4 * error + 1e-12)


def test_overlap_without_ties_counts_common_genes(make_fold, compare, rng):
    k, g = 5, 300
    fold = make_fold(rng.normal(size=(k, g)), control_a=rng.normal(size=g), control_b=rng.normal(size=g),
                     significant=tuple(rng.choice(g, 10 + 7 * i, replace=False) for i in range(k)))  # fmt: skip
    predicted = fold.profile + rng.normal(size=(k, g))
    pairs = np.stack([np.arange(k), rng.permutation(k)], axis=1)
    for name, lengths in (("k20", [20] * k), ("k50", [50] * k), ("k100", [100] * k),
                          ("nsig", [10 + 7 * i for i in range(k)])):  # fmt: skip
        found = getattr(recovery, f"overlap_{name}")(compare(fold, predicted, pairs=pairs), "expr").values
        for i in range(k):
            for column, j in enumerate(pairs[i]):
                n = lengths[j]
                p = np.argsort(-np.abs(predicted[i] - fold.control_b))[:n]
                t = np.argsort(-np.abs(fold.profile[j] - fold.control_a))[:n]
                assert found[i, column] == pytest.approx(len(set(p) & set(t)) / n, abs=1e-12)


def test_overlap_of_constant_and_perfect_predictions(make_fold, compare, rng):
    control = rng.normal(size=300)
    fold = make_fold(rng.normal(size=(4, 300)), control_a=control, control_b=control, targets=(np.arange(3),) * 4)
    constant = compare(fold, np.tile(control + 0.2, (4, 1)).astype(np.float32))
    for name, k in (("k20", 20), ("k50", 50), ("k100", 100), ("nsig", 17)):
        metric = getattr(recovery, f"overlap_{name}")
        np.testing.assert_allclose(metric(constant, "expr_nt").values, k / 297, atol=1e-15)
        np.testing.assert_allclose(recovery.top_share(fold, f"overlap_{name}", "expr_nt"), k / 297, atol=1e-15)
        np.testing.assert_allclose(metric(compare(fold, fold.profile), "expr_nt").values, 1, atol=1e-15)


def test_short_and_empty_lists_are_said(make_fold, compare, rng):
    fold = make_fold(rng.normal(size=(2, 40)), significant=(np.array([], dtype=int), np.arange(5)))
    comparison = compare(fold, rng.normal(size=(2, 40)))
    outcome = recovery.overlap_k50(comparison, "expr")
    assert outcome.truth_reason.tolist() == ["no_de", "few_genes"]  # all 40 genes would be in both lists
    assert np.isnan(outcome.values).all()
    assert recovery.overlap_nsig(comparison, "expr").truth_reason.tolist() == ["no_de", ""]
    assert not np.isnan(recovery.overlap_k20(comparison, "expr").values[1]).any()
    all_changed = make_fold(rng.normal(size=(2, 20)), significant=(np.arange(20), np.arange(19)))
    outcome = recovery.overlap_nsig(compare(all_changed, rng.normal(size=(2, 20))), "expr")
    assert outcome.truth_reason.tolist() == ["all_de", ""]
    assert np.isnan(outcome.values[:, 0]).tolist() == [True, False]
    assert recovery.overlap_k20(compare(all_changed, rng.normal(size=(2, 20))), "expr").truth_reason[1] == "few_genes"
    assert recovery.lfc_nmae(comparison, "sig").truth_reason.tolist() == ["no_de", "few_genes"]


def test_jaccard_of_top_lists(make_fold, compare, rng):
    g = 200
    significant = tuple(rng.choice(g, n, replace=False) for n in (50, 8))
    fold = make_fold(rng.normal(size=(2, g)), significant=significant, control_b=rng.normal(size=g))
    predicted = rng.normal(size=(2, g)) + np.isin(np.arange(g), significant[0]) * 1.5
    outcome = recovery.jaccard_de20(compare(fold, predicted), "de20")
    for k, n in enumerate((20, 8)):
        top = set(np.argsort(-np.abs(predicted[k] - fold.control_b))[:n])
        listed = set(significant[k][:n])
        assert outcome.values[k, 0] == pytest.approx(len(top & listed) / len(top | listed), abs=1e-12)
    assert outcome.flag.tolist() == ["", "n_lt_k"]


def test_normalised_error_of_changes(make_fold, compare, rng):
    significant = (np.arange(12), np.arange(3, 30))
    fold = make_fold(rng.normal(size=(2, 40)), significant=significant, control_a=rng.normal(size=40),
                     control_b=rng.normal(size=40))  # fmt: skip
    predicted = rng.normal(size=(2, 40))
    outcome = recovery.lfc_nmae(compare(fold, predicted), "sig")
    for k, index in enumerate(significant):
        p, t = (predicted[k] - fold.control_b)[index], (fold.profile[k] - fold.control_a)[index]
        assert outcome.values[k, 0] == pytest.approx(np.abs(p - t).sum() / np.abs(t).sum(), abs=1e-12)
    same = compare(fold, np.tile(fold.control_b, (2, 1)))
    np.testing.assert_allclose(recovery.lfc_nmae(same, "sig").values, 1, atol=1e-15)  # no change scores 1
    corrected = compare(fold, fold.profile - fold.control_a + fold.control_b)
    np.testing.assert_allclose(recovery.lfc_nmae(corrected, "sig").values, 0, atol=1e-12)


def test_rank_correlation_on_changed_genes(make_fold, compare, rng):
    from scipy.stats import spearmanr

    fold = make_fold(rng.normal(size=(1, 40)), significant=(np.arange(12),), control_a=rng.normal(size=40))
    predicted = rng.normal(size=(1, 40))
    found = recovery.de_lfc_spearman(compare(fold, predicted), "sig").values[0, 0]
    expected = spearmanr(predicted[0, :12], (fold.profile[0] - fold.control_a)[:12]).statistic
    assert found == pytest.approx(expected, abs=1e-12)


def test_cuts_of_the_grid(make_fold, compare, rng):
    p_adj, log2fc = rng.random((3, 80)) ** 4, rng.normal(size=(3, 80))
    fold = make_fold(rng.normal(size=(3, 80)), p_adj=p_adj, log2fc=log2fc)
    predicted = rng.normal(size=(3, 80))
    for fdr in (0.01, 0.05, 0.1):
        for name, cut in (("0", 0.0), ("0.25", 0.25), ("0.585", np.log2(1.5)), ("1", 1.0)):
            labels = (p_adj < fdr) & (np.abs(log2fc) >= cut)
            expected = recovery.ap_de(compare(replace(fold, positive=labels), predicted), "expr_nt").values
            found = recovery.ap_de_grid(compare(fold, predicted), f"expr_nt@fdr{fdr}_lfc{name}").values
            np.testing.assert_array_equal(found, expected)
    untested = make_fold(np.zeros((1, 80)), p_adj=np.full((1, 80), np.nan), log2fc=np.full((1, 80), np.nan))
    outcome = recovery.ap_de_grid(compare(untested, predicted[:1]), "expr_nt@fdr0.1_lfc0")
    assert outcome.truth_reason.tolist() == ["no_de"]


# ---------------------------------------------------------------------------------------------------------------------
# Cross-fitting


def test_cross_fit_scores_the_other_half(make_fold, compare, rng):
    k, g = 3, 60
    n, n_first = np.array([60, 61, 40]), np.array([30, 30, 20])
    first, second = rng.normal(size=(2, k, g))
    profile = (n_first[:, None] * first + (n - n_first)[:, None] * second) / n[:, None]
    lists = tuple(rng.choice(g, 15, replace=False) for _ in range(k))
    fold = make_fold(profile, n_cells=n, n_first=n_first, first_half=np.tile(first, (5, 1, 1)), significant_first=lists,
                     variance=np.ones((k, g)))  # fmt: skip
    crossed = fold.cross_fit
    np.testing.assert_allclose(crossed.profile, second, atol=1e-12)
    np.testing.assert_allclose(crossed.variance[:, 0], [2, 61 / 31, 2], atol=1e-12)
    predicted = rng.normal(size=(k, g))
    outcome = recovery.lfc_nmae(compare(crossed, predicted), "sig")
    assert outcome.truth_reason.tolist() == ["", "", "few_cells"]  # 20 cells give no list
    expected = np.abs(predicted[0] - second[0])[lists[0]].sum() / np.abs(second[0])[lists[0]].sum()
    assert outcome.values[0, 0] == pytest.approx(expected, abs=1e-12)


def test_cross_fit_removes_the_winners_curse(make_fold, compare, rng):
    """Pure noise: genes chosen on the cells that score look changed, chosen on other cells they do not."""
    k, g, n = 40, 2000, 60
    first, second = rng.normal(0, np.sqrt(2 / n), (2, k, g))
    profile = (first + second) / 2
    top = tuple(np.argsort(-np.abs(row))[:20] for row in profile)
    fold = make_fold(profile, n_cells=np.full(k, n), n_first=np.full(k, n // 2), first_half=first[None],
                     significant=top,
                     significant_first=tuple(np.argsort(-np.abs(row))[:20] for row in first))  # fmt: skip
    flat = np.zeros((k, g))
    same, other = (
        np.mean([np.square(f.profile[row][f.gene_set("de20").index[row]]).mean() for row in range(k)])
        for f in (fold, fold.cross_fit)
    )
    assert same > 5 / n  # noise that was selected
    assert other == pytest.approx(2 / n, rel=0.15)  # noise of half the cells
    assert compare(fold.cross_fit, flat).truth.n_cells.tolist() == [30] * k
