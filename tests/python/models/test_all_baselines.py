"""Every baseline of the catalogue on files of a screen with doubles: what may change what, and what SCORE is told."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from vcbench.core import catalogue, h5ad
from vcbench.core.tables import write_tsv
from vcbench.data.perturbation_table import TABLE_COLUMNS
from vcbench.metrics import score, truth_cli
from vcbench.models import fold_data, predict_cli, train_cli

ENTRIES = catalogue.load("models")["entries"]
BASELINES = [name for name, entry in ENTRIES.items() if entry["class"] == "baseline"]
IDS = [*"ABCDEFGH", *("A+B", "A+C", "B+D", "C+F", "E+G", "D+E")]
#: A+B: both singles in training; C+F: F is not; G and H: no combinations.
TEST = ["A+B", "C+F", "G", "H"]
ROLES = {name: "test" if name in TEST else "valid" if name in ("F", "D+E") else "train" for name in IDS}
CELLS, CONTROLS, GENES = 14, 60, 40


def unit(model):
    return f"duo.variant.f1.{model}.{'toy.alt' if ENTRIES[model]['encoder'] else 'none.none'}.s0"


def setting(name):
    chosen = {key: spec["default"] for key, spec in ENTRIES[name]["settings"].items()}
    return chosen | ({"trees": 20, "selection_trees": 3} if name == "random_forest" else {})


class Duo:
    """Singles and doubles on disk; annotations in `severity`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rng = np.random.default_rng(2)
        effects = {name: rng.normal(0, 0.5, GENES) for name in "ABCDEFGH"}
        labels = np.repeat([*IDS, "control"], [CELLS] * len(IDS) + [CONTROLS]).astype(object)
        shift = [
            sum((effects[gene] for gene in label.split("+") if gene in effects), np.zeros(GENES)) for label in labels
        ]
        counts = rng.poisson(np.exp(1 + np.array(shift))).astype(np.float32)
        half = np.where(labels == "control", np.where(np.arange(len(labels)) % 2, "A", "B"), "").astype(object)
        batch = np.where(np.arange(len(labels)) % 3, "b1", "b2").astype(object)
        obs = pd.DataFrame({"perturbation": labels, "cell_line": "x", "batch": batch, "control_half": half},
                           index=[f"cell{i:03d}" for i in range(len(labels))])  # fmt: skip
        self.data = ad.AnnData(
            sp.csr_matrix(np.log1p(counts)), obs, pd.DataFrame(index=[f"g{i}" for i in range(GENES)])
        )
        self.data.layers["counts"] = sp.csr_matrix(counts)
        self.write()
        table = [
            {"perturbation": name, "gene": name.replace("+", ";"), "pos": "", "n_cells": CELLS, "severity": "hm"[i % 2]}
            for i, name in enumerate(IDS)
        ]
        write_tsv(folder / "duo.perturbations.tsv", table, list(table[0]))
        rows = [{"perturbation": name, "fold": 1, "role": role, "reason": ""} for name, role in ROLES.items()]
        write_tsv(folder / "duo.variant.folds.tsv", rows, list(rows[0]))
        matrix = np.vstack([rng.normal(size=(len(IDS), 5)), np.zeros(5)]).astype(np.float32)
        h5ad.write(ad.AnnData(matrix, pd.DataFrame(index=[*IDS, "control"])), folder / "duo.toy.alt.h5ad", {})

    def write(self) -> None:
        h5ad.write(self.data.copy(), self.folder / "duo.h5ad", {"target_sum": 300.0})

    def arguments(self, models, out, *more):
        f = self.folder
        return [
            "--units", *map(unit, models), "--settings", json.dumps({name: setting(name) for name in models}),
            "--dataset", str(f / "duo.h5ad"), "--perturbations", str(f / "duo.perturbations.tsv"),
            "--folds", str(f / "duo.variant.folds.tsv"), "--encodings", str(f / "duo.toy.alt.h5ad"),
            "--out-dir", str(f / out), *more,
        ]  # fmt: skip

    def train(self, out="models", models=tuple(BASELINES)):
        train_cli.main(self.arguments(models, out))
        root = self.folder / out
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*")) if path.is_file() and ".status" not in path.name
        }  # fmt: skip

    def predict(self, models=tuple(BASELINES)):
        fitted = map(str, (self.folder / "models").glob("*.model"))
        predict_cli.main(self.arguments(models, "predictions", "--models", *fitted))


