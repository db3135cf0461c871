"""The TRAIN and PREDICT steps on files: what models see, what is written, what happens to failures."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from toy_models import N_CELLS, N_GENES, ROLES, Screen

import vcbench.models
from vcbench.core import cli, h5ad
from vcbench.core.errors import InputError, ModelError
from vcbench.core.tables import read_tsv, write_tsv
from vcbench.models import predict_cli, train_cli
from vcbench.models.base import PredictionRequest
from vcbench.models.fold_data import FoldData
from vcbench.models.prediction import Prediction, check

SCLAMBDA = {
    "epochs": 1, "batch_size": 32, "hidden": 4, "latent": 2, "learning_rate": 5e-4, "lambda_mi": 200,
    "adversarial_epsilon": 0.001, "mine_weight_decay": 1e-4, "gradient_clip": 5.0, "validate_every": 1,
    "z_at_predict": "sample", "cells_per_perturbation": 0, "bench_compat": [],
}  # fmt: skip
SETTINGS = {
    "no_change": {}, "train_mean": {}, "position_mean": {}, "nearest": {"neighbours": [1, 2]},
    "linear": {"components": [2], "ridge": [1]}, "sclambda": SCLAMBDA,
}  # fmt: skip
BASELINES = [
    *(f"toy.variant.f1.{model}.none.none.s0" for model in ("no_change", "train_mean", "position_mean")),
    *(f"toy.variant.f1.{model}.random.alt.s0" for model in ("nearest", "linear")),
]
LAMBDA = "toy.variant.f1.sclambda.random.alt.s0"
TEST_1 = ["T~A1D", "T~A4I", "T~A6L"]

#: Models that misbehave, one fault each; the last four end the task.
BROKEN = """
import numpy as np
from vcbench.models.train_mean import TrainMean

class Broken(TrainMean):
    name = "{name}"
    def fit(self, data, seed, device):
        rows = super().fit(data, seed, device)
        {fit}
        return rows
    def predict(self, request, seed, device):
        p = super().predict(request, seed, device)
        values, labels, kind = p.values, p.labels, p.kind
        {predict}
        return type(p)(values, labels, kind)

MODEL = Broken
"""
FAULTS = {
    "crash": ("raise KeyError('weird')", "pass", "KeyError: 'weird'"),
    "diverged": ("self.tensors['profile'][3] = np.nan", "pass", "weight profile is not finite"),
    "silent": ("return []", "pass", "returned no training log"),
    "not_finite": ("pass", "values[1, 2] = np.nan", "not finite (NaN or infinite) in 1 rows, first T~A4I"),
    "absent": ("pass", "values, labels = values[:1], labels[:1]", "no prediction for 2 perturbations, first T~A4I"),
    "surplus": ("pass", "labels = labels.copy(); values = np.vstack([values, values[:1]]); "
                "labels = np.append(labels, 'control')", "nobody asked for: control"),
    "doubled": ("pass", "values = np.vstack([values, values]); labels = np.tile(labels, 2)",
                "2 predicted rows for T~A1D, expected 1 (profile)"),
    "genes": ("pass", "values = values[:, 1:]", "shape (3, 29), expected (rows, 30 genes)"),
    "few_cells": ("pass", "kind = 'cells'", f"1 predicted rows for T~A1D, expected {N_CELLS} (cells)"),
}  # fmt: skip
FATAL = {
    "host_memory": ("raise MemoryError", 137),
    "host_memory_of_torch": ("raise RuntimeError('DefaultCPUAllocator: can\\'t allocate memory')", 137),
    "gpu_memory": ("raise type('OutOfMemoryError', (RuntimeError,), {})('CUDA out of memory')", 97),
}


@pytest.fixture
def screen(tmp_path):
    return Screen(tmp_path / "toy")


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Put the misbehaving models where the registry finds them."""
    folder = tmp_path / "broken"
    folder.mkdir()
    faults = {name: (fit, predict) for name, (fit, predict, _) in FAULTS.items()}
    faults |= {name: (fit, "pass") for name, (fit, _) in FATAL.items()}
    for name, (fit, predict) in faults.items():
        (folder / f"{name}.py").write_text(BROKEN.format(name=name, fit=fit, predict=predict))
    monkeypatch.setattr(vcbench.models, "__path__", [*vcbench.models.__path__, str(folder)])
    yield
    for name in faults:
        sys.modules.pop(f"vcbench.models.{name}", None)


