"""Tabular regressions against scikit-learn and brute force, and what all of them must do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_models import request, training, vectors

from vcbench.core import catalogue
from vcbench.core.errors import ModelError
from vcbench.models import registry
from vcbench.models.base import Perturbation
from vcbench.models.gaussian_process import search
from vcbench.models.prediction import check
from vcbench.models.random_forest import tables, weights
from vcbench.models.selection import inner_folds

N, GENES, WIDTH = 24, 30, 9
#: Two variants at most residues, so that inner folds have something to keep together.
TRAIN = [Perturbation(f"p{i:02d}", ("T",), (i * 2 // 3,)) for i in range(N)]
NAMES = [item.id for item in TRAIN]
NEW = [Perturbation(name, ("T",), (99,)) for name in "xyz"]
MODELS = ("ridge", "elastic_net", "random_forest", "gaussian_process")
SMALL = {"random_forest": {"trees": 30, "selection_trees": 5, "min_samples_leaf": [1, 5], "max_features": [0.3, 1.0]}}


def settings(name, **changes):
    entry = catalogue.load("models")["entries"][name]["settings"]
    return {**{key: spec["default"] for key, spec in entry.items()}, **SMALL.get(name, {}), **changes}


@pytest.fixture(scope="module")
def law():
    """A screen that follows the vectors, with noise."""
    rng = np.random.default_rng(3)
    table = {name: rng.normal(size=WIDTH) * np.linspace(1, 3, WIDTH) for name in [*NAMES, "x", "y", "z"]}
    slopes = rng.normal(size=(WIDTH, 4)) @ rng.normal(size=(4, GENES)) * 0.1
    base = rng.random(GENES) + 3
    cells = {name: base + table[name] @ slopes + rng.normal(0, 0.3, (4, GENES)) for name in NAMES}
    cells["control"] = base + rng.normal(0, 0.3, (9, GENES))
    truth = np.array([base + table[name] @ slopes for name in "xyz"])
    return training(cells, TRAIN, encoded=vectors(table)), vectors(table), truth


def fitted(name, data, seed=0, **changes):
    model = registry.load(name)(settings(name, **changes))
    model.log = model.fit(data, seed, "cpu")
    return model


def predicted(model, data, encoded, wanted=NEW):
    asked = request(data, wanted, encoded)
    found = model.predict(asked, 0, "cpu")
    check(found, asked)
    return found


def arrays(data, encoded):
    x, new = (source.of(ids).astype(float) for source, ids in ((data.encoded(), NAMES), (encoded, list("xyz"))))
    return x, new, data.profiles.of(NAMES)


def sklearn_components(profiles, components):
    from sklearn.decomposition import PCA

    return PCA(components, svd_solver="full").fit(profiles)


# -------------------------------------------------------------------------------------------------------- what they are


def ridge_by_scikit_learn(x, profiles, new, components, penalty):
    from sklearn.linear_model import Ridge

    goal = sklearn_components(profiles, min(components, len(profiles) - 1))
    alpha = penalty * np.mean(np.sum((x - x.mean(axis=0)) ** 2, axis=1))
    scores = Ridge(alpha).fit(x, goal.transform(profiles)).predict(new)
    return goal.inverse_transform(scores.reshape(len(new), -1))


@pytest.mark.parametrize(("components", "penalty"), [(3, 0.1), (50, 10.0), (1, 0.001)])
def test_ridge_is_ridge_on_principal_components(law, components, penalty):
    data, encoded, _ = law
    x, new, profiles = arrays(data, encoded)
    found = predicted(fitted("ridge", data, components=[components], penalty=[penalty]), data, encoded)
    np.testing.assert_allclose(found.values, ridge_by_scikit_learn(x, profiles, new, components, penalty), rtol=1e-5)


def elastic_net_by_scikit_learn(x, profiles, new, alpha, l1_ratio):
    from sklearn.linear_model import ElasticNet

    inputs = sklearn_components(x, min(len(x) - 1, x.shape[1]))
    scale = np.sqrt(np.mean(np.sum((x - x.mean(axis=0)) ** 2, axis=1)))
    nets = [
        ElasticNet(alpha=alpha, l1_ratio=l1_ratio, tol=1e-10, max_iter=100000).fit(inputs.transform(x) / scale, column)
        for column in profiles.T
    ]
    return np.array([net.predict(inputs.transform(new) / scale) for net in nets]).T


@pytest.mark.parametrize(("alpha", "l1_ratio"), [(0.001, 0.5), (0.01, 0.9), (0.1, 0.1)])
def test_elastic_net_is_the_minimum_scikit_learn_finds(law, alpha, l1_ratio):
    data, encoded, _ = law
    x, new, profiles = arrays(data, encoded)
    model = fitted("elastic_net", data, alpha=[alpha], l1_ratio=[l1_ratio])
    expected = elastic_net_by_scikit_learn(x, profiles, new, alpha, l1_ratio)
    np.testing.assert_allclose(predicted(model, data, encoded).values, expected, rtol=1e-5, atol=1e-6)
    zeros = np.mean(model.tensors["coefficients"] == 0)
    assert 0 < zeros < 1 or alpha * l1_ratio < 0.001
    assert np.ptp(expected, axis=0).max() > 1e-3  # not just the mean


@pytest.mark.parametrize(
    ("name", "dense", "grid"),
    [
        ("ridge", ridge_by_scikit_learn, {"components": [2, 5], "penalty": [0.01, 1.0]}),
        ("elastic_net", elastic_net_by_scikit_learn, {"alpha": [0.001, 0.03], "l1_ratio": [0.1, 0.9]}),
    ],
)
def test_cross_validation_equals_brute_force_and_picks_its_minimum(law, name, dense, grid):
    data, encoded, _ = law
    x, _, profiles = arrays(data, encoded)
    model = fitted(name, data, seed=5, **grid)
    folds = inner_folds(TRAIN, 5)
    first, second = grid
    assert len(model.log) == 4
    for row in model.log:
        errors = np.empty_like(profiles)
        for fold in range(5):
            held = folds == fold
            errors[held] = profiles[held] - dense(x[~held], profiles[~held], x[held], row[first], row[second])
        assert row["cross_validation_mse"] == pytest.approx(np.mean(errors**2), rel=1e-6)
    best = min(model.log, key=lambda row: row["cross_validation_mse"])
    assert [row for row in model.log if row["chosen"]] == [best]
    assert (model.facts[first], model.facts[second]) == (best[first], best[second])


@pytest.mark.parametrize(("leaf", "share"), [(1, 1.0), (3, 0.4)])
def test_forest_of_tables_predicts_as_scikit_learn_does(leaf, share):
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(0)
    x, y, new = rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=(40, 3)), rng.normal(size=(15, 6))
    new = new.astype(np.float32)
    new[:4] = x[:4]
    forest = RandomForestRegressor(25, min_samples_leaf=leaf, max_features=share, random_state=1).fit(x, y)
    found = weights(tables(forest, x), new)
    np.testing.assert_allclose(found @ y, forest.predict(new), rtol=1e-10)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found >= 0).all()


def test_random_forest_predicts_whole_profiles_with_the_weights_of_its_trees(law):
    from sklearn.ensemble import RandomForestRegressor

    from vcbench.core.seeds import derive

    data, encoded, _ = law
    x, new, profiles = arrays(data, encoded)
    chosen = {"min_samples_leaf": [3], "max_features": [0.5], "components": 1000}
    model = fitted("random_forest", data, seed=2, **chosen)
    side = model.tensors["vector_axes"]
    scores, fresh = ((rows - x.mean(axis=0)) @ side.T for rows in (x, new))
    goal = sklearn_components(profiles, N - 1)
    forest = RandomForestRegressor(
        30, min_samples_leaf=3, max_features=0.5, random_state=derive(2, "random forest") % 2**32
    ).fit(scores.astype(np.float32), goal.transform(profiles))
    # with all components the leaves' means of scores are those of the profiles; signs of components do not matter
    expected = goal.inverse_transform(forest.predict(fresh.astype(np.float32)))
    np.testing.assert_allclose(predicted(model, data, encoded).values, expected, rtol=1e-5)


def test_gaussian_process_equals_scikit_learn_at_its_settings(law):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    data, encoded, _ = law
    x, new, profiles = arrays(data, encoded)
    model = fitted("gaussian_process", data, components=3)
    goal = sklearn_components(profiles, 3)
    distances = np.linalg.norm(x[:, None] - x, axis=2)
    unit = np.median(distances[np.triu_indices(N, 1)])
    mean, variance = np.tile(profiles.mean(axis=0), (3, 1)), np.zeros((3, GENES))
    for number, row in enumerate(model.log):
        v, r, length = row["signal_variance"], row["noise"], row["length_scale"] * unit
        process = GaussianProcessRegressor(
            ConstantKernel(v) * RBF(length) + WhiteKernel(v * r), optimizer=None, alpha=0
        ).fit(x, goal.transform(profiles)[:, number])
        assert process.log_marginal_likelihood_value_ == pytest.approx(row["log_marginal_likelihood"], rel=1e-6)
        centre, spread = process.predict(new, return_std=True)
        mean += centre[:, None] * goal.components_[number]
        variance += (spread**2)[:, None] * goal.components_[number] ** 2
    variance += np.mean((profiles - goal.inverse_transform(goal.transform(profiles))) ** 2, axis=0)
    found = predicted(model, data, encoded)
    np.testing.assert_allclose(found.values, mean, rtol=1e-5)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-4)


def test_gaussian_process_search_is_the_best_of_the_grid():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(20, 2))
    squared = np.sum((points[:, None] - points) ** 2, axis=2)
    scores = np.column_stack([np.sin(points[:, 0]), rng.normal(size=20)])
    scores -= scores.mean(axis=0)
    lengths, noises = [4.0, 1.0, 0.5], [10.0, 1.0, 0.1]

    def likelihood(y, length, noise):
        from scipy.stats import multivariate_normal

        kernel = np.exp(-squared / (2 * length**2)) + noise * np.eye(20)
        v = y @ np.linalg.solve(kernel, y) / 20
        return multivariate_normal(np.zeros(20), v * kernel).logpdf(y)

    found = search(squared, scores, lengths, noises)
    for number in range(2):
        grid = {(a, b): likelihood(scores[:, number], a, b) for a in lengths for b in noises}
        best = max(grid, key=grid.get)
        assert (found.length[number], found.noise[number]) == best
        assert found.likelihood[number] == pytest.approx(grid[best], rel=1e-9)


def test_gaussian_process_knows_how_wrong_it_is():
    rng = np.random.default_rng(6)
    names = [f"p{i:03d}" for i in range(240)]
    points = rng.uniform(-3, 3, size=(240, 2))
    table = dict(zip(names, points, strict=True))
    waves = np.column_stack([np.sin(points[:, 0]), np.cos(points[:, 1]), np.sin(points.sum(axis=1))])
    profiles = 5 + waves @ rng.normal(size=(3, 25)) + rng.normal(0, 0.3, (240, 25))
    cells = {name: profile[None] for name, profile in zip(names, profiles, strict=True)} | {"control": np.ones((2, 25))}
    data = training(cells, names[:120], encoded=vectors(table))
    found = predicted(fitted("gaussian_process", data), data, vectors(table), names[120:])
    standardised = (profiles[120:] - found.values) / np.sqrt(found.variance)
    assert np.mean(standardised**2) == pytest.approx(1, abs=0.2)
    assert np.mean(np.abs(standardised) < 1.96) == pytest.approx(0.95, abs=0.025)
    far = predicted(fitted("gaussian_process", data), data, vectors({"x": [40, 40]}), ["x"])
    assert (far.variance[0] > 2 * found.variance.mean(axis=0)).mean() > 0.8


# ---------------------------------------------------------------------------------------------------- what they all do


@pytest.mark.parametrize("value", [0.0, 0.1])
@pytest.mark.parametrize("name", MODELS)
def test_a_constant_encoder_gives_the_train_mean(law, name, value):
    data, _, _ = law
    encoded = vectors({key: [value] * 64 for key in [*NAMES, "x", "y", "z"]})
    mean = data.profiles.train_mean(NAMES)
    if name != "random_forest":
        found = predicted(fitted(name, replace(data, vectors=encoded, cache={})), data, encoded).values
        np.testing.assert_allclose(found, np.tile(mean, (3, 1)), rtol=1e-6)
        return
    # a tree predicts the mean of N draws with replacement: over seeds, sd / sqrt(N trees) around the train mean
    models = [fitted(name, replace(data, vectors=encoded), seed, selection_trees=1) for seed in range(30)]
    found = np.array([predicted(model, data, encoded).values for model in models])
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    errors = (found[:, 0] - mean) / (data.profiles.of(NAMES).std(axis=0) / np.sqrt(N * 30))
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(1, abs=0.3)
    assert np.abs(errors.mean(axis=0)).max() < 1


@pytest.mark.parametrize("name", MODELS)
def test_they_learn_a_law_of_the_vectors(law, name):
    rng = np.random.default_rng(8)
    names = [f"p{i:03d}" for i in range(150)]
    table = {key: rng.normal(size=3) for key in names}
    slopes = rng.normal(size=(3, GENES))
    cells = {key: (table[key] @ slopes + rng.normal(0, 0.2, GENES))[None] for key in names}
    data = training({**cells, "control": np.zeros((2, GENES))}, names[:120], encoded=vectors(table))
    found = predicted(fitted(name, data), data, vectors(table), names[120:]).values
    truth = np.array([table[key] @ slopes for key in names[120:]])
    mean = data.profiles.train_mean(names[:120])
    assert np.mean((found - truth) ** 2) < 0.35 * np.mean((mean - truth) ** 2)


@pytest.mark.parametrize("name", MODELS)
def test_the_unit_of_the_vectors_does_not_matter(law, name):
    data, encoded, _ = law
    bigger = vectors({key: row * 1024 for key, row in zip(encoded.ids, encoded.matrix, strict=True)})
    before = predicted(fitted(name, data), data, encoded).values
    after = predicted(fitted(name, replace(data, vectors=bigger)), data, bigger).values
    np.testing.assert_allclose(after, before, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_stored_models_predict_the_same_and_hold_no_code(law, name, tmp_path):
    data, encoded, _ = law
    model = fitted(name, data)
    model.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "weights.safetensors"]
    again = registry.load(name).load(tmp_path)
    first, second = predicted(model, data, encoded), predicted(again, data, encoded)
    np.testing.assert_array_equal(second.values, first.values)
    if name == "gaussian_process":
        np.testing.assert_array_equal(second.variance, first.variance)


@pytest.mark.parametrize("name", MODELS)
def test_units_of_a_task_share_targets_without_sharing_results(law, name):
    data, encoded, _ = law
    other = vectors({key: row[::-1] ** 2 for key, row in zip(encoded.ids, encoded.matrix, strict=True)})
    shared = replace(data, cache={})
    for vectors_of, seed in ((encoded, 0), (other, 0), (encoded, 1)):
        together = fitted(name, replace(shared, vectors=vectors_of), seed)
        alone = fitted(name, replace(data, vectors=vectors_of, cache={}), seed)
        assert together.log == alone.log
        for key, tensor in alone.tensors.items():
            np.testing.assert_array_equal(together.tensors[key], tensor)


@pytest.mark.parametrize("name", MODELS)
def test_few_training_perturbations(law, name):
    data, encoded, _ = law
    for items in (TRAIN[:1], [replace(item, positions=(7,)) for item in TRAIN[:4]], TRAIN[:3]):
        part = replace(data, train=tuple(items), cache={})
        found = predicted(fitted(name, part), part, encoded).values
        assert found.shape == (3, GENES)
        if len(items) == 1:
            np.testing.assert_allclose(found, np.tile(data.profiles.of(NAMES[:1]), (3, 1)), rtol=1e-6)
    with pytest.raises(ModelError, match="no training perturbation"):
        fitted(name, replace(data, train=(), cache={}))


@pytest.mark.parametrize("name", MODELS)
def test_missing_vectors_and_wrong_settings_are_one_line(law, name):
    data, encoded, _ = law
    model = fitted(name, data)
    with pytest.raises(ModelError, match="has no vector for w"):
        predicted(model, data, encoded, ["w"])
    with pytest.raises(ModelError, match="2 dimensions, trained on 9"):
        predicted(model, data, vectors({"x": [1, 2]}), ["x"])
    wrong = {"ridge": "penalty", "elastic_net": "alpha", "random_forest": "max_features", "gaussian_process": "noise"}
    with pytest.raises(ModelError, match=f"{name}: {wrong[name]} must be positive"):
        fitted(name, data, **{wrong[name]: [0]})
