"""The bilinear ridge against its dense formula, written with other tools (scikit-learn PCA, Kronecker product)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_models import request, training, vectors

from vcbench.core.errors import ModelError
from vcbench.models.linear import MODEL
from vcbench.models.selection import inner_folds

N, GENES, WIDTH = 17, 40, 12
NAMES = [f"p{i:02d}" for i in range(N)]


def dense(profiles, control, train_vectors, new_vectors, components, ridge):
    """metrics.md 6.3 word by word; profiles (n, genes), returns (new, genes)."""
    from sklearn.decomposition import PCA

    columns = np.column_stack([profiles.T, control])
    y = columns - control[:, None]
    b = y.mean(axis=1, keepdims=True)
    k = min(components, columns.shape[1])
    g = PCA(k, svd_solver="full").fit_transform(columns)  # genes are the rows, each column centred
    reducer = PCA(min(components, len(train_vectors) - 1, WIDTH), svd_solver="full").fit(train_vectors)
    p = np.column_stack([reducer.transform(train_vectors).T, np.zeros(reducer.n_components_)])
    left = g.T @ g + ridge * np.eye(k)
    right = p @ p.T + ridge * np.eye(len(p))
    w = np.linalg.solve(np.kron(right.T, left), (g.T @ (y - b) @ p.T).flatten(order="F")).reshape((k, -1), order="F")
    return (g @ w @ reducer.transform(new_vectors).T + b + control[:, None]).T


@pytest.fixture(scope="module")
def toy():
    rng = np.random.default_rng(3)
    table = {name: rng.normal(size=WIDTH) for name in [*NAMES, "x", "y"]}
    cells = {name: rng.random((4, GENES)) for name in [*NAMES, "control"]}
    return training(cells, NAMES, encoded=vectors(table)), vectors(table)


def arrays(data):
    x = data.encoded().of(NAMES).astype(float)
    return data.profiles.of(NAMES), data.profiles.control, x


@pytest.mark.parametrize(("components", "ridge"), [(3, 0.1), (8, 10.0), (50, 0.01)])
def test_prediction_equals_the_dense_formula(toy, components, ridge):
    data, encoded = toy
    model = MODEL({"components": [components], "ridge": [ridge]})
    model.fit(data, 0, "cpu")
    found = model.predict(request(data, ["x", "y"], encoded), 0, "cpu").values
    expected = dense(*arrays(data), encoded.of(["x", "y"]).astype(float), components, ridge)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)
    assert np.abs(expected - expected.mean(axis=0)).max() > 1e-3  # the vectors matter


def test_cross_validation_equals_the_dense_formula_and_picks_its_minimum(toy):
    data, _ = toy
    profiles, control, x = arrays(data)
    settings = {"components": [2, 5, 50], "ridge": [0.01, 1, 10]}
    model = MODEL(settings)
    log = model.fit(data, 7, "cpu")
    folds = inner_folds(data.train, 7)
    assert sorted(np.bincount(folds)) == [3, 3, 3, 4, 4]
    for row in log:
        errors = np.empty_like(profiles)
        for fold in range(5):
            held = folds == fold
            errors[held] = profiles[held] - dense(
                profiles[~held], control, x[~held], x[held], row["components"], row["ridge"]
            )
        assert row["cross_validation_mse"] == pytest.approx(np.mean(errors**2), rel=1e-9)
    best = min(log, key=lambda row: row["cross_validation_mse"])
    assert (model.facts["components"], model.facts["ridge"]) == (best["components"], best["ridge"])
    assert [row for row in log if row["chosen"]] == [best]


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_constant_encoder_gives_the_train_mean_shrunk_by_the_control_column(toy, value):
    data, _ = toy
    encoded = vectors({name: [value] * WIDTH for name in [*NAMES, "x"]})
    model = MODEL({"components": [2, 5], "ridge": [0.01, 1]})
    model.fit(replace(data, vectors=encoded), 0, "cpu")
    profiles, control, _ = arrays(data)
    expected = control + N / (N + 1) * (profiles.mean(axis=0) - control)
    found = model.predict(request(data, ["x"], encoded), 0, "cpu").values[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_units_of_a_task_share_the_gene_side_without_sharing_results(toy):
    data, _ = toy
    other = vectors({name: np.random.default_rng(i).normal(size=WIDTH) for i, name in enumerate([*NAMES, "x"])})
    settings = {"components": [2, 5], "ridge": [0.01, 1]}

    def fitted(source, seed):
        model = MODEL(settings)
        log = model.fit(source, seed, "cpu")
        return log, model.tensors

    shared = [fitted(data, 0), fitted(replace(data, vectors=other), 0), fitted(data, 1)]
    for (log, tensors), (source, seed) in zip(
        shared, [(data, 0), (replace(data, vectors=other), 0), (data, 1)], strict=True
    ):
        alone_log, alone = fitted(replace(source, cache={}), seed)
        assert alone_log == log
        for name in tensors:
            np.testing.assert_array_equal(alone[name], tensors[name])
    assert shared[0][0] != shared[1][0]


def test_bilinear_law_is_recovered_on_new_perturbations():
    rng = np.random.default_rng(4)
    names = [f"p{i:02d}" for i in range(60)]
    table = {name: rng.normal(size=6) for name in names}
    law = rng.normal(size=(6, 50)) * 0.3
    # columns of G have mean 0 over genes (centred profiles), so a shift of all genes together is out of reach
    law -= law.mean(axis=1, keepdims=True)
    base = rng.random(50) + 3
    cells = {name: (base + table[name] @ law)[None] + rng.normal(0, 0.05, (30, 50)) for name in names}
    cells["control"] = base[None] + rng.normal(0, 0.05, (30, 50))
    train, test = names[:45], names[45:]
    data = training(cells, train, encoded=vectors(table))
    model = MODEL({"components": [5, 10, 20, 50], "ridge": [0.01, 0.1, 1, 10]})
    model.fit(data, 0, "cpu")
    found = model.predict(request(data, test, vectors(table)), 0, "cpu").values
    truth = np.array([base + table[name] @ law for name in test])
    mean = data.profiles.train_mean(train)
    assert np.mean((found - truth) ** 2) < 0.01 * np.mean((mean - truth) ** 2)
    offset = data.profiles.of([*train, "control"]).mean(axis=0)  # b + c
    np.testing.assert_allclose((found - offset).mean(axis=1), 0, atol=1e-6)


def test_one_training_perturbation_and_bad_settings():
    data = training({"a": [[1, 2]], "control": [[0, 0]]}, ["a"], encoded=vectors({"a": [1, 2], "x": [3, 1]}))
    model = MODEL({"components": [5], "ridge": [1]})
    assert np.isnan(model.fit(data, 0, "cpu")[0]["cross_validation_mse"])
    found = model.predict(request(data, ["x"], data.vectors), 0, "cpu").values
    np.testing.assert_allclose(found, [[0.5, 1.0]])  # b is the mean of (1, 2) and the control's 0
    with pytest.raises(ModelError, match="must be positive"):
        MODEL({"components": [5], "ridge": [0]}).fit(data, 0, "cpu")
