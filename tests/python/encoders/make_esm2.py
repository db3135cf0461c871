"""Write a small random ESM2 checkpoint in the official Hugging Face layout: config.json, vocab.txt, model.safetensors.

Used by the tests, and as a script by pipeline tests: ``python make_esm2.py WEIGHTS`` writes WEIGHTS/esm2_650m,
``--name esm2_8m`` another member of the family.
Names and config are those of facebook/esm2_t33_650M_UR50D, written out by hand, so that they do not depend on the code
under test. Norms and biases are random too: a loader that forgets one of them is noticed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import weight_files

VOCABULARY = [*["<cls>", "<pad>", "<eos>", "<unk>"], *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]


def config(hidden: int = 32, layers: int = 2, heads: int = 4) -> dict[str, object]:
    """Return config.json of the official model with other sizes."""
    return {
        "architectures": ["EsmForMaskedLM"], "attention_probs_dropout_prob": 0.0, "classifier_dropout": None,
        "emb_layer_norm_before": False, "esmfold_config": None, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
        "hidden_size": hidden, "initializer_range": 0.02, "intermediate_size": 4 * hidden, "is_folding_model": False,
        "layer_norm_eps": 1e-05, "mask_token_id": 32, "max_position_embeddings": 1026, "model_type": "esm",
        "num_attention_heads": heads, "num_hidden_layers": layers, "pad_token_id": 1,
        "position_embedding_type": "rotary", "token_dropout": True, "torch_dtype": "float32",
        "transformers_version": "4.25.0.dev0", "use_cache": True, "vocab_list": None, "vocab_size": 33,
    }  # fmt: skip


def tensors(settings: dict[str, object], seed: int = 0) -> dict[str, torch.Tensor]:
    """Return random tensors under the official names, the unused ones included."""
    generator = torch.Generator().manual_seed(seed)
    d, ffn, vocabulary = settings["hidden_size"], settings["intermediate_size"], settings["vocab_size"]
    width = d // settings["num_attention_heads"]

    def normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * scale + shift

    def linear(name: str, out: int, inside: int) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": normal(out, inside, scale=1.5 / inside**0.5), f"{name}.bias": normal(out, scale=0.3)}

    def norm(name: str) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": normal(d, scale=0.3, shift=1.0), f"{name}.bias": normal(d, scale=0.3)}

    # stored as rounded to half precision, as a file from half-precision training holds them
    inv_freq = (10000.0 ** (-torch.arange(0, width, 2) / width)).half().float()
    state = {"esm.embeddings.word_embeddings.weight": normal(vocabulary, d)}
    for layer in range(settings["num_hidden_layers"]):
        stem = f"esm.encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            state |= linear(f"{stem}.attention.self.{part}", d, d)
        state[f"{stem}.attention.self.rotary_embeddings.inv_freq"] = inv_freq.clone()
        state |= linear(f"{stem}.attention.output.dense", d, d)
        state |= norm(f"{stem}.attention.LayerNorm")
        state |= linear(f"{stem}.intermediate.dense", ffn, d)
        state |= linear(f"{stem}.output.dense", d, ffn)
        state |= norm(f"{stem}.LayerNorm")
    state |= norm("esm.encoder.emb_layer_norm_after")
    state |= linear("esm.contact_head.regression", 1, settings["num_hidden_layers"] * settings["num_attention_heads"])
    state["esm.embeddings.position_embeddings.weight"] = normal(settings["max_position_embeddings"], d)
    state["esm.embeddings.position_ids"] = torch.arange(settings["max_position_embeddings"])[None].clone()
    state |= linear("lm_head.dense", d, d)
    state |= norm("lm_head.layer_norm")
    state["lm_head.decoder.weight"] = state["esm.embeddings.word_embeddings.weight"].clone()
    state["lm_head.bias"] = normal(vocabulary)
    return state


def write(
    folder: Path,
    settings: dict[str, object] | None = None,
    state: dict[str, torch.Tensor] | None = None,
    seed: int = 0,
    layout: str = "model.safetensors",
) -> Path:
    """Write config.json, vocab.txt and the weights (see `weight_files.LAYOUTS`) into ``folder`` and return it."""
    settings = settings or config()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings, indent=2))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    weight_files.save(folder, state or tensors(settings, seed), layout)
    return folder


#: File of fair-esm by encoder.
ORIGINAL = {
    "esm2_8m": "esm2_t6_8M_UR50D", "esm2_35m": "esm2_t12_35M_UR50D", "esm2_150m": "esm2_t30_150M_UR50D",
    "esm2_650m": "esm2_t33_650M_UR50D", "esm2_3b": "esm2_t36_3B_UR50D", "esm2_15b": "esm2_t48_15B_UR50D",
}  # fmt: skip

BLOCKS = {
    "attention.self.query": "self_attn.q_proj", "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj", "attention.self.rotary_embeddings": "self_attn.rot_emb",
    "attention.output.dense": "self_attn.out_proj", "attention.LayerNorm": "self_attn_layer_norm",
    "intermediate.dense": "fc1", "output.dense": "fc2", "LayerNorm": "final_layer_norm",
}  # fmt: skip


def original_tensors(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors under the names of fair-esm's file (specs: plm_encoders.md 7.4)."""
    renamed = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        if stem.startswith("esm.encoder.layer."):
            number, part = stem.removeprefix("esm.encoder.layer.").split(".", 1)
            renamed[f"encoder.sentence_encoder.layers.{number}.{BLOCKS[part]}.{kind}"] = tensor
        elif stem == "esm.embeddings.word_embeddings":
            renamed["encoder.sentence_encoder.embed_tokens.weight"] = tensor
        elif stem == "esm.encoder.emb_layer_norm_after":
            renamed[f"encoder.sentence_encoder.emb_layer_norm_after.{kind}"] = tensor
        elif stem == "lm_head.decoder":
            renamed["encoder.lm_head.weight"] = tensor
        elif stem.startswith("lm_head"):
            renamed[f"encoder.{name}"] = tensor
    return renamed


def write_original(
    folder: Path,
    name: str = "esm2_650m",
    settings: dict[str, object] | None = None,
    state: dict[str, torch.Tensor] | None = None,
    seed: int = 0,
) -> Path:
    """Write fair-esm's two files of an encoder, of the tensors of :func:`tensors`; return the main one."""
    settings = settings or config()
    state = state or tensors(settings, seed)
    arguments = argparse.Namespace(
        arch="esm2", encoder_layers=settings["num_hidden_layers"], encoder_embed_dim=settings["hidden_size"],
        encoder_attention_heads=settings["num_attention_heads"], token_dropout=settings["token_dropout"],
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{ORIGINAL[name]}.pt"
    torch.save({"cfg": {"model": arguments}, "model": original_tensors(state)}, path)
    head = {key.removeprefix("esm."): value for key, value in state.items() if key.startswith("esm.contact_head.")}
    torch.save({"model": head}, folder / f"{ORIGINAL[name]}-contact-regression.pt")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the folder to pass as --weights")
    parser.add_argument("--name", default="esm2_650m", help="encoder of the catalogue, which is also its folder")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--original", action="store_true", help="the files of fair-esm instead")
    arguments = parser.parse_args()
    sizes = config(arguments.hidden, arguments.layers, arguments.heads)
    target = arguments.weights / arguments.name
    if arguments.original:
        write_original(target, arguments.name, sizes, seed=arguments.seed)
    else:
        write(target, sizes, seed=arguments.seed)
    print(target)
