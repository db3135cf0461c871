"""Ranks, critical differences and rank stability (metrics.md 10.4)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from simulated import GENES, METRICS, PRIMARY, panel_of

from vcbench.stats import ranks


def configurations(k):
    return [(f"m{i}", "none", "none") for i in range(k)]


def rows(panel, metric=PRIMARY, gene_set=GENES):
    return ranks.rows(panel, metric, gene_set, panel.series(metric, gene_set))


def test_friedman_agrees_with_scipy_and_the_formula():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 40)) + np.arange(5)[:, None] * 0.2
    found = ranks.friedman(ranks.mid_ranks(values))
    expected = stats.friedmanchisquare(*values)
    assert found.chi2 == pytest.approx(expected.statistic, rel=1e-12)
    mean = stats.rankdata(-values, axis=0).mean(1)
    by_formula = 12 * 40 / (5 * 6) * ((mean - 3) ** 2).sum()
    assert found.chi2 == pytest.approx(by_formula, rel=1e-12)
    f = 39 * by_formula / (40 * 4 - by_formula)
    assert (found.f, found.p) == pytest.approx((f, stats.f.sf(f, 4, 4 * 39)), rel=1e-10)
    tied = np.round(values)
    assert ranks.friedman(ranks.mid_ranks(tied)).chi2 == pytest.approx(stats.friedmanchisquare(*tied).statistic)


def test_friedman_without_a_question():
    assert np.isnan(ranks.friedman(ranks.mid_ranks(np.ones((3, 10)))).p)
    assert np.isnan(ranks.friedman(np.ones((1, 10))).p)
    agreed = ranks.friedman(ranks.mid_ranks(np.tile([[3.0], [2], [1]], 8)))
    assert (agreed.chi2, agreed.p) == (pytest.approx(16), 0)


@pytest.mark.parametrize(("k", "q"), [(8, 3.031), (11, 3.219), (20, 3.544)])
def test_critical_values_of_the_specification(k, q):
    assert ranks.critical_value(k) == pytest.approx(q, abs=6e-4)


@pytest.mark.parametrize(("k", "n", "cd"), [(8, 2, 7.4), (8, 6, 4.3), (8, 12, 3.0), (8, 33, 1.8), (8, 99, 1.06),
                                            (20, 99, 2.98)])  # fmt: skip
def test_critical_differences_of_the_specification(k, n, cd):
    assert ranks.critical_difference(k, n) == pytest.approx(cd, abs=0.051)


def test_mid_ranks_by_hand():
    values = np.array([[0.9, 0.2], [0.5, 0.2], [0.9, -np.inf]])
    np.testing.assert_array_equal(ranks.mid_ranks(values), [[1.5, 1.5], [3, 1.5], [1.5, 3]])


def test_runs_are_the_maximal_groups():
    separated = np.zeros((5, 5), dtype=bool)
    for i, j in ((0, 3), (0, 4), (1, 4)):
        separated[i, j] = separated[j, i] = True
    assert ranks.runs(separated) == [(0, 2), (1, 3), (2, 4)]
    assert ranks.runs(~np.eye(3, dtype=bool)) == []
    assert ranks.runs(np.zeros((3, 3), dtype=bool)) == [(0, 2)]


def test_winner_share_by_counting():
    drawn = np.array([[1.0, 2, 3, 3], [2, 1, 3, 0], [0, 0, 0, 3]])
    np.testing.assert_allclose(ranks.winner_share(drawn), [(0 + 1 + 0.5 + 0.5) / 4, (1 + 0.5) / 4, 0.5 / 4])


def test_missing_predictions_rank_last_and_undefined_ones_at_no_skill():
    n = 40
    values = dict(zip(configurations(3), (np.full(n, 0.5), np.full(n, -0.2), np.full(n, 0.9)), strict=True))
    values["m2", "none", "none"][:10] = np.nan  # undefined: 0, between the others
    gone = np.arange(n) < 4
    panel = panel_of(values, (), missing={("m0", "none", "none"): gone})
    found = {row["model"]: row for row in rows(panel)}
    assert found["m2"]["mean_rank"] == pytest.approx((10 * 2 + 30 * 1 - 4 * 1) / n)  # 4 of the 10 lose a competitor
    assert found["m0"]["n_missing"] == 4
    assert found["m1"]["n_missing"] == found["m2"]["n_missing"] == 0
    assert found["m0"]["mean_rank"] == pytest.approx((4 * 3 + 6 * 1 + 30 * 2) / n)


def test_perturbations_without_truth_are_no_blocks_for_anybody():
    rng = np.random.default_rng(1)
    excluded = np.arange(30) < 5
    panel = panel_of({of: rng.normal(size=30) for of in configurations(3)}, (), excluded=excluded)
    assert {row["n_blocks"] for row in rows(panel)} == {25}


def test_lower_is_better_turns_the_order():
    rng = np.random.default_rng(2)
    level = dict(zip(configurations(4), range(4), strict=True))
    values = {of: np.abs(rng.normal(m, 0.3, 30)) + 0.1 for of, m in level.items()}
    for metric, first in ((METRICS["mse"], "m0"), (PRIMARY, "m3")):
        panel = panel_of(values, (), pair=(metric.id, "expr_nt"))
        found = rows(panel, metric)
        assert found[0]["model"] == first
        assert found[0]["winner_share"] > 0.99


def test_bars_join_what_sign_flips_with_holm_do_not_separate():
    """Two groups far apart, equal within: two bars, checked by hand-made tests of all pairs."""
    rng = np.random.default_rng(3)
    shared = rng.normal(size=60)
    values = {of: shared + 0.1 * rng.normal(size=60) + (0.5 if i < 2 else 0) for i, of in enumerate(configurations(5))}
    found = rows(panel_of(values, ()))
    assert [row["groups"] for row in found] == ["1", "1", "2", "2", "2"]
    assert {row["model"] for row in found[:2]} == {"m0", "m1"}
    single = rows(panel_of({of: values[of] for of in list(values)[1:3]}, ()))
    assert [row["groups"] for row in single] == ["", ""]


def test_order_of_the_plan_changes_nothing():
    rng = np.random.default_rng(4)
    values = {of: np.round(rng.normal(size=36), 1) for of in configurations(4)}
    assert rows(panel_of(values, ())) == rows(panel_of(dict(reversed(values.items())), ()))
