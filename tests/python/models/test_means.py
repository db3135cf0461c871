"""Means without encoder and rules for combinations, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_models import request, training

from vcbench.core.errors import ModelError
from vcbench.models import registry
from vcbench.models.base import Perturbation
from vcbench.models.prediction import absences, check

#: Two genes. Mean profiles: control (1, 2), a (2, 0) of three cells, b (4, 4) of one, c (0, 2) of two, v (9, 9).
CELLS = {
    "control": [[0, 2], [2, 2]],
    "a": [[1, 0], [3, 0], [2, 0]],
    "b": [[4, 4]],
    "c": [[0, 1], [0, 3]],
    "v": [[9, 9]],
}


def fitted(name, data, settings=None, seed=0):
    model = registry.load(name)(settings or {})
    model.log = model.fit(data, seed, "cpu")
    return model


def predicted(name, data, wanted, settings=None, n_cells=1, seed=0):
    asked = request(data, wanted, n_cells=n_cells)
    found = fitted(name, data, settings, seed).predict(asked, seed, "cpu")
    check(found, asked)
    return found


@pytest.fixture
def data():
    return training(CELLS, ["a", "b", "c"], ["v"])


def test_cell_weighted_mean_weighs_cells(data):
    np.testing.assert_allclose(predicted("train_mean_cellw", data, ["x"]).values, [[10 / 6, 8 / 6]], rtol=1e-6)


def test_mean_of_groups_counts_the_control_as_one(data):
    np.testing.assert_allclose(predicted("ce_mean", data, ["x", "y"]).values, [[7 / 4, 8 / 4]] * 2)


def test_mean_of_changes_equals_the_train_mean_with_one_batch(data):
    found = predicted("train_mean_delta", data, ["x"]).values
    np.testing.assert_array_equal(found, predicted("train_mean", data, ["x"]).values)


def test_mean_of_changes_compares_cells_with_controls_of_their_batches(data):
    # control cells: (0, 2) in batch 1, (2, 2) in batch 2; a: two cells in batch 1, one in 2; b in 2; c in 1 and in 3
    batches = np.array(["1", "2", "1", "1", "2", "2", "1", "3", "1"], object)
    model = fitted("train_mean_delta", replace(data, batches=batches))
    a = [2 - (2 * 0 + 2) / 3, 0 - 2]
    b = [4 - 2, 4 - 2]
    c = [0 - 0, 1 - 2]  # its cell of batch 3 has no control to compare with
    np.testing.assert_allclose(model.tensors["profile"], np.array([1, 2]) + np.mean([a, b, c], axis=0))
    assert [row["cells_without_batch_control"] for row in model.log] == [0, 0, 1]
    batches = np.array(["1", "1", *"2222222"], object)
    with pytest.raises(ModelError, match="no training perturbation has cells in a batch with control"):
        fitted("train_mean_delta", replace(data, batches=batches))


def test_sparse_mean_is_the_mean_of_half_as_many_training_cells():
    rng = np.random.default_rng(0)
    cells = {name: 2.0 ** rng.permutation(10)[:, None] for name in "ab"} | {"control": [[0.5]], "v": [[0.25]]}
    data = training({**cells, "b": cells["b"] * 2.0**10}, ["a", "b"], ["v"])
    found = predicted("sparse_mean", data, ["x", "y"], {"pool": 100}, n_cells=17).values[:, 0]
    pool = np.concatenate([cells["a"], cells["b"] * 2.0**10])[:, 0]
    for value in found.astype(float) * 8:  # distinct powers of two: the sum says which cells it is made of
        assert value == sum(cell for cell in pool if int(value) & int(cell))
        assert bin(int(value)).count("1") == 8  # 17 // 2, each cell once, no control and no validation cell
    assert found[0] != found[1]
    again = predicted("sparse_mean", data, ["y", "x"], {"pool": 100}, n_cells=17).values[:, 0]
    np.testing.assert_array_equal(again[::-1], found)
    assert predicted("sparse_mean", data, ["x"], {"pool": 100}, n_cells=1).values[0, 0] in pool


def test_sparse_mean_draws_from_a_pool_and_says_when_it_is_too_small(data):
    model = fitted("sparse_mean", data, {"pool": 4})
    assert model.log == [{"train_cells": 6, "pool": 4}]
    with pytest.raises(ModelError, match="half of the 10 cells of x is more than the pool's 4"):
        model.predict(request(data, ["x"], n_cells=10), 0, "cpu")


def test_sparse_mean_is_as_noisy_as_its_cells():
    rng = np.random.default_rng(1)
    data = training({"a": rng.normal(5, 2, (400, 50)), "control": np.zeros((1, 50))}, ["a"])
    names = [f"x{i}" for i in range(40)]
    found = predicted("sparse_mean", data, names, {"pool": 400}, n_cells=40).values
    # 20 of 400 cells without replacement: variance 4 / 20 * (1 - 20 / 400)
    assert found.var(axis=0).mean() == pytest.approx(4 / 20 * 0.95, rel=0.1)


def with_class(name, value, column="severity"):
    return Perturbation(name, ("T",), (1,), {column: value})


def test_class_mean_averages_the_class_and_says_when_there_is_none():
    train = [with_class("a", "mild"), with_class("b", "severe"), with_class("c", "mild")]
    wanted = [with_class("w", "mild"), with_class("x", "severe"), with_class("y", ""), with_class("z", "other")]
    found = predicted("class_mean", training(CELLS, train, ["v"]), wanted, {"column": "severity", "bins": 3})
    np.testing.assert_array_equal(found.values, [[1, 1], [4, 4], [2, 2], [2, 2]])
    assert found.basis.tolist() == ["class mild", "class severe", "unannotated", "unseen_class"]


def test_class_mean_cuts_numbers_at_the_quantiles_of_the_training_variants():
    numbers = [0.1, 0.2, 0.3, 0.4, 0.8, 0.9]
    cells = {f"p{i}": [[i, 1]] for i in range(6)} | {"control": [[0, 0]]}
    train = [with_class(f"p{i}", str(number), "am") for i, number in enumerate(numbers)]
    wanted = [with_class(str(number), str(number), "am") for number in (0.0, 0.2, 0.25, 0.35, 0.5, 5)]
    found = predicted("class_mean", training(cells, train), wanted, {"column": "am", "bins": 3})
    low, high = np.quantile(numbers, [1 / 3, 2 / 3])
    assert 0.25 < low < 0.3 and 0.5 < high < 0.8
    assert found.values[:, 0].tolist() == [0.5, 0.5, 0.5, 2.5, 2.5, 4.5]
    assert found.basis[0] == "class q1"
    with pytest.raises(ModelError, match="'bad' is not a number"):
        predicted("class_mean", training(cells, train), [with_class("x", "bad", "am")], {"column": "am", "bins": 3})


def test_class_mean_keeps_few_numbers_as_classes():
    train = [with_class("a", "1"), with_class("b", "2"), with_class("c", "1")]
    found = predicted(
        "class_mean", training(CELLS, train), [with_class("x", "1")], {"column": "severity", "bins": 3}
    )  # fmt: skip
    np.testing.assert_array_equal(found.values, [[1, 1]])


def test_class_mean_without_annotation_names_the_columns_there_are():
    data = training(CELLS, [with_class("a", "x", "domain"), with_class("b", "y", "domain")])
    with pytest.raises(ModelError, match=r"no training perturbation has a value in column 'severity'.*domain"):
        fitted("class_mean", data, {"column": "severity", "bins": 3})


def test_random_genes_come_from_training_profiles_independently():
    rng = np.random.default_rng(0)
    cells = {f"p{i}": [rng.random(3000)] for i in range(4)} | {
        "control": [np.full(3000, 7.0)],
        "v": [np.full(3000, 9.0)],
    }
    data = training(cells, [f"p{i}" for i in range(4)], ["v"])
    found = predicted("sample_gene_random", data, ["x", "y"])
    columns = np.array([cells[f"p{i}"][0] for i in range(4)], np.float32)
    source = np.array([(columns == row).argmax(axis=0) for row in found.values])
    np.testing.assert_array_equal(np.take_along_axis(columns, source, axis=0), found.values)
    shares = np.array([np.bincount(row, minlength=4) / 3000 for row in source])
    np.testing.assert_allclose(shares, 0.25, atol=0.04)
    assert np.mean(source[0] == source[1]) == pytest.approx(0.25, abs=0.04)
    again = predicted("sample_gene_random", data, ["y", "x"]).values
    np.testing.assert_array_equal(again[::-1], found.values)
    assert (predicted("sample_gene_random", data, ["x", "y"], seed=1).values != found.values).mean() > 0.6


# ------------------------------------------------------------------------------------------------------- combinations

#: Profiles with control (1, 2, 3): changes A (+1, -2, 0), B (+2, 1, 0), A+C (5, 5, 5), held-out single D.
GENES = {"control": [[1, 2, 3]], "A": [[2, 0, 3]], "B": [[3, 3, 3]], "A+C": [[6, 7, 8]], "V": [[9, 9, 9]]}


def gene(name):
    return Perturbation(name, tuple(name.split("+")))


@pytest.fixture
def screen():
    return training(GENES, [gene("A"), gene("B"), gene("A+C")], [gene("V")])


@pytest.mark.parametrize(
    ("name", "delta"), [("additive", [3, -1, 0]), ("max_effect", [2, -2, 0])], ids=["additive", "max_effect"]
)
def test_rules_from_both_singles_and_the_reasons_without(screen, name, delta):
    wanted = [gene("A+B"), gene("A+D"), gene("C+D"), gene("D"), gene("A+V")]
    found = predicted(name, screen, wanted)
    np.testing.assert_array_equal(found.values, [np.add([1, 2, 3], delta)])
    assert found.labels.tolist() == ["A+B"]
    assert found.absent == {
        "A+D": "single D not in training", "C+D": "single C and D not in training", "D": "not a combination",
        "A+V": "single V not in training",
    }  # fmt: skip


def test_additive_of_three_genes_adds_three_changes():
    cells = {**GENES, "E": [[1, 2, 13]]}
    data = training(cells, [gene("A"), gene("B"), gene("E")])
    np.testing.assert_array_equal(predicted("additive", data, [gene("A+B+E")]).values, [[4, 1, 13]])


def test_nothing_to_predict_is_one_line_with_the_reasons(screen):
    wanted = [gene("D"), gene("F"), gene("A+D")]
    found = predicted("additive", screen, wanted)
    assert found.values.shape == (0, 3)
    assert absences(found, request(screen, wanted)) == (
        "no prediction for 3 of 3 test perturbations: not a combination (2); single D not in training (1)"
    )


def test_matching_mean_replaces_unseen_components_by_the_train_mean(screen):
    mean = np.mean([[2, 0, 3], [3, 3, 3], [6, 7, 8]], axis=0)
    found = predicted("matching_mean", screen, [gene("A+B"), gene("A+D"), gene("D"), gene("D+F")])
    expected = [[2.5, 1.5, 3], (np.array([2, 0, 3]) + mean) / 2, mean, mean]
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    assert found.basis.tolist() == [f"{text} components seen" for text in ("2 of 2", "1 of 2", "0 of 1", "0 of 2")]


@pytest.mark.parametrize("name", ["additive", "max_effect", "matching_mean"])
def test_stored_combinations_predict_the_same(screen, name, tmp_path):
    model = fitted(name, screen)
    model.save(tmp_path)
    wanted = request(screen, [gene("A+B")])
    again = registry.load(name).load(tmp_path).predict(wanted, 0, "cpu")
    np.testing.assert_array_equal(again.values, model.predict(wanted, 0, "cpu").values)


@pytest.mark.parametrize(
    "name", ["train_mean_cellw", "train_mean_delta", "ce_mean", "sparse_mean", "sample_gene_random", "matching_mean"]
)
def test_without_training_perturbations_there_is_no_mean(name):
    with pytest.raises(ModelError, match="no training perturbation"):
        fitted(name, training(CELLS, [], ["v"]), {"pool": 10})
