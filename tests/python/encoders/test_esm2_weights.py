"""Strict loading: every way in which a weights folder can be wrong is one line that names it (architecture 4.1, 6)."""

from __future__ import annotations

import json
import pickle

import make_esm2
import numpy as np
import pytest
import torch

from vcbench.core.errors import InputError

SOURCE = "https://huggingface.co/facebook/esm2_t33_650M_UR50D"
VALUE = "esm.encoder.layer.1.attention.self.value.weight"


@pytest.fixture
def fails(load_esm2):
    """Return the one-line message of a failing load; it must say where to get the weights."""

    def load(folder) -> str:
        with pytest.raises(InputError) as caught:
            load_esm2(folder)
        message = str(caught.value)
        assert "\n" not in message and SOURCE in message and str(folder) in message
        return message

    return load


def test_account_of_tensors(weights_folder, load_esm2):
    """Used and unused tensors together are those of the file; the unused ones are the known heads only."""
    loaded = load_esm2(weights_folder)
    names = set(make_esm2.tensors(make_esm2.config()))
    used, unused = set(loaded.weights.used), set(loaded.weights.unused)
    assert used | unused == names and not used & unused
    heads = ("lm_head.", "esm.contact_head.", "esm.embeddings.position_")
    again = "esm.encoder.layer.1.attention.self.rotary_embeddings.inv_freq"  # equal in all layers
    assert unused == {name for name in names if name.startswith(heads)} | {again}
    assert loaded.weights.unused[again] == f"the same as {again.replace('layer.1', 'layer.0')}"
    assert all(value.dtype == torch.float32 for value in loaded.model.parameters())
    assert not loaded.model.training
    assert loaded.weights.facts["official_size"] is False and loaded.facts["after_final_norm"] is True


@pytest.mark.parametrize("unused", ["lm_head.bias", "esm.embeddings.position_ids"])
def test_unused_tensors_may_be_absent(tmp_path, load_esm2, unused):
    state = make_esm2.tensors(make_esm2.config())
    del state[unused]
    assert unused not in load_esm2(make_esm2.write(tmp_path, state=state)).weights.unused


def test_missing_and_unexpected_tensors(tmp_path, fails):
    state = make_esm2.tensors(make_esm2.config())
    state["esm.encoder.layer.1.attention.self.v.weight"] = state.pop(VALUE)
    message = fails(make_esm2.write(tmp_path, state=state))
    assert f"missing: {VALUE}" in message
    assert "unexpected: esm.encoder.layer.1.attention.self.v.weight" in message


def test_wrong_shape(tmp_path, fails):
    state = make_esm2.tensors(make_esm2.config())
    state[VALUE] = state[VALUE][:, :-1].contiguous()
    message = fails(make_esm2.write(tmp_path, state=state))
    assert f"wrong shape of {VALUE}" in message and "found (32, 31); expected (32, 32)" in message


def test_values_that_are_not_finite(tmp_path, fails):
    state = make_esm2.tensors(make_esm2.config())
    state[VALUE][0, 0] = float("nan")
    assert f"{VALUE} holds values that are not finite" in fails(make_esm2.write(tmp_path, state=state))


def test_more_layers_in_the_file_than_in_the_config(tmp_path, fails):
    folder = make_esm2.write(tmp_path, make_esm2.config(layers=3))
    (folder / "config.json").write_text(json.dumps(make_esm2.config(layers=2)))
    assert "unexpected: esm.encoder.layer.2." in fails(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"token_dropout": False}, "token_dropout"),
        ({"position_embedding_type": "absolute"}, "position_embedding_type"),
        ({"model_type": "bert"}, "model_type"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"rope_theta": 500000.0}, "rotary base"),
        ({"num_attention_heads": 8}, "is num_attention_heads right?"),
        ({"num_attention_heads": 3}, "num_attention_heads"),
        ({"hidden_size": 1280, "num_attention_heads": 10}, "num_attention_heads is not that of ESM2 650M"),
        ({"is_folding_model": True}, "ESMFold"),
    ],
)
def test_config_of_another_network(tmp_path, fails, change, expected):
    folder = make_esm2.write(tmp_path)
    (folder / "config.json").write_text(json.dumps(make_esm2.config() | change))
    if change == {"hidden_size": 1280, "num_attention_heads": 10}:
        full = make_esm2.config(1280, 33, 10) | {"intermediate_size": 5120}
        (folder / "config.json").write_text(json.dumps(full))
    assert expected in fails(folder)


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "model.safetensors"])
def test_missing_file(tmp_path, fails, name):
    folder = make_esm2.write(tmp_path)
    (folder / name).unlink()
    assert name in fails(folder)


