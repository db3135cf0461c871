"""Write a small random ESM C checkpoint in the official layouts: config.json, tokenizer.json, model.safetensors.

Used by the tests, and as a script by pipeline tests: ``python make_esmc.py WEIGHTS`` writes WEIGHTS/esmc_300m in the
research layout of the pinned revision (`fused`), ``--style native`` in that of transformers. Names and config of both
are those of biohub/ESMC-300M, written out by hand, so that they do not depend on the code under test. Norms and biases
are random too: a loader that forgets one of them is noticed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import weight_files

VOCABULARY = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-|", "<mask>"]
STYLES = ("fused", "native")


def config(hidden: int = 32, layers: int = 3, heads: int = 4, style: str = "fused") -> dict[str, object]:
    """Return config.json of the official model with other sizes."""
    common = {
        "model_type": "esmc", "vocab_size": 64, "pad_token_id": 1, "mask_token_id": 32, "dtype": "float32",
        "tie_word_embeddings": False,
    }  # fmt: skip
    if style == "fused":
        sizes = {"d_model": hidden, "n_layers": layers, "n_heads": heads}
        return common | sizes | {"architectures": ["ESMCForMaskedLM"], "transformers_version": "4.57.6"}
    return common | {
        "architectures": ["EsmcForMaskedLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0,
        "classifier_dropout": 0.1, "eos_token_id": 2, "head_dim": hidden // heads, "hidden_act": "silu",
        "hidden_size": hidden, "initializer_range": 0.02, "intermediate_size": feed_forward(hidden),
        "max_position_embeddings": 2048, "mlp_bias": False, "num_attention_heads": heads,
        "num_hidden_layers": layers, "num_key_value_heads": heads,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "transformers_version": "5.23.0",
    }  # fmt: skip


def feed_forward(hidden: int) -> int:
    """Return 8/3 of the hidden size, rounded up to a multiple of 256 (960: 2560, 1152: 3072)."""
    return math.ceil(hidden * 8 / 3 / 256) * 256


def blocks(hidden: int = 32, layers: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return random tensors under the names of transformers, without prefix and head."""
    generator = torch.Generator().manual_seed(seed)
    ffn = feed_forward(hidden)

    def matrix(out: int, inside: int) -> torch.Tensor:
        return torch.randn(out, inside, generator=generator) * 1.5 / inside**0.5

    def scale() -> torch.Tensor:
        return torch.randn(hidden, generator=generator) * 0.3 + 1.0

    def shift() -> torch.Tensor:
        return torch.randn(hidden, generator=generator) * 0.3

    state = {"embed_tokens.weight": torch.randn(64, hidden, generator=generator)}
    for layer in range(layers):
        stem = f"layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            state |= {f"{stem}.{norm}.weight": scale(), f"{stem}.{norm}.bias": shift()}
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            state[f"{stem}.self_attn.{part}.weight"] = matrix(hidden, hidden)
        for part in ("q_norm", "k_norm"):
            state[f"{stem}.self_attn.{part}.weight"] = scale()
        for part in ("gate_proj", "up_proj"):
            state[f"{stem}.mlp.{part}.weight"] = matrix(ffn, hidden)
        state[f"{stem}.mlp.down_proj.weight"] = matrix(hidden, ffn)
    state["norm.weight"] = scale()
    return state


def head(hidden: int, style: str) -> dict[str, torch.Tensor]:
    """Return the language-model head, which hidden states do not need."""
    names = ("dense", "layer_norm", "decoder") if style == "native" else ("0", "2", "3")
    shapes = ((hidden, hidden), (hidden,), (64, hidden))
    state = {}
    for name, shape in zip(names, shapes, strict=True):
        state |= {f"lm_head.{name}.weight": torch.ones(shape), f"lm_head.{name}.bias": torch.zeros(shape[0])}
    return state


def tensors(hidden: int = 32, layers: int = 3, seed: int = 0, style: str = "fused") -> dict[str, torch.Tensor]:
    """Return all tensors under the official names, the unused ones included; both styles hold the same numbers."""
    plain = blocks(hidden, layers, seed)
    if style == "native":
        return {f"esmc.{name}": value for name, value in plain.items()} | head(hidden, style)
    state = {"esmc.embed.weight": plain["embed_tokens.weight"]}
    for layer in range(layers):
        take = {name.split(".", 2)[2]: value for name, value in plain.items() if name.startswith(f"layers.{layer}.")}
        stem = f"esmc.transformer.blocks.{layer}"
        state |= {
            f"{stem}.attn.layernorm_qkv.layer_norm_weight": take["input_layernorm.weight"],
            f"{stem}.attn.layernorm_qkv.layer_norm_bias": take["input_layernorm.bias"],
            f"{stem}.attn.layernorm_qkv.weight": torch.cat([take[f"self_attn.{x}_proj.weight"] for x in "qkv"]),
            f"{stem}.attn.q_ln.weight": take["self_attn.q_norm.weight"],
            f"{stem}.attn.k_ln.weight": take["self_attn.k_norm.weight"],
            f"{stem}.attn.out_proj.weight": take["self_attn.o_proj.weight"],
            f"{stem}.ffn.layer_norm_weight": take["post_attention_layernorm.weight"],
            f"{stem}.ffn.layer_norm_bias": take["post_attention_layernorm.bias"],
            f"{stem}.ffn.fc1_weight": torch.cat([take["mlp.gate_proj.weight"], take["mlp.up_proj.weight"]]),
            f"{stem}.ffn.fc2_weight": take["mlp.down_proj.weight"],
        }
        for module in ("attn.layernorm_qkv", "attn.out_proj", "ffn"):
            state[f"{stem}.{module}._extra_state"] = torch.empty(0, dtype=torch.uint8)
    return state | {"esmc.transformer.norm.weight": plain["norm.weight"]} | head(hidden, style)


def write(
    folder: Path,
    settings: dict[str, object] | None = None,
    state: dict[str, torch.Tensor] | None = None,
    seed: int = 0,
    layout: str = "model.safetensors",
    style: str = "fused",
) -> Path:
    """Write config.json, tokenizer.json and the weights (see `weight_files.LAYOUTS`) into ``folder`` and return it."""
    settings = settings or config(style=style)
    if state is None:
        fused = "d_model" in settings
        sizes = ("d_model", "n_layers") if fused else ("hidden_size", "num_hidden_layers")
        state = tensors(settings[sizes[0]], settings[sizes[1]], seed, "fused" if fused else "native")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings, indent=2))
    vocabulary = {token: number for number, token in enumerate(VOCABULARY)}
    tokenizer = {"version": "1.0", "model": {"type": "BPE", "unk_token": "<unk>", "vocab": vocabulary, "merges": []}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=2))
    weight_files.save(folder, state, layout)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the folder to pass as --weights")
    parser.add_argument("--name", default="esmc_300m", help="encoder of the catalogue, which is also its folder")
    parser.add_argument("--style", choices=STYLES, default="fused")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sizes = config(arguments.hidden, arguments.layers, arguments.heads, arguments.style)
    print(write(arguments.weights / arguments.name, sizes, seed=arguments.seed))
