"""What can be wrong with downloaded weights, for every kind of encoder: one clear line of the command, no result.

What is special to a family is in its own tests; hashes, archives and shards in depth are in test_weights.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import kinds
import pytest
import torch
import weight_files
from safetensors.torch import load_file

from vcbench.core import cli
from vcbench.encoders.plm import convert


def weight_files_of(folder: Path) -> list[Path]:
    """Return the files that hold tensors."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".pt"))


def rewrite(folder: Path, change: Callable[[dict], None], layout: str = weight_files.LAYOUTS[0]) -> None:
    """Change the tensors of a checkpoint and write them again, those of Hugging Face in the layout that is named."""
    state: dict[str, torch.Tensor] = {}
    for file in weight_files_of(folder):
        if file.suffix == ".pt":
            content = torch.load(file, weights_only=False)
            change(content["model"])
            torch.save(content, file)
            return
        state |= load_file(file) if file.suffix == ".safetensors" else torch.load(file)
        file.unlink()
    for index in folder.glob("*.index.json"):
        index.unlink()
    change(state)
    weight_files.save(folder, state, layout)


def truncated(folder: Path) -> str:
    file = weight_files_of(folder)[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return str(file)


def wrong_hash(folder: Path) -> str:
    file = weight_files_of(folder)[0]
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  {file.name}\n")
    return f"{file}: wrong SHA-256: damaged, or another version"


def renamed_key(folder: Path) -> str:
    def change(state: dict) -> None:
        layer = [name for name in sorted(state) if ".1." in name and not name.startswith("decoder.")]
        names.append(next(name for name in layer if state[name].ndim == 2))
        state[f"{names[0]}_renamed"] = state.pop(names[0])

    names: list[str] = []
    rewrite(folder, change)
    return f"missing: {names[0]}"


def wrong_hidden_size(folder: Path) -> str:
    """As if config.json came from another download; ESM-MSA has its sizes in the file itself."""
    config = folder / "config.json"
    if not config.is_file():
        (file,) = weight_files_of(folder)
        content = torch.load(file, weights_only=False)
        content["args"].embed_dim *= 2
        torch.save(content, file)
        return "wrong shape of "
    content = json.loads(config.read_text())
    content |= {key: 2 * content[key] for key in ("hidden_size", "d_model") if key in content}
    config.write_text(json.dumps(content))
    # xTrimoPGLM's config states the width twice
    return f"{config}: kv_channels does not fit" if "kv_channels" in content else "wrong shape of "


def missing_shard(folder: Path) -> str:
    if folder.name == "esm_msa1b":  # one file
        (file,) = weight_files_of(folder)
        file.unlink()
        return f"{folder}: weights file not found"
    rewrite(folder, lambda state: None, "model.safetensors.index.json")
    shard = folder / "model-00002-of-00003.safetensors"
    shard.unlink()
    return shard.name


def code_inside(folder: Path) -> str:
    """A torch file with code in place of a tensor."""
    files = weight_files_of(folder)
    for path in (*files, *folder.glob("*.index.json")):
        path.unlink()
    name = files[0].name if files[0].suffix == ".pt" else "pytorch_model.bin"
    torch.save({"model": {"a": torch.zeros(1), "b": Runs(folder / "ran")}}, folder / name)
    return "code in a weights file is never run"


class Runs:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


DAMAGES = (truncated, wrong_hash, renamed_key, wrong_hidden_size, missing_shard, code_inside)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", kinds.ENTRIES)
def test_one_clear_line(tmp_path, capsys, name, damage):
    folder = kinds.write(name, tmp_path / "weights")
    expected = damage(folder)
    arguments = ["--encoder", name, "--weights", str(tmp_path / "weights"), "--out-dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        cli.run(convert.main, arguments)
    printed = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 65 and len(printed) == 1 and printed[0].startswith("vcb: error: "), printed
    assert expected in printed[0] and str(folder) in printed[0]
    assert not (folder / "ran").exists() and not list(tmp_path.glob("out/*"))