def settings_of(*models):
    return json.dumps({model: SETTINGS.get(model, {}) for model in models})


def train(screen, units, settings=None, out="models"):
    settings = settings or json.dumps(SETTINGS)
    train_cli.main(screen.arguments(units, settings, out))


def predict(screen, units, settings=None, out="predictions"):
    models = [str(path) for path in (screen.folder / "models").glob("*.model")] or ["none.model"]
    predict_cli.main(screen.arguments(units, settings or json.dumps(SETTINGS), out, "--models", *models))


def status(screen, unit, stage):
    folder = {"train": "models", "predict": "predictions"}[stage]
    return json.loads((screen.folder / folder / f"{unit}.{stage}.status.json").read_text())


def model_files(screen, out="models"):
    root = screen.folder / out
    return {
        str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and ".status" not in p.name
    }


# ------------------------------------------------------------------------------------------------ what a model may see


def source(screen):
    f = screen.folder
    return FoldData(f / "toy.h5ad", f / "toy.perturbations.tsv", f / "toy.variant.folds.tsv")


def test_training_data_holds_no_test_cell_and_no_held_out_control(screen):
    for fold in (1, 2):
        data = source(screen).training(fold)
        names = {f"T~{name}": roles[fold - 1] for name, roles in ROLES.items()}
        assert [p.id for p in data.train] == sorted(name for name, role in names.items() if role == "train")
        assert [p.id for p in data.valid] == [name for name, role in names.items() if role == "valid"]
        assert set(data.labels) == {name for name, role in names.items() if role in ("train", "valid")} | {"control"}
        obs = screen.data.obs
        kept = obs[obs.perturbation.isin(set(data.labels)) & (obs.control_half != "A")].sort_index()
        assert data.labels.tolist() == kept.perturbation.tolist()
        assert (data.labels == "control").sum() == 20
        expected = screen.data[kept.index]
        np.testing.assert_array_equal(data.expression.toarray(), expected.X.toarray())
        np.testing.assert_array_equal(data.counts.toarray(), expected.layers["counts"].toarray())
    assert data.train[0].genes == ("T",)
    assert data.train[0].positions == (1,)


def test_request_asks_for_the_test_perturbations_and_as_many_cells_as_were_measured(screen):
    request = source(screen).request(1)
    assert request.ids == TEST_1
    assert request.n_cells == (N_CELLS,) * 3
    assert source(screen).request(1, 5).n_cells == (5, 5, 5)
    controls = screen.data[screen.data.obs.control_half == "B"]
    expected = controls[np.sort(controls.obs_names)].X.toarray()
    np.testing.assert_array_equal(request.controls.toarray(), expected)


def test_canary_test_cells_and_held_out_controls_change_no_training_artefact(screen):
    units = [*BASELINES, LAMBDA]
    train(screen, units)
    before = model_files(screen)
    assert len(before) == 3 * len(units)
    hidden = screen.data.obs.perturbation.isin(TEST_1) | (screen.data.obs.control_half == "A")
    for matrix in ("X", "counts"):
        values = (screen.data.X if matrix == "X" else screen.data.layers["counts"]).toarray()
        values[hidden.to_numpy()] = values[hidden.to_numpy()][::-1] * 7 + 3
        if matrix == "X":
            screen.data.X = sp.csr_matrix(values)
        else:
            screen.data.layers["counts"] = sp.csr_matrix(values)
    screen.write()
    train(screen, units, out="again")
    assert model_files(screen, "again") == before
    visible = screen.data.obs.perturbation == "T~A1C"
    screen.data.X = sp.csr_matrix(screen.data.X.toarray() + visible.to_numpy()[:, None])
    screen.write()
    train(screen, units, out="changed")
    weights = [name for name in before if name.endswith("weights.safetensors")]
    same = [name for name in weights if model_files(screen, "changed")[name] == before[name]]
    assert [name.split(".")[3] for name in same] == ["no_change"]  # the canary can sing


