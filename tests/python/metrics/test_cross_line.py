"""The ceiling from another cell line: changes measured there, added to the controls here (metrics.md 6.5)."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from vcbench.core.errors import InputError
from vcbench.metrics import bundle, cross_line, registry, scoring
from vcbench.metrics.bundle import FoldTruth, TruthBundle

METRICS = registry.chosen(registry.load(), [])
K, G = 9, 60
GENES = np.array([f"g{i:02d}" for i in range(G)], dtype=object)


def bundle_of(fold, dataset="here", genes=GENES):
    every = np.ones(len(genes), dtype=bool)
    return TruthBundle(genes, (replace(fold, eligible=every),), np.ones(len(genes)), every,
                       {"dataset": dataset, "split": "variant"})  # fmt: skip


def elsewhere(profile, ids, control, genes=GENES, **changes):
    shape = np.asarray(profile).shape
    given = {"dataset": "there", "ids": tuple(ids), "genes": genes, "change": np.asarray(profile) - control,
             "variance": np.zeros(shape), "n_cells": np.full(shape[0], 50)}  # fmt: skip
    return cross_line.Elsewhere(**{**given, **changes})


def scores(truth, other):
    rows = scoring.Rows("here", "variant", "cross_line:there")
    cross_line.add(truth, other, METRICS, rows)
    return {(row[7], row[8], row[9]): row for row in rows.rows}


@pytest.fixture
def here(make_fold, rng):
    controls = rng.normal(2, 0.5, G)
    return make_fold(controls + rng.normal(0, 0.3, (K, G)), control_a=controls, control_b=controls,
                     train_mean=controls + 0.1)  # fmt: skip


def test_the_change_travels_and_the_controls_stay(here, rng):
    """Another line with other base expression and the same changes is a perfect prediction."""
    other_controls = rng.normal(5, 1, G)
    change = here.profile - here.control_a
    found = scores(bundle_of(here), elsewhere(other_controls + change, here.ids, other_controls))
    for metric in ("dpearson_ctrl", "dpearson_pm", "c_acc"):
        assert found[here.ids[2], metric, "expr_nt"][10] == pytest.approx(1)
    assert found[here.ids[2], "mse", "expr_nt"][10] == pytest.approx(0, abs=1e-20)
    opposite = scores(bundle_of(here), elsewhere(other_controls - change, here.ids, other_controls))
    assert opposite[here.ids[2], "dpearson_ctrl", "expr_nt"][10] == pytest.approx(-1)


def test_only_genes_and_perturbations_of_both_count(here, rng):
    order = rng.permutation(G)[:40]
    change = (here.profile - here.control_a)[:, order]
    known = [3, 5, 6]
    other = elsewhere(change[known], [here.ids[k] for k in known], 0, GENES[order])
    found = scores(bundle_of(here), other)
    row = found[here.ids[3], "mse", "expr_nt"]
    assert (row[10], row[11]) == (pytest.approx(0, abs=1e-20), 40)
    assert found[here.ids[0], "mse", "expr_nt"][14] == "missing_pred"
    listed = found[here.ids[3], "mse", "de20_nt"]
    assert listed[11] == np.isin(np.arange(20), order).sum()  # significant genes are the first 20
    few = elsewhere(change[known], [here.ids[k] for k in known], 0, GENES[order], n_cells=np.array([5, 50, 50]))
    assert scores(bundle_of(here), few)[here.ids[3], "mse", "expr_nt"][14] == "missing_pred"
    assert scores(bundle_of(here), elsewhere(change, ["x"] * K, 0, GENES[order])) == {}


def test_a_fold_on_some_genes_is_the_fold_made_of_them(here, rng):
    keep = np.array([2, 3, 7, 20, 41])
    fold = replace(here, sets={"S": np.array([1, 3, 41])}, targets=tuple(np.array([7]) for _ in range(K)))
    small = cross_line.on_genes(fold, keep)
    np.testing.assert_array_equal(small.profile, fold.profile[:, keep])
    assert small.sets["S"].tolist() == [1, 4]
    assert small.significant[0].tolist() == [0, 1, 2]
    assert small.targets[0].tolist() == [2]
    names = {*cross_line._BY_GENE, *cross_line._POSITIONS, "sets", "extras"}
    rest = {"fold", "ids", "n_cells", "weights_shared", "n_first"}
    assert names | rest == {field.name for field in fields(FoldTruth)}  # a new field must be thought of


def test_files(here, tmp_path):
    paths = []
    for name in ("one", "two"):
        truth = bundle_of(here, name)
        truth.facts.update(axis_sha256="x", truth_sha256="y")
        paths.append(tmp_path / f"{name}.variant.truth.h5ad")
        bundle.write(truth, paths[-1])
    rows = cross_line.rows_of(bundle_of(here), paths, METRICS)
    assert {row[3] for row in rows} == {"cross_line:one", "cross_line:two"}
    with pytest.raises(InputError, match="given twice"):
        cross_line.rows_of(bundle_of(here, "one"), paths, METRICS)
