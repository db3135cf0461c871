"""T5 encoders: official weights strictly into the encoder of HF's `T5EncoderModel` (specs: plm_encoders.md 2.3, 2.5).

One network for ProtT5 and Ankh3: relative-position bias in the first block, shared by all; RMS norms without bias,
before each half block and after the last; attention without scaling; a ReLU or a gated SiLU feed-forward.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core import checkpoint as files
from vcbench.core.errors import InputError, ModelError
from vcbench.encoders.plm.network import Window
from vcbench.encoders.plm.shapes import shapes_only
from vcbench.encoders.plm.weights import Official, Weights
from vcbench.encoders.t5 import tokens

if TYPE_CHECKING:
    import torch

SIZES = ("d_model", "d_kv", "d_ff", "num_layers", "num_heads")

#: What config.json must say, by the entry's `tokens`: with any other value it would be another network.
COMMON = {
    "model_type": "t5", "pad_token_id": tokens.PAD, "eos_token_id": tokens.EOS, "layer_norm_epsilon": 1e-6,
    "relative_attention_max_distance": 128,
}  # fmt: skip
REQUIRED = {
    "prott5": {**COMMON, "vocab_size": 128, "feed_forward_proj": "relu", "relative_attention_num_buckets": 32},
    "ankh3": {**COMMON, "vocab_size": 256, "feed_forward_proj": "gated-silu", "relative_attention_num_buckets": 64},
}

#: What T5's configuration means by a key that is absent (older files leave some out).
ABSENT = {
    "pad_token_id": 0, "eos_token_id": 1, "layer_norm_epsilon": 1e-6, "relative_attention_max_distance": 128,
    "feed_forward_proj": "relu", "relative_attention_num_buckets": 32,
}  # fmt: skip

#: The embedding matrix: its name in our network, the stored one, and the copies some files hold beside it.
EMBEDDING, STORED, COPY = "embed_tokens.weight", "shared.weight", "encoder.embed_tokens.weight"


class T5Network:
    """A loaded T5 encoder; last hidden states are after the final norm."""

    def __init__(self, model: torch.nn.Module, layout: tokens.Layout, facts: Mapping[str, Any]) -> None:
        from vcbench.encoders.provenance import library_versions

        self.model, self.layout = model, layout
        self.width: int = model.config.d_model
        self.facts = {
            "library": f"transformers {library_versions('transformers')['transformers']} T5EncoderModel",
            "attn_impl": model.config._attn_implementation,
            "layer": model.config.num_layers,
            "after_final_norm": True,
            **facts,
            **library_versions("torch", "transformers", "sentencepiece"),
        }

    def window(self, sequence: str, protein: str, start: int) -> Window:
        """Return the window; nothing but its residues matters."""
        return Window(sequence)

    def tokens(self, window: Window) -> int:
        """Return the number of tokens of a pass."""
        return len(window.sequence) + self.layout.special

    def passes(self, window: Window) -> int:
        """Return 1: a window goes through the network once."""
        return 1

    def token_index(self, position: int) -> int:
        """Return the 0-based token of a 1-based residue position."""
        return self.layout.token_index(position)

    def check(self) -> None:
        """Raise :class:`ModelError` unless ids obey the layout and every token has its hidden row."""
        probe = tokens.known(self.layout)
        self.layout.check(probe=probe)
        ids = self.layout.batch([probe])
        shape = tuple(self.states(ids)[0].shape)
        if shape != (*ids.shape, self.width):
            raise ModelError(f"hidden states of T5 have shape {shape}, expected {(*ids.shape, self.width)}")

    def hidden(self, windows: Sequence[Window]) -> torch.Tensor:
        """Return the last layer's states, (windows, tokens, D), after the final norm."""
        return self.states(self.layout.batch([window.sequence for window in windows]))[0]

    def states(self, ids: np.ndarray, mask: np.ndarray | None = None, all_layers: bool = False) -> list[torch.Tensor]:
        """Return the hidden states of ids (batch, tokens), padded with id 0: the last layer's, after the final norm.

        With ``all_layers`` the list holds the embedding output and every layer, the last one after the final norm.
        Each is (batch, tokens, D) in the compute type on the network's device.
        """
        import torch

        device = next(self.model.parameters()).device
        mask = (ids != self.layout.pad) if mask is None else mask
        # without padding there is nothing to mask, and one position bias (1, heads, T, T) serves the whole batch
        attention = None if np.all(mask) else torch.as_tensor(mask, dtype=torch.long, device=device)
        with torch.inference_mode():
            out = self.model(
                input_ids=torch.as_tensor(ids, dtype=torch.long, device=device),
                attention_mask=attention,
                output_hidden_states=all_layers,
            )
        return list(out.hidden_states) if all_layers else [out.last_hidden_state]

    def forward(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return every named output for named inputs (the hook of vcb_check_weights.py).

        Input ``input_ids`` (batch, tokens) of integers and, optionally, ``attention_mask`` of the same shape (default:
        all but the padding). Output ``last_hidden_state`` and ``hidden_states_0`` ... ``hidden_states_N``, float32.
        """
        ids, mask = checked_inputs(inputs, self.model.config.vocab_size)
        states = [state.float().cpu().numpy() for state in self.states(ids, mask, all_layers=True)]
        return {
            "last_hidden_state": states[-1],
            **{f"hidden_states_{layer}": state for layer, state in enumerate(states)},
        }


def describe(folder: Path, entry: Mapping[str, Any]) -> Official:
    """Open an official folder: config.json, spiece.model and the weights, whole or in shards, decoder or not.

    Raises :class:`InputError` for anything that is not exactly this encoder, with the place to get one.
    """
    hint = files.where_to_get(entry, folder)
    dialect = tokens.dialect_of(entry)
    config = read_config(folder / "config.json", entry, hint)
    config["vocabulary"] = tokens.read(folder, dialect, config["vocab_size"], hint)
    checkpoint = files.read_folder(folder, hint)
    expected = {
        name: tuple(value.shape) for name, value in make(config).state_dict().items()
    }  # names of our network, which are those of the file without "encoder."
    embedding = check_embedding(checkpoint, hint)
    mapping = {name: embedding if name == EMBEDDING else f"encoder.{name}" for name in expected}
    if not any(name.startswith("encoder.block.") for name in checkpoint.shapes):
        raise InputError(
            "the file holds no encoder", where=str(checkpoint.path), found=", ".join(sorted(checkpoint.shapes)[:3]),
            expected="tensors encoder.block.*", hint=hint,
        )  # fmt: skip
    unused = {name: reason for name in checkpoint.shapes if (reason := reason_unused(name, embedding))}
    files.check_tensors(checkpoint, {mapping[name]: shape for name, shape in expected.items()}, [*unused], hint)
    official = all(config[key] == value for key, value in entry["architecture"].items())
    return Official(checkpoint, config, mapping, unused, official)


def build(
    weights: Weights, settings: Mapping[str, Any], device: str, inputs: Path | None = None, attention: str = "sdpa"
) -> T5Network:
    """Return the network.

    SDPA attention is the default: same values as eager within rounding, but it never holds the (batch, heads, T, T)
    weights, and under bf16 its softmax is not rounded.
    """
    dialect = tokens.DIALECTS[weights.config["tokens"]]
    prefix = settings.get("prefix", tokens.NO_PREFIX)
    model = make(weights.config, attention)
    weights.load_into(model, device)
    replaced = ", ".join(f"{old} by {new}" for old, new in dialect.replacements.items())
    facts = {
        "prefix": prefix,
        "residue_replacements": replaced or "none",
        "token_layout": tokens.describe_layout(dialect, prefix),
    }
    return T5Network(model, tokens.layout(weights.config["vocabulary"], dialect, prefix), facts)


def full_size(entry: Mapping[str, Any]) -> torch.nn.Module:
    """Return the network at its published sizes on the meta device."""
    return make({**REQUIRED[entry["tokens"]], **entry["architecture"]})


def make(config: Mapping[str, Any], attention: str = "sdpa") -> torch.nn.Module:
    """Return the encoder of `T5EncoderModel` on the meta device: shapes only, no memory.

    Taken out of its frame, which holds the embedding matrix under a second name.
    """
    import torch
    from transformers import T5Config, T5EncoderModel

    keys = (*SIZES, *(key for key in REQUIRED["prott5"] if key != "model_type"))
    settings = {key: config[key] for key in keys}
    with shapes_only():
        return T5EncoderModel(
            T5Config(**settings, dropout_rate=0.0, dtype=torch.float32, attn_implementation=attention)
        ).encoder


def read_config(path: Path, entry: Mapping[str, Any], hint: str) -> dict[str, Any]:
    """Return the checked config.json; raises :class:`InputError` when it does not describe the entry's network."""
    if not path.is_file():
        raise InputError("config not found", where=str(path), hint=hint)
    try:
        config = json.loads(path.read_text())
        config = {**ABSENT, **config}
    except (ValueError, UnicodeDecodeError, TypeError) as error:
        raise InputError("not JSON", where=str(path), found=error, hint=hint) from error
    required = REQUIRED[entry["tokens"]]
    gated, _, function = required["feed_forward_proj"].rpartition("-")
    for key, value in {**required, "is_decoder": False, "is_gated_act": bool(gated), "dense_act_fn": function}.items():
        optional = key not in required  # newer files repeat what feed_forward_proj says
        if config.get(key, value if optional else None) != value:
            raise InputError(
                f"not a config of {entry['title']}: {key}", where=str(path), found=config.get(key), expected=value,
                hint=hint,
            )  # fmt: skip
    for key in SIZES:
        if not isinstance(config.get(key), int) or isinstance(config[key], bool) or config[key] < 1:
            raise InputError(f"{key} is no positive integer", where=str(path), found=config.get(key), hint=hint)
    if config["d_model"] == entry["architecture"]["d_model"]:  # ProtT5 XL and XXL have the same width
        for key, value in entry["architecture"].items():
            if config[key] != value:
                raise InputError(
                    f"{key} is not that of {entry['title']}", where=str(path), found=config[key], expected=value,
                    hint=hint,
                )  # fmt: skip
    return {"tokens": entry["tokens"], **{key: config[key] for key in (*required, *SIZES)}}


def check_embedding(checkpoint: files.Checkpoint, hint: str) -> str:
    """Return the stored name of the embedding matrix; raises :class:`InputError` when two names hold two matrices."""
    import torch

    if COPY not in checkpoint.shapes:
        return STORED
    if STORED not in checkpoint.shapes:
        return COPY
    if not torch.equal(checkpoint.tensor(STORED), checkpoint.tensor(COPY)):
        raise InputError(
            f"{STORED} and {COPY} differ", where=str(checkpoint.path), expected="one embedding matrix", hint=hint
        )
    return STORED


def reason_unused(name: str, embedding: str) -> str:
    """Return why hidden states do not depend on a stored tensor; nothing when they do, or when it is unknown."""
    if name == COPY and embedding != COPY:
        return f"the same as {embedding}"
    if name.startswith("decoder."):
        return "decoder"
    return "language-model head" if name == "lm_head.weight" else ""


def checked_inputs(inputs: Mapping[str, np.ndarray], vocab_size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return `input_ids` and `attention_mask` or None; raises :class:`InputError` for anything else."""
    if "input_ids" not in inputs or set(inputs) - {"input_ids", "attention_mask"}:
        raise InputError(
            "wrong input arrays", where="--inputs", found=", ".join(inputs) or "none",
            expected="input_ids and optionally attention_mask",
        )  # fmt: skip
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or ids.size == 0:
        raise InputError(
            "wrong input_ids", where="--inputs", found=f"{ids.dtype} {ids.shape}", expected="integers (batch, tokens)"
        )
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise InputError(
            "token id out of range", where="--inputs, input_ids", found=f"{ids.min()} to {ids.max()}",
            expected=f"0 to {vocab_size - 1}",
        )  # fmt: skip
    if mask is not None and mask.shape != ids.shape:
        raise InputError("wrong shape of attention_mask", where="--inputs", found=mask.shape, expected=ids.shape)
    return ids, mask
