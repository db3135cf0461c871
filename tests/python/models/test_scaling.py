"""Scaling of encoder vectors: formulas, what models see, what is kept, and that no test vector shapes it."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.preprocessing import StandardScaler
from toy_models import ROLES, Screen, vectors

from vcbench.core.errors import ModelError
from vcbench.models import predict_cli, train_cli
from vcbench.models.scaling import FILE, Scaling

SCLAMBDA = {
    "epochs": 1, "batch_size": 32, "hidden": 4, "latent": 2, "learning_rate": 5e-4, "lambda_mi": 200,
    "adversarial_epsilon": 0.001, "mine_weight_decay": 1e-4, "gradient_clip": 5.0, "validate_every": 1,
    "z_at_predict": "mean", "cells_per_perturbation": 2, "bench_compat": [],
}  # fmt: skip
SETTINGS = {
    "nearest": {"neighbours": [2]},
    "linear": {"components": [2], "ridge": [1]},
    "sclambda": SCLAMBDA,
    "train_mean": {},
}
UNITS = [f"toy.variant.f1.{model}.random.alt.s0" for model in ("nearest", "linear", "sclambda")]
TRAIN, VALID, TEST = (
    [f"T~{name}" for name, roles in ROLES.items() if roles[0] == role] for role in ("train", "valid", "test")
)


def settings(method):
    """Settings of all models; None leaves the scaling out, as a call by hand may do."""
    extra = {} if method is None else {"encoding_scaling": method}
    return json.dumps({name: own if name == "train_mean" else {**own, **extra} for name, own in SETTINGS.items()})


def train(screen, method, out="models", units=UNITS):
    train_cli.main(screen.arguments(units, settings(method), out))


def predict(screen, method, models="models", out="predictions", units=UNITS):
    folders = [str(path) for path in (screen.folder / models).glob("*.model")]
    predict_cli.main(screen.arguments(units, settings(method), out, "--models", *folders))
    return {unit: ad.read_h5ad(screen.folder / out / f"{unit}.predictions.h5ad").X for unit in units}


def files(screen, out="models"):
    root = screen.folder / out
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.model/*"))}


@pytest.fixture
def screen(tmp_path):
    found = Screen(tmp_path / "toy")
    found.vectors = found.vectors * np.array([1, 10, 1e3, 1e-3, 1], np.float32) + np.array([0, 5, 2, -1, 0], np.float32)
    found.write_vectors("random", found.ids, found.vectors)
    return found


def by_hand(screen, method):
    """The scaled table, control row last, from the formulas of the spec alone."""
    table = np.vstack([screen.vectors, np.zeros(5)]).astype(np.float64)
    if method == "l2":
        norm = np.sqrt((table**2).sum(1, keepdims=True))
        return table / np.where(norm > 0, norm, 1)
    rows = table[[screen.ids.index(name) for name in TRAIN]]
    return (table - rows.sum(0) / len(rows)) / np.sqrt(((rows - rows.sum(0) / len(rows)) ** 2).sum(0) / len(rows))


# -------------------------------------------------------------------------------------------------------- formulas


def test_zscore_is_the_standard_scaler_of_the_training_vectors():
    rng = np.random.default_rng(3)
    table = dict(zip("abcdef", rng.normal(3, 50, (6, 4)), strict=True))
    encoded = vectors(table)
    scaled = Scaling.fit({"encoding_scaling": "zscore"}, encoded, list("abcd")).apply(encoded)
    reference = StandardScaler().fit(encoded.of(list("abcd")).astype(np.float64))
    np.testing.assert_allclose(scaled.of(list("fa")), reference.transform(encoded.of(list("fa"))), rtol=1e-6)
    np.testing.assert_allclose(scaled.control, reference.transform(np.zeros((1, 4)))[0], rtol=1e-6)
    assert scaled.matrix.dtype == scaled.control.dtype == np.float32
    assert (scaled.encoder, scaled.strategy, scaled.ids) == (encoded.encoder, encoded.strategy, encoded.ids)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-30, 12345.678])
def test_a_dimension_without_spread_in_training_is_centred_only(value):
    """The mean of equal numbers is rounded: dividing by that rounding would blow a test vector up."""
    names = [f"p{number}" for number in range(7)]
    encoded = vectors({**{name: [value, number] for number, name in enumerate(names)}, "test": [value + 1, 3]})
    scaled = Scaling.fit({"encoding_scaling": "zscore"}, encoded, names).apply(encoded)
    assert not scaled.of(names)[:, 0].any()
    np.testing.assert_allclose(scaled.of(["test"])[0], [np.float32(value + 1) - np.float32(value), 0], rtol=1e-6)


def test_l2_gives_unit_vectors_and_leaves_zero_alone():
    encoded = vectors({"a": [3, 4], "zero": [0, 0], "tiny": [1e-30, 0]})
    scaled = Scaling.fit({"encoding_scaling": "l2"}, encoded, ["a"]).apply(encoded)
    np.testing.assert_allclose(scaled.matrix, [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-7)
    assert not scaled.control.any()


def test_none_hands_the_vectors_on_untouched():
    encoded = vectors({"a": [3, 4]})
    assert Scaling.fit({}, encoded, ["a"]).apply(encoded) is encoded
    assert Scaling.fit({"encoding_scaling": "zscore"}, None, ["a"]).apply(None) is None


def test_what_cannot_be_scaled_is_named():
    encoded = vectors({"a": [1e-38, 1], "b": [2e-38, 3], "far": [3e38, 2]})
    scaling = Scaling.fit({"encoding_scaling": "zscore"}, encoded, ["a", "b"])
    with pytest.raises(ModelError, match="encoding_scaling zscore: the scaled vector of far is not finite"):
        scaling.apply(encoded)
    with pytest.raises(ModelError, match="vectors have 1 dimensions, their scaling has 2"):
        scaling.apply(vectors({"a": [1]}))
    with pytest.raises(ModelError, match=r"toy\.alt has no vector for c"):
        Scaling.fit({"encoding_scaling": "zscore"}, encoded, ["a", "c"])
    with pytest.raises(ModelError, match="unknown encoding_scaling 'minmax'"):
        Scaling.fit({"encoding_scaling": "minmax"}, encoded, ["a"])


# ------------------------------------------------------------------------------------------------- what models see


@pytest.mark.parametrize("method", ["zscore", "l2"])
def test_every_model_sees_scaled_vectors_the_control_included(screen, method):
    """Training on raw vectors with a scaling = training without one on vectors scaled by hand."""
    train(screen, method)
    found = predict(screen, method)
    raw = files(screen)
    scaled = by_hand(screen, method).astype(np.float32)
    data = ad.read_h5ad(screen.folder / "toy.random.alt.h5ad")
    data.X = scaled
    data.write_h5ad(screen.folder / "toy.random.alt.h5ad")
    train(screen, "none", "other")
    expected = predict(screen, "none", "other", "expected")
    for unit in UNITS:
        name = f"{unit}.model/weights.safetensors"
        ours, theirs = (load_file(screen.folder / out / name) for out in ("models", "other"))
        for tensor in theirs:
            np.testing.assert_allclose(ours[tensor], theirs[tensor], rtol=1e-5, atol=1e-6, err_msg=f"{unit} {tensor}")
        np.testing.assert_allclose(found[unit], expected[unit], rtol=1e-5, atol=1e-5, err_msg=unit)
    # and it matters: without scaling the same models come out otherwise
    screen.write_vectors("random", screen.ids, screen.vectors)
    train(screen, "none", "raw")
    for unit in UNITS:
        weights = f"{unit}.model/weights.safetensors"
        assert files(screen, "raw")[weights] != raw[weights], unit


def test_the_control_of_an_encoder_reaches_the_model(screen):
    train(screen, "none", units=UNITS[2:])
    data = ad.read_h5ad(screen.folder / "toy.random.alt.h5ad")
    data.X[-1] = 1
    data.write_h5ad(screen.folder / "toy.random.alt.h5ad")
    train(screen, "none", "other", units=UNITS[2:])
    name = f"{UNITS[2]}.model/weights.safetensors"
    assert files(screen)[name] != files(screen, "other")[name]
    data[:-1].copy().write_h5ad(screen.folder / "toy.random.alt.h5ad")
    with pytest.raises(ModelError, match=r"toy\.random\.alt\.h5ad: no row 'control'"):
        train(screen, "none", "third", units=UNITS[2:])


# --------------------------------------------------------------------------------------------------------- leakage


@pytest.mark.parametrize("method", ["zscore", "l2"])
def test_canary_vectors_of_test_perturbations_change_no_training_artefact(screen, method):
    train(screen, method)
    before = files(screen)
    changed = screen.vectors.copy()
    changed[[name in TEST for name in screen.ids]] *= -70
    screen.write_vectors("random", screen.ids, changed)
    train(screen, method, "again")
    assert files(screen, "again") == before
    changed[[name in TRAIN for name in screen.ids]] *= np.float32(1.5)
    screen.write_vectors("random", screen.ids, changed + 1)
    train(screen, method, "sings")
    assert files(screen, "sings") != before


def test_validation_vectors_do_not_shape_the_scaling(screen):
    train(screen, "zscore", units=UNITS[:1])
    before = files(screen)
    screen.vectors[[name in VALID for name in screen.ids]] += 100
    screen.write_vectors("random", screen.ids, screen.vectors)
    train(screen, "zscore", "again", units=UNITS[:1])
    assert files(screen, "again") == before


# ---------------------------------------------------------------------------------------------------- what is kept


def test_parameters_are_kept_and_reused(screen):
    train(screen, "zscore")
    first = predict(screen, "zscore")
    rows = screen.vectors[[screen.ids.index(name) for name in TRAIN]].astype(np.float64)
    for unit in UNITS:
        folder = screen.folder / "models" / f"{unit}.model"
        kept = load_file(folder / FILE)
        np.testing.assert_allclose(kept["mean"], rows.mean(0), rtol=1e-12)
        np.testing.assert_allclose(kept["sd"], rows.std(0), rtol=1e-12)
        assert kept["mean"].dtype == kept["sd"].dtype == np.float64
        assert json.loads((folder / "config.json").read_text())["settings"]["encoding_scaling"] == "zscore"
    # training vectors seen at predict time play no role: the parameters are those of training
    screen.vectors[[name in TRAIN for name in screen.ids]] *= 3
    screen.write_vectors("random", screen.ids, screen.vectors)
    second = predict(screen, "zscore", out="second")
    for unit in UNITS:
        np.testing.assert_array_equal(second[unit], first[unit])
    path = screen.folder / "models" / f"{UNITS[0]}.model" / FILE
    save_file({"mean": kept["mean"] + 5, "sd": kept["sd"]}, path)
    assert (predict(screen, "zscore", out="third")[UNITS[0]] != first[UNITS[0]]).any()


@pytest.mark.parametrize("method", [None, "none", "l2"])
def test_without_parameters_nothing_is_written(screen, method):
    train(screen, method, units=UNITS[:1])
    assert not list(screen.folder.rglob(FILE))
    predict(screen, method, units=UNITS[:1])


def test_a_model_without_encoder_has_no_scaling(screen):
    unit = "toy.variant.f1.train_mean.none.none.s0"
    train(screen, "zscore", units=[unit])
    predict(screen, "zscore", units=[unit])
    assert not list(screen.folder.rglob(FILE))


def test_parameters_that_do_not_fit_the_settings_are_errors(screen):
    unit = UNITS[:1]
    train(screen, "zscore", units=unit)
    with pytest.raises(ModelError, match="trained with other settings: encoding_scaling"):
        predict(screen, "none", units=unit)
    path = screen.folder / "models" / f"{unit[0]}.model" / FILE
    kept = load_file(path)
    for broken, message in (
        ({"mean": kept["mean"]}, "missing sd"),
        ({**kept, "sd": kept["sd"][:2]}, r"sd has shape \(2,\), expected \(5,\)"),
        ({**kept, "median": kept["sd"]}, "unexpected median"),
    ):
        save_file(broken, path)
        with pytest.raises(ModelError, match=message):
            predict(screen, "zscore", units=unit)
    path.write_bytes(b"no safetensors")
    with pytest.raises(ModelError, match="not readable"):
        predict(screen, "zscore", units=unit)
    path.unlink()
    with pytest.raises(ModelError, match=rf"{FILE} is missing \(encoding_scaling zscore\)"):
        predict(screen, "zscore", units=unit)
    train(screen, "none", units=unit)
    path.write_bytes(b"left over")
    with pytest.raises(ModelError, match="is unexpected"):
        predict(screen, "none", units=unit)
