"""The two layouts in which ESM C is published, as tensors of the `EsmcModel` of transformers.

*native*: config.json has `hidden_size`; tensors are named as in transformers below `esmc.`.
*fused*: the research layout (the revisions of the catalogue); config.json has `d_model`, tensors are
`esmc.transformer.blocks.N...`, query, key and value are one matrix, and so are the two of the SwiGLU. transformers
itself loads nothing from it: it warns and computes with random weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from vcbench.core.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch

PREFIX = "esmc."

#: Tensor of `EsmcModel` without its layer -> fused tensor and which of how many equal parts of its rows.
_FUSED = {
    "input_layernorm.weight": ("attn.layernorm_qkv.layer_norm_weight", 0, 1),
    "input_layernorm.bias": ("attn.layernorm_qkv.layer_norm_bias", 0, 1),
    "self_attn.q_proj.weight": ("attn.layernorm_qkv.weight", 0, 3),
    "self_attn.k_proj.weight": ("attn.layernorm_qkv.weight", 1, 3),
    "self_attn.v_proj.weight": ("attn.layernorm_qkv.weight", 2, 3),
    "self_attn.q_norm.weight": ("attn.q_ln.weight", 0, 1),
    "self_attn.k_norm.weight": ("attn.k_ln.weight", 0, 1),
    "self_attn.o_proj.weight": ("attn.out_proj.weight", 0, 1),
    "post_attention_layernorm.weight": ("ffn.layer_norm_weight", 0, 1),
    "post_attention_layernorm.bias": ("ffn.layer_norm_bias", 0, 1),
    "mlp.gate_proj.weight": ("ffn.fc1_weight", 0, 2),
    "mlp.up_proj.weight": ("ffn.fc1_weight", 1, 2),
    "mlp.down_proj.weight": ("ffn.fc2_weight", 0, 1),
}
_HEADS = {
    "native": [f"lm_head.{part}.{kind}" for part in ("dense", "layer_norm", "decoder") for kind in ("weight", "bias")],
    "fused": [f"lm_head.{part}.{kind}" for part in (0, 2, 3) for kind in ("weight", "bias")],
}
_STATES = ("attn.layernorm_qkv", "attn.out_proj", "ffn")

#: A tensor of our network: the stored tensor, which part of its rows, and of how many.
Source = tuple[str, int, int]


@dataclass(frozen=True)
class Parts(Checkpoint):
    """A checkpoint some of whose tensors appear as parts of their rows, named ``name[rows 0-959]``."""

    parts: Mapping[str, tuple[str, int, int]] = field(default_factory=dict, repr=False)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a stored tensor, or a copy of a part of one, so that the rest is not kept in memory."""
        if name not in self.parts:
            return super().tensor(name)
        stored, start, stop = self.parts[name]
        return super().tensor(stored)[start:stop].clone()


def sources(names: Mapping[str, object], layout: str) -> dict[str, Source]:
    """Return where each tensor of `EsmcModel` is stored."""
    if layout == "native":
        return {name: (PREFIX + name, 0, 1) for name in names}
    found: dict[str, Source] = {}
    for name in names:
        if name.startswith("layers."):
            _, number, rest = name.split(".", 2)
            stored, part, count = _FUSED[rest]
            found[name] = (f"{PREFIX}transformer.blocks.{number}.{stored}", part, count)
        else:
            top = {"embed_tokens.weight": "embed.weight", "norm.weight": "transformer.norm.weight"}[name]
            found[name] = (PREFIX + top, 0, 1)
    return found


def stored_shapes(shapes: Mapping[str, tuple[int, ...]], where: Mapping[str, Source]) -> dict[str, tuple[int, ...]]:
    """Return {stored tensor: shape} for the shapes of our network."""
    return {where[name][0]: (shape[0] * where[name][2], *shape[1:]) for name, shape in shapes.items()}


def unused(layout: str, layers: int) -> dict[str, str]:
    """Return {stored tensor: why the hidden states do not need it}; each may be absent."""
    found = dict.fromkeys(_HEADS[layout], "language-model head")
    if layout == "fused":
        found |= {
            f"{PREFIX}transformer.blocks.{layer}.{module}._extra_state": "state of a quantised layer, empty"
            for layer in range(layers)
            for module in _STATES
        }
    return found


def split(checkpoint: Checkpoint, where: Mapping[str, Source]) -> tuple[Checkpoint, dict[str, str]]:
    """Return the checkpoint with fused tensors in parts, and {tensor of our network: its name there}."""
    wanted: dict[str, list[tuple[str, int, int]]] = {}
    for name, (stored, part, count) in where.items():
        wanted.setdefault(stored, []).append((name, part, count))
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    parts: dict[str, tuple[str, int, int]] = {}
    mapping: dict[str, str] = {}
    for stored, shape in checkpoint.shapes.items():
        for name, part, count in wanted.get(stored, [("", 0, 1)]):
            rows = shape[0] // count if shape else 0
            start, stop = part * rows, (part + 1) * rows
            shown = stored if count == 1 else f"{stored}[rows {start}-{stop - 1}]"
            if count > 1:
                parts[shown] = (stored, start, stop)
            shapes[shown] = shape if count == 1 else (rows, *shape[1:])
            dtypes[shown] = checkpoint.dtypes[stored]
            if name:
                mapping[name] = shown
    values = {each.name: getattr(checkpoint, each.name) for each in fields(Checkpoint)}
    return Parts(**(values | {"shapes": shapes, "dtypes": dtypes}), parts=parts), mapping
