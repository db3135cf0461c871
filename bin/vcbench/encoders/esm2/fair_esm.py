"""ESM2's original files, ``esm2_t33_650M_UR50D.pt`` and its like (specs: plm_encoders.md 7.4, 7.5).

Such a file holds the training configuration under ``cfg`` and the tensors under ``model``; there is no vocabulary in
it, it is the one of :mod:`vcbench.encoders.esm2.tokens`. The file of the contact head is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vcbench.core.checkpoint import Checkpoint
from vcbench.core.errors import InputError
from vcbench.encoders.esm2 import tokens

#: Longest first: a name under both would otherwise keep half of the first one.
PREFIXES = ("encoder.sentence_encoder.", "encoder.")

#: {config.json of the Hugging Face folder: attribute of the training configuration}.
FACTS = {
    "hidden_size": "encoder_embed_dim", "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads", "token_dropout": "token_dropout",
}  # fmt: skip

#: Parts of our tensor names and of the original ones, in a layer.
LAYER = {
    "attention.self.query": "self_attn.q_proj", "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj", "attention.output.dense": "self_attn.out_proj",
    "attention.self.rotary_embeddings": "self_attn.rot_emb", "attention.LayerNorm": "self_attn_layer_norm",
    "intermediate.dense": "fc1", "output.dense": "fc2", "LayerNorm": "final_layer_norm",
}  # fmt: skip
OTHERS = {
    "embeddings.word_embeddings.weight": "embed_tokens.weight",
    "encoder.emb_layer_norm_after.weight": "emb_layer_norm_after.weight",
    "encoder.emb_layer_norm_after.bias": "emb_layer_norm_after.bias",
}

#: Tensors that the hidden states do not depend on, and why; any other name is an error.
UNUSED = {
    **dict.fromkeys(
        ("lm_head.bias", "lm_head.dense.weight", "lm_head.dense.bias", "lm_head.layer_norm.weight",
         "lm_head.layer_norm.bias"),
        "language-model head",
    ),
    "lm_head.weight": "language-model head (the embedding matrix again)",
    "contact_head.regression.weight": "contact prediction head",
    "contact_head.regression.bias": "contact prediction head",
}  # fmt: skip


def original_name(name: str) -> str:
    """Return the original name of a tensor of HF's `EsmModel`."""
    if match := re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias|inv_freq)", name):
        layer, part, kind = match.groups()
        return f"layers.{layer}.{LAYER[part]}.{kind}"
    return OTHERS[name]


def stored_names(checkpoint: Checkpoint, hint: str) -> dict[str, str]:
    """Return {name without the prefix of the training code: name in the file}."""
    names: dict[str, str] = {}
    for stored in checkpoint.shapes:
        plain = next((stored.removeprefix(prefix) for prefix in PREFIXES if stored.startswith(prefix)), stored)
        if plain in names:
            raise InputError(
                "two tensors for one purpose", where=str(checkpoint.path), found=f"{names[plain]} and {stored}",
                hint=hint,
            )  # fmt: skip
        names[plain] = stored
    return names


def read_config(checkpoint: Checkpoint, hint: str) -> dict[str, Any]:
    """Return the sizes of the network as config.json would name them; raises :class:`InputError` without them."""
    where = f"{checkpoint.path}, cfg"
    cfg = checkpoint.extra.get("cfg")
    model = cfg.get("model") if isinstance(cfg, Mapping) else None
    facts = model if isinstance(model, Mapping) else getattr(model, "__dict__", {})
    missing = [name for name in FACTS.values() if name not in facts]
    if missing:
        raise InputError("not an ESM2 file of fair-esm", where=where, found="no " + ", ".join(missing), hint=hint)
    config = {ours: facts[theirs] for ours, theirs in FACTS.items()}
    embedding = checkpoint.shapes.get(stored_names(checkpoint, hint).get("embed_tokens.weight", ""), (0,))
    return config | {
        "model_type": "esm", "vocab_size": embedding[0], "pad_token_id": tokens.PAD, "mask_token_id": tokens.MASK,
        "position_embedding_type": "rotary", "emb_layer_norm_before": False, "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
        "intermediate_size": 4 * config["hidden_size"] if isinstance(config["hidden_size"], int) else None,
    }  # fmt: skip
