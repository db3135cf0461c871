"""Do predicted cells scatter as measured ones do (metrics.md 7.5): closed forms and brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from vcbench.metrics import cell_space, contract, count_realism, diagnostics, scoring
from vcbench.metrics.comparison import Predicted
from vcbench.metrics.extras import Extras

K, G, N = 3, 300, 400


def cells_of(rng, mean, dispersion, n=N):
    """Cells of each perturbation: Poisson counts (dispersion 0), or mixed over gamma factors of that variance."""
    factor = 1.0 if not dispersion else rng.gamma(1 / dispersion, dispersion, (K, n, G))
    return rng.poisson(mean * factor, (K, n, G)).astype(float)


@pytest.fixture(scope="module")
def screen(make_fold):
    rng = np.random.default_rng(3)
    mean = np.exp(rng.normal(0.5, 1.2, G))
    counts = cells_of(rng, mean, 0.5)
    expression = sp.csr_matrix(np.log1p(counts.reshape(K * N, G)).astype(np.float32))
    groups = [np.arange(k * N, (k + 1) * N) for k in range(K)]
    profile = np.stack([expression[at].mean(axis=0).A1 for at in groups])
    extras = Extras(counts=count_realism.of_groups(expression, groups))
    fold = make_fold(profile, n_cells=np.full(K, N), extras=extras, expressed=np.arange(G) < 250)
    return mean, counts, fold


def predict(fold, counts):
    n = counts.shape[1]
    values = sp.csr_matrix(np.log1p(counts.reshape(K * n, G)).astype(np.float32))
    found = cell_space.predicted(fold, fold.ids, values, np.repeat(np.arange(K), n), 0)
    mean = np.stack([values[k * n : (k + 1) * n].mean(axis=0).A1 for k in range(K)])
    return {1: Predicted(mean, np.zeros_like(mean), np.full(K, n), found)}


def diagnosed(fold, predictions):
    return {(one.id, one.reference): one for one in diagnostics.counts([fold], predictions)}


def test_each_number_against_plain_cells(screen, rng):
    mean, counts, fold = screen
    other = cells_of(rng, 1.3 * mean, 0.2, 150)
    found = diagnosed(fold, predict(fold, other))
    expected = {key: [] for key in found}
    for k in range(K):
        sides = [part[k][:, :250] for part in (other, counts)]
        zeros = [(side == 0).mean(axis=0) for side in sides]
        means, variances = ([side.mean(0) for side in sides], [side.var(0, ddof=1) for side in sides])
        use = (np.array(means) > 0).all(0)
        slopes = [stats.linregress(np.log(m[use]), np.log(v[use])).slope for m, v in zip(means, variances, strict=True)]
        ratio = np.median((variances[0][use] / means[0][use]) / (variances[1][use] / means[1][use]))
        for key, value in {
            ("diag_zeros", "predicted"): zeros[0].mean(), ("diag_zeros", "measured"): zeros[1].mean(),
            ("diag_zeros", "r over genes"): stats.pearsonr(*zeros)[0],
            ("diag_mean_variance", "predicted"): slopes[0], ("diag_mean_variance", "measured"): slopes[1],
            ("diag_dispersion", "predicted/measured"): ratio,
        }.items():  # fmt: skip
            expected[key].append(value)
    for key, values in expected.items():
        assert found[key].n == K
        assert found[key].value == pytest.approx(np.median(values), rel=1e-4), key
        assert [found[key].low, found[key].high] == pytest.approx(np.percentile(values, (25, 75)), rel=1e-4)


def test_the_right_model_matches_and_poisson_cells_do_not(screen, rng):
    mean, _, fold = screen
    right = diagnosed(fold, predict(fold, cells_of(rng, mean, 0.5)))
    poisson = diagnosed(fold, predict(fold, cells_of(rng, mean, 0)))
    assert right["diag_dispersion", "predicted/measured"].value == pytest.approx(1, abs=0.05)
    assert right["diag_zeros", "predicted"].value == pytest.approx(right["diag_zeros", "measured"].value, abs=0.01)
    assert poisson["diag_mean_variance", "predicted"].value == pytest.approx(1, abs=0.02)
    assert poisson["diag_mean_variance", "measured"].value > 1.2
    # variance / mean = 1 + mean * dispersion of the measured cells
    expected = np.median(1 / (1 + 0.5 * mean[:250]))
    assert poisson["diag_dispersion", "predicted/measured"].value == pytest.approx(expected, rel=0.05)
    assert poisson["diag_zeros", "predicted"].value == pytest.approx(np.exp(-mean[:250]).mean(), abs=0.01)


def test_only_models_whose_cells_differ_have_them(screen):
    _, counts, fold = screen
    repeated = np.repeat(counts.mean(axis=1, keepdims=True), 50, axis=1)
    assert diagnosed(fold, predict(fold, repeated)) == {}
    plain = replace(fold, extras=Extras())
    assert diagnosed(plain, predict(plain, counts)) == {}
    assert predict(plain, counts)[1].cells.counts is None
    profiles_only = {1: Predicted(fold.profile, np.zeros((K, G)), np.ones(K, dtype=int))}
    assert diagnosed(fold, profiles_only) == {}
    rows = scoring.Rows("d", "s", "m")
    diagnostics.add(list(diagnosed(fold, predict(fold, counts)).values()), rows)
    assert {row[14] for row in rows.rows} == {contract.OK}
    # negative values are zeros of a cell
    negative = np.where(counts == 0, np.expm1(-0.5), counts)
    found = diagnosed(fold, predict(fold, negative))
    assert found["diag_zeros", "predicted"].value == pytest.approx(found["diag_zeros", "measured"].value, abs=1e-6)


def test_slope_by_hand():
    assert count_realism.slope(np.array([1.0, 2, 4]), np.array([3.0, 12, 48])) == pytest.approx(2)
    assert np.isnan(count_realism.slope(np.ones(5), np.arange(1, 6)))
    assert np.isnan(count_realism.slope(np.array([1.0, 2]), np.array([1.0, 2])))