def test_broken_config(tmp_path, fails):
    folder = make_esm2.write(tmp_path)
    (folder / "config.json").write_text('{"hidden_size": ')
    assert "config.json: not JSON" in fails(folder)


@pytest.mark.parametrize("keep", [0, 5, 300, 60_000, -1])
def test_truncated_safetensors(tmp_path, fails, keep):
    file = make_esm2.write(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    message = fails(tmp_path)
    assert "damaged or incomplete" in message
    if keep in (60_000, -1):
        assert "its header announces" in message


def test_git_lfs_pointer(tmp_path, fails):
    file = make_esm2.write(tmp_path) / "model.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2609506392\n")
    assert "Git LFS pointer" in fails(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<cls> <pad> <eos> <unk> A L", "token 4) | found A; expected L"),
        (" ".join(make_esm2.VOCABULARY[:-1]), "token 32) | found end of file; expected <mask>"),
        (" ".join([*make_esm2.VOCABULARY, "extra"]), "found 34 tokens; expected 33"),
    ],
)
def test_another_vocabulary(tmp_path, fails, content, expected):
    folder = make_esm2.write(tmp_path)
    (folder / "vocab.txt").write_text("\n".join(content.split()))
    assert expected in fails(folder)


def test_rotary_frequencies_are_checked(tmp_path, fails):
    state = make_esm2.tensors(make_esm2.config())
    name = "esm.encoder.layer.1.attention.self.rotary_embeddings.inv_freq"
    state[name] = state[name] * 1.01
    assert name in fails(make_esm2.write(tmp_path, state=state))


def as_torch_file(folder):
    """Replace model.safetensors by the pytorch_model.bin of the same tensors."""
    torch.save(make_esm2.tensors(make_esm2.config()), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_torch_file_gives_the_same_result(tmp_path, weights_folder, load_esm2):
    ids = {"input_ids": np.array([[0, 20, 15, 11, 5, 2]])}
    torch_file = load_esm2(as_torch_file(make_esm2.write(tmp_path)))
    safetensors = load_esm2(weights_folder)
    for name, value in torch_file.forward(ids).items():
        np.testing.assert_array_equal(value, safetensors.forward(ids)[name])


def test_truncated_torch_file(tmp_path, fails):
    file = as_torch_file(make_esm2.write(tmp_path)) / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:5000])
    assert "damaged" in fails(tmp_path)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("archive", [True, False])
def test_code_in_a_torch_file_does_not_run(tmp_path, fails, archive):
    folder = as_torch_file(make_esm2.write(tmp_path / "weights"))
    proof = tmp_path / "code_was_run"
    if archive:
        torch.save({VALUE: Trap(proof)}, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({VALUE: Trap(proof)}))
    assert "code in a weights file is never run" in fails(folder)
    assert not proof.exists()


def test_half_precision_file_is_computed_in_fp32(tmp_path, load_esm2):
    """transformers 5 would take over the dtype of the file (7.7)."""
    state = {name: value.half() for name, value in make_esm2.tensors(make_esm2.config()).items()}
    loaded = load_esm2(make_esm2.write(tmp_path, state=state))
    assert loaded.forward({"input_ids": np.array([[0, 5, 2]])})["last_hidden_state"].dtype == np.float32
    assert loaded.weights.facts["dtype_checkpoint"] == ["float16"]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"tokens": np.array([[0, 2]])}, "wrong input arrays"),
        ({}, "wrong input arrays"),
        ({"input_ids": np.array([0, 2])}, "wrong input_ids"),
        ({"input_ids": np.array([[0.5, 2]])}, "wrong input_ids"),
        ({"input_ids": np.array([[0, 33]])}, "token id out of range"),
        ({"input_ids": np.array([[0, 2]]), "attention_mask": np.ones((1, 3))}, "wrong shape of attention_mask"),
    ],
)
def test_wrong_inputs(weights_folder, load_esm2, inputs, expected):
    with pytest.raises(InputError, match=expected):
        load_esm2(weights_folder).forward(inputs)
