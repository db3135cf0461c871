"""Fixtures of the encoder tests: a small checkpoint, the catalogue, requests made from variant names."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random checkpoint in the official layout."""
    import make_esm2

    return make_esm2.write(tmp_path_factory.mktemp("weights") / "esm2_650m")


@pytest.fixture(scope="session")
def catalogue() -> dict:
    """The encoder catalogue."""
    from vcbench.core.catalogue import load

    return load("encoders")


@pytest.fixture(scope="session")
def entry_of(catalogue: dict) -> Callable:
    """Return the catalogue entry of an encoder."""
    return catalogue["entries"].__getitem__


@pytest.fixture(scope="session")
def entry(entry_of: Callable) -> dict:
    """The catalogue entry of ESM2 650M."""
    return entry_of("esm2_650m")


@pytest.fixture(scope="session")
def settings_of(entry_of: Callable) -> Callable:
    """Return all settings of an encoder: the catalogue's defaults and the given ones."""
    from vcbench.core.settings import complete

    def make(name: str, **overrides: object) -> dict:
        return complete(name, entry_of(name)["settings"], overrides, "test")

    return make


@pytest.fixture(scope="session")
def encoder_of(entry_of: Callable, settings_of: Callable) -> Callable:
    """Make a protein language model from a folder of weights; ``inputs`` are its further inputs (alignments)."""
    from vcbench.encoders.base import Context
    from vcbench.encoders.plm.encoder import ENCODER

    def make(name: str, weights: Path, *, inputs: Path | None = None, device: str = "cpu", **overrides: object):
        return ENCODER(Context(name, entry_of(name), settings_of(name, **overrides), weights, inputs, device))

    return make


@pytest.fixture(scope="session")
def protein() -> str:
    """A random protein of 90 residues that holds all 20."""
    rng = np.random.default_rng(1)
    return "ACDEFGHIKLMNPQRSTVWY" + "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 70))


@pytest.fixture(scope="session")
def request_of() -> Callable:
    """Make a request from a sequence and a name such as `K9A;L10V` (empty: wild type) or from gene names."""
    from vcbench.core.hashing import sha256_text
    from vcbench.encoders.requests import Request
    from vcbench.variants.record import Change

    def make(name: str, sequence: str = "", gene: str = "TP53") -> Request:
        if not sequence:
            return Request(f"gene:{name}", tuple(name.split("+")))
        parts = [re.fullmatch(r"([A-Z])(\d+)([A-Z])", part).groups() for part in name.split(";") if part]
        changes = tuple(Change(int(pos), ref, alt) for ref, pos, alt in parts)
        digest = sha256_text(sequence)
        return Request(f"{digest}:{name or 'WT'}", (gene,), changes, sequence, digest)

    return make


@pytest.fixture(scope="session")
def esm2(weights_folder: Path, encoder_of: Callable) -> Callable:
    """Make an ESM2 encoder on the small checkpoint; settings may be overridden."""
    return lambda **overrides: encoder_of("esm2_650m", weights_folder.parent, **overrides)


@pytest.fixture(scope="session")
def load_esm2(entry: dict, settings_of: Callable) -> Callable:
    """Open an ESM2 folder: the network, with the account of its weights in `.weights`."""
    from vcbench.encoders.esm2 import network
    from vcbench.encoders.plm.weights import open_weights

    def make(folder: Path, dtype: str = "float32", attention: str = "eager", of: dict = entry):
        weights = open_weights(folder, of, dtype)
        loaded = network.build(weights, settings_of("esm2_650m", dtype=dtype), "cpu", None, attention)
        loaded.weights = weights
        return loaded

    return make
