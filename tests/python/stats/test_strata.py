"""Strata and the table of diagnostics against brute force (metrics.md 7)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from simulated import GENES, PRIMARY, panel_of

from vcbench.core import catalogue
from vcbench.metrics import contract, diagnostics, scoring
from vcbench.stats import diagnostics as table_of
from vcbench.stats import strata

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

    text = "".join((project / "bin/vcbench" / path).read_text() for path in ("metrics/diagnostics.py",
                                                                            "stats/diagnostics.py"))  # fmt: skip
    made = set(re.findall(r'"(diag_[a-z0-9_]+)"', text)) - {"diag_position_seen"}
    assert made == set(CATALOGUE)
