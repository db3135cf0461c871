"""Moderated t against the formulas of metrics.md 10.6 written out with other tools, and against its limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special, stats

from vcbench.metrics.moderated_t import inverse_trigamma, moderated_t


def literal(difference, v1, n1, v2, n2):
    d = n1 + n2 - 2
    s2 = [((n1 - 1) * a + (n2 - 1) * b) / d for a, b in zip(v1, v2, strict=True)]
    floored = [max(s, 1e-5 * float(np.median(s2))) for s in s2]
    e = [np.log(s) - special.digamma(d / 2) + np.log(d / 2) for s in floored]
    tr = np.var(e, ddof=1) - special.polygamma(1, d / 2)
    assert tr > 0
    half = optimize.brentq(lambda x: float(special.polygamma(1, x)) - tr, 1e-6, 1e6, xtol=1e-14, rtol=1e-14)
    d0 = 2 * half
    s02 = np.exp(np.mean(e) + special.digamma(half) - np.log(half))
    df = min(d0 + d, len(s2) * d)
    p = []
    for diff, s in zip(difference, s2, strict=True):
        moderated = (d0 * s02 + d * s) / (d0 + d)
        p.append(2 * stats.t.sf(abs(diff) / np.sqrt(moderated * (1 / n1 + 1 / n2)), df))
    return d0, s02, np.array(p)


@pytest.mark.parametrize("zeros", [0, 3])
def test_equals_the_formulas(zeros):
    rng = np.random.default_rng(0)
    v1, v2, difference = rng.gamma(1, 1, 40), rng.gamma(1, 1, 40), rng.normal(size=40)
    v1[:zeros] = v2[:zeros] = 0
    found = moderated_t(difference, v1, 6, v2, 9)
    d0, s02, p = literal(difference, v1, 6, v2, 9)
    assert found.df_prior == pytest.approx(d0, rel=1e-8)
    assert found.variance_prior == pytest.approx(s02, rel=1e-8)
    np.testing.assert_allclose(found.p, p, atol=1e-12)


def test_equal_variances_give_an_infinite_prior():
    found = moderated_t(np.array([1.0, 0.0, -2.0]), np.full(3, 4.0), 5, np.full(3, 4.0), 5)
    assert np.isinf(found.df_prior)
    assert found.variance_prior == 4
    assert found.df == 24  # genes x residual degrees of freedom
    t = np.array([1.0, 0.0, -2.0]) / np.sqrt(4 * 0.4)
    np.testing.assert_allclose(found.t, t)
    np.testing.assert_allclose(found.p, 2 * stats.t.sf(np.abs(t), 24))


def test_recovers_the_prior_it_assumes():
    rng = np.random.default_rng(1)
    genes, d, d0, s02 = 20000, 8, 6.0, 1.5
    variances = d0 * s02 / rng.chisquare(d0, genes)
    pooled = variances * rng.chisquare(d, genes) / d
    found = moderated_t(rng.normal(size=genes), pooled, 5, pooled, 5)
    assert found.df_prior == pytest.approx(d0, rel=0.1)
    assert found.variance_prior == pytest.approx(s02, rel=0.05)


def test_null_p_values_are_uniform():
    rng = np.random.default_rng(2)
    cells = rng.normal(size=(20, 3000)) * np.sqrt(4 / rng.chisquare(4, 3000))
    a, b = cells[:8], cells[8:]
    found = moderated_t(a.mean(0) - b.mean(0), a.var(0, ddof=1), 8, b.var(0, ddof=1), 12)
    assert stats.kstest(found.p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("x", [1e-5, 0.01, 0.7, 3.0, 250.0])
def test_inverse_trigamma(x):
    assert inverse_trigamma(float(special.polygamma(1, x))) == pytest.approx(x, rel=1e-8)


def test_equals_limma_on_a_small_table():
    """What R 4.2.2 with limma 3.54.1 says (lmFit, eBayes; tests/external/limma.py compares more where R is)."""
    values = np.array([
        [1, 3, 2, 6, 5, 8], [0, 0, 0, 0, 0, 0], [2, 2, 2, 4, 4, 4], [10, 14, 9, 11, 15, 10],
        [0.5, 0.25, 0.75, 0.5, 1, 0.5], [7, 1, 5, 2, 9, 3], [1, 1.5, 1.25, 1, 1.25, 1.5],
    ])  # fmt: skip
    one, two = values[:, :3], values[:, 3:]
    found = moderated_t(one.mean(1) - two.mean(1), one.var(1, ddof=1), 3, two.var(1, ddof=1), 3)
    np.testing.assert_allclose(
        found.t,
        [-4.25519472708, 0, -969.483634557, -0.479152077281, -0.782415753963, -0.122842226133, 1.83858379867e-15],
        rtol=1e-9,
        atol=1e-12,
    )
    np.testing.assert_allclose(
        found.p,
        [0.0112943739991, 1, 1.3059079833e-12, 0.655262838504, 0.474951563574, 0.907779784923, 1],
        rtol=1e-9,
    )
    assert found.df == pytest.approx(4.28562283307, rel=1e-9)
    assert found.df_prior == pytest.approx(0.285622833065, rel=1e-9)
    assert found.variance_prior == pytest.approx(9.57836340783e-05, rel=1e-9)


def test_one_gene_has_no_prior():
    found = moderated_t(np.array([1.0]), np.array([2.0]), 4, np.array([4.0]), 6)
    one, two = (scaled / np.std(scaled, ddof=1) for scaled in (np.arange(4.0), np.arange(6.0)))
    one, two = one * np.sqrt(2), two * 2
    expected = stats.ttest_ind(one - one.mean() + 1, two - two.mean())
    assert (found.df_prior, found.df) == (0, 8)
    assert found.t[0] == pytest.approx(expected.statistic)
    assert found.p[0] == pytest.approx(expected.pvalue)
