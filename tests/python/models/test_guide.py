"""The example of docs/adding_a_model.md, as it is printed there."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
from toy_models import Screen

import vcbench.models
from vcbench.core import h5ad
from vcbench.models import predict_cli, registry, train_cli
from vcbench.models.base import Model
from vcbench.models.fold_data import FoldData, read_vectors

UNIT = "toy.variant.f1.toy_ridge.random.alt.s0"


@pytest.fixture
def toy_ridge(project, tmp_path, monkeypatch):
    text = (project / "docs" / "adding_a_model.md").read_text()
    source = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    folder = tmp_path / "added"
    folder.mkdir()
    (folder / "toy_ridge.py").write_text(source)
    monkeypatch.setattr(vcbench.models, "__path__", [*vcbench.models.__path__, str(folder)])
    yield registry.load("toy_ridge")
    sys.modules.pop("vcbench.models.toy_ridge")


def test_the_printed_model_trains_and_predicts_a_ridge_regression(toy_ridge, tmp_path):
    from sklearn.linear_model import Ridge

    assert isinstance(toy_ridge({"ridge": 2.0}), Model)
    screen = Screen(tmp_path / "toy")
    settings = json.dumps({"toy_ridge": {"ridge": 2.0}})
    train_cli.main(screen.arguments([UNIT], settings, "models"))
    model = screen.folder / "models" / f"{UNIT}.model"
    predict_cli.main(screen.arguments([UNIT], settings, "predictions", "--models", str(model)))
    found = h5ad.read(screen.folder / "predictions" / f"{UNIT}.predictions.h5ad")

    f = screen.folder
    source = FoldData(f / "toy.h5ad", f / "toy.perturbations.tsv", f / "toy.variant.folds.tsv")
    data, request = source.training(1), source.request(1)
    ids = [*data.train_ids, *request.ids]
    vectors = read_vectors(f / "toy.random.alt.h5ad", ids).of(ids).astype(float)
    n = len(data.train)
    expected = Ridge(2.0).fit(vectors[:n], data.profiles.of(data.train_ids)).predict(vectors[n:])
    np.testing.assert_allclose(found.X, expected, rtol=1e-5)
