"""ESM2: official weights, Hugging Face's or fair-esm's, strictly into HF's `EsmModel` (specs: 2.1, 7.4)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench.core import checkpoint as files
from vcbench.core.errors import InputError
from vcbench.encoders.esm2 import fair_esm, head, tokens
from vcbench.encoders.plm.residue_network import ResidueNetwork
from vcbench.encoders.plm.shapes import shapes_only
from vcbench.encoders.plm.weights import Official, Weights
from vcbench.encoders.provenance import library_versions

if TYPE_CHECKING:
    import numpy as np
    import torch

PREFIX = "esm."
ROTARY_BASE = 10000.0
ROTARY = "rotary_embeddings.inv_freq"

#: What config.json must say: with any other value the published network would be another network.
REQUIRED = {
    "model_type": "esm", "vocab_size": 33, "pad_token_id": tokens.PAD, "mask_token_id": tokens.MASK,
    "position_embedding_type": "rotary", "token_dropout": True, "emb_layer_norm_before": False,
    "layer_norm_eps": 1e-5, "hidden_act": "gelu",
}  # fmt: skip
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")

#: Tensors of the official file that the hidden states do not depend on, and why; any other name is an error.
UNUSED = {
    "lm_head.bias": "language-model head",
    "lm_head.dense.weight": "language-model head",
    "lm_head.dense.bias": "language-model head",
    "lm_head.layer_norm.weight": "language-model head",
    "lm_head.layer_norm.bias": "language-model head",
    "lm_head.decoder.weight": "language-model head (the embedding matrix again)",
    "esm.contact_head.regression.weight": "contact prediction head",
    "esm.contact_head.regression.bias": "contact prediction head",
    "esm.embeddings.position_ids": "counter of learned positions; ESM2 has rotary ones",
    "esm.embeddings.position_embeddings.weight": "learned positions, never trained; ESM2 has rotary ones",
}


class Esm2Network(ResidueNetwork):
    """A loaded ESM2, with or without its language-model head."""

    def __init__(self, model: torch.nn.Module, weights: Weights, attention: str) -> None:
        facts = {
            "library": f"transformers {library_versions('transformers')['transformers']} EsmModel",
            "attn_impl": attention,
            "layer": model.config.num_hidden_layers,
            "after_final_norm": True,
            "prefix": "<cls>",
            "residue_replacements": "none",
            "token_layout": tokens.LAYOUT_TEXT,
            **library_versions("torch", "transformers"),
        }
        super().__init__(model, tokens.LAYOUT, model.config.hidden_size, model.config.vocab_size, facts)

    def states(self, ids: torch.Tensor, mask: torch.Tensor, all_layers: bool) -> Sequence[torch.Tensor]:
        """Return the hidden states; the last one is after the final norm, as in fair-esm."""
        # nothing to mask without padding: attention need not look
        attention = None if bool(mask.all()) else mask.long()
        out = self.model(input_ids=ids, attention_mask=attention, output_hidden_states=all_layers)
        return out.hidden_states if all_layers else [out.last_hidden_state]

    def forward(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return every named output (see :meth:`ResidueNetwork.forward`); with the head also ``logits``."""
        import torch

        outputs = super().forward(inputs)
        if hasattr(self.model, "lm_head"):
            last = torch.as_tensor(outputs["last_hidden_state"], device=next(self.model.parameters()).device)
            outputs["logits"] = head.scores(self.model, last).cpu().numpy()
        return outputs


def describe(folder: Path, entry: Mapping[str, Any]) -> Official:
    """Open an official folder: config.json, vocab.txt and the weights, whole or in shards, or else fair-esm's file.

    Raises :class:`InputError` for anything that is not exactly an ESM2 checkpoint, with the place to get one.
    """
    hint = files.where_to_get(entry, folder)
    original = [name for name in entry["weights"]["or"]["files"] if (folder / name).is_file()]
    if original and not (folder / "config.json").exists():
        return describe_original(files.read(folder / original[0], hint), entry, hint)
    config = read_config(folder / "config.json", entry, hint)
    tokens.check_vocabulary(folder / "vocab.txt", hint)
    tokens.check_library()
    checkpoint = files.read_folder(folder, hint)
    rotary = rotary_names(config["num_hidden_layers"])
    stored = {name: PREFIX + name for name in (*expected_shapes(config), *rotary)}
    return account(checkpoint, config, entry, stored, UNUSED, hint)


