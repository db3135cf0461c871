"""The registry, and its agreement with the catalogue and the documents."""

from __future__ import annotations

import pytest

from vcbench.core import catalogue
from vcbench.core.errors import InputError
from vcbench.models import registry
from vcbench.models.base import Model


def test_catalogue_code_and_documents_name_the_same_models(project):
    entries = catalogue.load("models")["entries"]
    assert registry.names() == sorted(entries)
    for name, entry in entries.items():
        assert (project / "docs" / "models" / f"{entry.get('page', name)}.md").is_file()
        model = registry.load(name)({key: spec["default"] for key, spec in entry["settings"].items()})
        assert isinstance(model, Model)
        assert model.name == name


@pytest.mark.parametrize("name", ["scLAMBDA", "base", "..core.h5ad", "storage"])
def test_other_names_are_errors(name):
    with pytest.raises(InputError, match="unknown model"):
        registry.load(name)


def test_nearest_name_is_suggested():
    with pytest.raises(InputError, match="did you mean 'sclambda'"):
        registry.load("sclamda")
