"""Write a small random xTrimoPGLM checkpoint in the official layout: config.json, tokenizer.model, shards and index.

Used by the tests, and as a script by pipeline tests: ``python make_xtrimopglm.py WEIGHTS`` writes
WEIGHTS/xtrimopglm_10b. Names and config are those of biomap-research/proteinglm-10b-mlm as far as they are known,
written out by hand, so that they do not depend on the code under test. Norms and biases are random too: a loader that
forgets one of them is noticed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import weight_files

VOCABULARY = [
    "<pad>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<mask>", "<gmask>", "<smask>", "<eod>", "<sop>", "<eop>", "<eos>",
    "<unk>",
]  # fmt: skip


def config(hidden: int = 32, layers: int = 3, heads: int = 4, ffn: int = 43) -> dict[str, object]:
    """Return config.json of the official model with other sizes."""
    return {
        "_name_or_path": "proteinglm-10b-mlm", "add_bias_linear": True, "add_qkv_bias": True,
        "apply_query_key_layer_scaling": True, "apply_residual_connection_post_layernorm": True,
        "architectures": ["ProteinGLMModel"], "attention_dropout": 0.0, "attention_softmax_in_fp32": True,
        "auto_map": {
            "AutoConfig": "configuration_proteinglm.ProteinGLMConfig",
            "AutoModelForMaskedLM": "modeling_proteinglm.ProteinGLMForMaskedLM",
        },
        "bias_dropout_fusion": True, "deepnorm": True, "experts_per_token": 0, "ffn_hidden_size": ffn,
        "fp32_residual_connection": False, "glu_activation": "geglu", "head_num": 1, "hidden_dropout": 0.0,
        "hidden_size": hidden, "initializer_range": 0.02, "is_causal": False, "kv_channels": hidden // heads,
        "layernorm_epsilon": 1e-05, "model_type": "ProteinGLM", "moe": False, "multi_query_attention": False,
        "multi_query_group_num": 1, "num_attention_heads": heads, "num_experts": 0, "num_layers": layers,
        "padded_vocab_size": 128, "post_layer_norm": True, "quantization_bit": 0, "rmsnorm": False,
        "rotary_embedding_2d": False, "seq_length": 1024, "torch_dtype": "float32", "transformers_version": "4.41.2",
        "untie_head": False, "use_cache": True, "use_pytorch_sdpa": True, "vocab_size": 128,
    }  # fmt: skip


def tensors(settings: dict[str, object], seed: int = 0, rounded: bool = True) -> dict[str, torch.Tensor]:
    """Return random tensors under the official names, rotary frequencies (rounded to fp16 or not) included."""
    generator = torch.Generator().manual_seed(seed)
    d, ffn, width = settings["hidden_size"], settings["ffn_hidden_size"], settings["kv_channels"]

    def normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * scale + shift

    def linear(name: str, out: int, inside: int) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": normal(out, inside, scale=1.5 / inside**0.5), f"{name}.bias": normal(out, scale=0.3)}

    def norm(name: str) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": normal(d, scale=0.3, shift=1.0), f"{name}.bias": normal(d, scale=0.3)}

    inv_freq = 10000.0 ** (-torch.arange(0, width, 2) / width)
    inv_freq = inv_freq.half().float() if rounded else inv_freq
    state = {"transformer.embedding.word_embeddings.weight": normal(settings["padded_vocab_size"], d)}
    for layer in range(settings["num_layers"]):
        stem = f"transformer.encoder.layers.{layer}"
        state |= norm(f"{stem}.input_layernorm")
        state[f"{stem}.self_attention.rotary_emb.inv_freq"] = inv_freq.clone()
        state |= linear(f"{stem}.self_attention.query_key_value", 3 * d, d)
        state |= linear(f"{stem}.self_attention.dense", d, d)
        state |= norm(f"{stem}.post_attention_layernorm")
        state |= linear(f"{stem}.mlp.dense_h_to_4h", 2 * ffn, d)
        state |= linear(f"{stem}.mlp.dense_4h_to_h", d, ffn)
    state |= norm("transformer.encoder.final_layernorm")
    state["transformer.output_layer.weight"] = state["transformer.embedding.word_embeddings.weight"].clone()
    return state


def write(
    folder: Path,
    settings: dict[str, object] | None = None,
    state: dict[str, torch.Tensor] | None = None,
    seed: int = 0,
    layout: str = "model.safetensors.index.json",
) -> Path:
    """Write config.json, tokenizer.model and the weights (see `weight_files.LAYOUTS`) into ``folder`` and return it."""
    settings = settings or config()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings, indent=2))
    (folder / "tokenizer.model").write_text("\n".join(VOCABULARY))
    weight_files.save(folder, state or tensors(settings, seed), layout)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the folder to pass as --weights")
    parser.add_argument("--name", default="xtrimopglm_10b", help="encoder of the catalogue, which is also its folder")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--ffn", type=int, default=43)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sizes = config(arguments.hidden, arguments.layers, arguments.heads, arguments.ffn)
    print(write(arguments.weights / arguments.name, sizes, seed=arguments.seed))
