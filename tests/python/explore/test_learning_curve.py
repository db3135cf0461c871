"""Learning curves: units, nested training sets, table and report."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from vcbench.core import catalogue, plan
from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv, write_tsv
from vcbench.core.units import Unit, subset_size
from vcbench.explore import command
from vcbench.metrics import contract, registry, scoring
from vcbench.models import predict_cli, train_cli
from vcbench.models.fold_data import FoldData
from vcbench.report import learning_curve
from vcbench.report.names import Names
from vcbench.stats import panel, scores

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from toy_models import ROLES, Screen

MODELS, ENCODERS = catalogue.load("models"), catalogue.load("encoders")


# ---- units and plan --------------------------------------------------------------------------------------------------


def test_units_of_the_curve_have_names_of_their_own():
    unit = Unit("tp53", "variant", 2, "linear", "onehot", "alt", 1, "p250")
    assert unit.id == "tp53.variant.f2.linear.onehot.alt.s1.p250"
    assert Unit.parse(unit.id) == unit
    assert unit.scored_as == "trained_on:p250:linear"
    assert contract.is_evaluator(unit.scored_as)  # and so in no leaderboard
    assert Unit.scored("tp53", "variant", 2, unit.scored_as, "onehot", "alt", 1) == unit
    plain = Unit.parse("tp53.variant.f2.linear.onehot.alt.s1")
    assert (plain.trained_on, plain.scored_as) == ("", "linear")
    with pytest.raises(InputError, match="not a unit id"):
        Unit.parse(unit.id + ".x")


@pytest.mark.parametrize(("size", "n", "expected"), [("", 33, 33), ("p250", 33, 9), ("p1", 33, 1), ("n20", 33, 20),
                                                     ("n50", 33, 33), ("p500", 8, 4)])  # fmt: skip
def test_sizes(size, n, expected):
    assert subset_size(size, n) == expected


def test_points_are_read_in_order():
    assert plan.learning_curve("0.5, 0.25,1,20") == ("p250", "p500", "n20")
    assert plan.learning_curve("") == ()
    for wrong in ("0", "1.5", "-0.5", "half", "2.5", "0.0001"):
        with pytest.raises(InputError, match="--learning_curve: not a size"):
            plan.learning_curve(wrong)


def request(**changes):
    base = {"models": ("train_mean", "nearest", "sclambda"), "encoders": ("onehot",), "strategies": ("alt",),
            "splits": ("variant",), "folds": 2, "seeds": (0,)}  # fmt: skip
    return plan.Request(**{**base, **changes})


def test_the_curve_adds_units_and_tasks_and_changes_none():
    variants = {"dataset": "tp53", "perturbation_type": "variant"}
    without = plan.build([variants], request(), MODELS, ENCODERS, {})
    with_curve = plan.build([variants], request(learning_curve=("p250", "n20")), MODELS, ENCODERS, {})
    assert len(with_curve) == 3 * len(without)
    ordinary = [row for row in with_curve if not row["trained_on"]]
    assert ordinary == without
    assert not {row["task"] for row in without} & {row["task"] for row in with_curve if row["trained_on"]}
    tasks = {row["task"] for row in with_curve if row["trained_on"] == "p250" and row["class"] == "baseline"}
    assert tasks == {"tp53.variant.f1.baselines.p250", "tp53.variant.f2.baselines.p250"}
    models = catalogue.with_external(MODELS, ["mine"])
    external = plan.build([variants], request(models=("mine",), learning_curve=("p250",)), models, ENCODERS, {})
    assert {row["trained_on"] for row in external} == {""}  # they were trained once, elsewhere


# ---- training sets ---------------------------------------------------------------------------------------------------


@pytest.fixture
def screen(tmp_path):
    return Screen(tmp_path / "toy")


def test_larger_training_sets_hold_the_smaller_ones(screen):
    data = FoldData(*(screen.folder / name for name in ("toy.h5ad", "toy.perturbations.tsv", "toy.variant.folds.tsv")))
    everything = data.training(1)
    for seed in range(5):
        found = [data.training(1, f"n{n}", seed) for n in range(1, len(everything.train) + 1)]
        for n, (small, large) in enumerate(zip(found, [*found[1:], everything], strict=True), start=1):
            assert len(small.train) == n
            assert set(small.train_ids) <= set(large.train_ids)
            assert small.valid_ids == everything.valid_ids
            assert set(small.labels) == {*small.train_ids, *small.valid_ids, "control"}
            assert small.train_ids == sorted(small.train_ids)
        assert found[-1].train_ids == everything.train_ids
    firsts = {tuple(data.training(1, "n1", seed).train_ids) for seed in range(12)}
    assert len(firsts) > 1  # another seed draws another set
    assert data.training(1, "n2", 3).train_ids == data.training(1, "n2", 3).train_ids


def test_steps_train_and_predict_units_of_the_curve(screen):
    units = [f"toy.variant.f1.train_mean.none.none.s0{part}" for part in ("", ".n1", ".p500")]
    settings = json.dumps({"train_mean": {}})
    train_cli.main(screen.arguments(units, settings, "models"))
    models = sorted(map(str, (screen.folder / "models").glob("*.model")))
    predict_cli.main(screen.arguments(units, settings, "predictions", "--models", *models))
    sizes = {}
    for unit in units:
        facts = json.loads((screen.folder / "models" / f"{unit}.train.status.json").read_text())
        assert facts["state"] == "ok"
        sizes[unit.rpartition("s0")[2]] = facts["n_train"]
        assert (screen.folder / "predictions" / f"{unit}.predictions.h5ad").is_file()
    everything = sum(first == "train" for first, _ in ROLES.values())
    assert sizes == {"": everything, ".n1": 1, ".p500": -(-everything // 2)}


# ---- table -----------------------------------------------------------------------------------------------------------

NAMES = [f"T~A{i}D" for i in range(1, 41)]
FOLD = [1 + i % 2 for i in range(40)]


@pytest.fixture
def run(tmp_path):
    """Scores of a model trained on everything, on half and on a quarter, one of whose predictions is constant."""
    rng = np.random.default_rng(5)
    values = {"linear": 0.6 + 0.1 * rng.normal(size=40)}
    values["trained_on:p500:linear"] = values["linear"] - 0.1 + 0.01 * rng.normal(size=40)
    values["trained_on:p250:linear"] = values["linear"] - 0.3
    values["nearest"] = np.full(40, 0.4)
    rows = []
    for model, of in [*values.items(), ("no_skill", np.zeros(40))]:
        encoder, strategy = ("none", "none") if model == "no_skill" else ("onehot", "alt")
        collector = scoring.Rows("d", "variant", model, encoder, strategy)
        for name, fold, value in zip(NAMES, FOLD, of, strict=True):
            constant = model == "trained_on:p250:linear" and name == NAMES[0]
            collector.add(fold, name, "dpearson_pm", "expr_nt", np.nan if constant else value,
                          status="const_pred" if constant else "ok")  # fmt: skip
        rows += collector.rows
    pq.write_table(scoring.to_table(rows, {}), tmp_path / "scores.parquet")
    units = [("linear", "", 20), ("linear", "p500", 10), ("linear", "p250", 5), ("nearest", "", 20)]
    table = []
    for model, part, n in [*units, ("nearest", "p500", 10)]:
        state = "failed" if (model, part) == ("nearest", "p500") else "ok"
        for fold in (1, 2):
            unit = Unit("d", "variant", fold, model, "onehot", "alt", 0, part)
            kind = "baseline" if model == "nearest" else "supervised"
            table.append({"unit": unit.id, **asdict(unit), "class": kind, "state": state, "n_train": n + fold - 1})
    write_tsv(tmp_path / "plan.tsv", table, list(table[0]))
    perturbations = [{"perturbation": name, "gene": "T", "pos": i} for i, name in enumerate(NAMES)]
    write_tsv(tmp_path / "d.perturbations.tsv", perturbations, ("perturbation", "gene", "pos"))
    return tmp_path, values


def explored(folder):
    command.main(["--tables", str(folder), "--perturbations", str(folder / "d.perturbations.tsv"), "--bootstrap", "300",
                  "--out-dir", str(folder / "out")])  # fmt: skip
    return read_tsv(folder / "out" / "learning_curve.tsv")


def test_values_gains_and_baseline(run):
    folder, values = run
    rows = [row for row in explored(folder) if (row["metric"], row["gene_set"]) == ("dpearson_pm", "expr_nt")]
    by = {(row["model"], row["trained_on"]): row for row in rows}
    assert [key[1] for key in by if key[0] == "linear"] == ["p250", "p500", "all"]
    quarter = values["trained_on:p250:linear"].copy()
    quarter[0] = 0.0  # a constant prediction counts as no skill
    assert float(by["linear", "p250"]["value"]) == pytest.approx(quarter.mean())
    assert float(by["linear", "all"]["value"]) == pytest.approx(values["linear"].mean())
    for part, of in (("p250", quarter), ("p500", values["trained_on:p500:linear"])):
        row = by["linear", part]
        assert float(row["gain_to_all"]) == pytest.approx((values["linear"] - of).mean())
        assert float(row["gain_low"]) < float(row["gain_to_all"]) < float(row["gain_high"])
    # paired: much narrower than the intervals of the scores
    gain, score = (float(by["linear", "p500"][b]) - float(by["linear", "p500"][a]) for a, b in
                   (("gain_low", "gain_high"), ("ci_low", "ci_high")))  # fmt: skip
    assert gain < 0.3 * score
    assert (by["linear", "p500"]["n_train"], by["linear", "p500"]["n_train_min"]) == ("10.5", "10")
    assert by["linear", "all"]["gain_to_all"] == ""
    assert {row["baseline_model"] for row in rows} == {"nearest"}
    assert float(by["linear", "all"]["baseline"]) == pytest.approx(0.4)
    assert by["linear", "p250"]["reasons"] == "const_pred:1"
    failed = by["nearest", "p500"]
    assert (failed["value"], failed["units_ok"], failed["units_planned"]) == ("", "0", "2")


def test_the_curve_is_in_no_leaderboard(run):
    folder, _ = run
    accounts = read_tsv(folder / "plan.tsv")
    combinations = panel.combinations(accounts)
    assert {planned.of for planned in combinations["d", "variant"]} == {
        (m, "onehot", "alt") for m in ("linear", "nearest")
    }
    assert {planned.units for planned in combinations["d", "variant"]} == {2}
    table = scores.read_scores([folder / "scores.parquet"])
    found = scores.scored_units(table, accounts)
    assert found == {row["unit"] for row in accounts if row["state"] == "ok"}


def test_headline_metrics_come_with_their_terms():
    metrics = registry.load()
    chosen = registry.headline(metrics)
    assert {"dpearson_pm", "nmse_ctrl", "nmse_ctrl_num", "gw_pearson_wf_term"} <= set(chosen)
    assert "dir_acc" not in chosen
    assert all(metric.gene_sets == metrics[name].headline for name, metric in chosen.items() if metric.headline)


def test_the_report_draws_the_curve_with_its_data(run, tmp_path):
    folder, _ = run
    rows = explored(folder)
    inputs = SimpleNamespace(explored={"learning_curve": rows}, names=Names.load(catalogue.ASSETS))
    (found,) = learning_curve.sections(inputs)
    assert "the gain is resolved" in found.data
    assert found.data.count("<polyline") == 1  # one model has more than a point
    assert "best simple baseline" in found.data
    figure = found.figures[0]
    figure.write(tmp_path / "figures")
    drawn = read_tsv(tmp_path / "figures" / f"{figure.id}.tsv")
    assert len(drawn) == 5
    assert learning_curve.sections(SimpleNamespace(explored={}, names=inputs.names)) == []
