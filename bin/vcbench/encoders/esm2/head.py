"""ESM2's language-model head: from the hidden state of a residue to a score of every token (specs: 8.1).

``scores = E norm(gelu(W x + b)) + c`` with the embedding matrix E, which the head shares with the input. The head is
small and computes in fp32 whatever the network's type: a log-likelihood ratio is a small difference of two scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vcbench.core import checkpoint as files
from vcbench.core.errors import InputError
from vcbench.encoders.plm.shapes import shapes_only
from vcbench.encoders.plm.weights import Official

if TYPE_CHECKING:
    import torch

#: Where the head sits in our network, and what its tensors are called in Hugging Face's and in fair-esm's files.
PREFIX = "lm_head."
#: Names of the embedding matrix where a file repeats it as the head's last layer.
TIED = ("decoder.weight", "weight")
EMBEDDING = "embeddings.word_embeddings.weight"


def wanted(entry: Mapping[str, Any]) -> bool:
    """True for an entry of the catalogue with ``head: true``."""
    return bool(entry.get("head"))


def make(config: Mapping[str, Any]) -> torch.nn.Module:
    """Return the head without its last layer on the meta device; parameters are named as in the official files."""
    import torch

    width = config["hidden_size"]
    with shapes_only():
        head = torch.nn.Module()
        head.dense = torch.nn.Linear(width, width)
        head.layer_norm = torch.nn.LayerNorm(width, eps=config["layer_norm_eps"])
        head.bias = torch.nn.Parameter(torch.empty(config["vocab_size"]))
    return head


def include(official: Official, hint: str) -> Official:
    """Return the account of a checkpoint whose head is used too.

    Raises :class:`InputError` when the head is missing, misshapen or does not share the embedding matrix.
    """
    checkpoint = official.checkpoint
    found = {name.rpartition(PREFIX)[2]: name for name in official.unused if PREFIX in name}
    shapes = {name: tuple(value.shape) for name, value in make(official.config).state_dict().items()}
    missing = sorted(PREFIX + name for name in shapes.keys() - found.keys())
    if missing:
        raise InputError(
            "the file has no language-model head", where=str(checkpoint.path), found="no " + ", ".join(missing),
            hint=hint,
        )  # fmt: skip
    used = {found[name]: shape for name, shape in shapes.items()}
    files.check_tensors(checkpoint, used, list(checkpoint.shapes), hint)
    _check_tied(official, [found[name] for name in TIED if name in found], hint)
    return replace(
        official,
        tensors=official.tensors | {PREFIX + name: found[name] for name in shapes},
        unused={name: reason for name, reason in official.unused.items() if name not in used},
        keep_float32=official.keep_float32 | {PREFIX + name for name in shapes},
    )


def _check_tied(official: Official, repeated: list[str], hint: str) -> None:
    import torch

    checkpoint = official.checkpoint
    for name in repeated:
        # both are small; cloned, because a file of torch is kept open for one tensor at a time
        embedding = checkpoint.tensor(official.tensors[EMBEDDING]).clone()
        if not torch.equal(checkpoint.tensor(name), embedding):
            raise InputError(
                f"{name} is not the embedding matrix, which ESM2 shares", where=str(checkpoint.path), hint=hint
            )


def scores(model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """Return the score of every token, (..., 33) fp32 and unnormalised, for hidden states (..., D)."""
    import torch
    from torch.nn.functional import gelu, linear

    head = model.lm_head
    with torch.inference_mode():
        inner = head.layer_norm(gelu(head.dense(rows.float())))
        return linear(inner, model.get_parameter(EMBEDDING).float(), head.bias)
