"""scLAMBDA as a fitted unit: learning, selection, seeds, storage, switches."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from toy_models import request, training, vectors

torch = pytest.importorskip("torch")

from vcbench.core.errors import ModelError  # noqa: E402
from vcbench.models import sclambda_training  # noqa: E402
from vcbench.models.sclambda import MODEL  # noqa: E402

SETTINGS = {
    "epochs": 3, "batch_size": 16, "hidden": 8, "latent": 3, "learning_rate": 5e-4, "lambda_mi": 200,
    "adversarial_epsilon": 0.001, "mine_weight_decay": 1e-4, "gradient_clip": 5.0, "validate_every": 1,
    "z_at_predict": "sample", "cells_per_perturbation": 0, "bench_compat": [],
}  # fmt: skip


def toy(n=8, genes=12, width=4, cells=10, seed=0):
    """n perturbations, the last one for validation, and vectors for two more (x, y)."""
    rng = np.random.default_rng(seed)
    names = [f"p{i}" for i in range(n)]
    table = {name: rng.normal(size=width) for name in [*names, "x", "y"]}
    law = rng.normal(size=(width, genes))
    rows = {name: np.abs(2 + table[name] @ law + rng.normal(0, 0.3, (cells, genes))) for name in names}
    rows["control"] = np.abs(2 + rng.normal(0, 0.3, (2 * cells, genes)))
    encoded = vectors(table)
    return training(rows, names[:-1], names[-1:], encoded), encoded


def fitted(data, seed=0, **changes):
    model = MODEL({**SETTINGS, **changes})
    log = model.fit(data, seed, "cpu")
    return model, log


def stored(model, folder):
    folder.mkdir()
    model.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_learns_a_law_that_vectors_determine():
    rng = np.random.default_rng(7)
    names = [f"p{i:02d}" for i in range(40)]
    table = {name: rng.normal(size=3) for name in names}
    law = rng.normal(size=(3, 30)) * 0.5
    rows = {name: 2 + table[name] @ law + rng.normal(0, 0.3, (25, 30)) for name in names}
    rows["control"] = 2 + rng.normal(0, 0.3, (100, 30))
    train, valid, test = names[:28], names[28:32], names[32:]
    data = training(rows, train, valid, vectors(table))
    settings = {"epochs": 40, "batch_size": 50, "hidden": 32, "latent": 8, "learning_rate": 3e-3, "validate_every": 5}
    model, log = fitted(data, **settings)
    prediction = model.predict(request(data, test, vectors(table), n_cells=50), 0, "cpu")
    found = np.array([prediction.values[prediction.labels == name].mean(axis=0) for name in test])
    truth = np.array([2 + table[name] @ law for name in test])
    mean = data.profiles.train_mean(train)
    assert np.mean((found - truth) ** 2) < 0.3 * np.mean((mean - truth) ** 2)
    assert log[-1]["expression_loss"] < 0.5 * log[0]["expression_loss"]
    best = max(row["validation_pearson"] for row in log if row["validation_pearson"] == row["validation_pearson"])
    assert model.facts["kept_validation_pearson"] == best > 0.8


def test_same_seed_same_bytes_and_the_global_random_state_plays_no_part(tmp_path):
    data, _ = toy()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, log = fitted(data)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    second, again = fitted(data)
    other, _ = fitted(data, seed=1)
    assert log == again
    files = [stored(model, tmp_path / name) for name, model in (("a", first), ("b", second), ("c", other))]
    assert files[0] == files[1]
    assert files[0]["weights.safetensors"] != files[2]["weights.safetensors"]


def test_dense_and_blockwise_training_agree_exactly(tmp_path, monkeypatch):
    data, _ = toy()
    dense = stored(fitted(data)[0], tmp_path / "dense")
    monkeypatch.setattr(sclambda_training.CentredCells.__init__, "__defaults__", (0,))
    monkeypatch.setattr(sclambda_training, "BLOCK", 32)
    assert stored(fitted(data)[0], tmp_path / "blocks") == dense


def test_fitted_weights_lie_aligned_in_memory_of_their_own():
    # else a fitted and a loaded model, equal bit for bit, would predict numbers that differ in the last bit
    model, _ = fitted(toy()[0])
    pointers = [parameter.data_ptr() for parameter in model._net.parameters()]
    assert all(pointer % 64 == 0 for pointer in pointers)
    assert all(p.untyped_storage().nbytes() == p.numel() * 4 for p in model._net.parameters())


def test_mu0_is_the_mean_of_the_controls_the_model_may_see(tmp_path):
    from safetensors.numpy import load_file

    data, _ = toy()
    stored(fitted(data)[0], tmp_path / "m")
    controls = data.expression[np.flatnonzero(data.labels == "control")].toarray().astype(float)
    np.testing.assert_allclose(load_file(tmp_path / "m" / "weights.safetensors")["mu0"], controls.mean(0), rtol=1e-6)


def test_validation_cells_do_not_train(tmp_path):
    data, _ = toy()
    changed, _ = toy()
    changed.expression.data[np.repeat(changed.labels == "p7", np.diff(changed.expression.indptr))] *= 3
    settings = {"epochs": 2, "validate_every": 2}  # validated once, at the end: selection has no choice
    weights = [
        stored(fitted(source, **settings)[0], tmp_path / str(i))["weights.safetensors"]
        for i, source in enumerate((data, changed))
    ]
    assert weights[0] == weights[1]


def test_the_best_validated_epoch_is_kept(monkeypatch, tmp_path):
    data, _ = toy()
    scores = iter([-0.9, -0.2, -0.5])  # all negative: a start value of 0 would keep none
    monkeypatch.setattr(sclambda_training, "validate", lambda *_: next(scores))
    model, log = fitted(data)
    assert [row["validation_pearson"] for row in log] == [-0.9, -0.2, -0.5]
    assert (model.facts["kept_epoch"], model.facts["kept_validation_pearson"]) == (2, -0.2)
    monkeypatch.setattr(sclambda_training, "validate", lambda *_: 0.1)
    two, _ = fitted(data, epochs=2, validate_every=2)
    name = "weights.safetensors"
    assert stored(model, tmp_path / "a")[name] == stored(two, tmp_path / "b")[name]


def test_validation_compares_deltas_against_the_training_controls(monkeypatch):
    data, encoded = toy()
    seen = []
    monkeypatch.setattr(sclambda_training, "validate", lambda net, task, *_: seen.append(task) or 0.0)
    fitted(data, epochs=1)

    def mean(label):
        return data.expression[np.flatnonzero(data.labels == label)].toarray().astype(float).mean(axis=0)

    # raw profiles would correlate through the genes' levels, whatever the model predicts
    np.testing.assert_allclose(seen[0].valid_deltas, [mean("p7") - mean("control")], rtol=1e-9)
    np.testing.assert_array_equal(seen[0].valid_vectors, encoded.of(["p7"]))
    assert len(seen[0].controls) == (data.labels == "control").sum()


def test_without_validation_perturbations_the_last_epoch_is_kept():
    data, _ = toy()
    model, log = fitted(replace(data, valid=()))
    assert model.facts["kept_epoch"] == 3
    assert model.facts["kept_validation_pearson"] is None
    assert all(np.isnan(row["validation_pearson"]) for row in log)


def test_validation_happens_every_n_epochs_and_at_the_end():
    data, _ = toy()
    _, log = fitted(data, epochs=5, validate_every=2)
    assert [row["epoch"] for row in log if not np.isnan(row["validation_pearson"])] == [2, 4, 5]


def test_learning_rate_falls_by_five_every_thirty_epochs(monkeypatch):
    rates = []

    class Recorder(sclambda_training.FlatAdam):
        def step(self):
            rates.append(self.rate)
            super().step()

    monkeypatch.setattr(sclambda_training, "FlatAdam", Recorder)
    data, _ = toy(n=2, cells=2)
    fitted(data, epochs=61, validate_every=61)
    # one batch of six cells per epoch, two optimisers
    assert len(rates) == 2 * 61
    np.testing.assert_allclose(rates, np.repeat([5e-4] * 30 + [1e-4] * 30 + [2e-5], 2))


def test_divergence_is_an_error():
    data, _ = toy()
    with pytest.raises(ModelError, match="diverged in epoch"):
        fitted(data, learning_rate=1e30)


# ------------------------------------------------------------------------------------------------------------ predict


def test_cells_per_perturbation_and_independence_of_the_rest_of_the_request():
    data, encoded = toy()
    model, _ = fitted(data)
    both = model.predict(request(data, ["x", "y"], encoded, n_cells=7), 0, "cpu")
    assert (both.kind, both.values.shape, both.values.dtype) == ("cells", (14, 12), np.float32)
    assert both.labels.tolist() == ["x"] * 7 + ["y"] * 7
    alone = model.predict(request(data, ["y"], encoded, n_cells=7), 0, "cpu")
    np.testing.assert_array_equal(alone.values, both.values[7:])
    other = model.predict(request(data, ["y"], encoded, n_cells=7), 1, "cpu")
    assert not np.array_equal(other.values, alone.values)


def test_more_cells_than_controls_and_the_mean_latent_state():
    data, encoded = toy()
    model, _ = fitted(data, z_at_predict="mean")
    n = (data.labels == "control").sum()
    values = model.predict(request(data, ["x"], encoded, n_cells=2 * n), 0, "cpu").values
    assert len(np.unique(values[:n], axis=0)) == n  # every control once
    np.testing.assert_array_equal(values[:n], values[n:])  # then all of them again
    other = model.predict(request(data, ["x"], encoded, n_cells=n), 5, "cpu").values
    np.testing.assert_allclose(np.sort(other, axis=0), np.sort(values[:n], axis=0), rtol=1e-5, atol=1e-6)


def test_prediction_is_mu0_plus_the_decoded_control():
    data, encoded = toy()
    model, _ = fitted(data, z_at_predict="mean")
    wanted = request(data, ["x"], encoded, n_cells=20)
    found = model.predict(wanted, 0, "cpu").values
    net, mu0 = model._net, torch.from_numpy(model._centre)
    with torch.no_grad():
        mean, _ = net.Encoder_x(torch.from_numpy(wanted.controls.toarray()) - mu0)
        expected = net.Decoder_x(mean + net.Encoder_p(torch.from_numpy(encoded.of(["x"])))) + mu0
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), rtol=1e-4, atol=1e-5)


READER = """
import sys, numpy as np
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from pathlib import Path
from test_sclambda import toy
from toy_models import request
from vcbench.models.sclambda import MODEL
data, encoded = toy()
values = MODEL.load(Path(sys.argv[3])).predict(request(data, ["x", "y"], encoded, n_cells=9), 4, "cpu").values
np.save(sys.argv[4], values)
"""


def test_loaded_in_a_new_process_predicts_the_same(tmp_path, project):
    data, encoded = toy()
    model, _ = fitted(data)
    expected = model.predict(request(data, ["x", "y"], encoded, n_cells=9), 4, "cpu").values
    stored(model, tmp_path / "m")
    tests = project / "tests" / "python" / "models"
    arguments = [str(project / "bin"), str(tests), str(tmp_path / "m"), str(tmp_path / "values.npy")]
    subprocess.run([sys.executable, "-c", READER, *arguments], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "values.npy"), expected)


def test_loading_accounts_for_every_tensor(tmp_path):
    from safetensors.numpy import load_file, save_file

    model, _ = fitted(toy()[0])
    stored(model, tmp_path / "m")
    path = tmp_path / "m" / "weights.safetensors"
    good = load_file(path)
    broken = [
        ({k: v for k, v in good.items() if k != "MINE.FC_output.bias"}, r"missing MINE\.FC_output\.bias"),
        ({**good, "extra": np.zeros(1, np.float32)}, "unexpected extra"),
        ({**good, "mu0": np.zeros(3, np.float32)}, r"mu0 has shape \(3,\), expected \(12,\)"),
    ]
    for tensors, message in broken:
        save_file(tensors, path)
        with pytest.raises(ModelError, match=message):
            MODEL.load(tmp_path / "m")
    path.write_bytes(b"no safetensors")
    with pytest.raises(ModelError, match="not a readable model folder"):
        MODEL.load(tmp_path / "m")


# -------------------------------------------------------------------------------------------------------- the switches


def without(encoded, name):
    return vectors({other: encoded.of([other])[0] for other in encoded.ids if other != name})


@pytest.mark.parametrize("name", ["p3", "p7"])  # a training and a validation perturbation
def test_a_missing_vector_is_an_error_that_names_the_perturbation(name):
    data, encoded = toy()
    with pytest.raises(ModelError, match=f"no vector for {name}"):
        fitted(replace(data, vectors=without(encoded, name)))


def test_a_missing_vector_at_prediction_is_an_error():
    data, encoded = toy()
    model, _ = fitted(data)
    with pytest.raises(ModelError, match="no vector for y"):
        model.predict(request(data, ["x", "y"], without(encoded, "y")), 0, "cpu")


def test_missing_as_control_does_what_it_names_and_nothing_else(tmp_path):
    data, encoded = toy()
    name, switch = "weights.safetensors", {"bench_compat": ["sclambda.missing_as_control"]}
    plain = stored(fitted(data)[0], tmp_path / "plain")
    idle_model, _ = fitted(data, **switch)
    assert stored(idle_model, tmp_path / "idle")[name] == plain[name]  # nothing missing, nothing changed
    assert idle_model.facts["treated_as_control"] == []

    missing = replace(data, vectors=without(encoded, "p3"))
    table = {other: encoded.of([other])[0] for other in encoded.ids}
    zeroed = replace(data, vectors=vectors({**table, "p3": np.zeros(4)}))
    model, _ = fitted(missing, **switch)
    assert stored(model, tmp_path / "missing")[name] == stored(fitted(zeroed)[0], tmp_path / "zero")[name]
    assert model.facts["treated_as_control"] == ["p3"]
    assert model.facts["bench_compat"] == ["sclambda.missing_as_control"]
    wanted = request(data, ["y"], without(encoded, "y"), n_cells=5)
    zero = request(data, ["y"], vectors({"y": np.zeros(4)}), n_cells=5)
    found = model.predict(wanted, 0, "cpu").values
    np.testing.assert_array_equal(found, model.predict(zero, 0, "cpu").values)
    every, _ = fitted(missing, bench_compat=["all"])
    assert every.facts["treated_as_control"] == ["p3"]
