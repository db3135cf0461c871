"""Write tensors in the file layouts in which weights are published; used by every make_<family>.py."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

#: One file, or an index with shards, in either format.
LAYOUTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def save(folder: Path, state: dict[str, torch.Tensor], layout: str = LAYOUTS[0], shards: int = 3) -> Path:
    """Write a Hugging Face weights file (or an index with ``shards`` shards) into ``folder``; return its path."""
    assert layout in LAYOUTS
    folder.mkdir(parents=True, exist_ok=True)
    if not layout.endswith(".index.json"):
        _save(folder / layout, state)
        return folder / layout
    stem, suffix = layout.removesuffix(".index.json").rsplit(".", 1)
    names = list(state)
    size = -(-len(names) // shards)
    weight_map: dict[str, str] = {}
    for number in range(shards):
        shard = f"{stem}-{number + 1:05d}-of-{shards:05d}.{suffix}"
        part = {name: state[name] for name in names[number * size : (number + 1) * size]}
        _save(folder / shard, part)
        weight_map |= dict.fromkeys(part, shard)
    total = sum(tensor.nbytes for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / layout).write_text(json.dumps(index, indent=2))
    return folder / layout


def _save(path: Path, state: dict[str, torch.Tensor]) -> None:
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata={"format": "pt"})
    else:
        torch.save(state, path)
