"""Every planned unit is accounted for, with what failed and what it blocked."""

from __future__ import annotations

import json

import pytest

from vcbench.core import catalogue
from vcbench.core.errors import InputError
from vcbench.stats import accounting

ENCODERS = catalogue.load("encoders")["entries"]


def unit(model="sclambda", encoder="esm2_650m", fold=1, split="variant", task=None):
    name = f"tp53.{split}.f{fold}.{model}.{encoder}.alt.s0"
    process = "BASELINES" if model in ("nearest", "train_mean") else model.upper()
    return {"unit": name, "dataset": "tp53", "split": split, "fold": str(fold), "model": model, "encoder": encoder,
            "strategy": "alt", "seed": "0", "class": "supervised", "process": process,
            "task": task or name}  # fmt: skip


def status(row, stage, state="ok", reason="", **facts):
    return (row["unit"], stage), {"unit": row["unit"], "stage": stage, "state": state, "reason": reason, **facts}


def failure(stage, task, code=1, reason="boom"):
    return {"stage": stage, "task": task, "exit": code, "reason": reason}


def result(row, statuses=(), failures=(), scored=()):
    found = accounting.account([row], dict(statuses), list(failures), set(scored), ENCODERS)[0]
    return found["state"], found["stage"], found["reason"]


def test_scored_is_ok_with_costs():
    row = unit()
    statuses = dict([
        status(row, "train", wall_seconds=7.5, peak_memory_mb=100.0, device="cuda"),
        status(row, "predict", wall_seconds=1.5, peak_memory_mb=300.0, device="cpu"),
    ])  # fmt: skip
    found = accounting.account([row], statuses, [], {row["unit"]}, ENCODERS)[0]
    assert (found["state"], found["stage"], found["reason"]) == ("ok", "", "")
    assert (found["train_seconds"], found["predict_seconds"], found["peak_memory_mb"]) == (7.5, 1.5, 300.0)
    assert found["device"] == "cuda"


@pytest.mark.parametrize("stage", ["train", "predict", "score"])
def test_a_unit_that_failed_in_a_living_task(stage):
    row = unit()
    earlier = [status(row, s) for s in ("train", "predict", "score")[: ("train", "predict", "score").index(stage)]]
    found = result(row, [*earlier, status(row, stage, "failed", "loss is NaN")])
    assert found == ("failed", stage.upper(), "loss is NaN")


def test_a_task_that_died():
    row = unit(task="tp53.variant.f1.batch1")
    died = failure("TRAIN", "tp53.variant.f1.batch1", 137, "killed: out of memory (exit 137)")
    assert result(row, [], [died]) == ("failed", "TRAIN", "killed: out of memory (exit 137)")
    assert result(row, [], [failure("TRAIN", "another")])[0] == "missing"
    predicted = [status(row, "train")]
    assert result(row, predicted, [failure("PREDICT", row["task"], 1, "shape")]) == (
        "failed",
        "PREDICT",
        "shape (exit 1)",
    )


@pytest.mark.parametrize(
    ("encoder", "stage", "task"),
    [
        ("esm2_650m", "ENCODE", "esm2_650m"),
        ("esm2_650m", "DERIVE", "tp53.esm2_650m"),
        ("onehot", "ENCODE", "controls"),
        ("shuffled", "ENCODE", "esm2_650m"),
    ],
)
def test_a_failed_encoder_blocks_the_units_that_wait_for_it(encoder, stage, task):
    rows = [unit(), unit(encoder=encoder), unit(model="train_mean", encoder="none")]
    found = accounting.account(rows, {}, [failure(stage, task, 65, "weights not found")], set(), ENCODERS)
    by_unit = {row["unit"]: row for row in found}
    blocked = by_unit[rows[1]["unit"]]
    assert (blocked["state"], blocked["stage"]) == ("blocked", stage)
    assert "weights not found (exit 65)" in blocked["reason"]
    assert (encoder if encoder != "shuffled" else "esm2_650m") in blocked["reason"]
    assert by_unit[rows[2]["unit"]]["state"] == "missing"


def test_failed_dataset_split_and_truth_block():
    row = unit()
    assert result(row, [], [failure("PREPARE", "tp53")])[:2] == ("blocked", "PREPARE")
    assert result(row, [], [failure("SPLIT", "tp53")])[:2] == ("blocked", "SPLIT")
    done = [status(row, "train"), status(row, "predict")]
    assert result(row, done, [failure("TRUTH", "tp53.variant")])[:2] == ("blocked", "TRUTH")
    assert result(row, done, [failure("TRUTH", "tp53.position")]) == ("missing", "SCORE", "predicted, but no scores")
    assert result(row, done, [failure("SCORE", "tp53.variant.sclambda")])[:2] == ("failed", "SCORE")


def test_nothing_is_known():
    row = unit()
    assert result(row) == ("missing", "TRAIN", "no record of training")
    assert result(row, [status(row, "train")]) == ("missing", "PREDICT", "trained, but no record of prediction")


def test_order_of_plan_and_failures_does_not_matter(tmp_path):
    rows = [unit(fold=f, model=m) for f in (1, 2) for m in ("nearest", "sclambda")]
    failures = [failure("TRAIN", rows[0]["task"]), failure("PREPARE", "tp53")]
    path = tmp_path / "failures.json"
    found = []
    for order in (1, -1):
        path.write_text(json.dumps(failures[::order]))
        found.append(accounting.account(rows[::order], {}, accounting.read_failures(path), set(), ENCODERS))
    assert found[0] == found[1]


def test_broken_files(tmp_path):
    bad = tmp_path / "x.status.json"
    bad.write_text("{")
    with pytest.raises(InputError, match=r"x\.status\.json: not a status file"):
        accounting.read_statuses([bad])
    good = json.dumps({"unit": "u", "stage": "train"})
    for name in ("a", "b"):
        (tmp_path / name).write_text(good)
    with pytest.raises(InputError, match="second train status of unit u"):
        accounting.read_statuses([tmp_path / "a", tmp_path / "b"])
    (tmp_path / "f.json").write_text('{"stage": "TRAIN"}')
    with pytest.raises(InputError, match="not a list of failures"):
        accounting.read_failures(tmp_path / "f.json")


def test_own_vectors_that_could_not_be_read_block_their_units():
    broken = failure("IMPORT", "my_vectors", 1, "KeyError: 'weird'")
    assert result(unit(encoder="my_vectors"), [], [broken]) == (
        "blocked", "IMPORT", "encoder my_vectors failed: KeyError: 'weird' (exit 1)",
    )  # fmt: skip
    assert result(unit(encoder="onehot"), [], [broken]) == ("missing", "TRAIN", "no record of training")


def test_predictions_made_elsewhere_are_imported_not_trained():
    row = {**unit(model="their_model", encoder="none"), "process": "PREDICTIONS_IMPORT", "class": "external"}
    note = "2 of 9 test perturbations are not in their_model.h5ad"
    done = [status(row, "predict", note=note)]
    assert result(row, done, scored=[row["unit"]]) == ("ok", "", note)
    assert result(row, done) == ("missing", "SCORE", "predicted, but no scores")
    assert result(row) == ("missing", "IMPORT", "no record of import")
    assert result(row, [], [failure("IMPORT", row["task"], 1, "genes are missing")]) == (
        "failed", "IMPORT", "genes are missing (exit 1)",
    )  # fmt: skip
    assert result(row, [], [failure("PREPARE", "tp53")])[:2] == ("blocked", "PREPARE")
