"""xTrimoPGLM: official weights strictly into the clean-room encoder of `layers` (specs: plm_encoders.md 2.4).

The authors' remote code is never run. What the specification knows from a sibling model only is read from config.json
and refused when it says otherwise; docs/encoders/xtrimopglm_10b.md lists what is still to be compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench.core import checkpoint as files
from vcbench.core.errors import InputError
from vcbench.encoders.plm import rotary
from vcbench.encoders.plm.residue_network import ResidueNetwork
from vcbench.encoders.plm.shapes import shapes_only
from vcbench.encoders.plm.weights import Official, Weights
from vcbench.encoders.xtrimopglm import tokens

if TYPE_CHECKING:
    import torch

    from vcbench.encoders.xtrimopglm.layers import Encoder

PREFIX = "transformer."
HEAD = "transformer.output_layer."
ROTARY = "inv_freq"
ROTARY_BASE = 10000.0
MODEL_TYPES = ("ProteinGLM", "xTrimoPGLM")

#: What config.json must say: with any other value the arithmetic would differ from that of `layers`.
REQUIRED = {
    "deepnorm": True,
    "apply_residual_connection_post_layernorm": True,
    "post_layer_norm": True,
    "rmsnorm": False,
    "glu_activation": "geglu",
    "add_bias_linear": True,
    "add_qkv_bias": True,
    "multi_query_attention": False,
    "is_causal": False,
    "rotary_embedding_2d": False,
    "fp32_residual_connection": False,
    "moe": False,
    "quantization_bit": 0,
    "padded_vocab_size": 128,
}  # fmt: skip

#: Keys other members of the family have; they may be absent here.
OPTIONAL = {
    "use_causal": (False,),
    "rotary_freq_base": (ROTARY_BASE,),
    "rope_theta": (ROTARY_BASE,),
    "pre_seq_len": (None, 0),
    "lora": (False,),
    "num_experts": (0,),
}
SIZES = ("hidden_size", "num_layers", "num_attention_heads", "kv_channels", "ffn_hidden_size")


class XtrimoPglmNetwork(ResidueNetwork):
    """A loaded xTrimoPGLM."""

    model: Encoder

    def __init__(self, model: Encoder, weights: Weights) -> None:
        import vcbench
        from vcbench.encoders.provenance import library_versions

        config = weights.config
        facts = {
            "library": f"variantcellbench {vcbench.__version__} (clean-room encoder)",
            "attn_impl": "sdpa",
            "layer": config["num_layers"],
            "after_final_norm": True,
            "prefix": "none",
            "residue_replacements": "none",
            "token_layout": tokens.LAYOUT_TEXT,
            "rotary_frequencies": "stored" if ROTARY in weights.names else "formula",
            "caveat": "written from a description; not yet compared with the authors' code on the official weights",
            **library_versions("torch"),
        }
        layout = tokens.layout(config["vocabulary"])
        super().__init__(model, layout, config["hidden_size"], config["padded_vocab_size"], facts)

    def states(self, ids: torch.Tensor, mask: torch.Tensor, all_layers: bool) -> Sequence[torch.Tensor]:
        """Return the hidden states, each (batch, tokens, D); the authors' code gives (tokens, batch, D)."""
        return self.model(ids, mask, all_layers)


def describe(folder: Path, entry: Mapping[str, Any]) -> Official:
    """Open an official folder: config.json, tokenizer.model and the weights, whole or in shards.

    Raises :class:`InputError` for anything that is not exactly an xTrimoPGLM masked language model.
    """
    hint = files.where_to_get(entry, folder)
    config = read_config(folder / "config.json", entry, hint)
    config["vocabulary"] = tokens.read_vocabulary(folder / "tokenizer.model", hint)
    tokens.layout(config["vocabulary"]).check(probe="".join(tokens.layout(config["vocabulary"]).ids))
    checkpoint = files.read_folder(folder, hint)
    expected = {PREFIX + name: tuple(value.shape) for name, value in make(config).state_dict().items()}
    frequencies = sorted(name for name in checkpoint.shapes if name.startswith(PREFIX) and name.endswith("." + ROTARY))
    unused = {
        name: "language-model head" for name in checkpoint.shapes if name.startswith(HEAD) and name not in expected
    }
    files.check_tensors(checkpoint, expected, [*unused, *frequencies], hint)
    mapping = {name.removeprefix(PREFIX): name for name in expected}
    if frequencies:
        rotary.check_stored(checkpoint, frequencies, rotary.frequencies(config["kv_channels"], ROTARY_BASE), hint)
        # what is stored may be rounded as it was in training, so it wins over the formula
        mapping[ROTARY] = frequencies[0]
        unused |= dict.fromkeys(frequencies[1:], f"the same as {frequencies[0]}")
    official = all(config[key] == value for key, value in entry["architecture"].items())
    return Official(checkpoint, config, mapping, unused, official, frozenset({ROTARY}))


