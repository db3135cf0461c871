"""Paired tests (metrics.md 10.3)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vcbench.stats import bootstrap, contrasts


def groups_of(names):
    return bootstrap.clusters([str(name) for name in names], np.ones(len(names), dtype=int))


def sign_flip(differences, groups, generator):
    """p value of one series."""
    return contrasts.sign_flip(np.asarray(differences)[None], groups, contrasts.Flips(lambda: generator))[0]


def signed_rank(differences):
    p, zeros = contrasts.signed_rank(np.asarray(differences)[None])
    return p[0], zeros[0]


def test_exact_sign_flip_by_hand():
    differences = np.array([0.3, -0.1, 0.4, 0.2, 0.5])
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
            for signs in itertools.product((1, -1), repeat=5)]  # fmt: skip
    expected = np.mean([s >= differences.sum() - 1e-12 for s in sums])
    assert sign_flip(differences, groups_of(range(5)), np.random.default_rng(0)) == expected


def test_smallest_p_is_two_over_all_flips():
    p = sign_flip(np.ones(6), groups_of(range(6)), np.random.default_rng(0))
    assert p == pytest.approx(2 / 2**6)
    # Six perturbations in three clusters are three observations.
    assert sign_flip(np.ones(6), groups_of([0, 0, 1, 1, 2, 2]), np.random.default_rng(0)) == pytest.approx(0.25)


def test_no_difference_and_too_few_clusters():
    assert sign_flip(np.zeros(20), groups_of(range(20)), np.random.default_rng(0)) == 1
    assert np.isnan(sign_flip(np.ones(5), groups_of([0] * 5), np.random.default_rng(0)))
    gaps = np.array([1.0, np.nan, 1.0])
    assert sign_flip(gaps, groups_of(range(3)), np.random.default_rng(0)) == 0.5


def test_type_one_error_with_dependent_clusters():
    """Under the null 5 % of tests reject when clusters are flipped whole; flipping members alone rejects too often."""
    rng = np.random.default_rng(11)
    cluster = np.repeat(np.arange(20), 3)
    whole, members = groups_of(cluster), groups_of(range(60))
    rejected = np.zeros(2)
    n = 250
    for _ in range(n):
        differences = rng.normal(size=20)[cluster] + 0.3 * rng.normal(size=60)
        for i, groups in enumerate((whole, members)):
            rejected[i] += sign_flip(differences, groups, rng) < 0.05
    assert rejected[0] / n == pytest.approx(0.05, abs=0.035)
    assert rejected[1] / n > 0.15


def test_power_at_the_detectable_difference():
    """A true difference of 2.8 standard errors is found with about 80 % power."""
    rng = np.random.default_rng(2)
    k, found = 33, 0
    groups = groups_of(range(k))
    for _ in range(200):
        differences = rng.normal(contrasts.DETECTABLE_ERRORS * 0.15 / np.sqrt(k), 0.15, k)
        found += sign_flip(differences, groups, rng) < 0.05
    assert 0.7 <= found / 200 <= 0.88


def test_holm_by_hand():
    p = np.array([0.01, 0.04, 0.03, np.nan, 0.005])
    np.testing.assert_allclose(contrasts.holm(p), [0.03, 0.06, 0.06, np.nan, 0.02])
    assert contrasts.holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_companions():
    differences = np.array([1.0, 2, 3, 4, 5, 0, np.nan])
    p, zeros = signed_rank(differences)
    assert p == pytest.approx(2 / 2**5)
    assert zeros == 1
    assert contrasts.superiority(differences[None])[0] == pytest.approx(5.5 / 6)
    assert np.isnan(signed_rank(np.zeros(4))[0])


@pytest.mark.parametrize("k", [5, 12, 30, 70])
def test_signed_rank_agrees_with_scipy(k):
    from scipy.stats import wilcoxon

    differences = np.random.default_rng(k).normal(0.3, 1, k)
    assert signed_rank(differences)[0] == pytest.approx(wilcoxon(differences).pvalue, abs=1e-12)
    tied = np.round(np.abs(differences) + 0.5) * np.sign(differences)
    if k == 70:
        assert signed_rank(tied)[0] == pytest.approx(wilcoxon(tied).pvalue, abs=1e-12)


def test_signed_rank_with_ties_lists_all_signs():
    differences = np.array([1.0, 1, -1, 2, 2, 3, -3, 0, 5])
    used = differences[differences != 0]
    order = np.sort(np.abs(used))
    ranks = [np.mean(np.flatnonzero(order == abs(d)) + 1) for d in used]
    sums = np.array([sum(r for r, sign in zip(ranks, signs, strict=True) if sign > 0)
                     for signs in itertools.product((1, -1), repeat=len(used))])  # fmt: skip
    positive = sum(r for r, d in zip(ranks, used, strict=True) if d > 0)
    expected = min(1, 2 * min(np.mean(sums <= positive), np.mean(sums >= positive)))
    assert signed_rank(differences) == (pytest.approx(expected, abs=1e-14), 1)


def test_many_contrasts_at_once_are_those_one_by_one():
    rng = np.random.default_rng(1)
    groups = groups_of([i // 2 for i in range(60)])
    differences = np.round(rng.normal(0.1, 1, (5, 60)), 1)
    differences[1, :50] = np.nan  # five clusters, all flips listed
    differences[3, rng.random(60) < 0.3] = np.nan
    flips = contrasts.Flips(lambda: np.random.default_rng(9))
    together = contrasts.sign_flip(differences, groups, flips)
    ranks, zeros = contrasts.signed_rank(differences)
    for m, one in enumerate(differences):
        present = sorted({groups.code[k] for k in range(60) if not np.isnan(one[k])})
        sums = np.array([np.nansum(one[groups.code == c]) for c in present])
        drawn, exact = contrasts.signs(len(present), np.random.default_rng(9))
        reached = sum(abs((row * sums).sum()) >= abs(sums.sum()) - 1e-9 for row in drawn.astype(float))
        expected = reached / len(drawn) if exact else (1 + reached) / (1 + len(drawn))
        assert together[m] == pytest.approx(expected, abs=1e-15)
        assert (ranks[m], zeros[m]) == signed_rank(one)
        assert zeros[m] == (one == 0).sum()


def test_benjamini_hochberg_agrees_with_scipy():
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(0).random(40) ** 3
    np.testing.assert_allclose(contrasts.benjamini_hochberg(p), false_discovery_control(p), atol=1e-15)
    gaps = np.insert(p, [0, 7], np.nan)
    found = contrasts.benjamini_hochberg(gaps)
    np.testing.assert_allclose(found[~np.isnan(gaps)], false_discovery_control(p), atol=1e-15)
    assert np.isnan(found[np.isnan(gaps)]).all()


def test_fold_intervals_by_the_formula_of_nadeau_and_bengio():
    from scipy import stats

    rng = np.random.default_rng(3)
    folds = np.repeat([1, 2, 3], [10, 12, 8])
    differences = rng.normal(0.2, 1, (2, 30))
    differences[1, folds == 2] = np.nan
    low, high = contrasts.fold_intervals(differences, np.ones((2, 30)), folds, 30)
    for m, used in ((0, (1, 2, 3)), (1, (1, 3))):
        means = [differences[m, folds == f].mean() for f in used]
        # 10 of 30 are tested on average, so 20 are trained on
        half = stats.t.ppf(0.975, len(used) - 1) * np.sqrt((1 / len(used) + 10 / 20) * np.var(means, ddof=1))
        assert (low[m], high[m]) == pytest.approx((np.mean(means) - half, np.mean(means) + half), rel=1e-9)
    alone = contrasts.fold_intervals(differences, np.ones((2, 30)), np.ones(30, dtype=int), 30)
    assert np.isnan(alone).all()


def test_bounded_p_values_are_never_below_the_exact_ones():
    """Hoeffding's bound holds for every set of sums; without it 14 equal clusters could not survive 10,000 tests."""
    differences = np.random.default_rng(4).normal(0.8, 1, (40, 13))
    exact = np.array([
        np.mean([abs((np.array(s) * row).sum()) >= abs(row.sum()) - 1e-12
                 for s in itertools.product((1, -1), repeat=13)]) for row in differences[:6]
    ])  # fmt: skip
    groups = groups_of([f"{i:02d}" for i in range(13)])
    few = contrasts.Flips(lambda: np.random.default_rng(0), n=8000)
    bound = 2 * np.exp(-(differences.sum(1) ** 2) / (2 * (differences**2).sum(1)))
    found = contrasts.sign_flip(differences, groups, few, bounded=True)
    plain = contrasts.sign_flip(differences, groups, few)
    np.testing.assert_array_equal(found, np.minimum(plain, bound))
    assert (bound[:6] >= exact).all()
    assert contrasts.sign_flip(np.ones((1, 60)), groups_of(range(60)), few, bounded=True)[0] < 1e-12
