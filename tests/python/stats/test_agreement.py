"""Kendall's tau between metrics and between datasets (metrics.md 10.4)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from simulated import GENES, METRICS, PRIMARY

from vcbench.stats import agreement


def brute_tau_b(x, y):
    pairs = list(itertools.combinations(range(len(x)), 2))
    s = sum(np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]) for i, j in pairs)
    tied_x, tied_y = (sum(v[i] == v[j] for i, j in pairs) for v in (x, y))
    return s / np.sqrt((len(pairs) - tied_x) * (len(pairs) - tied_y))


def board(values, dataset="d1", metric=PRIMARY.id, gene_set=GENES):
    return [{"dataset": dataset, "split": "variant", "model": f"m{i}", "encoder": "none", "strategy": "none",
             "metric": metric, "gene_set": gene_set, "value_imputed": v} for i, v in enumerate(values)]  # fmt: skip


def rows(*parts):
    return agreement.rows([row for part in parts for row in part], METRICS, (PRIMARY.id, GENES))


def test_tau_between_metrics_counts_lower_as_better():
    rng = np.random.default_rng(0)
    x, y = np.round(rng.normal(size=9), 1), np.round(rng.random(9), 1)
    found = rows(board(x), board(y, metric="mse", gene_set="de20_nt"))
    assert len(found) == 1
    assert found[0]["tau"] == pytest.approx(-brute_tau_b(x, y), rel=1e-9)
    assert (found[0]["compared"], found[0]["n_configurations"]) == ("metrics", 9)


def test_tau_between_datasets_over_common_configurations():
    x, y = np.array([0.1, 0.5, 0.3, 0.2]), np.array([0.1, 0.5, 0.2])
    found = rows(board(x), board(y, dataset="d2"))
    assert len(found) == 1
    assert found[0]["compared"] == "panels"
    assert found[0]["tau"] == pytest.approx(brute_tau_b(x[:3], y), rel=1e-9)
    assert found[0]["n_configurations"] == 3


def test_undefined_when_nothing_can_be_ordered():
    assert np.isnan(agreement.kendall(np.ones(4), np.arange(4)))
    assert np.isnan(agreement.kendall(np.ones(1), np.ones(1)))
    same = rows(board([0.1, np.nan, 0.2]), board([0.3, 0.9, 0.4], dataset="d2"))
    assert same[0]["tau"] == 1  # the configuration without a value is in neither
    assert same[0]["n_configurations"] == 2


def test_exploratory_metrics_are_left_out():
    found = rows(board([0.1, 0.2]), board([0.1, 0.2], metric="pearson", gene_set="expr_nt"))
    assert "expr_nt" not in METRICS["pearson"].headline
    assert found == []
