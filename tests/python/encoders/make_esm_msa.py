"""Write a small random ESM-MSA-1b checkpoint in the official layout: one `.pt` of `args` and `model`.

Used by the tests, and as a script by pipeline tests: ``python make_esm_msa.py WEIGHTS`` writes WEIGHTS/esm_msa1b, and
``--msas FOLDER --proteins FASTA`` a random alignment of every protein.
Names are those of fair-esm's file, written out by hand: with the training code's prefixes, and with the attention along
the sequence called `column`. Norms and biases are random too: a loader that forgets one of them is noticed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

FILE = "esm_msa1b_t12_100M_UR50S.pt"
PREFIX = "encoder.sentence_encoder."


def arguments(width: int = 32, layers: int = 2, heads: int = 4, **others: object) -> argparse.Namespace:
    """Return the training arguments of the official file with other sizes."""
    values = {
        "arch": "msa_transformer", "layers": layers, "embed_dim": width, "ffn_embed_dim": 2 * width,
        "attention_heads": heads, "dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1,
        "max_tokens": 16384, "max_positions": 1024, "embed_positions_msa": True, "logit_bias": True,
    }  # fmt: skip
    return argparse.Namespace(**values | others)


def tensors(args: argparse.Namespace, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return random tensors under the official names, the unused ones included."""
    generator = torch.Generator().manual_seed(seed)
    d, ffn = args.embed_dim, args.ffn_embed_dim

    def normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * scale + shift

    def linear(name: str, out: int, inside: int) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": normal(out, inside, scale=1.5 / inside**0.5), f"{name}.bias": normal(out, scale=0.3)}

    def norm(name: str) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": normal(d, scale=0.3, shift=1.0), f"{name}.bias": normal(d, scale=0.3)}

    state = {
        f"{PREFIX}embed_tokens.weight": normal(33, d),
        f"{PREFIX}embed_positions.weight": normal(1026, d),
        f"{PREFIX}msa_position_embedding": normal(1, 1024, 1, d),
    }
    state |= norm(f"{PREFIX}emb_layer_norm_before") | norm(f"{PREFIX}emb_layer_norm_after")
    for layer in range(args.layers):
        stem = f"{PREFIX}layers.{layer}"
        for attention in ("column_self_attention", "row_self_attention"):
            for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
                state |= linear(f"{stem}.{attention}.layer.{part}", d, d)
            state |= norm(f"{stem}.{attention}.layer_norm")
        state |= linear(f"{stem}.feed_forward_layer.layer.fc1", ffn, d)
        state |= linear(f"{stem}.feed_forward_layer.layer.fc2", d, ffn)
        state |= norm(f"{stem}.feed_forward_layer.layer_norm")
    state |= linear("encoder.lm_head.dense", d, d) | norm("encoder.lm_head.layer_norm")
    state["encoder.lm_head.weight"] = state[f"{PREFIX}embed_tokens.weight"].clone()
    state["encoder.lm_head.bias"] = normal(33)
    return state


def regression(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Return the tensors of the companion file for contacts, which fair-esm's loader demands and we do not."""
    return {
        "contact_head.regression.weight": torch.ones(1, args.layers * args.attention_heads),
        "contact_head.regression.bias": torch.ones(1),
    }


def write(
    folder: Path, args: argparse.Namespace | None = None, state: dict[str, torch.Tensor] | None = None, seed: int = 0
) -> Path:
    """Write the official file into ``folder`` and return the folder."""
    args = args or arguments()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"args": args, "model": tensors(args, seed) if state is None else state}, folder / FILE)
    return folder


def homologs(protein: str, rows: int, seed: int = 0) -> list[str]:
    """Return an alignment as rows of A3M: the protein, then homologs with exchanges, gaps and lower-case insertions."""
    rng = np.random.default_rng(seed)
    letters = list("ACDEFGHIKLMNPQRSTVWY")
    found = [protein]
    for _ in range(rows - 1):
        row = ""
        for residue in protein:
            draw = rng.random()
            row += "-" if draw < 0.1 else str(rng.choice(letters)) if draw < 0.5 else residue
            if rng.random() < 0.03:
                row += str(rng.choice(letters)).lower() * int(rng.integers(1, 4))
        found.append(row)
    return found


def write_a3m(path: Path, rows: list[str]) -> Path:
    """Write rows as A3M and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f">row{number}\n{row}\n" for number, row in enumerate(rows)))
    return path


def proteins_of(fasta: Path) -> list[str]:
    """Return the sequences of a FASTA file."""
    return ["".join(record.split("\n")[1:]) for record in fasta.read_text().split(">")[1:]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the folder to pass as --weights")
    parser.add_argument("--name", default="esm_msa1b", help="encoder of the catalogue, which is also its folder")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--msas", type=Path, help="folder for a random alignment of every protein of --proteins")
    parser.add_argument("--proteins", type=Path, help="FASTA")
    parser.add_argument("--rows", type=int, default=12, help="rows of each alignment")
    options = parser.parse_args()
    sizes = arguments(options.hidden, options.layers, options.heads)
    print(write(options.weights / options.name, sizes, seed=options.seed))
    for number, sequence in enumerate(proteins_of(options.proteins) if options.msas else []):
        print(write_a3m(options.msas / f"alignment{number}.a3m", homologs(sequence, options.rows, number)))