@pytest.fixture
def duo(tmp_path):
    return Duo(tmp_path)


def test_canary_held_out_cells_change_no_baseline_and_visible_ones_change_all_but_one(duo):
    before = duo.train()
    assert len(before) == 3 * len(BASELINES)
    obs = duo.data.obs
    hidden = (obs.perturbation.isin(TEST) | (obs.control_half == "A")).to_numpy()
    for kept in (duo.data.X, duo.data.layers["counts"]):
        values = kept.toarray()
        values[hidden] = values[hidden][::-1] * 7 + 3
        kept[:] = sp.csr_matrix(values)
    duo.write()
    assert duo.train("again") == before
    duo.data.X = sp.csr_matrix(duo.data.X.toarray() + (obs.perturbation == "A").to_numpy()[:, None])
    duo.write()
    changed = duo.train("changed")
    weights = [name for name in before if name.endswith("weights.safetensors")]
    same = [name for name in weights if changed[name] == before[name]]
    assert [name.split(".")[3] for name in same] == ["no_change"]  # the canary can sing


def test_validation_cells_change_no_baseline(duo):
    before = duo.train()
    valid = duo.data.obs.perturbation.isin(["F", "D+E"]).to_numpy()
    duo.data.X = sp.csr_matrix(duo.data.X.toarray() * np.where(valid, 5, 1)[:, None])
    duo.write()
    assert duo.train("again") == before


def test_rows_of_the_dataset_may_stand_in_any_order(duo):
    before = duo.train()
    duo.data = duo.data[np.random.default_rng(1).permutation(duo.data.n_obs)].copy()
    duo.write()
    assert duo.train("again") == before


def test_all_predict_finite_profiles_and_say_what_they_cannot_predict(duo):
    duo.train()
    duo.predict()
    for model in BASELINES:
        data = h5ad.read(duo.folder / "predictions" / f"{unit(model)}.predictions.h5ad")
        assert np.isfinite(data.X).all()
        missing = {"C+F": "single F not in training", "G": "not a combination", "H": "not a combination"}
        absent = missing if model in ("additive", "max_effect") else {}
        assert h5ad.provenance(data).get("absent", {}) == absent
        assert data.obs.perturbation.tolist() == [name for name in TEST if name not in absent]
        assert ("predictive_variance" in data.layers) == (model == "gaussian_process")


def test_what_is_not_predicted_is_scored_as_missing_and_nothing_else_may_be(duo):
    models = ("train_mean", "additive")
    duo.train(models=models)
    duo.predict(models)
    f = duo.folder
    truth_cli.main([
        "--dataset", str(f / "duo.h5ad"), "--perturbations", str(f / "duo.perturbations.tsv"),
        "--folds", str(f / "duo.variant.folds.tsv"), "--dataset-id", "duo", "--split", "variant", "--out-dir", str(f),
    ])  # fmt: skip
    predictions = [str(f / "predictions" / f"{unit(name)}.predictions.h5ad") for name in models]
    common = ["--truth", str(f / "duo.variant.truth.h5ad"), "--de", str(f / "duo.variant.de.parquet"), "--out"]
    score.main([*common, str(f / "scores.parquet"), "--predictions", *predictions])
    table = pq.read_table(f / "scores.parquet").to_pandas()
    of_metric = (table.metric == "mse") & (table.gene_set == "expr_nt")
    rows = table[(table.model == "additive") & of_metric & table.perturbation.isin(TEST)]
    status = rows.groupby("perturbation").status.unique().map(list).to_dict()
    assert status == {"A+B": ["ok"], "C+F": ["missing_pred"], "G": ["missing_pred"], "H": ["missing_pred"]}
    assert rows.set_index("perturbation").value.notna().to_dict() == {n: n == "A+B" for n in TEST}
    # a perturbation that is gone without a word is an error
    data = h5ad.read(predictions[1])
    facts = h5ad.provenance(data)
    h5ad.write(data, predictions[1], {**facts, "absent": {"C+F": "x"}})
    score.main([*common, str(f / "again.parquet"), "--predictions", *predictions])
    status = json.loads((f / f"{unit('additive')}.score.status.json").read_text())
    assert "2 missing perturbations, first G, H" in status["reason"]


def test_annotations_are_all_columns_the_screen_does_not_give():
    assert set(TABLE_COLUMNS) - set(fold_data.OF_THE_SCREEN) == {"severity", "domain"}
