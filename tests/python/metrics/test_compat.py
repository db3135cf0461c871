"""VariantCellBench's formulas (metrics.md 2.12)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vcbench.core.errors import InputError
from vcbench.metrics import compat


def test_gears_list_is_welch_t_without_silenced_genes(rng):
    a, b = rng.normal(0.5, 1, (30, 60)), rng.normal(0.5, 1, (200, 60))
    a[:, 3] = 0
    b[:, 4] = 0
    a[:, 4] = 0
    genes = np.array([f"g{i:02d}" for i in range(60)], dtype=object)
    found = compat.gears_list(a.mean(0), a.var(0, ddof=1), 30, b.mean(0), b.var(0, ddof=1), 200, genes)
    t = np.abs(stats.ttest_ind(a, b, equal_var=False).statistic)
    t[3], t[4] = -1, 0
    assert found.tolist() == np.argsort(-t)[:20].tolist()
    assert 3 not in found


def test_wilcoxon_list_cuts_by_significance():
    p_adj = np.array([0.01, 0.2, 0.01, 0.04, 0.01])
    log2fc = np.array([1.0, 9, -3, 2, 5])
    mean, control = np.array([1.0, 1, 1, 1, 0]), np.ones(5)
    genes = np.array(list("abcde"), dtype=object)
    assert compat.wilcoxon_list(p_adj, log2fc, mean, control, genes).tolist() == [2, 3, 0]


def test_c_acc_counts_control_and_loses_ties(make_fold, compare):
    true = np.array([[1.0, 0], [1, 0], [0, 3]])
    fold = make_fold(true, control_all=np.zeros(2))
    predicted = np.array([[0.9, 0], [0.2, 0], [0, 3]])
    # n = 4 columns. 0: tie with 1 lost, nearer than 2 and control. 1: tie lost, control nearer. 2: all farther.
    found = compat.c_acc(compare(fold, predicted), "all").values[:, 0]
    np.testing.assert_allclose(found, [2 / 3, 1 / 3, 1])


def test_auprc_rounds_and_skips_variants_without_positives(make_fold, compare, rng):
    from sklearn.metrics import auc, precision_recall_curve

    label = rng.random((4, 50)) < 0.2
    label[0], label[1, 0] = False, True
    control = rng.gamma(2, 1, 50)
    fold = make_fold(control + rng.normal(size=(4, 50)), compat_label=label, control_all=control)
    predicted = control + rng.normal(size=(4, 50))
    outcome = compat.auprc(compare(fold, predicted), "all")
    assert outcome.truth_reason.tolist() == ["no_de", "", "", ""]
    for k in (1, 2, 3):
        precision, recall, _ = precision_recall_curve(label[k], np.abs(predicted[k] - control))
        assert outcome.values[k, 0] == pytest.approx(auc(recall, precision), abs=6e-5)
        assert outcome.values[k, 0] == round(outcome.values[k, 0], 4)


def test_labels_need_significance_and_size():
    rng = np.random.default_rng(0)
    mean = np.zeros(500)
    mean[:3] = 1.0, 0.5, -1.0
    variance = rng.gamma(5, 0.2, 500)
    found = compat.labels(mean, variance, 50, np.zeros(500), variance, 200)
    assert np.flatnonzero(found).tolist() == [0, 2]


def test_shared_controls_and_test_mean(make_fold, compare, rng):
    profile, predicted = rng.normal(size=(5, 40)), rng.normal(size=(5, 40))
    control, mean = rng.normal(size=40), rng.normal(size=40)
    fold = make_fold(profile, control_all=control, cell_mean=mean, listed=tuple(np.arange(k, k + 20) for k in range(5)))
    for metric, reference in (
        (compat.dpcc_cw_de, control),
        (compat.dspcc_cw_de, mean),
        (compat.pcc_cw_de, np.zeros(40)),
    ):
        found = metric(compare(fold, predicted), "listed").values[:, 0]
        expected = [
            stats.pearsonr((predicted[k] - reference)[k : k + 20], (profile[k] - reference)[k : k + 20]).statistic
            for k in range(5)
        ]
        np.testing.assert_allclose(found, expected, atol=1e-12)
    error = compat.mse_cw_de(compare(fold, predicted), "listed").values[:, 0]
    np.testing.assert_allclose(
        error, [((predicted - profile)[k, k : k + 20] ** 2).mean() for k in range(5)], atol=1e-12
    )
    np.testing.assert_allclose(
        compat.mse_gw(compare(fold, predicted), "all").values.mean(), ((predicted - profile) ** 2).mean(), atol=1e-12
    )


def test_unknown_list():
    with pytest.raises(InputError, match="did you mean 'gears_ttest'"):
        compat.check_list("gears_test")
