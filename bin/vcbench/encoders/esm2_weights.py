"""Loading official ESM2 weights (Hugging Face layout) strictly into HF's `EsmModel`, in fp32."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core import checkpoint as files
from vcbench.core.errors import InputError
from vcbench.encoders import esm2_tokens as tokens

if TYPE_CHECKING:
    import torch

PREFIX = "esm."
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
ROTARY_BASE = 10000.0

#: What config.json must say: with any other value the published network would be another network.
REQUIRED = {
    "model_type": "esm", "vocab_size": 33, "pad_token_id": tokens.PAD, "mask_token_id": tokens.MASK,
    "position_embedding_type": "rotary", "token_dropout": True, "emb_layer_norm_before": False,
    "layer_norm_eps": 1e-5, "hidden_act": "gelu",
}  # fmt: skip
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")

#: Sizes of the published 650M model; tests use smaller ones, and the provenance says which it was.
OFFICIAL = {"hidden_size": 1280, "num_hidden_layers": 33, "num_attention_heads": 20, "intermediate_size": 5120}

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


@dataclass(frozen=True)
class Esm2Weights:
    """A loaded network and the account of its tensors.

    `used` is {tensor: shape}, `unused` {tensor: reason}; `facts` goes into the provenance.
    """

    model: torch.nn.Module
    used: dict[str, tuple[int, ...]]
    unused: dict[str, str]
    facts: dict[str, Any]

    @property
    def width(self) -> int:
        """Length D of a residue's vector."""
        return self.model.config.hidden_size

    def hidden(self, ids: np.ndarray, mask: np.ndarray | None = None, all_layers: bool = False) -> list[torch.Tensor]:
        """Return the hidden states of ids (batch, tokens), padded with id 1: the last layer's, after the final norm.

        With ``all_layers`` the list holds the embedding output and every layer, the last one after the final norm.
        Each is (batch, tokens, D) float32 on the model's device.
        """
        import torch

        device = next(self.model.parameters()).device
        mask = (ids != tokens.PAD) if mask is None else mask
        with torch.inference_mode():
            out = self.model(
                input_ids=torch.as_tensor(ids, dtype=torch.long, device=device),
                attention_mask=torch.as_tensor(mask, dtype=torch.long, device=device),
                output_hidden_states=all_layers,
            )
        return list(out.hidden_states) if all_layers else [out.last_hidden_state]

    def forward(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return every named output for named inputs (the hook of vcb_check_weights.py).

        Input ``input_ids`` (batch, tokens) of integers and, optionally, ``attention_mask`` of the same shape (default:
        all but the padding). Output ``last_hidden_state`` and ``hidden_states_0`` ... ``hidden_states_N``, float32.
        """
        unknown = sorted(set(inputs) - {"input_ids", "attention_mask"})
        if unknown or "input_ids" not in inputs:
            raise InputError(
                "wrong input arrays",
                where="--inputs",
                found=", ".join(inputs) or "none",
                expected="input_ids and optionally attention_mask",
            )
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        if ids.ndim != 2 or ids.dtype.kind not in "iu" or ids.size == 0:
            raise InputError(
                "wrong input_ids",
                where="--inputs",
                found=f"{ids.dtype} {ids.shape}",
                expected="integers (batch, tokens)",
            )
        if ids.min() < 0 or ids.max() >= len(tokens.VOCABULARY):
            raise InputError(
                "token id out of range",
                where="--inputs, input_ids",
                found=f"{ids.min()} to {ids.max()}",
                expected="0 to 32",
            )
        if mask is not None and mask.shape != ids.shape:
            raise InputError("wrong shape of attention_mask", where="--inputs", found=mask.shape, expected=ids.shape)
        states = [state.cpu().numpy() for state in self.hidden(ids, mask, all_layers=True)]
        return {
            "last_hidden_state": states[-1],
            **{f"hidden_states_{layer}": state for layer, state in enumerate(states)},
        }


def load(folder: Path, entry: Mapping[str, Any], device: str = "cpu", attention: str = "eager") -> Esm2Weights:
    """Return the network of a weights folder (config.json, vocab.txt and model.safetensors or pytorch_model.bin).

    Eager attention is the default because it equals fair-esm bit for bit. Raises :class:`InputError` for anything that
    is not exactly an ESM2 checkpoint, with the place to get one.
    """
    import torch

    hint = files.where_to_get(entry, folder)
    config = read_config(folder / "config.json", hint)
    tokens.check_vocabulary(folder / "vocab.txt", hint)
    checkpoint = files.read(files.find_file(folder, WEIGHT_FILES, hint), hint)
    model = build(config, attention)
    expected = {
        PREFIX + name: tuple(value.shape)
        for name, value in model.state_dict().items()
        if not name.startswith(("contact_head.", "rotary_embeddings."))
    }
    rotary = rotary_names(config["num_hidden_layers"]) & set(checkpoint.shapes)
    files.check_tensors(checkpoint, expected, [*UNUSED, *rotary], hint)
    state = {}
    for name in expected:
        tensor = checkpoint.tensor(name).to(torch.float32)
        if not torch.isfinite(tensor).all():
            raise InputError(f"{name} holds values that are not finite", where=str(checkpoint.path), hint=hint)
        state[name.removeprefix(PREFIX)] = tensor
    state["rotary_embeddings.inv_freq"] = rotary_frequencies(checkpoint, rotary, config, hint)
    del model.contact_head  # never called for hidden states
    model.load_state_dict(state, strict=True, assign=True)
    model.embeddings.position_ids = torch.arange(config["max_position_embeddings"])[None]
    left = [name for name, value in (*model.named_parameters(), *model.named_buffers()) if value.is_meta]
    if left:
        raise InputError(f"tensors without values: {', '.join(left)}", where=str(checkpoint.path), hint=hint)
    model.eval().requires_grad_(False).to(device)
    used = {name: checkpoint.shapes[name] for name in sorted([*expected, *rotary])}
    unused = {name: UNUSED[name] for name in sorted(checkpoint.shapes) if name in UNUSED}
    return Esm2Weights(model, used, unused, _facts(checkpoint, config, model, attention))


def read_config(path: Path, hint: str) -> dict[str, Any]:
    """Return the checked config.json; raises :class:`InputError` when it does not describe an ESM2 network."""
    if not path.is_file():
        raise InputError("config not found", where=str(path), hint=hint)
    try:
        config = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError("not JSON", where=str(path), found=error, hint=hint) from error
    for key, value in REQUIRED.items():
        if config.get(key) != value:
            raise InputError(
                f"not an ESM2 config: {key}", where=str(path), found=config.get(key), expected=value, hint=hint
            )
    for key in SIZES:
        if not isinstance(config.get(key), int) or config[key] < 1:
            raise InputError(f"{key} is no positive integer", where=str(path), found=config.get(key), hint=hint)
    if config.get("is_folding_model"):
        raise InputError("this is the folding model ESMFold", where=str(path), expected="ESM2", hint=hint)
    if config.get("rope_theta", ROTARY_BASE) != ROTARY_BASE:
        raise InputError(
            "rotary base differs", where=str(path), found=config["rope_theta"], expected=ROTARY_BASE, hint=hint
        )
    if config["hidden_size"] % (2 * config["num_attention_heads"]):
        raise InputError(
            "hidden_size is no even multiple of num_attention_heads",
            where=str(path),
            found=config["hidden_size"],
            hint=hint,
        )
    if config["hidden_size"] == OFFICIAL["hidden_size"]:  # tensors cannot reveal a wrong number of heads
        for key, value in OFFICIAL.items():
            if config[key] != value:
                raise InputError(
                    f"{key} is not that of ESM2 650M", where=str(path), found=config[key], expected=value, hint=hint
                )
    return {key: config[key] for key in (*REQUIRED, *SIZES)} | {
        "max_position_embeddings": config.get("max_position_embeddings", 1026)
    }


def build(config: Mapping[str, Any], attention: str) -> torch.nn.Module:
    """Return `EsmModel` without pooler on the meta device: shapes only, no memory, no random weights."""
    import torch
    from transformers import EsmConfig
    from transformers.models.esm.modeling_esm import EsmModel

    settings = {key: value for key, value in config.items() if key not in ("model_type", "hidden_act")}
    with torch.device("meta"):
        return EsmModel(
            EsmConfig(
                **settings,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                dtype=torch.float32,
                attn_implementation=attention,
            ),
            add_pooling_layer=False,
        )


def rotary_names(layers: int) -> set[str]:
    """Return the names under which checkpoints store rotary frequencies: per layer, or once in newer files."""
    return {f"{PREFIX}rotary_embeddings.inv_freq"} | {
        f"{PREFIX}encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq" for layer in range(layers)
    }


def rotary_frequencies(
    checkpoint: files.Checkpoint, names: set[str], config: Mapping[str, Any], hint: str
) -> torch.Tensor:
    """Return the rotary frequencies (head width / 2,) float32: those of the file, or 10000^(-2i/d) when it has none.

    The stored ones win because a published file may hold them rounded to fp16, as used in training and by fair-esm;
    they must be the same in every layer and equal the formula within that rounding (Su et al. 2021).
    """
    import torch

    width = config["hidden_size"] // config["num_attention_heads"]
    formula = 1.0 / ROTARY_BASE ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
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
    return next(iter(stored.values())).clone() if stored else formula


def _facts(
    checkpoint: files.Checkpoint, config: Mapping[str, Any], model: torch.nn.Module, attention: str
) -> dict[str, Any]:
    from vcbench.core.hashing import sha256_file
    from vcbench.encoders.provenance import library_versions

    return {
        "weights_file": checkpoint.path.name,
        "weights_sha256": sha256_file(checkpoint.path),
        "dtype_checkpoint": sorted({checkpoint.dtypes[name] for name in checkpoint.dtypes if name not in UNUSED}),
        "official_size": all(config[key] == value for key, value in OFFICIAL.items()),
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sizes": {key: config[key] for key in SIZES},
        "dtype_compute": "float32",
        "attn_impl": attention,
        "layer": config["num_hidden_layers"],
        "after_final_norm": True,
        **library_versions("torch", "transformers"),
    }
