"""ESM C: official weights, in either published layout, strictly into the `EsmcModel` of transformers (specs: 8.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench.core import checkpoint as files
from vcbench.core.errors import InputError
from vcbench.encoders.esmc import layouts, tokens
from vcbench.encoders.plm.residue_network import ResidueNetwork
from vcbench.encoders.plm.shapes import shapes_only
from vcbench.encoders.plm.weights import Official, Weights

if TYPE_CHECKING:
    import torch

VOCABULARY = 64
ROTARY_BASE = 10000.0
ATTENTION = "sdpa"

#: Names of the sizes in config.json, ours (those of transformers) first, the research layout's second.
SIZES = {"hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}

#: What either config.json must say.
REQUIRED = {"model_type": "esmc", "vocab_size": VOCABULARY, "pad_token_id": tokens.IDS["<pad>"]}

#: What it may leave out, which transformers then takes to be the same: with other values it is another network.
OPTIONAL = {
    "mask_token_id": tokens.IDS["<mask>"], "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
    "rope_theta": ROTARY_BASE, "quantization_config": None,
}  # fmt: skip


class EsmcNetwork(ResidueNetwork):
    """A loaded ESM C."""

    def __init__(self, model: torch.nn.Module, weights: Weights, attention: str) -> None:
        from vcbench.encoders.provenance import library_versions

        config = weights.config
        facts = {
            "library": f"transformers {library_versions('transformers')['transformers']} EsmcModel",
            "attn_impl": attention,
            "layer": config["num_hidden_layers"],
            "after_final_norm": True,
            "prefix": "<cls>",
            "residue_replacements": "none",
            "token_layout": tokens.LAYOUT_TEXT,
            "weights_layout": config["layout"],
            **library_versions("torch", "transformers"),
        }
        super().__init__(model, tokens.LAYOUT, config["hidden_size"], VOCABULARY, facts)

    def states(self, ids: torch.Tensor, mask: torch.Tensor, all_layers: bool) -> Sequence[torch.Tensor]:
        """Return the hidden states, each (batch, tokens, D)."""
        out = self.model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=all_layers)
        return list(out.hidden_states) if all_layers else [out.last_hidden_state]


def describe(folder: Path, entry: Mapping[str, Any]) -> Official:
    """Open an official folder: config.json, tokenizer.json and the weights, whole or in shards, in either layout.

    Raises :class:`InputError` for anything that is not exactly an ESM C checkpoint.
    """
    hint = files.where_to_get(entry, folder)
    config = read_config(folder / "config.json", entry, hint)
    tokens.check_vocabulary(folder / "tokenizer.json", hint)
    tokens.check_library()
    checkpoint = files.read_folder(folder, hint)
    shapes = {name: tuple(value.shape) for name, value in make(config).state_dict().items()}
    where = layouts.sources(shapes, config["layout"])
    reasons = layouts.unused(config["layout"], config["num_hidden_layers"])
    files.check_tensors(checkpoint, layouts.stored_shapes(shapes, where), list(reasons), hint)
    unused = {name: reasons[name] for name in checkpoint.shapes if name in reasons}
    parts, mapping = layouts.split(checkpoint, where)
    official = all(config[key] == value for key, value in entry["architecture"].items())
    return Official(parts, config, mapping, unused, official)


def build(
    weights: Weights, settings: Mapping[str, Any], device: str, inputs: Path | None = None, attention: str = ATTENTION
) -> EsmcNetwork:
    """Return the network."""
    from transformers.models.esmc.modeling_esmc import EsmcRotaryEmbedding

    model = make(weights.config, attention)
    model.rotary_emb = EsmcRotaryEmbedding(model.config)  # no file holds its frequencies; not on the meta device
    weights.load_into(model, device)
    return EsmcNetwork(model, weights, attention)


def full_size(entry: Mapping[str, Any]) -> torch.nn.Module:
    """Return the network at its published sizes on the meta device."""
    return make(entry["architecture"])


def make(config: Mapping[str, Any], attention: str = ATTENTION) -> torch.nn.Module:
    """Return `EsmcModel` on the meta device: shapes only, no memory."""
    import torch
    from transformers import EsmcConfig
    from transformers.models.esmc.modeling_esmc import EsmcModel

    sizes = {key: config[key] for key in (*SIZES, "intermediate_size")}
    rotary = {"rope_type": "default", "rope_theta": ROTARY_BASE}
    with shapes_only():
        return EsmcModel(
            EsmcConfig(
                **sizes,
                vocab_size=VOCABULARY,
                rope_parameters=rotary,
                dtype=torch.float32,
                attn_implementation=attention,
            )
        )


def read_config(path: Path, entry: Mapping[str, Any], hint: str) -> dict[str, Any]:
    """Return sizes and `layout` of the checked config.json, under the names of transformers.

    Raises :class:`InputError` when it describes another network. A size that is missing is an error: transformers
    would take that of the 6B model.
    """
    if not path.is_file():
        raise InputError("config not found", where=str(path), hint=hint)
    try:
        config = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError("not JSON", where=str(path), found=error, hint=hint) from error
    if not isinstance(config, dict):
        raise InputError("not an ESM C config", where=str(path), found=type(config).__name__, hint=hint)

    def wrong(what: str, found: object, expected: object = None) -> InputError:
        return InputError(what, where=str(path), found=found, expected=expected, hint=hint)

    for key, value in {**REQUIRED, **OPTIONAL}.items():
        if config.get(key, "nothing" if key in REQUIRED else value) != value:
            raise wrong(f"not an ESM C config: {key}", config.get(key, "nothing"), value)
    rotary = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rotary.get("rope_theta", ROTARY_BASE) != ROTARY_BASE or rotary.get("rope_type", "default") != "default":
        raise wrong("not an ESM C config: rope_parameters", rotary, f"the default type, base {ROTARY_BASE:g}")

    fused = "d_model" in config
    sizes = {ours: config.get(theirs if fused else ours) for ours, theirs in SIZES.items()}
    for ours, value in sizes.items():
        if type(value) is not int or value < 1:
            raise wrong(f"{SIZES[ours] if fused else ours} is no positive integer", value)
    hidden, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    if hidden % (2 * heads):
        raise wrong("the width is no even multiple of the number of attention heads", f"{hidden} / {heads}")
    # the research layout leaves it out: 8/3 of the hidden size, rounded up to a multiple of 256
    sizes["intermediate_size"] = (8 * hidden // 3 + 255) // 256 * 256 if fused else config.get("intermediate_size")
    if type(sizes["intermediate_size"]) is not int or sizes["intermediate_size"] < 1:
        raise wrong("intermediate_size is no positive integer", sizes["intermediate_size"])
    for key, value in (("num_key_value_heads", heads), ("head_dim", hidden // heads)):
        if config.get(key) not in (None, value):
            raise wrong(f"not an ESM C config: {key}", config[key], value)
    if hidden == entry["architecture"]["hidden_size"]:  # tensors cannot reveal a wrong number of heads
        for key, value in entry["architecture"].items():
            if sizes[key] != value:
                raise wrong(f"{key} is not that of {entry['title']}", sizes[key], value)
    return sizes | {"layout": "fused" if fused else "native"}