def build(weights: Weights, settings: Mapping[str, Any], device: str, inputs: Path | None = None) -> XtrimoPglmNetwork:
    """Return the network, filled tensor by tensor from official shards or converted weights."""
    stored = ROTARY in weights.names
    model = make(weights.config, stored)
    if not stored:
        model.inv_freq = rotary.frequencies(weights.config["kv_channels"], ROTARY_BASE)
    weights.load_into(model, device)
    return XtrimoPglmNetwork(model, weights)


def full_size(entry: Mapping[str, Any]) -> Encoder:
    """Return the network at its published sizes on the meta device."""
    return make(
        {**entry["architecture"], "padded_vocab_size": REQUIRED["padded_vocab_size"], "layernorm_epsilon": 1e-5}
    )


def make(config: Mapping[str, Any], stored_frequencies: bool = False) -> Encoder:
    """Return the network on the meta device: shapes only, no memory."""
    import torch

    from vcbench.encoders.xtrimopglm.layers import Encoder, Sizes

    sizes = Sizes(**{key: config[key] for key in (*SIZES, "padded_vocab_size", "layernorm_epsilon")})
    with shapes_only():
        return Encoder(sizes, torch.empty(sizes.kv_channels // 2), stored_frequencies)


def read_config(path: Path, entry: Mapping[str, Any], hint: str) -> dict[str, Any]:
    """Return what of config.json the network needs; :class:`InputError` when it describes another network."""
    if not path.is_file():
        raise InputError("config not found", where=str(path), hint=hint)
    try:
        config = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError("not JSON", where=str(path), found=error, hint=hint) from error

    def wrong(what: str, key: str, expected: object) -> InputError:
        return InputError(what, where=str(path), found=config.get(key, "nothing"), expected=expected, hint=hint)

    if not isinstance(config, dict) or config.get("model_type") not in MODEL_TYPES:
        found = config.get("model_type") if isinstance(config, dict) else type(config).__name__
        raise InputError(
            "not an xTrimoPGLM config: model_type", where=str(path), found=found, expected=" or ".join(MODEL_TYPES),
            hint=hint,
        )  # fmt: skip
    for key, value in REQUIRED.items():
        if key not in config or config[key] != value:
            raise wrong(f"not a config of the xTrimoPGLM masked language models: {key}", key, value)
    for key, allowed in OPTIONAL.items():
        if key in config and config[key] not in allowed:
            raise wrong(f"not a config of the xTrimoPGLM masked language models: {key}", key, allowed[0])
    for key in SIZES:
        if type(config.get(key)) is not int or config[key] < 1:
            raise wrong(f"{key} is no positive integer", key, "a positive integer")
    epsilon = config.get("layernorm_epsilon")
    if not isinstance(epsilon, float) or not 0 < epsilon < 1e-2:
        raise wrong("layernorm_epsilon is needed", "layernorm_epsilon", "a small positive number")
    if config["num_attention_heads"] * config["kv_channels"] != config["hidden_size"] or config["kv_channels"] % 2:
        raise wrong(
            "kv_channels does not fit", "kv_channels",
            f"hidden_size / num_attention_heads = {config['hidden_size'] / config['num_attention_heads']:g}, even",
        )  # fmt: skip
    if config["hidden_size"] == entry["architecture"]["hidden_size"]:  # tensors cannot reveal a wrong number of heads
        for key, value in entry["architecture"].items():
            if config[key] != value:
                raise wrong(f"{key} is not that of {entry['title']}", key, value)
    return {key: config[key] for key in (*SIZES, "padded_vocab_size")} | {"layernorm_epsilon": epsilon}
