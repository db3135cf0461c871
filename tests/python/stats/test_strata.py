"""Strata and the table of diagnostics against brute force (metrics.md 7)."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.spatial import distance
from simulated import GENES, PRIMARY, panel_of

from vcbench.core import catalogue, h5ad
from vcbench.core.tables import write_tsv
from vcbench.metrics import contract, diagnostics, scoring
from vcbench.stats import diagnostics as table_of
from vcbench.stats import distances, strata

CATALOGUE = catalogue.load("metrics")["diagnostics"]
ROWS = [(1, f"p{k}") for k in range(9)]


def test_levels_by_hand():
    annotations = {
        of: {"severity": str(k / 10), "domain": "D" if k < 4 else "", "consequence": "missense", "n_cells": str(9 - k)}
        for k, (_, of) in enumerate(ROWS)
    }
    of_truth = {
        "impact": {row: float(k) for k, row in enumerate(ROWS) if k != 8},
        "diag_position_seen": {row: float(k % 2) for k, row in enumerate(ROWS)},
    }
    found = strata.levels(ROWS, annotations, of_truth)
    low, middle, high = "low", "middle", "high"
    assert set(found) == {"severity", "position", "cells", "effect"}  # one domain, one consequence: no strata
    assert found["severity"].tolist() == [low] * 3 + [middle] * 3 + [high] * 3
    assert found["cells"].tolist() == [high] * 3 + [middle] * 3 + [low] * 3
    assert found["position"].tolist() == ["unseen", "seen"] * 4 + ["unseen"]
    assert found["effect"].tolist() == [low] * 3 + [middle] * 2 + [high] * 3 + [""]
    assert strata.levels(ROWS, {}, {}) == {}


def test_a_detectable_effect_is_told_by_the_etest_or_else_by_changed_genes():
    genes = {row: float(k // 3) for k, row in enumerate(ROWS) if k != 8}
    by_genes = strata.levels(ROWS, {}, {"de_nsig_true": genes, "etest_p": {}})
    assert set(by_genes) == {"detectable_genes"}
    assert by_genes["detectable_genes"].tolist() == ["no"] * 3 + ["yes"] * 5 + [""]
    p = {row: (0.001, 0.05, 0.051)[k % 3] for k, row in enumerate(ROWS) if k != 4} | {ROWS[4]: np.nan}
    by_test = strata.levels(ROWS, {}, {"de_nsig_true": genes, "etest_p": p})
    assert set(by_test) == {"detectable_etest"}
    assert by_test["detectable_etest"].tolist() == ["yes", "yes", "no", "yes", "", "no", "yes", "yes", "no"]
    assert strata.levels(ROWS, {}, {"de_nsig_true": dict.fromkeys(ROWS, 4.0)}) == {}  # all have one: no strata


def encoding(folder, name, ids, matrix):
    data = ad.AnnData(
        X=np.vstack([matrix, np.zeros(matrix.shape[1])]).astype(np.float32),
        obs=pd.DataFrame(index=[*ids, "control"]), var=pd.DataFrame(index=[f"d{i}" for i in range(matrix.shape[1])]),
    )  # fmt: skip
    h5ad.write(data, folder / name, {"not_encoded": {"p9": "no residue"}})
    return folder / name


def test_distances_are_to_the_nearest_training_perturbation_of_the_fold(tmp_path, caplog):
    rng = np.random.default_rng(4)
    ids = [f"p{i}" for i in range(9)]
    matrix = rng.normal(size=(9, 5))
    roles = {1: {"test": ["p0", "p1", "p9"], "valid": ["p2"], "train": ids[3:]},
             2: {"test": ["p4"], "valid": [], "train": ["p0", "p1", "p2"]}}  # fmt: skip
    write_tsv(tmp_path / "d.variant.folds.tsv", [
        {"perturbation": name, "fold": fold, "role": role}
        for fold, of in roles.items() for role, names in of.items() for name in names
    ], ("perturbation", "fold", "role"))  # fmt: skip
    bad = matrix.copy()
    bad[0, 0] = np.nan
    paths = [encoding(tmp_path, "d.plm.alt.h5ad", ids, matrix), encoding(tmp_path, "d.broken.alt.h5ad", ids, bad)]
    found = distances.read(paths, [tmp_path / "d.variant.folds.tsv"])
    assert set(found) == {("d", "variant")} and set(found["d", "variant"]) == {("plm", "alt")}
    assert "not finite" in caplog.text
    near = found["d", "variant"]["plm", "alt"]
    assert set(near) == {(1, "p0"), (1, "p1"), (2, "p4")}  # p9 has no vector
    for (fold, name), value in near.items():
        wanted = distance.cdist(
            matrix[[ids.index(name)]], matrix[[ids.index(n) for n in roles[fold]["train"]]], "cosine"
        )
        assert value == pytest.approx(wanted.min(), abs=1e-6)


def test_every_configuration_has_the_distances_of_its_own_encoder():
    rng = np.random.default_rng(6)
    k = 60
    values = {
        of: rng.normal(0.4, 0.1, k) for of in (("m", "plm", "alt"), ("m", "onehot", "alt"), ("n", "none", "none"))
    }
    panel = panel_of({**values, ("c", "constant", "alt"): rng.normal(0, 0.1, k)}, duplicate=np.full(k, 0.8))
    order = {"plm": np.arange(k), "onehot": rng.permutation(k), "constant": np.zeros(k)}
    names = [f"p{i:04d}" for i in range(k)]
    near = {
        (encoder, "alt"): {row: float(at[names.index(row[1])]) for row in panel.rows} for encoder, at in order.items()
    }
    far = strata.by_encoder(panel.rows, near)
    assert set(far) == {("plm", "alt"), ("onehot", "alt")}  # a constant encoder tells none apart
    found = strata.rows(panel, PRIMARY, GENES, panel.series(PRIMARY, GENES), {}, far)
    assert {(row["model"], row["encoder"]) for row in found} == {("m", "plm"), ("m", "onehot")}
    assert {row["stratum"] for row in found} == {"distance"} and len(found) == 6
    for row in found:
        part = np.argsort(order[row["encoder"]])[["low", "middle", "high"].index(row["level"]) * 20 :][:20]
        assert row["value"] == pytest.approx(values["m", row["encoder"], "alt"][part].mean())
        assert row["n"] == row["n_expected"] == 20 and row["ceiling"] == pytest.approx(0.8)


def test_values_of_strata_are_means_over_their_members_with_undefined_ones_at_no_skill():
    rng = np.random.default_rng(8)
    k = 90
    values = rng.normal(0.4, 0.1, k)
    values[::10] = np.nan  # no skill: 0
    panel = panel_of({("m", "none", "none"): values, ("train_mean", "none", "none"): rng.normal(0, 0.1, k)},
                     duplicate=np.full(k, 0.8))  # fmt: skip
    odd = np.array([int(name[1:]) % 2 == 1 for _, name in panel.rows])
    by_name = dict(zip([f"p{i:04d}" for i in range(k)], np.nan_to_num(values), strict=True))
    ordered = np.array([by_name[name] for _, name in panel.rows])
    levels = {"kind": np.where(odd, "odd", "even").astype(object)}
    found = strata.rows(panel, PRIMARY, GENES, panel.series(PRIMARY, GENES), levels)
    assert {(row["model"], row["level"]) for row in found} == {
        (m, level) for m in ("m", "train_mean") for level in ("odd", "even")
    }
    for row in found:
        assert row["n"] == row["n_expected"] == k / 2
        assert row["ceiling"] == pytest.approx(0.8)
        assert row["ci_low"] < row["value"] < row["ci_high"]
        assert set(row) == set(strata.STRATA)
        if row["model"] == "m":
            assert row["value"] == pytest.approx(ordered[odd == (row["level"] == "odd")].mean())


def scores(*values, model="m", seed=0, dataset="d"):
    rows = scoring.Rows(dataset, "s", model, seed=seed)
    diagnostics.add(values, rows)
    return rows.rows


def test_seeds_are_averaged_and_ends_of_the_spread_stand_beside_the_value():
    value = diagnostics.Value
    rows = [
        *scores(value("diag_near_train_mean", "", 0.2, 0.1, 0.4, 30)),
        *scores(value("diag_near_train_mean", "", 0.4, 0.3, 0.6, 20), seed=1),
        *scores(value("diag_variance_ratio", "", np.nan, n=0)),
        *scores(value("diag_pathway_r", "kinase (GO:0006464)", 0.7, 0.6, 0.8, 5)),
    ]
    found = {row["diagnostic"]: row for row in table_of.rows(scoring.to_table(rows, {}), CATALOGUE, "x", {})}
    row = found["diag_near_train_mean"]
    assert [row[name] for name in ("value", "low", "high", "n", "n_seeds", "spread")] == [
        *map(pytest.approx, (0.3, 0.2, 0.5)), 20, 2, "wilson",
    ]  # fmt: skip
    assert np.isnan(found["diag_variance_ratio"]["value"])
    pathway = found["diag_pathway_r"]
    assert [pathway[name] for name in ("reference", "value", "low", "high")] == ["kinase (GO:0006464)", 0.7, 0.6, 0.8]
    assert json.dumps(list(row)) == json.dumps(list(table_of.DIAGNOSTICS))


def test_order_with_fewer_cells_is_kendalls_tau():
    rows = []
    for model, few, many in (("a", 0.1, 0.3), ("b", 0.2, 0.5), ("c", 0.3, 0.4)):
        for fraction, value in (("0.25", few), ("0.5", many), ("1", many)):
            rows += scores(diagnostics.Value("diag_cells", f"x@{fraction}", value, n=9), model=model)
    found = {row["reference"]: row for row in table_of.rows(scoring.to_table(rows, {}), CATALOGUE, "x", {})
             if row["diagnostic"] == "diag_cells_tau"}  # fmt: skip
    assert {name: row["value"] for name, row in found.items()} == {"x@0.25": pytest.approx(1 / 3), "x@0.5": 1}


def test_changed_genes_of_synonymous_variants():
    rows = scoring.Rows("d", "s", contract.TRUTH)
    for k, n in enumerate((0, 4, 90)):
        rows.add(1, f"p{k}", "de_nsig_true", "expr_nt", n)
    annotations = {"d": {f"p{k}": {"consequence": "missense" if k == 2 else "synonymous"} for k in range(3)}}
    table = scoring.to_table(rows.rows, {})
    (found,) = table_of.rows(table, CATALOGUE, "x", annotations)
    assert (found["diagnostic"], found["value"], found["n"]) == ("diag_synonymous", 2, 2)
    assert table_of.rows(table, CATALOGUE, "x", {}) == []


def test_every_diagnostic_of_the_code_is_in_the_catalogue_and_the_other_way_round(project):
    import re

    modules = [path for part in ("metrics", "stats") for path in (project / "bin/vcbench" / part).glob("*.py")]
    text = "".join(path.read_text() for path in modules)
    made = set(re.findall(r'"(diag_[a-z0-9_]+)"', text)) - {"diag_position_seen"}
    assert made == set(CATALOGUE)