def test_canary_vectors_of_test_perturbations_change_no_training_artefact(screen):
    units = [*BASELINES, LAMBDA]
    train(screen, units)
    changed = screen.vectors.copy()
    changed[[name in TEST_1 for name in screen.ids]] *= -5
    screen.write_vectors("random", screen.ids, changed)
    train(screen, units, out="again")
    assert model_files(screen, "again") == model_files(screen)


def test_order_of_cells_and_units_does_not_matter(screen):
    units = [*BASELINES, LAMBDA]
    train(screen, units)
    screen.data = screen.data[np.random.default_rng(1).permutation(screen.data.n_obs)].copy()
    screen.write()
    train(screen, units[::-1], out="again")
    assert model_files(screen, "again") == model_files(screen)


# ----------------------------------------------------------------------------------------------------- what is written


def test_train_and_predict_write_what_the_contract_says(screen):
    units = [*BASELINES, LAMBDA]
    train(screen, units)
    predict(screen, units)
    for unit in units:
        folder = screen.folder / "models" / f"{unit}.model"
        assert {path.name for path in folder.iterdir()} == {"weights.safetensors", "config.json", "log.tsv"}
        assert read_tsv(folder / "log.tsv")
        assert json.loads((folder / "config.json").read_text())["settings"] == SETTINGS[unit.split(".")[3]]
        data = h5ad.read(screen.folder / "predictions" / f"{unit}.predictions.h5ad")
        facts = h5ad.provenance(data)
        assert (facts["unit"], facts["fold"], facts["code"]) == (unit, 1, "c0de")
        kind, rows = ("cells", N_CELLS) if unit == LAMBDA else ("profile", 1)
        assert facts["kind"] == kind
        assert data.obs.perturbation.tolist() == [name for name in TEST_1 for _ in range(rows)]
        assert data.var_names.tolist() == [f"G{i}" for i in range(N_GENES)]
        assert data.X.dtype == np.float32
        assert data.obs_names.is_unique
        for stage in ("train", "predict"):
            facts = status(screen, unit, stage)
            assert (facts["state"], facts["reason"], facts["code"], facts["device"]) == ("ok", "", "c0de", "cpu")
            assert facts["wall_seconds"] >= 0
            assert {"numpy", "anndata", "safetensors"} <= facts["versions"].keys()
    basis = h5ad.read(screen.folder / "predictions" / f"{BASELINES[2]}.predictions.h5ad").obs.basis
    assert basis.tolist() == ["position", "train_mean", "train_mean"]


def test_predicted_train_mean_is_the_mean_of_the_files_cells(screen):
    train(screen, BASELINES[:2])
    predict(screen, BASELINES[:2])
    obs, values = screen.data.obs, screen.data.X.toarray().astype(float)
    means = [
        values[(obs.perturbation == f"T~{name}").to_numpy()].mean(0) for name in ("A1C", "A2E", "A2F", "A3G", "A5K")
    ]
    found = h5ad.read(screen.folder / "predictions" / f"{BASELINES[1]}.predictions.h5ad").X
    np.testing.assert_allclose(found, np.tile(np.mean(means, axis=0), (3, 1)), rtol=1e-6)
    control = values[(obs.control_half == "B").to_numpy()].mean(0)
    found = h5ad.read(screen.folder / "predictions" / f"{BASELINES[0]}.predictions.h5ad").X
    np.testing.assert_allclose(found, np.tile(control, (3, 1)), rtol=1e-6)


def test_cells_per_perturbation_is_a_setting(screen):
    settings = json.dumps({"sclambda": {**SCLAMBDA, "cells_per_perturbation": 4}})
    train(screen, [LAMBDA], settings)
    predict(screen, [LAMBDA], settings)
    data = h5ad.read(screen.folder / "predictions" / f"{LAMBDA}.predictions.h5ad")
    assert data.obs.perturbation.value_counts().to_dict() == dict.fromkeys(TEST_1, 4)


# ------------------------------------------------------------------------------------------------------------ failures


def unit_of(model):
    return f"toy.variant.f1.{model}.none.none.s0"


