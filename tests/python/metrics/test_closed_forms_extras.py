"""Closed forms and simulated expectations of cell-level, challenge and interaction metrics (metrics.md 2.9 to 2.13)."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from vcbench.metrics import cell_space, contract, de, distribution, interactions, local_fdr, vcc
from vcbench.metrics.extra_truth import singles_of
from vcbench.metrics.extras import Controls


def test_energy_distance_of_two_points_and_of_the_same_cells(rng):
    a, b = np.zeros((3, 2)), np.array([[3.0, 4.0]] * 5)
    assert distribution.energy_distance(a, b) == pytest.approx(10)
    cells = rng.normal(size=(30, 4))
    assert distribution.energy_distance(cells, cells) == pytest.approx(0, abs=1e-12)
    assert distribution.mmd(cells, cells, 1.0) == pytest.approx(0, abs=1e-7)
    assert distribution.mmd(a, b, 5.0) == pytest.approx(np.sqrt(2 - 2 * np.exp(-0.5)))


def test_energy_distance_of_normal_cells(rng):
    """In one dimension 2 E|X - Y| - E|X - X'| - E|Y - Y'| of N(0, 1) and N(m, 1), self pairs add to each group."""
    m, n = 2.0, 1500
    z = m / np.sqrt(2)
    between = np.sqrt(2) * (2 * stats.norm.pdf(z) + z * (2 * stats.norm.cdf(z) - 1))
    expected = 2 * between - 2 * 2 / np.sqrt(np.pi)
    found = distribution.energy_distance(rng.normal(0, 1, (n, 1)), rng.normal(m, 1, (n, 1)))
    assert found == pytest.approx(expected, abs=0.05)


def test_etest_is_calibrated_and_finds_an_effect(rng):
    p = []
    for _ in range(60):
        distance, value = distribution.etest(rng.normal(size=(15, 3)), rng.normal(size=(25, 3)), rng, 99)
        p.append(value)
        assert distance >= 0
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)
    a, b = rng.normal(size=(20, 3)), rng.normal(1.5, 1, (20, 3))
    distance, value = distribution.etest(a, b, rng, 199)
    assert value == 1 / 200
    assert distance == pytest.approx(distribution.energy_distance(a, b))


def test_etest_in_the_space_of_a_fold_is_calibrated(rng):
    """Without any effect: held-out controls must be as much part of the components as the perturbed cells."""
    p = []
    for draw in range(4):
        cells = sp.csr_matrix(np.log1p(rng.poisson(0.7, (13 * 30 + 120, 120))).astype(np.float32))
        groups = list(np.arange(13 * 30).reshape(13, 30))
        held_out, training = np.arange(390, 450), np.arange(450, 510)
        names = [f"p{k}" for k in range(13)]
        p.extend(cell_space.build(cells, groups, held_out, training, np.arange(120), names, "null", draw).etest_p)
    assert np.mean(np.array(p) < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(p))


@pytest.fixture
def controls(rng):
    values = np.log1p(rng.poisson(0.8, (70, 25)))
    return Controls(sp.csr_matrix(values.astype(np.float32)), np.arange(70) % 2 == 0, 400.0)


def test_tests_of_identical_cells_in_closed_form(controls, rng):
    """The rank-sum of n copies of one cell, value for value as scipy counts it."""
    mean = np.where(rng.random(25) < 0.3, 0.0, np.log1p(rng.integers(0, 3, 25))).astype(np.float32)
    mean[:3] = 0.31, 2.7, 0.0
    found = vcc.constant_cells(mean, np.array([12, 40]), controls.expression)
    dense = controls.expression.toarray().astype(float)
    for row, n in enumerate((12, 40)):
        for g in range(25):
            other = stats.mannwhitneyu(
                np.full(n, float(mean[g])),
                dense[:, g],
                method="asymptotic",
                use_continuity=True,
                alternative="two-sided",
            ).pvalue
            assert found[row, g] == pytest.approx(other, abs=1e-10)


def test_lists_of_the_challenge(controls, rng):
    """Significant by a continuity-corrected test over all genes, ordered by geometric fold change, infinite first."""
    cells = np.log1p(rng.poisson(0.8, (30, 25)) * (1 + 3 * (np.arange(25) < 8)))
    cells[:, 9] = 0
    matrix = sp.csr_matrix(cells.astype(np.float32))
    owner = np.zeros(30, dtype=int)
    (listed,) = vcc.lists(matrix, owner, 1, controls, matrix.toarray().mean(0, dtype=float)[None], np.array([True]))
    dense = controls.expression.toarray().astype(float)
    p = np.array([
        stats.mannwhitneyu(matrix.toarray()[:, g], dense[:, g], method="asymptotic", use_continuity=True).pvalue
        for g in range(25)
    ])  # fmt: skip
    significant = np.flatnonzero(stats.false_discovery_control(p) < 0.05)
    with np.errstate(divide="ignore"):
        change = np.abs(np.log2(np.expm1(matrix.toarray().mean(0, dtype=float)) / np.expm1(dense.mean(0))))
    assert 9 in significant and listed[0] == 9
    assert listed.tolist() == sorted(significant, key=lambda g: -change[g])


def test_discrimination_of_the_challenge_by_hand(make_fold, compare):
    true = np.array([[1.0, 0], [0, 1], [3, 3]])
    fold = make_fold(true, ids=("g0", "TP53~A1V", "A+B"), targets=(np.array([0]), np.array([1]), np.array([0])))
    predicted = np.array([[5.0, 0.2], [1, 0.1], [3, 3]])
    # g0: gene 0 left out, |0.2 - (0, 1, 3)|: nearest. A variant keeps its gene: second of three. A double keeps both.
    found = vcc.vcc_pds(compare(fold, predicted), "all").values[:, 0]
    np.testing.assert_allclose(found, [1, 1 - 1 / 3, 1])
    swapped = vcc.vcc_pds(compare(make_fold(np.array([[0.0], [9]]), ids=("A~1", "B~1")), np.array([[9.0], [0]])), "all")
    np.testing.assert_allclose(swapped.values[:, 0], 1 / 2)  # worst: 1 / P
    constant = vcc.vcc_pds(compare(make_fold(true, ids=("A~1", "A~2", "A~3")), np.ones((3, 2))), "all")
    assert constant.values.mean() == pytest.approx((3 + 1) / (2 * 3))  # random of metrics.md 11.2


def test_overall_score_of_the_challenge_by_hand():
    scores, base = np.array([[0.3, 0.9, 0.02], [0.1, 0.7, 0.04]]), np.array([[0.1, 0.5, 0.04], [0.1, 0.5, 0.02]])
    # DES .2 of .9 left, PDS .3 of .5 left, MAE no better than the baseline
    assert vcc.vcc_score(scores, base) == pytest.approx((0.1 / 0.9 + 0.3 / 0.5 + 0) / 3)
    assert vcc.vcc_score(base, base) == 0
    worse = np.array([[0.0, 0.2, 0.09]])
    assert vcc.vcc_score(worse, base[:1]) == 0
    assert np.isnan(vcc.vcc_score(np.array([[np.nan, 0.2, 0.1]]), base[:1]))


def test_log_of_mean_by_hand():
    found = cell_space.log_of_mean(np.array([[1.0, 3.0, 0.0]]))
    np.testing.assert_allclose(found, [[np.log1p(12_500), np.log1p(37_500), 0]])


def test_local_fdr_of_a_known_mixture(rng):
    """95 % N(0, 1), 4 % N(4, .7) and 1 % N(-5, .7): the cut lies where the true local rate is 5 %."""
    n = 60_000
    part = rng.random(n)
    values = np.where(
        part < 0.95, rng.normal(0, 1, n), np.where(part < 0.99, rng.normal(4, 0.7, n), rng.normal(-5, 0.7, n))
    )
    found = local_fdr.local_fdr(values)
    assert found.mean == pytest.approx(0, abs=0.05) and found.sd == pytest.approx(1, abs=0.05)
    assert found.p0 == pytest.approx(0.95, abs=0.02)
    upper, lower = local_fdr.cuts(values)
    grid = np.linspace(-8, 8, 4001)
    null = 0.95 * stats.norm.pdf(grid)
    rate = null / (null + 0.04 * stats.norm.pdf(grid, 4, 0.7) + 0.01 * stats.norm.pdf(grid, -5, 0.7))
    assert upper == pytest.approx(grid[(grid > 0) & (rate < 0.05)].min(), abs=0.25)
    assert lower == pytest.approx(grid[(grid < 0) & (rate < 0.05)].max(), abs=0.35)


def test_without_a_second_part_little_or_nothing_is_cut(rng):
    values = rng.normal(0.3, 2, 40_000)
    upper, lower = local_fdr.cuts(values)
    assert np.mean((values > upper) | (values < lower)) < 5e-4


@pytest.mark.parametrize("n", [40, 300])
def test_theil_sen_equals_scikit_learn(rng, n):
    """With all pairs of genes, and with as many as are drawn."""
    from sklearn.linear_model import TheilSenRegressor

    a, b = rng.normal(size=(2, n))
    a[:5] = b[:5] = 0  # pairs that determine nothing
    double = 0.7 * a + 1.2 * b + rng.normal(0, 0.2, n)
    double[:5] = 0
    model = TheilSenRegressor(fit_intercept=False, random_state=1000).fit(np.stack([a, b], 1), double)
    np.testing.assert_allclose(interactions.theil_sen(a, b, double), model.coef_, atol=1e-8)


def test_additive_doubles_have_the_coefficients_they_must(rng):
    a, b = rng.normal(size=(2, 200))
    assert interactions.theil_sen(a, b, a + b) == pytest.approx((1, 1), abs=1e-6)
    assert interactions.theil_sen(a, b, 2 * a) == pytest.approx((2, 0), abs=1e-6)
    x = rng.normal(size=400)
    assert interactions.distance_correlation(x, -3 * x + 1) == pytest.approx(1)
    assert interactions.distance_correlation(x, rng.normal(size=400)) < 0.2
    assert np.isnan(interactions.distance_correlation(x, np.ones(400)))


def test_doubles_are_compared_on_genes_that_controls_have(make_fold):
    control = np.concatenate([np.zeros(30), np.linspace(0.01, 2, 1500)])
    found = make_fold(np.ones((2, 1530)), control_all=control).gene_set("top1000ctrl").index[0]
    assert found.tolist() == list(range(530, 1530))
    short = make_fold(np.ones((2, 60)), control_all=control[:60]).gene_set("top1000ctrl").index[1]
    assert short.tolist() == list(range(30, 60))


def test_rates_of_interactions_by_hand():
    score, positive = np.array([5.0, 4, 3, 2, 1]), np.array([True, True, False, True, False])
    tpr, fdp = interactions.rates(score, positive)
    np.testing.assert_allclose(tpr, [1 / 3, 2 / 3, 2 / 3, 1, 1])
    np.testing.assert_allclose(fdp, [0, 0, 1 / 3, 1 / 3, 0.4])  # the fourth call may not lower it
    assert interactions.tpr_at(score, positive, 0.1) == pytest.approx(2 / 3 + 0.1 / (1 / 3) / 3, abs=0.02)
    assert interactions.tpr_at(score, positive, 0.5) == 1
    assert interactions.tpr_at(-score, positive, 0.1) == 0  # the first call is false
    assert interactions.interaction_ap(np.zeros(5), positive) == pytest.approx(0.6)  # ties: the prevalence


def test_which_perturbations_are_doubles():
    targets = {"A": ("A",), "B": ("B",), "AB": ("A", "B"), "TP53~R175H": ("TP53",), "A+Z": ("A", "Z")}
    known = {name: i for i, name in enumerate(targets)}
    assert singles_of("A+B", targets, known) == ("A", "B")
    assert singles_of("AB", targets, known) == ("A", "B")
    assert singles_of("A+Z", targets, known) == ("A", "Z")
    assert singles_of("TP53~R175H+TP53~G245S", targets, known) == ("TP53~R175H", "TP53~G245S")
    assert singles_of("A", targets, known) is None and singles_of("TP53~R175H", targets, known) is None
    assert singles_of("A+B+C", targets, known) is None


def test_a_group_without_cells_is_no_test(rng):
    matrix = sp.csr_matrix(np.log1p(rng.poisson(1.0, (40, 6))).astype(np.float32))
    groups = np.repeat([-1, 0, 2, -2], 10)
    z, p = de.rank_sum(matrix, groups, 3)
    assert (z[1] == 0).all() and (p[1] == 1).all()
    np.testing.assert_array_equal(
        p[2], de.rank_sum(matrix, np.where(groups == 2, 0, np.where(groups == 0, -2, groups)), 1)[1][0]
    )


def test_one_profile_repeated_has_no_spread_and_is_refused(make_fold):
    """Cells that do not differ would make a test call almost everything (metrics.md 2.14)."""
    fold = make_fold(np.ones((2, 5)))
    cells = sp.csr_matrix(np.concatenate([np.tile(np.arange(5.0), (30, 1)), np.eye(5)[np.arange(30) % 5]]))
    found = cell_space.predicted(fold, fold.ids, cells, np.repeat([0, 1], 30), 0)
    assert found.usable.tolist() == [False, True]
    assert found.n_cells.tolist() == [30, 30]
    assert contract.MIN_CELLS_DE <= 30 and found.testable.tolist() == [False, True]
