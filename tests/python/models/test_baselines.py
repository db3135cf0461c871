"""The baselines against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from toy_models import request, training, vectors

from vcbench.core.errors import ModelError
from vcbench.models import registry
from vcbench.models.base import Perturbation
from vcbench.models.profiles import mean_profile

#: Two genes. Mean profiles: control (1, 2), a (2, 0), b (4, 4), c (0, 2), v (9, 9).
CELLS = {
    "control": [[0, 2], [2, 2]],
    "a": [[1, 0], [3, 0], [2, 0]],
    "b": [[4, 4]],
    "c": [[0, 1], [0, 3]],
    "v": [[9, 9]],
}


def fitted(name, data, settings=None):
    model = registry.load(name)(settings or {})
    model.fit(data, 0, "cpu")
    return model


def predicted(name, data, wanted, encoded=None, settings=None):
    prediction = fitted(name, data, settings).predict(request(data, wanted, encoded), 0, "cpu")
    assert prediction.kind == "profile"
    assert prediction.values.dtype == np.float32
    assert prediction.labels.tolist() == [getattr(item, "id", item) for item in wanted]
    return prediction


def test_no_change_is_the_control_mean():
    data = training(CELLS, ["a", "b", "c"], ["v"])
    np.testing.assert_array_equal(predicted("no_change", data, ["x", "y"]).values, [[1, 2], [1, 2]])


def test_train_mean_weighs_perturbations_equally_and_leaves_out_validation_and_control():
    data = training(CELLS, ["a", "b", "c"], ["v"])
    np.testing.assert_array_equal(predicted("train_mean", data, ["x"]).values, [[2, 2]])  # by cells it would be 10/6


def test_train_mean_without_training_perturbation_is_an_error():
    with pytest.raises(ModelError, match="no training perturbation"):
        fitted("train_mean", training(CELLS, [], ["v"]))


def test_profiles_are_summed_in_float64():
    data = training({"control": [[0.1, 1.0]] * 20001}, [])
    # float32 summation of 20001 times 0.1 is wrong in the fifth digit
    assert mean_profile(data.expression, np.arange(20001))[0] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_position_mean_averages_the_variants_of_the_residue():
    train = [
        Perturbation("a", ("T",), (10,)), Perturbation("b", ("T",), (10, 20)), Perturbation("c", ("U",), (10,)),
    ]  # fmt: skip
    wanted = [
        Perturbation("w", ("T",), (10,)), Perturbation("x", ("T",), (20,)), Perturbation("y", ("U",), (10,)),
        Perturbation("z", ("T",), (30,)), Perturbation("m", ("T",), (20, 99)),
    ]  # fmt: skip
    prediction = predicted("position_mean", training(CELLS, train, ["v"]), wanted)
    np.testing.assert_array_equal(prediction.values, [[3, 2], [4, 4], [0, 2], [2, 2], [4, 4]])
    assert prediction.basis.tolist() == ["position", "position", "position", "train_mean", "position"]


# ------------------------------------------------------------------------------------------------------------ nearest

AXES = {"a": [1, 0], "b": [0, 1], "c": [-1, 0]}


def test_nearest_weighs_by_inverse_cosine_distance():
    data = training(CELLS, ["a", "b", "c"], encoded=vectors(AXES))
    encoded = vectors({"x": [3, 4]})  # cosine distances 1 - 0.6, 1 - 0.8, 1 + 0.6
    for k, weights in ((1, [0, 1, 0]), (2, [1 / 0.4, 1 / 0.2, 0]), (3, [1 / 0.4, 1 / 0.2, 1 / 1.6])):
        found = predicted("nearest", data, ["x"], encoded, {"neighbours": [k]}).values[0]
        w = np.array(weights) / sum(weights)
        np.testing.assert_allclose(found, w @ [[2, 0], [4, 4], [0, 2]], rtol=1e-6)


def test_nearest_same_direction_counts_alone_and_ties_count_together():
    data = training(CELLS, ["a", "b", "c"], encoded=vectors({"a": [1, 0], "b": [5, 0], "c": [0, 1]}))
    encoded = vectors({"x": [2, 0], "y": [1, 1]})
    found = predicted("nearest", data, ["x", "y"], encoded, {"neighbours": [1]}).values
    np.testing.assert_allclose(found[0], [3, 2])  # a and b, distance 0, although k = 1
    np.testing.assert_allclose(found[1], [2, 2])  # all three at the same distance
    found = predicted("nearest", data, ["x"], encoded, {"neighbours": [3]}).values
    np.testing.assert_allclose(found[0], [3, 2])  # c is a neighbour, but not at distance 0


def test_nearest_zero_vectors_are_near_each_other_only():
    data = training(CELLS, ["a", "b", "c"], encoded=vectors({"a": [0, 0], "b": [1, 0], "c": [0, 1]}))
    encoded = vectors({"x": [0, 0], "y": [1, 0.1]})
    found = predicted("nearest", data, ["x", "y"], encoded, {"neighbours": [1]}).values
    np.testing.assert_allclose(found, [[2, 0], [4, 4]])


@pytest.mark.parametrize("value", [0.0, 0.1])  # DIFF and ALT of a constant encoder
def test_nearest_on_a_constant_encoder_is_the_train_mean(value):
    rng = np.random.default_rng(0)
    cells = {f"p{i}": rng.random((3, 6)) for i in range(7)} | {"control": rng.random((3, 6))}
    names = [f"p{i}" for i in range(7)]
    encoded = vectors({name: [value] * 64 for name in [*names, "x"]})
    data = training(cells, names, encoded=encoded)
    found = predicted("nearest", data, ["x"], encoded, {"neighbours": [1, 2, 3]}).values
    np.testing.assert_array_equal(found, predicted("train_mean", data, ["x"]).values)


def test_nearest_chooses_k_by_leave_one_out():
    rng = np.random.default_rng(1)
    names = [f"p{i:02d}" for i in range(14)]
    table = {name: rng.normal(size=3) for name in names}
    cells = {name: [rng.random(5) + table[name][0]] for name in names} | {"control": [[0] * 5]}
    data = training(cells, names, encoded=vectors(table))
    candidates = [1, 2, 4, 8]
    profiles = {name: np.asarray(rows[0], np.float32).astype(float) for name, rows in cells.items()}

    def error(k):
        total = []
        for name in names:
            v = np.float32(table[name]).astype(float)
            others = []
            for other in names:
                u = np.float32(table[other]).astype(float)
                others += [(1 - u @ v / np.sqrt((u @ u) * (v @ v)), other)] if other != name else []
            near = sorted(others)[:k]
            weights = [1 / distance for distance, _ in near]
            mean = sum(w * profiles[other] for w, (_, other) in zip(weights, near, strict=True)) / sum(weights)
            total.append(np.mean((mean - profiles[name]) ** 2))
        return np.mean(total)

    expected = [error(k) for k in candidates]
    model = registry.load("nearest")({"neighbours": candidates})
    log = model.fit(data, 0, "cpu")
    np.testing.assert_allclose([row["leave_residue_out_mse"] for row in log], expected, rtol=1e-9)
    assert model.facts["neighbours"] == candidates[int(np.argmin(expected))]
    assert [row["chosen"] for row in log] == [k == model.facts["neighbours"] for k in candidates]


def test_nearest_with_one_training_perturbation_copies_it():
    data = training(CELLS, ["a"], encoded=vectors(AXES))
    found = predicted("nearest", data, ["x"], vectors({"x": [0, 1]}), {"neighbours": [3, 5]}).values
    np.testing.assert_allclose(found, [[2, 0]])


# -------------------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", ["nearest", "linear"])
def test_missing_vectors_are_errors_that_name_the_perturbation(name):
    settings = {"neighbours": [1], "components": [2], "ridge": [1]}
    with pytest.raises(ModelError, match=r"toy\.alt has no vector for b"):
        fitted(name, training(CELLS, ["a", "b", "c"], encoded=vectors({"a": [1, 0], "c": [0, 1]})), settings)
    data = training(CELLS, ["a", "b", "c"], encoded=vectors(AXES))
    model = fitted(name, data, settings)
    with pytest.raises(ModelError, match="no vector for y"):
        model.predict(request(data, ["x", "y"], vectors({"x": [1, 0]})), 0, "cpu")
    with pytest.raises(ModelError, match="3 dimensions, trained on 2"):
        model.predict(request(data, ["x"], vectors({"x": [1, 0, 0]})), 0, "cpu")
    with pytest.raises(ModelError, match="names no encoder"):
        fitted(name, training(CELLS, ["a", "b", "c"]), settings)


@pytest.mark.parametrize("name", ["no_change", "train_mean", "position_mean", "nearest", "linear"])
def test_saved_and_loaded_baselines_predict_the_same(name, tmp_path):
    settings = {"nearest": {"neighbours": [1, 2]}, "linear": {"components": [2], "ridge": [1]}}.get(name, {})
    data = training(CELLS, ["a", "b", "c"], ["v"], encoded=vectors(AXES))
    wanted = request(data, ["x"], vectors({"x": [3, 4]}))
    model = fitted(name, data, settings)
    model.save(tmp_path)
    again = registry.load(name).load(tmp_path)
    assert again.settings == settings
    expected = model.predict(wanted, 0, "cpu").values
    np.testing.assert_array_equal(again.predict(wanted, 0, "cpu").values, expected)


def test_other_genes_are_refused():
    data = training(CELLS, ["a", "b"])
    other = training({"control": [[1, 2, 3]]}, [])
    with pytest.raises(ModelError, match=r"other genes \(2\) than the request's \(3\)"):
        fitted("train_mean", data).predict(request(other, ["x"]), 0, "cpu")