def test_failing_units_are_named_and_their_neighbours_go_on(screen, broken, capsys):
    units = [BASELINES[0], *map(unit_of, FAULTS), BASELINES[1]]
    settings = settings_of("no_change", "train_mean", *FAULTS)
    train(screen, units, settings)
    fitted = {path.name for path in (screen.folder / "models").glob("*.model*")}
    predict(screen, units, settings)
    for name, (_, _, message) in FAULTS.items():
        stage = "train" if name in ("crash", "diverged", "silent") else "predict"
        facts = status(screen, unit_of(name), stage)
        assert facts["state"] == "failed", name
        assert message in facts["reason"], name
        assert (f"{unit_of(name)}.model" in fitted) == (stage == "predict")
        assert not (screen.folder / "predictions" / f"{unit_of(name)}.predictions.h5ad").exists()
        if stage == "train":
            facts = status(screen, unit_of(name), "predict")
            assert facts["state"] == "blocked"
            assert "no fitted model" in facts["reason"]
    assert not any("partial" in name for name in fitted)
    for unit in BASELINES[:2]:
        assert status(screen, unit, "train")["state"] == status(screen, unit, "predict")["state"] == "ok"
        assert (screen.folder / "predictions" / f"{unit}.predictions.h5ad").exists()


def test_a_task_in_which_every_unit_fails_exits_1_with_one_line(screen, broken, capsys):
    units = [unit_of("crash"), unit_of("silent")]
    with pytest.raises(SystemExit) as exit_:
        cli.run(train_cli.main, screen.arguments(units, settings_of("crash", "silent"), "models"))
    assert exit_.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"vcb: error: {unit_of('crash')}: KeyError: 'weird' (and 1 more units)"
    )
    assert status(screen, unit_of("silent"), "train")["state"] == "failed"


@pytest.mark.parametrize("name", FATAL)
def test_running_out_of_memory_ends_the_task_with_the_code_the_engine_retries(screen, broken, name):
    with pytest.raises(SystemExit) as exit_:
        cli.run(train_cli.main, screen.arguments([unit_of(name)], settings_of(name), "models"))
    assert exit_.value.code == FATAL[name][1]


def test_validation_perturbations_are_predicted_apart_and_change_no_test_prediction(screen):
    """What a model says of T~A3H is what it would say of it as a test perturbation; the learning curve has none."""
    units, point = [*BASELINES, LAMBDA], "toy.variant.f1.linear.random.alt.s0.p500"
    train(screen, [*units, point])
    predict(screen, [*units, point])
    folds = screen.folder / "toy.variant.folds.tsv"
    swap = {"valid": "test", "test": "excluded"}
    rows = [{**row, "role": swap.get(row["role"], row["role"])} for row in read_tsv(folds)]
    write_tsv(folds, rows, list(rows[0]))
    predict(screen, units, out="swapped")
    for unit in units:
        found, expected = (
            h5ad.read(screen.folder / path)
            for path in (f"predictions/{unit}.validation.h5ad", f"swapped/{unit}.predictions.h5ad")
        )
        assert set(found.obs["perturbation"]) == {"T~A3H"}
        np.testing.assert_array_equal(found.X, expected.X)
        tested = h5ad.read(screen.folder / "predictions" / f"{unit}.predictions.h5ad")
        assert set(tested.obs["perturbation"]) == set(TEST_1)
        assert not (screen.folder / "swapped" / f"{unit}.validation.h5ad").exists()
    assert not (screen.folder / "predictions" / f"{point}.validation.h5ad").exists()


def test_validation_perturbations_without_vector_cost_no_test_prediction(screen):
    declared = {"T~A3H": "a perturbed gene is in no set of --gene_sets"}
    kept = [row for row, name in enumerate(screen.ids) if name not in declared]
    screen.write_vectors("random", [screen.ids[row] for row in kept], screen.vectors[kept], not_encoded=declared)
    unit = "toy.variant.f1.linear.random.alt.s0"
    train(screen, [unit])
    predict(screen, [unit])
    assert status(screen, unit, "predict")["state"] == "ok"
    assert not (screen.folder / "predictions" / f"{unit}.validation.h5ad").exists()
    assert (screen.folder / "predictions" / f"{unit}.predictions.h5ad").exists()


