"""The weights machinery: damaged, wrong or hostile files are one line; converted weights equal the official ones."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from pathlib import Path

import make_esm2
import numpy as np
import pytest
import torch
import weight_files
from safetensors.torch import load_file, save_file

from vcbench.core import check_weights, checkpoint, cli
from vcbench.core.errors import InputError
from vcbench.encoders.plm import convert, weights

VALUE = "esm.encoder.layer.1.attention.self.value.weight"
INDICES = [layout for layout in weight_files.LAYOUTS if layout.endswith(".index.json")]
IDS = {"input_ids": np.array([[0, 20, 15, 11, 5, 23, 2]])}


@pytest.fixture
def refused(load_esm2):
    """Return the one line with which a folder is refused."""

    def load(folder: Path, **options: object) -> str:
        with pytest.raises(InputError) as caught:
            load_esm2(folder, **options)
        message = str(caught.value)
        assert "\n" not in message and str(folder) in message
        return message

    return load


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flip(path: Path, start: int) -> None:
    """Invert a byte of a file."""
    content = bytearray(path.read_bytes())
    content[start] ^= 0xFF
    path.write_bytes(content)


# Shards


@pytest.mark.parametrize("layout", INDICES)
def test_missing_shard(tmp_path, refused, layout):
    folder = make_esm2.write(tmp_path, layout=layout)
    shard = sorted(folder.glob("*-00002-of-00003.*"))[0]
    shard.unlink()
    assert f"shard {shard.name} is missing" in refused(folder)


@pytest.mark.parametrize("layout", INDICES)
def test_shard_that_does_not_match_its_index(tmp_path, refused, layout):
    folder = make_esm2.write(tmp_path, layout=layout)
    index = json.loads((folder / layout).read_text())
    name, shard = next(iter(index["weight_map"].items()))
    del index["weight_map"][name]
    (folder / layout).write_text(json.dumps(index))
    message = refused(folder)
    assert shard in message and f"does not hold what {layout} says" in message and f"found {name}" in message


@pytest.mark.parametrize("layout", INDICES)
def test_truncated_shard(tmp_path, refused, layout):
    folder = make_esm2.write(tmp_path, layout=layout)
    shard = sorted(folder.glob("*-00003-of-00003.*"))[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    message = refused(folder)
    assert shard.name in message and "damaged" in message


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "sub/model.safetensors", 7, None, ["a"]])
def test_shard_outside_the_folder(tmp_path, refused, shard):
    """A valid file elsewhere is not read: the name is refused before anything is opened."""
    layout = "model.safetensors.index.json"
    folder = make_esm2.write(tmp_path / "weights", layout=layout)
    save_file({VALUE: torch.zeros(32, 32)}, tmp_path / "secret.safetensors")
    index = json.loads((folder / layout).read_text())
    index["weight_map"][VALUE] = shard
    (folder / layout).write_text(json.dumps(index))
    message = refused(folder)
    assert layout in message and ("beside the index" in message or "not an index of shards" in message)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}', "\udcff"])
def test_broken_index(tmp_path, refused, content):
    layout = "model.safetensors.index.json"
    folder = make_esm2.write(tmp_path, layout=layout)
    (folder / layout).write_bytes(content.encode(errors="surrogateescape"))
    assert layout in refused(folder)


# Single files


def test_quantised_file(tmp_path, refused):
    state = make_esm2.tensors(make_esm2.config())
    state[VALUE] = (state[VALUE] * 40).to(torch.int8)
    message = refused(make_esm2.write(tmp_path, state=state))
    assert f"{VALUE} is not stored as floating-point numbers" in message and "found int8" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("layout", ["model.safetensors", "pytorch_model.bin"])
def test_values_that_are_not_finite(tmp_path, refused, value, layout):
    state = make_esm2.tensors(make_esm2.config())
    state[VALUE][-1, -1] = value
    assert f"{VALUE} holds values that are not finite" in refused(make_esm2.write(tmp_path, state=state, layout=layout))


def test_weights_of_another_member(tmp_path, refused):
    """The 8M files in the folder of 650M: refused by config.json alone, before a byte of the weights is read."""
    full = make_esm2.config(320, 6, 20)
    folder = make_esm2.write(tmp_path, full)
    message = refused(folder)
    assert "weights of another encoder" in message and "found ESM2 8M; expected ESM2 650M" in message


def test_legacy_torch_file(tmp_path, load_esm2):
    """Archives of torch before 1.6 have no zip around them."""
    expected = load_esm2(make_esm2.write(tmp_path / "a")).forward(IDS)["last_hidden_state"]
    folder = make_esm2.write(tmp_path / "b")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(load_esm2(folder).forward(IDS)["last_hidden_state"], expected)
    make_esm2.write_original(tmp_path / "c")
    path = next((tmp_path / "c").glob("*50D.pt"))
    with torch.serialization.safe_globals([make_esm2.argparse.Namespace]):
        content = torch.load(path)
    torch.save(content, path, _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(load_esm2(path.parent).forward(IDS)["last_hidden_state"], expected)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_damaged_torch_files(tmp_path, load_esm2, zipped, seed):
    """Cut and scrambled at random places: one line, whatever the parser stumbles over, never other values."""
    state = {name: torch.ones(3, 2) for name in ("a", "b")}
    good = tmp_path / "good.bin"
    torch.save(state, good, _use_new_zipfile_serialization=zipped)
    content = good.read_bytes()
    rng = np.random.default_rng(seed)
    for number in range(40):
        broken = bytearray(content[: rng.integers(len(content))] if number % 2 else content)
        for place in rng.integers(len(broken), size=3) if broken else []:
            broken[place] = rng.integers(256)
        path = tmp_path / "broken.bin"
        path.write_bytes(broken)
        try:
            found = checkpoint.read(path, "get it again")
            weights.check_hashes(tmp_path, {"weights": {}}, (path,), "get it again")
        except InputError as error:
            assert "\n" not in str(error) and "broken.bin" in str(error) and "get it again" in str(error)
        else:
            if zipped:  # the archive's own checksums cover the values
                assert all(torch.equal(found.tensor(name), torch.ones(3, 2)) for name in found.shapes)


def test_damaged_values_are_found_by_the_checksums_of_the_archive(tmp_path, refused):
    """torch itself reads a flipped bit without a word."""
    folder = make_esm2.write(tmp_path, layout="pytorch_model.bin")
    path = folder / "pytorch_model.bin"
    content = path.read_bytes()
    needle = make_esm2.tensors(make_esm2.config())[VALUE].numpy().tobytes()
    flip(path, content.index(needle) + 1)
    assert not torch.equal(torch.load(path)[VALUE], make_esm2.tensors(make_esm2.config())[VALUE])
    assert "damaged torch file (wrong checksum)" in refused(folder)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "shard", "namespace", "storage_name"])
def test_code_never_runs(tmp_path, refused, kind):
    """The trap works (it is sprung at the end), and no way of storing it springs it here."""
    proof, folder = tmp_path / "code_was_run", tmp_path / "weights"
    trap: object = {VALUE: Trap(proof)}
    if kind == "shard":
        make_esm2.write(folder, layout=INDICES[1])
        torch.save(trap, folder / "pytorch_model-00002-of-00003.bin")
    elif kind == "namespace":  # the one class that is allowed cannot carry another one in
        path = make_esm2.write_original(folder)
        torch.save({"cfg": {"model": make_esm2.argparse.Namespace(x=Trap(proof))}, "model": {}}, path)
    else:
        path = make_esm2.write(folder, layout="pytorch_model.bin") / "pytorch_model.bin"
        if kind == "pickle":
            path.write_bytes(pickle.dumps(trap, protocol=2))
        elif kind == "storage_name":
            torch.save({"a": torch.ones(2), "model": trap}, path)
        else:
            torch.save(trap, path, _use_new_zipfile_serialization=kind == "zip")
    assert "code in a weights file is never run" in refused(folder)
    assert not proof.exists()
    pickle.loads(pickle.dumps(trap))
    assert proof.exists()


@pytest.mark.parametrize("layout", weight_files.LAYOUTS)
def test_git_lfs_pointer(tmp_path, refused, layout):
    folder = make_esm2.write(tmp_path, layout=layout)
    files = sorted(folder.glob("*-00001-of-*")) or [folder / layout]
    files[0].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2609506392\n")
    message = refused(folder)
    assert "Git LFS pointer" in message and "git lfs pull" in message and files[0].name in message


def test_safetensors_header_that_lies(tmp_path, refused):
    folder = make_esm2.write(tmp_path)
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    header[VALUE]["shape"] = [64, 32]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    assert "damaged or incomplete safetensors file" in refused(folder)


# Hashes


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_sha256sums(tmp_path, load_esm2, refused, name):
    """A folder with a SHA256SUMS file is held against it, small files too; a file it does not name is not."""
    folder = make_esm2.write(tmp_path)
    lines = [f"{sha256(folder / file)} *./{file}" for file in ("model.safetensors", "config.json")]
    (folder / "SHA256SUMS").write_text("\n".join([*lines, f"{'0' * 64}  README.md", ""]))
    load_esm2(folder)
    path = folder / name
    if name == "config.json":
        path.write_text(path.read_text() + " ")
    else:
        flip(path, path.stat().st_size - 3)
    message = refused(folder)
    assert f"{name}: wrong SHA-256" in message and f"found {sha256(path)}; expected " in message


def test_sha256_of_the_catalogue(tmp_path, load_esm2, refused, entry):
    folder = make_esm2.write(tmp_path)
    digest = sha256(folder / "model.safetensors")
    pinned = {**entry, "weights": {**entry["weights"], "sha256": {"model.safetensors": digest}}}
    load_esm2(folder, of=pinned)
    flip(folder / "model.safetensors", -3)
    assert f"expected {digest}" in refused(folder, of=pinned)
    # a SHA256SUMS file that someone made of the wrong file does not overrule the catalogue
    (folder / "SHA256SUMS").write_text(f"{sha256(folder / 'model.safetensors')}  model.safetensors\n")
    assert "wrong SHA-256" in refused(folder, of=pinned)


def test_sha256sums_that_names_another_path_is_said(tmp_path, load_esm2, caplog):
    """`sha256sum esm2_650m/*`, written one folder above, checks nothing: not without a word."""
    folder = make_esm2.write(tmp_path)
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  esm2_650m/model.safetensors\n")
    load_esm2(folder)
    assert "SHA256SUMS names no model.safetensors (names without folders): not checked" in caplog.text


def test_broken_sha256sums(tmp_path, refused):
    folder = make_esm2.write(tmp_path)
    (folder / "SHA256SUMS").write_text("# a comment\n")
    assert "SHA256SUMS, line 1: not a line of sha256sum" in refused(folder)


# Conversion


@pytest.mark.parametrize("dtype", weights.DTYPES)
@pytest.mark.parametrize("layout", [*weight_files.LAYOUTS, "fair-esm"])
def test_conversion_round_trip(tmp_path, load_esm2, entry, dtype, layout, monkeypatch):
    """Converted weights are the official ones, cast; the network then gives the same bits."""
    monkeypatch.setattr(convert, "PIECE", 1000)  # several pieces per tensor
    official = tmp_path / "official"
    if layout == "fair-esm":
        make_esm2.write_original(official)
    else:
        make_esm2.write(official, layout=layout)
    record = convert.convert(official, entry, dtype, tmp_path / "converted")
    stored = load_file(tmp_path / "converted" / "encoder.safetensors")
    state = make_esm2.tensors(make_esm2.config())
    for name, tensor in stored.items():
        if name == "rotary_embeddings.inv_freq":
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, state["esm.encoder.layer.0.attention.self.rotary_embeddings.inv_freq"])
        else:
            assert torch.equal(tensor, state[f"esm.{name}"].to(getattr(torch, dtype)))
    assert len(stored) == len(record["used"])
    before, after = load_esm2(official, dtype), load_esm2(tmp_path / "converted", dtype)
    for name, value in before.forward(IDS).items():
        np.testing.assert_array_equal(after.forward(IDS)[name], value)
    for fact in ("used", "unused", "facts", "config", "dtype"):
        assert getattr(before.weights, fact) == getattr(after.weights, fact), fact
    assert set(record["facts"]["weights_sha256"]) == {path.name for path in before.weights._source.files}


def test_conversion_is_reproducible(tmp_path, entry):
    """The same bytes each time, and no trace of a place or a time."""
    for number in range(2):
        folder = make_esm2.write(tmp_path / f"in{number}", layout="pytorch_model.bin.index.json")
        convert.convert(folder, entry, "bfloat16", tmp_path / f"out{number}")
    names = ["conversion.json", "encoder.safetensors"]
    assert sorted(path.name for path in (tmp_path / "out0").iterdir()) == names
    for name in names:
        content = (tmp_path / "out0" / name).read_bytes()
        assert content == (tmp_path / "out1" / name).read_bytes() and str(tmp_path).encode() not in content
    convert.convert(tmp_path / "in0", entry, "bfloat16", tmp_path / "out0")  # over an older conversion
    assert (tmp_path / "out0" / names[0]).read_bytes() == (tmp_path / "out1" / names[0]).read_bytes()


def test_odd_sizes_keep_every_tensor_aligned(tmp_path, load_esm2, entry):
    """An odd number of bf16 values before the fp32 frequencies would leave them between two words."""
    settings = make_esm2.config() | {"intermediate_size": 131}
    folder = make_esm2.write(tmp_path / "official", settings)
    convert.convert(folder, entry, "bfloat16", tmp_path / "converted")
    before, after = load_esm2(folder, "bfloat16"), load_esm2(tmp_path / "converted", "bfloat16")
    np.testing.assert_array_equal(after.forward(IDS)["last_hidden_state"], before.forward(IDS)["last_hidden_state"])


@pytest.fixture
def converted(tmp_path, entry) -> Path:
    """A folder of converted weights in bf16."""
    convert.convert(make_esm2.write(tmp_path / "official"), entry, "bfloat16", tmp_path / "converted")
    return tmp_path / "converted"


def test_converted_to_another_type(converted, refused):
    assert "converted to another type | found bfloat16; expected float32 | delete this folder" in refused(converted)


def test_converted_from_another_encoder(converted, refused, entry_of):
    message = refused(converted, dtype="bfloat16", of=entry_of("esm2_8m"))
    assert "converted from another encoder (title)" in message and "ESM2 650M; expected ESM2 8M" in message
    assert "{" not in message  # names, not the records


@pytest.mark.parametrize("place", [10, -1, 5000])
def test_damaged_converted_weights(converted, refused, place):
    flip(converted / "encoder.safetensors", place)
    assert "damaged (wrong SHA-256) | delete this folder" in refused(converted, dtype="bfloat16")


@pytest.mark.parametrize("left", [["encoder.safetensors"], ["encoder.safetensors.partial"]])
def test_unfinished_conversion(converted, refused, left):
    (converted / "conversion.json").unlink()
    (converted / "encoder.safetensors").rename(converted / left[0])
    assert "unfinished conversion: no conversion.json | delete this folder" in refused(converted, dtype="bfloat16")


def test_converted_weights_without_tensors(converted, refused):
    (converted / "encoder.safetensors").unlink()
    assert "weights file not found" in refused(converted, dtype="bfloat16")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "not a record"),
        ("{", "not a record"),
        ("[]", "not a record"),
        ('{"format": 1}', "not a record"),
        (None, "converted by another version of this pipeline | found format 0; expected 1"),
    ],
)
def test_broken_record(converted, refused, content, expected):
    path = converted / "conversion.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}) if content is None else content)
    assert expected in refused(converted, dtype="bfloat16")


def test_failed_conversion_leaves_nothing_that_looks_finished(tmp_path, entry, converted):
    """Not even where an older conversion was: its record must not vouch for the new tensors."""
    state = make_esm2.tensors(make_esm2.config())
    state["esm.encoder.layer.1.output.dense.weight"][3, 3] = float("nan")
    folder = make_esm2.write(tmp_path / "broken", state=state)
    with pytest.raises(InputError, match=r"layer\.1\.output\.dense\.weight holds values that are not finite"):
        convert.convert(folder, entry, "bfloat16", converted)
    # the old tensors are still there; without their record they count for nothing
    assert [path.name for path in converted.iterdir()] == ["encoder.safetensors"]


# Commands


def run(main, arguments: list[str], capsys) -> tuple[int, str, str]:
    """Run a command line; return exit code and the two streams."""
    code = 0
    try:
        cli.run(main, arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_commands_convert_and_check(tmp_path, capsys):
    """vcb_convert_weights.py on a folder above, vcb_check_weights.py on official and on converted weights."""
    make_esm2.write(tmp_path / "weights" / "esm2_8m")
    out = tmp_path / "converted"
    arguments = ["--encoder", "esm2_8m", "--weights", str(tmp_path / "weights"), "--out-dir", str(out)]
    assert run(convert.main, [*arguments, "--settings", '{"dtype": "bfloat16"}'], capsys)[0] == 0
    for folder in (tmp_path / "weights", out):
        code, printed, _ = run(check_weights.main, ["--model", "esm2_8m", "--weights", str(folder)], capsys)
        assert code == 0 and "ok      36 tensors used" in printed and "unused  lm_head.bias" in printed
    assert "fact    dtype_compute: bfloat16" in printed
    code, _, message = run(convert.main, [*arguments[:3], str(out), *arguments[4:]], capsys)
    assert code == 65 and "converted weights already" in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--encoder", "esm2_8"], "did you mean 'esm2_8m'?"),
        (["--encoder", "onehot"], "unknown encoder 'onehot'"),
        (["--encoder", "esm2_8m"], "weights of ESM2 8M not found"),
        (["--encoder", "esm2_8m", "--settings", "{"], "--settings: not JSON"),
        (["--encoder", "esm2_8m", "--settings", "[1]"], "--settings: not JSON"),
        (["--encoder", "esm2_8m", "--settings", '{"dtype": "float16"}'], "wrong value of esm2_8m.dtype"),
    ],
)
def test_wrong_command_lines(tmp_path, capsys, arguments, expected):
    more = ["--weights", str(tmp_path / "nowhere"), "--out-dir", str(tmp_path / "out")]
    code, _, message = run(convert.main, [*arguments, *more], capsys)
    assert code == 65 and expected in message.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()