def describe_original(checkpoint: files.Checkpoint, entry: Mapping[str, Any], hint: str) -> Official:
    """Account for the tensors of fair-esm's own file."""
    where = f"{checkpoint.path}, cfg"
    config = check_config(fair_esm.read_config(checkpoint, hint), where, entry, hint)
    tokens.check_library()
    found = fair_esm.stored_names(checkpoint, hint)
    wanted = {
        name: fair_esm.original_name(name)
        for name in (*expected_shapes(config), *rotary_names(config["num_hidden_layers"]) - {ROTARY})
    }
    stored = {name: found.get(plain, fair_esm.PREFIXES[0] + plain) for name, plain in wanted.items()}
    unused = {found[plain]: reason for plain, reason in fair_esm.UNUSED.items() if plain in found}
    origin = {"url": entry["weights"]["or"]["source"], "revision": None}
    return replace(account(checkpoint, config, entry, stored, unused, hint), origin=origin)


def account(
    checkpoint: files.Checkpoint,
    config: dict[str, Any],
    entry: Mapping[str, Any],
    stored: Mapping[str, str],
    unused: Mapping[str, str],
    hint: str,
) -> Official:
    """Return the checked account of every tensor; `stored` is {name in `EsmModel`: name in the file}.

    Files hold the rotary frequencies once, once per layer, or not at all.
    """
    shapes = expected_shapes(config)
    rotary = {stored[name] for name in stored if name not in shapes} & set(checkpoint.shapes)
    files.check_tensors(checkpoint, {stored[name]: shapes[name] for name in shapes}, [*unused, *rotary], hint)
    mapping = {name: stored[name] for name in shapes}
    idle = {name: unused[name] for name in checkpoint.shapes if name in unused}
    if rotary:
        check_rotary(checkpoint, rotary, config, hint)
        first = min(rotary)
        mapping[ROTARY] = first
        idle |= dict.fromkeys(rotary - {first}, f"the same as {first}")
    size = all(config[key] == value for key, value in entry["architecture"].items())
    official = Official(checkpoint, config, mapping, idle, size, frozenset({ROTARY}))
    return head.include(official, hint) if head.wanted(entry) else official


def expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors a checkpoint must hold, by their name in `EsmModel`."""
    state = make(config, "eager").state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if name != ROTARY}


def build(
    weights: Weights, settings: Mapping[str, Any], device: str, inputs: Path | None = None, attention: str = "sdpa"
) -> Esm2Network:
    """Return the network.

    With ``attention="eager"`` it equals fair-esm bit for bit. The default does the same in fused steps, takes half to
    four fifths of the time (benchmarks/README.md) and differs by rounding: 1e-6 at hidden states of size 1.
    """
    import torch

    model = make(weights.config, attention)
    model.embeddings.position_ids = torch.arange(weights.config["max_position_embeddings"])[None]
    # the stored frequencies win: a published file may hold them rounded to fp16, as used in training and by fair-esm
    if ROTARY not in weights.names:
        model.rotary_embeddings.register_buffer("inv_freq", frequencies(weights.config), persistent=False)
    if head.PREFIX + "bias" in weights.names:
        model.lm_head = head.make(weights.config)
    weights.load_into(model, device)
    return Esm2Network(model, weights, attention)


def read_config(path: Path, entry: Mapping[str, Any], hint: str) -> dict[str, Any]:
    """Return the checked config.json; raises :class:`InputError` when it does not describe an ESM2 network."""
    if not path.is_file():
        raise InputError("config not found", where=str(path), hint=hint)
    try:
        config = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError("not JSON", where=str(path), found=error, hint=hint) from error
    if not isinstance(config, dict):
        raise InputError("not an ESM2 config", where=str(path), found=type(config).__name__, hint=hint)
    return check_config(config, str(path), entry, hint)


def check_config(config: Mapping[str, Any], where: str, entry: Mapping[str, Any], hint: str) -> dict[str, Any]:
    """Return what building the network needs; raises :class:`InputError` when it is not an ESM2 network."""
    for key, value in REQUIRED.items():
        if config.get(key) != value:
            raise InputError(
                f"not an ESM2 config: {key}", where=where, found=config.get(key), expected=value, hint=hint
            )
    for key in SIZES:
        if not isinstance(config.get(key), int) or config[key] < 1:
            raise InputError(f"{key} is no positive integer", where=where, found=config.get(key), hint=hint)
    if config.get("is_folding_model"):
        raise InputError("this is the folding model ESMFold", where=where, expected="ESM2", hint=hint)
    if config.get("rope_theta", ROTARY_BASE) != ROTARY_BASE:
        raise InputError(
            "rotary base differs", where=where, found=config["rope_theta"], expected=ROTARY_BASE, hint=hint
        )
    if config["hidden_size"] % (2 * config["num_attention_heads"]):
        raise InputError(
            "hidden_size is no even multiple of num_attention_heads",
            where=where,
            found=config["hidden_size"],
            hint=hint,
        )
    if config["hidden_size"] == entry["architecture"]["hidden_size"]:  # tensors cannot reveal a wrong number of heads
        for key, value in entry["architecture"].items():
            if config[key] != value:
                raise InputError(
                    f"{key} is not that of {entry['title']}", where=where, found=config[key], expected=value,
                    hint=hint,
                )  # fmt: skip
    return {key: config[key] for key in (*REQUIRED, *SIZES)} | {
        "max_position_embeddings": config.get("max_position_embeddings", 1026)
    }


def make(config: Mapping[str, Any], attention: str) -> torch.nn.Module:
    """Return `EsmModel` without pooler and contact head on the meta device: shapes only, no memory."""
    import torch
    from transformers import EsmConfig
    from transformers.models.esm.modeling_esm import EsmModel

    from vcbench.encoders.esm2 import fused

    settings = {key: value for key, value in config.items() if key not in ("model_type", "hidden_act")}
    with shapes_only():
        model = EsmModel(
            EsmConfig(
                **settings,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                dtype=torch.float32,
                attn_implementation=attention,
            ),
            add_pooling_layer=False,
        )
    del model.contact_head  # never called for hidden states
    if attention != "eager":
        for layer in model.encoder.layer:
            layer.intermediate = fused.LinearGelu(layer.intermediate.dense)
    return model


def full_size(entry: Mapping[str, Any]) -> torch.nn.Module:
    """Return the network at its published sizes on the meta device."""
    config = {**REQUIRED, **entry["architecture"], "max_position_embeddings": 1026}
    model = make(config, "eager")
    if head.wanted(entry):
        model.lm_head = head.make(config)
    return model


def rotary_names(layers: int) -> set[str]:
    """Return the names under which checkpoints store rotary frequencies: per layer, or once in newer files."""
    return {ROTARY} | {f"encoder.layer.{layer}.attention.self.{ROTARY}" for layer in range(layers)}


def frequencies(config: Mapping[str, Any]) -> torch.Tensor:
    """Return the rotary frequencies 10000^(-2i/d), (head width / 2,) float32 (Su et al. 2021)."""
    import torch

    width = config["hidden_size"] // config["num_attention_heads"]
    return 1.0 / ROTARY_BASE ** (torch.arange(0, width, 2, dtype=torch.float32) / width)


def check_rotary(checkpoint: files.Checkpoint, names: set[str], config: Mapping[str, Any], hint: str) -> None:
    """Raise :class:`InputError` unless stored frequencies agree in all layers and with the formula within rounding."""
    import torch

    formula = frequencies(config)
    stored = {name: checkpoint.tensor(name).to(torch.float32) for name in sorted(names)}
    for name, value in stored.items():
        if tuple(value.shape) != tuple(formula.shape):
            raise InputError(
                f"wrong shape of {name} (is num_attention_heads right?)",
                where=str(checkpoint.path),
                found=tuple(value.shape),
                expected=tuple(formula.shape),
                hint=hint,
            )
        first = next(iter(stored.values()))
        if not torch.equal(value, first) or not torch.allclose(value, formula, rtol=1e-3, atol=1e-7):
            raise InputError(
                f"{name} does not hold the rotary frequencies of ESM2", where=str(checkpoint.path), hint=hint
            )
