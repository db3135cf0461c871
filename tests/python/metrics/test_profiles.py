"""Profiles, moments and weights."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from vcbench.metrics import contract, profiles, truth


@pytest.mark.parametrize("sparse", [True, False])
def test_moments_equal_numpy(rng, sparse):
    matrix = (rng.random((40, 7)) * (rng.random((40, 7)) < 0.4)).astype(np.float32)
    groups = rng.integers(-1, 3, 40)
    found = profiles.moments(sp.csr_matrix(matrix) if sparse else matrix, groups, 4)
    for group in range(3):
        cells = matrix[groups == group].astype(np.float64)
        np.testing.assert_allclose(found.mean[group], cells.mean(0), atol=1e-15)
        np.testing.assert_allclose(found.variance[group], cells.var(0, ddof=1), atol=1e-12)
        np.testing.assert_allclose(found.variance_of_mean[group], cells.var(0, ddof=1) / len(cells), atol=1e-12)
    assert np.isnan(found.mean[3]).all()


def test_identical_cells_have_exactly_their_value_and_no_variance(rng):
    cell = rng.gamma(2, 1, 200).astype(np.float32)
    found = profiles.moments(np.repeat(cell[None], 97, axis=0), np.zeros(97, dtype=int), 1)
    assert (found.mean[0] == cell.astype(np.float64)).all()
    assert (found.variance == 0).all()


def test_moments_add_and_subtract(rng):
    matrix = rng.random((30, 4))
    groups = np.repeat([0, 1], 15)
    both = profiles.moments(matrix, np.zeros(30, dtype=int), 1)
    parts = profiles.moments(matrix, groups, 2)
    np.testing.assert_allclose(parts.pooled().variance, both.variance)
    np.testing.assert_allclose((both - parts[[0]]).mean[0], matrix[15:].mean(0))


def test_weights_use_the_overestimated_variance_t(rng):
    group, rest = rng.normal(size=(20, 9)), rng.normal(0.3, 2, size=(300, 9))
    matrix, code = np.concatenate([group, rest]), np.repeat([0, 1], [20, 300])
    parts = profiles.moments(matrix, code, 2)
    found = truth.overestimated_t(parts[[0]], parts[[1]])
    expected = stats.ttest_ind_from_stats(
        group.mean(0), group.std(0, ddof=1), 20, rest.mean(0), rest.std(0, ddof=1), 20, equal_var=False
    ).statistic
    np.testing.assert_allclose(found[0], np.abs(expected), atol=1e-12)


def test_weights_by_hand():
    t = np.array([[1.0, 3.0, 5.0, np.nan], [2.0, 2.0, 2.0, 2.0], [np.nan] * 4])
    found = truth.weights_from_t(t)
    np.testing.assert_allclose(found[0], np.array([0, 0.25, 1, 0]) / 1.25)
    assert (found[1:] == 0).all()


def test_constant_rule():
    raw = np.array([[100.0, 50, 0], [1, 1, 1]])
    delta = np.array([[0, 5e-5, 9e-5], [0, 0.5e-6, 2e-6]])
    assert contract.constant(delta, raw).tolist() == [True, False]
    assert not contract.constant(np.full((1, 3), np.nan), np.ones((1, 3)))[0]


def test_codes_are_by_name():
    assert profiles.codes(["b", "x", "a", "b"], ["a", "b"]).tolist() == [1, -1, 0, 1]