def test_a_repeated_run_leaves_no_old_model_or_prediction_behind(screen, broken):
    train(screen, BASELINES[:1])
    predict(screen, BASELINES[:1])
    # the same units, now unable to run: what an earlier run wrote must not pass for theirs
    settings = json.dumps({"no_change": {"surprise": 1}})
    with pytest.raises(ModelError, match="trained with other settings: surprise"):
        predict(screen, BASELINES[:1], settings)
    assert not list((screen.folder / "predictions").glob("*.h5ad"))
    shutil.copytree(
        screen.folder / "models" / f"{BASELINES[0]}.model", screen.folder / "models" / f"{unit_of('crash')}.model"
    )
    with pytest.raises(ModelError, match="weird"):
        train(screen, [unit_of("crash")], settings_of("crash"))
    assert not (screen.folder / "models" / f"{unit_of('crash')}.model").exists()


@pytest.mark.parametrize("model", ["nearest", "linear", "sclambda"])
def test_a_perturbation_without_vector_fails_its_unit_by_name(screen, model):
    unit, other = f"toy.variant.f1.{model}.random.alt.s0", f"toy.variant.f1.{model}.constant.alt.s0"
    screen.write_vectors("random", screen.ids[1:], screen.vectors[1:])
    train(screen, [unit, other])
    assert status(screen, unit, "train")["reason"] == "encoder random.alt has no vector for T~A1C"
    assert status(screen, other, "train")["state"] == "ok"


@pytest.mark.parametrize("model", ["nearest", "linear", "sclambda"])
def test_a_perturbation_that_its_encoder_cannot_encode_is_neither_trained_on_nor_predicted(screen, model):
    """T~A1D (test) and T~A1C (training) are declared: the first is counted as absent, the second as never measured."""
    reason = "a perturbed gene is in no set of --gene_sets"
    unit, other = f"toy.variant.f1.{model}.random.alt.s0", f"toy.variant.f1.{model}.constant.alt.s0"
    declared = {"T~A1D": reason, "T~A1C": reason}
    kept = [row for row, name in enumerate(screen.ids) if name not in declared]
    screen.write_vectors("random", [screen.ids[row] for row in kept], screen.vectors[kept], not_encoded=declared)
    train(screen, [unit, other])
    predict(screen, [unit, other])
    assert status(screen, unit, "train")["n_train"] == status(screen, other, "train")["n_train"] - 1
    found, every = (h5ad.read(screen.folder / "predictions" / f"{name}.predictions.h5ad") for name in (unit, other))
    assert set(found.obs["perturbation"]) == set(TEST_1) - {"T~A1D"} and set(every.obs["perturbation"]) == set(TEST_1)
    assert h5ad.provenance(found)["absent"] == {"T~A1D": reason}
    assert status(screen, unit, "predict")["note"] == f"no prediction for 1 of 3 test perturbations: {reason} (1)"
    assert not status(screen, other, "predict")["note"]
    # its cells do not count either
    before = model_files(screen)
    label = (screen.data.obs["perturbation"] == "T~A1C").to_numpy()
    screen.data.X = sp.csr_matrix(np.where(label[:, None], np.float32(7), screen.data.X.toarray()))
    screen.write()
    train(screen, [unit], out="again")
    changed = {name for name, content in model_files(screen, "again").items() if content != before[name]}
    assert not changed, changed


def test_an_encoder_that_can_encode_no_training_perturbation_fails_its_unit(screen):
    test = [row for row, name in enumerate(screen.ids) if name in TEST_1]
    declared = dict.fromkeys((name for name in screen.ids if name not in TEST_1), "why")
    screen.write_vectors("random", TEST_1, screen.vectors[test], not_encoded=declared)
    unit, other = (f"toy.variant.f1.nearest.{name}.alt.s0" for name in ("random", "constant"))
    train(screen, [unit, other])
    assert "encoder random has no vector for any of" in status(screen, unit, "train")["reason"]


def test_missing_or_broken_encodings_fail_their_unit(screen):
    units = [f"toy.variant.f1.nearest.{encoder}.alt.s0" for encoder in ("esm2_650m", "random", "constant")]
    screen.vectors[0, 0] = np.nan
    screen.write_vectors("random", screen.ids, screen.vectors)
    train(screen, units)
    assert status(screen, units[0], "train")["reason"] == "no encoding toy.esm2_650m.alt.h5ad among --encodings"
    assert status(screen, units[1], "train")["reason"] == "toy.random.alt.h5ad: the vector of T~A1C is not finite"


