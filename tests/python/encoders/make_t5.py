"""Write a small random ProtT5 or Ankh3 checkpoint in the official layout: config.json, spiece.model and the weights.

Used by the tests, and as a script by pipeline tests: ``python make_t5.py WEIGHTS --name ankh3_large`` writes
WEIGHTS/ankh3_large (default: all three encoders of the family).
Names, config and vocabulary are those of Rostlab/prot_t5_xl_half_uniref50-enc, Rostlab/prot_t5_xxl_uniref50 and
ElnaggarLab/ankh3-large, written out by hand, so that they do not depend on the code under test. Norms are random too: a
loader that forgets one of them is noticed. spiece.model is written through SentencePiece's protobuf (needs protobuf).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import weight_files

LETTERS = "ALGVSREDTIPKFQNYMHWCXBOUZ"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
SPECIAL = [("<pad>", CONTROL), ("</s>", CONTROL), ("<unk>", UNKNOWN)]

#: {encoder: (gated feed-forward, decoder in the file, stored type, position buckets, size of the vocabulary)}
KINDS = {
    "prott5_xl": (False, False, torch.float16, 32, 128),
    "prott5_xxl": (False, True, torch.float32, 32, 128),
    "ankh3_large": (True, True, torch.float32, 64, 256),
}


def pieces(name: str) -> list[tuple[str, int]]:
    """Return (piece, type) by id: residues as words for ProtT5, bare letters and the task tokens for Ankh3."""
    if name.startswith("prott5"):
        return [*SPECIAL, *(("▁" + letter, NORMAL) for letter in LETTERS)]
    return [*SPECIAL, *((letter, NORMAL) for letter in LETTERS), ("[NLU]", USER_DEFINED), ("[S2S]", USER_DEFINED)]


def write_spiece(path: Path, content: list[tuple[str, int]], dummy_prefix: bool) -> Path:
    """Write a SentencePiece unigram model of the given (piece, type)."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    for text, kind in content:
        piece = model.pieces.add()
        piece.piece, piece.type, piece.score = text, kind, -2.0 if kind == NORMAL else 0.0
    model.trainer_spec.model_type = 1
    model.trainer_spec.vocab_size = len(content)
    model.trainer_spec.pad_id, model.trainer_spec.eos_id, model.trainer_spec.unk_id = 0, 1, 2
    model.trainer_spec.bos_id = -1
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = dummy_prefix
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def config(name: str, d_model: int = 32, layers: int = 2, heads: int = 4, d_kv: int = 12) -> dict[str, object]:
    """Return config.json of the official model with other sizes; inner width and d_model differ, as in ProtT5."""
    gated, decoder, dtype, buckets, vocabulary = KINDS[name]
    content = {
        "architectures": ["T5ForConditionalGeneration" if decoder else "T5EncoderModel"],
        "d_ff": 3 * d_model, "d_kv": d_kv, "d_model": d_model, "decoder_start_token_id": 0, "dropout_rate": 0.1,
        "eos_token_id": 1, "feed_forward_proj": "gated-silu" if gated else "relu", "initializer_factor": 1.0,
        "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5", "n_positions": 512,
        "num_heads": heads, "num_layers": layers, "output_past": True, "pad_token_id": 0,
        "relative_attention_num_buckets": buckets, "use_cache": True, "vocab_size": vocabulary,
    }  # fmt: skip
    if decoder:
        content["num_decoder_layers"] = 1
    if dtype is torch.float16:
        content |= {"torch_dtype": "float16", "transformers_version": "4.17.0"}
    if gated:  # newer files say more, older ones leave the maximal distance out
        content |= {
            "dense_act_fn": "silu", "is_gated_act": True, "relative_attention_max_distance": 128,
            "tie_word_embeddings": False, "torch_dtype": "float32", "transformers_version": "4.46.2",
        }  # fmt: skip
    return content


def tensors(
    name: str, settings: dict[str, object], seed: int = 0, decoder: bool | None = None
) -> dict[str, torch.Tensor]:
    """Return random tensors under the official names, the unused ones included."""
    gated, has_decoder, dtype, buckets, _ = KINDS[name]
    generator = torch.Generator().manual_seed(seed)
    d, ffn, heads = settings["d_model"], settings["d_ff"], settings["num_heads"]
    inner = heads * settings["d_kv"]

    def normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * scale + shift).to(dtype)

    def linear(out: int, inside: int, scale: float = 1.0) -> torch.Tensor:
        return normal(out, inside, scale=scale / inside**0.5)

    def attention(stem: str, biased: bool) -> dict[str, torch.Tensor]:
        # attention is not scaled in T5, so its queries are small
        state = {f"{stem}.q.weight": linear(inner, d, scale=0.5), f"{stem}.k.weight": linear(inner, d)}
        state |= {f"{stem}.v.weight": linear(inner, d), f"{stem}.o.weight": linear(d, inner)}
        return state | ({f"{stem}.relative_attention_bias.weight": normal(buckets, heads)} if biased else {})

    def stack(stem: str, layers: int, cross: bool) -> dict[str, torch.Tensor]:
        state = {}
        for block in range(layers):
            at = f"{stem}.block.{block}.layer"
            state |= attention(f"{at}.0.SelfAttention", block == 0)
            state[f"{at}.0.layer_norm.weight"] = normal(d, scale=0.3, shift=1.0)
            if cross:
                state |= attention(f"{at}.1.EncDecAttention", False)
                state[f"{at}.1.layer_norm.weight"] = normal(d, scale=0.3, shift=1.0)
            last = f"{at}.{2 if cross else 1}"
            for part in ("wi_0", "wi_1") if gated else ("wi",):
                state[f"{last}.DenseReluDense.{part}.weight"] = linear(ffn, d)
            state[f"{last}.DenseReluDense.wo.weight"] = linear(d, ffn)
            state[f"{last}.layer_norm.weight"] = normal(d, scale=0.3, shift=1.0)
        return state | {f"{stem}.final_layer_norm.weight": normal(d, scale=0.3, shift=1.0)}

    state = {"shared.weight": normal(settings["vocab_size"], d)}
    state["encoder.embed_tokens.weight"] = state["shared.weight"].clone()
    state |= stack("encoder", settings["num_layers"], cross=False)
    if has_decoder if decoder is None else decoder:
        state["decoder.embed_tokens.weight"] = state["shared.weight"].clone()
        state |= stack("decoder", settings.get("num_decoder_layers", 1), cross=True)
        state["lm_head.weight"] = normal(settings["vocab_size"], d)
    return state


def write(
    folder: Path,
    name: str,
    settings: dict[str, object] | None = None,
    state: dict[str, torch.Tensor] | None = None,
    seed: int = 0,
    layout: str = "pytorch_model.bin",
) -> Path:
    """Write config.json, spiece.model and the weights (see `weight_files.LAYOUTS`) into ``folder`` and return it."""
    settings = settings or config(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings, indent=2))
    write_spiece(folder / "spiece.model", pieces(name), dummy_prefix=name.startswith("prott5"))
    weight_files.save(folder, state or tensors(name, settings, seed), layout)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the folder to pass as --weights")
    parser.add_argument("--name", choices=KINDS, help="encoder of the catalogue, which is also its folder")
    parser.add_argument("--d-model", type=int, default=32)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for chosen in [arguments.name] if arguments.name else KINDS:
        sizes = config(chosen, arguments.d_model, arguments.layers, arguments.heads)
        print(write(arguments.weights / chosen, chosen, sizes, seed=arguments.seed))
