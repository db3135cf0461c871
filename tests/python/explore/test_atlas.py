"""All substitutions: list, vectors, predictions, table, known function and report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from vcbench.core import catalogue, h5ad, plan
from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv, write_tsv
from vcbench.data import substitutions
from vcbench.encoders import derive, encode, requests_cli
from vcbench.explore import atlas as table_of_atlas
from vcbench.explore import command
from vcbench.models import predict_cli, train_cli
from vcbench.report import atlas as report_atlas
from vcbench.report.names import Names
from vcbench.variants.alphabet import STANDARD

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from toy_models import Screen

MODELS, ENCODERS = catalogue.load("models"), catalogue.load("encoders")
SEQUENCE = "MARND"
COLUMNS = ("perturbation", "gene", "sequence_sha256", "hgvs_p", "consequence", "ref", "pos", "alt", "status", "n_cells",
           "labels", "protein_id", "isoform", "sequence_length")  # fmt: skip


# ---- plan ------------------------------------------------------------------------------------------------------------


def request(**changes):
    base = {"models": ("train_mean", "nearest", "linear", "sclambda"),
            "encoders": ("random", "onehot", "shuffled", "esm2_8m"), "strategies": ("diff", "alt"),
            "splits": ("position", "variant"), "folds": 3, "seeds": (0, 1)}  # fmt: skip
    return plan.Request(**{**base, **changes})


def marked(rows):
    return {(row["split"], row["model"], row["encoder"], row["strategy"]) for row in rows if row["atlas"]}


def planned(**changes):
    variants = {"dataset": "tp53", "perturbation_type": "variant"}
    return plan.build([variants], request(**changes), MODELS, ENCODERS, {})


def test_the_choice_left_to_the_plan():
    assert marked(planned()) == set()
    rows = planned(saturation=("auto",), learning_curve=("p500",))
    assert marked(rows) == {("variant", "linear", "esm2_8m", "diff")}
    assert sum(row["atlas"] == "yes" for row in rows) == 3 * 2  # folds and seeds, none of the learning curve
    assert marked(planned(saturation=("auto",), encoders=("random", "onehot"))) == {
        ("variant", "linear", "onehot", "diff")
    }
    only = planned(saturation=("auto",), models=("train_mean", "sclambda"), splits=("position",))
    assert marked(only) == {("position", "sclambda", "esm2_8m", "diff")}
    with pytest.raises(InputError, match="--saturation: no model with an encoder of residues"):
        planned(saturation=("auto",), encoders=("random",))


def test_named_configurations():
    rows = planned(saturation=("nearest.onehot.alt", "sclambda.random.diff"))
    assert marked(rows) == {("variant", "nearest", "onehot", "alt"), ("variant", "sclambda", "random", "diff")}
    with pytest.raises(InputError, match=r"no unit of 'linear\.onehot\.ref'"):
        planned(saturation=("linear.onehot.ref",))
    for name in ("linear.shuffled.alt", "train_mean.none.none"):
        with pytest.raises(InputError, match="no atlas of"):
            planned(saturation=(name,))


# ---- list and vectors ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """A protein of five residues with two measured variants, its substitutions, and the vectors of both."""
    folder = tmp_path_factory.mktemp("encoded")
    (folder / "d.fasta").write_text(f">T|P1|one\n{SEQUENCE}\n")
    from vcbench.core.hashing import sha256_text

    rows = [
        {**dict.fromkeys(COLUMNS, ""), "perturbation": f"T~{ref}{pos}{alt}", "gene": "T", "ref": ref, "pos": pos,
         "alt": alt,
         "consequence": "missense", "status": "encoded", "n_cells": 30, "sequence_sha256": sha256_text(SEQUENCE)}
        for ref, pos, alt in (("A", 2, "D"), ("R", 3, "K"))
    ]  # fmt: skip
    write_tsv(folder / "d.perturbations.tsv", rows, COLUMNS)
    notes = [{"label": "A2D", "am": "0.9"}, {"label": "T~D5E", "am": "0.1"}, {"label": "p.Met1Val", "am": "1"},
             {"label": "what?", "am": "7"}]  # fmt: skip
    write_tsv(folder / "notes.tsv", notes, ("label", "am"))
    substitutions.main(["--dataset", "d", "--perturbations", str(folder / "d.perturbations.tsv"), "--proteins",
                        str(folder / "d.fasta"), "--annotations", str(folder / "notes.tsv"),
                        "--out-dir", str(folder)])  # fmt: skip
    tables = [str(folder / "d.perturbations.tsv"), str(folder / "d.substitutions.tsv")]
    encode.main(["--encoders", "onehot", "position_onehot", "--perturbations", *tables,
                 "--proteins", str(folder / "d.fasta"), "--out-dir", str(folder)])  # fmt: skip
    vectors = [str(folder / f"{name}.vectors.h5ad") for name in ("onehot", "position_onehot")]
    for extra in ([], ["--substitutions", tables[1]]):
        derive.main(["--vectors", *vectors, "--perturbations", tables[0], *extra, "--strategies", "alt", "diff",
                     "--out-dir", str(folder / "encodings")])  # fmt: skip
    return folder


def test_every_substitution_once(encoded):
    rows = read_tsv(encoded / "d.substitutions.tsv")
    assert [row["perturbation"] for row in rows] == [
        f"T~{ref}{pos}{alt}" for pos, ref in enumerate(SEQUENCE, start=1) for alt in STANDARD if alt != ref
    ]
    assert len(rows) == 19 * len(SEQUENCE)
    assert {(row["status"], row["n_cells"]) for row in rows} == {("requested", "0")}
    known = {row["perturbation"]: row["am"] for row in rows if row["am"]}
    assert known == {"T~A2D": "0.9", "T~D5E": "0.1", "T~M1V": "1"}


def test_what_has_no_atlas_is_refused(encoded, tmp_path):
    rows = [{**row, "n_cells": "0"} for row in read_tsv(encoded / "d.perturbations.tsv")]
    write_tsv(tmp_path / "d.perturbations.tsv", rows, COLUMNS)
    arguments = ["--dataset", "d", "--proteins", str(encoded / "d.fasta"), "--out-dir", str(tmp_path)]
    with pytest.raises(InputError, match="no protein variant with cells"):
        substitutions.main([*arguments, "--perturbations", str(tmp_path / "d.perturbations.tsv")])
    (encoded / "two.tsv").write_text("label\tam\nA2D\t1\nT~A2D\t2\n")
    with pytest.raises(InputError, match="labels of T~A2D contradict each other"):
        substitutions.main([*arguments, "--perturbations", str(encoded / "d.perturbations.tsv"),
                            "--annotations", str(encoded / "two.tsv")])  # fmt: skip


def test_requests_tell_what_only_the_atlas_wants(encoded, tmp_path):
    requests_cli.main(["--perturbations", str(encoded / "d.perturbations.tsv"), str(encoded / "d.substitutions.tsv"),
                       "--proteins", str(encoded / "d.fasta"), "--out-dir", str(tmp_path)])  # fmt: skip
    rows = read_tsv(tmp_path / "requests.tsv")
    assert len(rows) == 19 * len(SEQUENCE) + 1  # measured variants are among the substitutions; and the wild type
    assert sorted(row["key"].split(":")[1] for row in rows if row["atlas"] == "false") == ["A2D", "R3K", "WT"]


def test_vectors_of_the_atlas_have_the_columns_models_know(encoded):
    for encoder in ("onehot", "position_onehot"):
        for strategy in ("alt", "diff"):
            plain = h5ad.read(encoded / "encodings" / f"d.{encoder}.{strategy}.h5ad")
            every = h5ad.read(encoded / "encodings" / f"d.{encoder}.{strategy}.atlas.h5ad")
            assert list(plain.var_names) == list(every.var_names)
            assert every.n_obs == 19 * len(SEQUENCE) + 1
            both = list(plain.obs_names)  # the two variants and the control
            np.testing.assert_array_equal(plain.X, every[both].X)
    position = h5ad.read(encoded / "encodings" / "d.position_onehot.alt.atlas.h5ad")
    assert position.n_vars == 2
    assert not position["T~M1A"].X.any()  # a position nobody measured


# ---- predictions -----------------------------------------------------------------------------------------------------


@pytest.fixture
def predicted(tmp_path):
    """Units of the toy screen with an atlas of its variants and three new ones."""
    screen = Screen(tmp_path / "toy")
    vectors = h5ad.read(screen.folder / "toy.random.alt.h5ad")
    rng = np.random.default_rng(0)
    new = ["T~A7C", "T~A7D", "T~A8E"]
    import anndata as ad

    obs = pd.DataFrame(
        {"gene": "T", "pos": [name[3] for name in (*screen.ids, *new)] + [""]}, index=[*screen.ids, *new, "control"]
    )
    matrix = np.vstack([vectors[screen.ids].X, rng.normal(size=(3, vectors.n_vars)), vectors[["control"]].X])
    path = screen.folder / "toy.random.alt.atlas.h5ad"
    h5ad.write(ad.AnnData(matrix.astype(np.float32), obs=obs, var=vectors.var[[]]), path, {})
    units = [f"toy.variant.f{fold}.linear.random.alt.s0" for fold in (1, 2)]
    settings = json.dumps({"linear": {"components": [2], "ridge": [1]}})
    train_cli.main(screen.arguments(units, settings, "models"))
    models = sorted(map(str, (screen.folder / "models").glob("*.model")))
    arguments = screen.arguments(units, settings, "predictions", "--models", *models, "--atlas", *units)
    at = arguments.index("--encodings")
    arguments.insert(at + 1, str(path))
    predict_cli.main(arguments)
    return screen, units, new


def test_impacts_are_those_of_the_predictions(predicted):
    screen, units, new = predicted
    data = screen.data
    control = np.asarray(
        data[(data.obs["perturbation"] == "control") & (data.obs["control_half"] == "B")].X.mean(axis=0)
    ).ravel()
    for unit in units:
        rows = {row["perturbation"]: row for row in read_tsv(screen.folder / "predictions" / f"{unit}.atlas.tsv")}
        assert set(rows) == {*screen.ids, *new}
        profiles = h5ad.read(screen.folder / "predictions" / f"{unit}.predictions.h5ad")
        assert {name for name, row in rows.items() if row["role"] == "test"} == set(profiles.obs["perturbation"])
        for label, profile in zip(profiles.obs["perturbation"], profiles.X, strict=True):
            expected = np.linalg.norm(profile.astype(np.float64) - control)  # every gene of the toy screen is expressed
            assert float(rows[label]["impact"]) == pytest.approx(expected, rel=1e-5)
        assert {rows[name]["role"] for name in new} == {""}


def test_without_vectors_the_predictions_stand_and_the_plan_says_why(tmp_path):
    screen = Screen(tmp_path / "toy")
    unit, settings = "toy.variant.f1.linear.random.alt.s0", json.dumps({"linear": {"components": [2], "ridge": [1]}})
    train_cli.main(screen.arguments([unit], settings, "models"))
    models = sorted(map(str, (screen.folder / "models").glob("*.model")))
    predict_cli.main(screen.arguments([unit], settings, "predictions", "--models", *models, "--atlas", unit))
    facts = json.loads((screen.folder / "predictions" / f"{unit}.predict.status.json").read_text())
    assert facts["state"] == "ok"
    assert facts["note"] == "no atlas: no encoding toy.random.alt.atlas.h5ad among --encodings"


def test_cells_and_profiles_of_a_substitution():
    from vcbench.models.atlas import impacts
    from vcbench.models.base import Perturbation, Prediction, PredictionRequest

    asked = PredictionRequest((Perturbation("G2~A1C", ("G2",), (1,)),), (2,), None, ("G0", "G1", "G2", "G3"), None)
    values, control = np.array([[4.0, 3, 9, 9], [4, 5, 9, 9]]), np.array([1.0, 0, 0, 0])
    genes = np.array([True, True, True, False])  # the last is not expressed; G2 is the perturbed gene
    labels = np.array(["G2~A1C"] * 2, dtype=object)
    one = impacts(Prediction(values[:1], labels[:1], "profile"), asked, control, genes)
    assert one["G2~A1C"] == pytest.approx(np.sqrt(9 + 9))
    cells = impacts(Prediction(values, labels, "cells"), asked, control, genes)
    assert cells["G2~A1C"] == pytest.approx(np.sqrt(9 + 16 - 2 / 2))  # variance 2 of two cells


# ---- table -----------------------------------------------------------------------------------------------------------


def test_measured_variants_get_their_test_fold_only(tmp_path):
    names = ["T~A1C", "T~A1D", "T~A2C", "T~A2D"]
    roles = {
        1: ["train", "test", "", "excluded"],
        2: ["test", "valid", "", "excluded"],
        3: ["train", "train", "", "excluded"],
    }
    impacts = {1: [1.0, 2, 3, 4], 2: [10, 20, 30, 40], 3: [100, 200, 300, 400]}
    for fold in (1, 2, 3):
        write_tsv(tmp_path / f"d.variant.f{fold}.linear.onehot.alt.s0.atlas.tsv",
                  [{"perturbation": n, "role": r, "impact": i}
                   for n, r, i in zip(names, roles[fold], impacts[fold], strict=True)],
                  ("perturbation", "role", "impact"))  # fmt: skip
    units = table_of_atlas.read_units(tmp_path.glob("*.atlas.tsv"))
    ((key, tables),) = units.items()
    assert key == ("d", "variant", "linear", "onehot", "alt")
    every = [{"perturbation": n, "gene": "T", "pos": n[3], "ref": "A", "alt": n[4]} for n in names]
    rows = table_of_atlas.rows(key, tables, every, {"T~A1C": 7.0}, {"T~A2C": -3.0})
    assert [row["impact"] for row in rows] == [10, 2, 111, 148]
    assert [row["n_models"] for row in rows] == [1, 1, 3, 3]
    assert [row["seen"] for row in rows] == [True, True, False, True]
    assert rows[0]["impact_all"] == 37
    assert rows[2]["impact_sd"] == pytest.approx(np.std([3, 30, 300], ddof=1))
    assert [row["percentile"] for row in rows] == [37.5, 12.5, 62.5, 87.5]
    assert (rows[0]["measured_impact"], rows[2]["zero_shot_llr"]) == (7.0, -3.0)
    with pytest.raises(InputError, match="T~A9C was not predicted"):
        table_of_atlas.rows(key, tables, [*every, {**every[0], "perturbation": "T~A9C"}], {}, {})


def test_command_writes_atlas_and_its_known_function(tmp_path):
    rng = np.random.default_rng(2)
    names = [f"T~A{pos}{alt}" for pos in range(1, 41) for alt in "CD"]
    known = rng.normal(size=len(names))
    every = [{"perturbation": n, "gene": "T", "ref": "A", "pos": n[3:-1], "alt": n[-1], "am": repr(float(k)),
              "zero_shot_llr": repr(float(-k))} for n, k in zip(names, known, strict=True)]  # fmt: skip
    write_tsv(tmp_path / "d.substitutions.tsv", every, list(every[0]))
    for fold in (1, 2):
        rows = [{"perturbation": n, "role": "train" if i < 10 else "", "impact": float(k + rng.normal())}
                for i, (n, k) in enumerate(zip(names, known, strict=True))]  # fmt: skip
        write_tsv(
            tmp_path / f"d.variant.f{fold}.linear.onehot.alt.s0.atlas.tsv", rows, ("perturbation", "role", "impact")
        )
    plan_rows = [{"unit": "u", "dataset": "d", "split": "variant", "fold": 1, "model": "linear", "encoder": "onehot",
                  "strategy": "alt", "seed": 0, "class": "baseline", "state": "ok", "atlas": "yes",
                  "trained_on": ""}]  # fmt: skip
    write_tsv(tmp_path / "plan.tsv", plan_rows, list(plan_rows[0]))
    import pyarrow.parquet as pq

    from vcbench.metrics import scoring

    pq.write_table(scoring.to_table([], {}), tmp_path / "scores.parquet")
    command.main(["--tables", str(tmp_path), "--substitutions", str(tmp_path / "d.substitutions.tsv"), "--atlas",
                  *map(str, tmp_path.glob("*.atlas.tsv")), "--known-function", "am", "--bootstrap", "100",
                  "--out-dir", str(tmp_path / "out")])  # fmt: skip
    rows = read_tsv(tmp_path / "out" / "atlas.tsv")
    assert len(rows) == 80
    assert sum(row["impact"] == "" for row in rows) == 10  # every model has seen them
    found = {row["model"]: row for row in read_tsv(tmp_path / "out" / "known_function.tsv")}
    assert {row["variants"] for row in found.values()} == {"unmeasured"}
    assert float(found["zero_shot_llr"]["value"]) == pytest.approx(1)
    assert (found["linear"]["n"], found["linear"]["n_clusters"], found["linear"]["class"]) == ("70", "35", "baseline")
    from scipy.stats import spearmanr

    kept = [float(row["impact"]) for row in rows[10:]]
    assert float(found["linear"]["value"]) == pytest.approx(spearmanr(kept, known[10:]).statistic, abs=1e-9)
    assert float(found["linear"]["difference_high"]) < 0
    (section,) = report_atlas.sections(SimpleNamespace(explored={"atlas": rows}, names=Names.load(catalogue.ASSETS)))
    assert section.data.count("<circle") == 10
    assert "80 substitutions of T" in section.data
    assert section.data.count("h6v8h-6z") == 70 + 40  # impacts, and the reference residue of every position