def test_an_unknown_model_fails_its_unit_with_the_nearest_name(screen):
    train(screen, [BASELINES[0], unit_of("train_mena")], settings_of("no_change", "train_mena"))
    reason = status(screen, unit_of("train_mena"), "train")["reason"]
    assert "unknown model 'train_mena'" in reason
    assert "did you mean 'train_mean'?" in reason


def test_check_refuses_unknown_kinds_and_unlabelled_rows():
    request = PredictionRequest((), (), sp.csr_matrix((1, 2)), ("a", "b"), None)
    with pytest.raises(ModelError, match="unknown kind of prediction 'means'"):
        check(Prediction(np.zeros((0, 2)), np.array([]), "means"), request)
    with pytest.raises(ModelError, match="1 predicted rows have 0 labels"):
        check(Prediction(np.zeros((1, 2)), np.array([]), "profile"), request)


# ----------------------------------------------------------------------------------------------------------- bad input


def test_cuda_without_a_gpu_is_an_error(screen, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no GPU is visible"):
        train_cli.main([*screen.arguments(BASELINES[:1], json.dumps(SETTINGS), "models"), "--device", "cuda"])


@pytest.mark.parametrize(
    ("units", "settings", "message"),
    [
        (["toy.variant.f1.no_change"], "{}", "not a unit id"),
        (["other.variant.f1.no_change.none.none.s0"], '{"no_change": {}}', "file does not belong to other.variant"),
        (["toy.position.f1.no_change.none.none.s0"], '{"no_change": {}}', r"expected toy\.position\.folds\.tsv"),
        ([BASELINES[0]] * 2, '{"no_change": {}}', "unit given twice"),
        ([BASELINES[0]], '{"no_change": ', "not valid JSON"),
        ([BASELINES[0]], "[]", "not a JSON object"),
        ([BASELINES[0]], "{}", "no settings of no_change"),
    ],
)
def test_wrong_command_lines_are_input_errors(screen, units, settings, message):
    with pytest.raises(InputError, match=message):
        train(screen, units, settings)


def test_a_fold_that_does_not_exist_fails_its_unit(screen):
    with pytest.raises(ModelError, match=r"no such fold .* found 9; expected \[1, 2\]"):
        train(screen, ["toy.variant.f9.no_change.none.none.s0"])


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_files_that_do_not_fit_together_are_input_errors(screen):
    folds = screen.folder / "toy.variant.folds.tsv"
    original = folds.read_text()
    for old, new, message in (
        ("T~A1C\t1\ttrain", "T~A1C\t1\ttrian", "line 2: unknown role"),
        ("T~A1C\t1", "T~A1C\tone", "fold is not a number"),
        ("T~A1C\t1", "T~A1D\t1", "perturbation twice in a fold"),
        ("T~A1C\t1", "T~W9W\t1", "1 missing, first T~W9W"),
    ):
        rewrite(folds, old, new)
        with pytest.raises(InputError, match=message):
            source(screen)
        folds.write_text(original)
    screen.data.obs.loc[screen.data.obs.perturbation == "T~A1C", "perturbation"] = "T~A1D"
    screen.write()
    with pytest.raises(InputError, match=r"toy\.h5ad: perturbations of toy\.variant\.folds\.tsv are missing"):
        source(screen)


def test_incomplete_datasets_are_input_errors(screen):
    obs = screen.data.obs
    obs.loc[obs.control_half == "B", "control_half"] = "A"
    screen.write()
    with pytest.raises(InputError, match="no training control cells"):
        source(screen)
    del screen.data.obs["control_half"]
    screen.write()
    with pytest.raises(InputError, match="missing obs control_half"):
        source(screen)


def test_options_are_read_before_anything_heavy_is_imported(project):
    code = f"""
import sys; sys.path.insert(0, {str(project / "bin")!r})
from vcbench.core import device
from vcbench.models import train_cli, predict_cli
assert not {{"numpy", "torch", "anndata", "pandas"}} & set(sys.modules)
import os
device.set_threads(3)
assert os.environ["OMP_NUM_THREADS"] == "3"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
