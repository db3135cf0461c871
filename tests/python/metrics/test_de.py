"""The truth DE table (metrics.md 2.2, 10.6, 11.1.13-14)."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from vcbench.core.errors import ModelError
from vcbench.metrics import bundle, de


@pytest.fixture(scope="module")
def counts():
    """Two groups and a reference of sparse tied counts: genes 0 never, 1 always equal, the rest Poisson."""
    rng = np.random.default_rng(3)
    matrix = rng.poisson(0.4, (330, 60)).astype(float)
    matrix[:, 0], matrix[:, 1] = 0, 2
    matrix[:50, 2:12] += rng.poisson(2, (50, 10))
    groups = np.repeat([0, 1, -1, -2], [50, 80, 150, 50])
    return np.log1p(matrix).astype(np.float32), groups


def test_rank_sum_equals_scipy(counts):
    matrix, groups = counts
    z, p = de.rank_sum(sp.csr_matrix(matrix), groups, 2)
    for group in (0, 1):
        wide = matrix.astype(np.float64)  # scipy computes in the precision of its input
        expected = stats.mannwhitneyu(
            wide[groups == group], wide[groups == -1], method="asymptotic", use_continuity=False
        ).pvalue
        varies = np.ptp(wide[np.isin(groups, (group, -1))], axis=0) > 0
        np.testing.assert_allclose(p[group, varies], expected[varies], rtol=0, atol=1e-10)
        assert (p[group, ~varies] == 1).all()
        assert (z[group, ~varies] == 0).all()
    assert (z[0, 2:12] > 3).all()  # up in group 0 is positive


def test_rank_sum_does_not_depend_on_the_order_of_cells(counts):
    matrix, groups = counts
    order = np.random.default_rng(0).permutation(len(matrix))
    for before, after in zip(
        de.rank_sum(sp.csr_matrix(matrix), groups, 2), de.rank_sum(sp.csr_matrix(matrix[order]), groups[order], 2),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("calls", [1, 4])
def test_rank_sum_does_not_depend_on_batches(counts, calls, monkeypatch):
    rng = np.random.default_rng(1)
    wide = sp.csr_matrix(np.log1p(rng.poisson(0.4, (300, 700))), dtype=np.float64)
    groups = rng.integers(-2, 5, 300)
    monkeypatch.setattr("vcbench.metrics.rank_sum_kernel.TESTS_PER_CALL", 256 * 6 if calls > 1 else 10**9)
    z, p = de.rank_sum(wide, groups, 6)  # nobody is in the last group
    assert (z[5] == 0).all()
    assert (p[5] == 1).all()
    for group in range(5):
        one, reference = (wide[groups == code].toarray() for code in (group, -1))
        expected = stats.mannwhitneyu(one, reference, method="asymptotic", use_continuity=False)
        np.testing.assert_allclose(
            p[group], np.where(np.isnan(expected.pvalue), 1, expected.pvalue), rtol=0, atol=1e-10
        )


def test_a_missing_engine_is_said(monkeypatch):
    from vcbench.metrics import rank_sum_kernel

    rank_sum_kernel._compiled.cache_clear()
    monkeypatch.setattr(rank_sum_kernel.machinery, "EXTENSION_SUFFIXES", [".none"])
    with pytest.raises(ModelError, match="illico is missing"):
        rank_sum_kernel._compiled()


def test_benjamini_hochberg_equals_scipy_and_leaves_nan_out():
    p = np.random.default_rng(0).random(50) ** 2
    np.testing.assert_allclose(de.benjamini_hochberg(p), stats.false_discovery_control(p), atol=1e-15)
    holes = np.array([0.01, np.nan, 0.04, 0.03])
    np.testing.assert_allclose(de.benjamini_hochberg(holes), [0.03, np.nan, 0.04, 0.04])


def test_fold_change_by_hand():
    # means 3 and 1 on a scale of 2,000 counts: 15 and 5 per 10,000
    assert de.log2_fold_change(np.array([3.0]), np.array([1.0]), 2000.0)[0] == pytest.approx(np.log2(15.01 / 5.01))
    assert np.isfinite(de.log2_fold_change(np.array([0.0]), np.array([0.0]), 1e4)).all()


def test_ranks_by_fold_change_then_statistic_then_name():
    p_adj = np.array([0.01, 0.01, 0.2, 0.01, 0.01])
    log2fc = np.array([1.0, -2.0, 9.0, 1.0, 1.0])
    stat = np.array([3.0, -5.0, 1.0, -4.0, 3.0])
    genes = np.array(["b", "a", "c", "d", "a2"], dtype=object)
    assert de.ranks(p_adj, log2fc, stat, genes).tolist() == [4, 1, 0, 2, 3]


def test_null_data_are_calibrated():
    rng = np.random.default_rng(5)
    matrix = sp.csr_matrix(np.log1p(rng.poisson(3, (600, 400))).astype(np.float32))
    _, p = de.rank_sum(matrix, np.repeat([0, 1, -1], [100, 100, 400]), 2)
    assert stats.kstest(p.ravel(), "uniform").pvalue > 0.01
    rejected = [(de.benjamini_hochberg(row) < 0.05).any() for row in p]
    assert sum(rejected) <= 1


def test_table_round_trip(tmp_path):
    import pyarrow.parquet as pq

    genes = np.array(["a", "b", "c", "d"], dtype=object)
    tested = np.array([0, 2, 3])
    z, p, log2fc = np.array([1.0, 9, 5, 4]), np.array([0.5, 1, 1e-6, 1e-5]), np.array([0.1, 9, 0.2, 3])
    rows = [
        de.test_row(1, "x", tested, z, p, log2fc, genes),
        de.test_row(2, "y", tested, np.zeros(4), np.ones(4), np.zeros(4), genes),
    ]  # fmt: skip
    assert rows[0].rank.tolist() == [0, 2, 1]
    assert bundle.select_significant(tested, rows[0].rank).tolist() == [3, 2]
    assert bundle.select_positive(rows[0].p_adj, rows[0].log2fc).tolist() == [False, False, True]
    pq.write_table(de.to_table(rows, genes, {"engine": "test"}), tmp_path / "de.parquet")
    found, header = de.read_table(tmp_path / "de.parquet")
    assert header == {"engine": "test"}
    assert [(fold, name, list(g)) for fold, name, g, _ in found] == [
        (1, "x", ["a", "c", "d"]),
        (2, "y", ["a", "c", "d"]),
    ]
    np.testing.assert_array_equal(found[0][3]["p_adj"], rows[0].p_adj)


def test_header_states_all_choices():
    stated = de.settings()
    assert {"engine", "tie_correction", "continuity_correction", "fold_change", "pseudocount", "p_adjustment",
            "tested_genes", "control", "zero_means"} <= set(stated)  # fmt: skip
    assert stated["tie_correction"] is True
    assert stated["continuity_correction"] is False
