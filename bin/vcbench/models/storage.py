"""`<unit>.model/`: tensors as safetensors, the rest as JSON; loading runs no code and accounts for every tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vcbench.core.errors import ModelError

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"


def save(
    folder: Path, model: str, settings: Mapping[str, Any], facts: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> None:
    """Write both files; raises :class:`ModelError` when a tensor is not finite."""
    from safetensors.numpy import save_file

    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ModelError(f"{model}: weight {name} is not finite")
    config = {"model": model, "settings": dict(settings), **facts, "tensors": {}}
    # shapes stand in the config, so that a truncated or exchanged weight file is noticed
    config["tensors"] = {name: list(tensor.shape) for name, tensor in sorted(tensors.items())}
    (folder / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / WEIGHTS)


def load(folder: Path, model: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return config and tensors of a folder that :func:`save` wrote for this model.

    Raises :class:`ModelError` naming every missing, unexpected or misshapen tensor.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        config = json.loads((folder / CONFIG).read_text())
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{folder}: not a readable model folder: {error}") from error
    if config.get("model") != model:
        raise ModelError(f"{folder}: a model of '{config.get('model')}', not of '{model}'")
    check_tensors(str(folder), {name: tuple(shape) for name, shape in config["tensors"].items()}, tensors)
    return config, tensors


def check_tensors(where: str, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Any]) -> None:
    """Raise :class:`ModelError` unless names and shapes agree exactly."""
    problems = [f"missing {name}" for name in sorted(expected.keys() - found.keys())]
    problems += [f"unexpected {name}" for name in sorted(found.keys() - expected.keys())]
    problems += [
        f"{name} has shape {tuple(found[name].shape)}, expected {tuple(expected[name])}"
        for name in sorted(expected.keys() & found.keys())
        if tuple(found[name].shape) != tuple(expected[name])
    ]
    if problems:
        raise ModelError(f"{where}: {'; '.join(problems)}")


def check_genes(trained: list[str] | tuple[str, ...], requested: tuple[str, ...]) -> None:
    """Raise :class:`ModelError` unless the model was trained on exactly these genes, in this order."""
    if tuple(trained) != tuple(requested):
        raise ModelError(f"trained on other genes ({len(trained)}) than the request's ({len(requested)})")
