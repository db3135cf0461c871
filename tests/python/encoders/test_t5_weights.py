"""Strict loading of ProtT5 and Ankh3: every tensor accounted for, everything wrong is one line (specs: 2.3, 2.5)."""

from __future__ import annotations

import json

import make_t5
import numpy as np
import pytest
import torch
from safetensors import safe_open

from vcbench.core.errors import InputError
from vcbench.encoders.plm import convert
from vcbench.encoders.plm.weights import family, open_weights
from vcbench.encoders.t5 import network

QUERY = "encoder.block.1.layer.0.SelfAttention.q.weight"


def fails(folder, entry) -> str:
    """Return the one-line message of a failing load; it must say where to get the weights."""
    with pytest.raises(InputError) as caught:
        open_weights(folder, entry, "float32")
    message = str(caught.value)
    assert "\n" not in message and entry["weights"]["source"] in message and str(folder) in message
    return message


@pytest.mark.parametrize("name", list(make_t5.KINDS))
def test_account_of_tensors(tmp_path, entry_of, name):
    """Used are shared.weight and encoder.*; the decoder, the head and the copy of the embedding are named unused."""
    opened = open_weights(make_t5.write(tmp_path, name), entry_of(name), "float32")
    names = set(make_t5.tensors(name, make_t5.config(name)))
    encoder = {key for key in names if key.startswith("encoder.")} - {"encoder.embed_tokens.weight"}
    assert set(opened.used) == {"shared.weight"} | encoder
    assert set(opened.unused) == names - set(opened.used)
    assert opened.unused["encoder.embed_tokens.weight"] == "the same as shared.weight"
    if name != "prott5_xl":
        assert opened.unused["lm_head.weight"] == "language-model head"
        assert opened.unused["decoder.block.0.layer.1.EncDecAttention.k.weight"] == "decoder"
        assert opened.unused["decoder.embed_tokens.weight"] == "decoder"
    assert opened.facts["official_size"] is False
    assert opened.facts["dtype_checkpoint"] == (["float16"] if name == "prott5_xl" else ["float32"])


@pytest.mark.parametrize("dropped", ["shared.weight", "encoder.embed_tokens.weight"])
def test_one_name_of_the_embedding_is_enough(tmp_path, entry_of, settings_of, dropped):
    """Files store the embedding under either name or both; the states are the same."""
    entry, settings = entry_of("prott5_xl"), settings_of("prott5_xl")
    state = make_t5.tensors("prott5_xl", make_t5.config("prott5_xl"))
    ids = {"input_ids": np.array([[3, 4, 5, 1]])}
    found = []
    for number, content in enumerate((state, {key: value for key, value in state.items() if key != dropped})):
        opened = open_weights(make_t5.write(tmp_path / str(number), "prott5_xl", state=content), entry, "float32")
        found.append(network.build(opened, settings, "cpu").forward(ids)["last_hidden_state"])
    np.testing.assert_array_equal(*found)


def test_two_different_embeddings(tmp_path, entry_of):
    state = make_t5.tensors("prott5_xl", make_t5.config("prott5_xl"))
    state["encoder.embed_tokens.weight"][0, 0] += 1
    folder = make_t5.write(tmp_path, "prott5_xl", state=state)
    assert "shared.weight and encoder.embed_tokens.weight differ" in fails(folder, entry_of("prott5_xl"))


def test_renamed_tensor(tmp_path, entry_of):
    state = make_t5.tensors("ankh3_large", make_t5.config("ankh3_large"))
    state["encoder.block.1.layer.0.SelfAttention.query.weight"] = state.pop(QUERY)
    message = fails(make_t5.write(tmp_path, "ankh3_large", state=state), entry_of("ankh3_large"))
    assert f"missing: {QUERY};" in message
    assert "unexpected: encoder.block.1.layer.0.SelfAttention.query.weight" in message


def test_decoder_only(tmp_path, entry_of):
    state = make_t5.tensors("ankh3_large", make_t5.config("ankh3_large"))
    state = {name: value for name, value in state.items() if not name.startswith("encoder.")}
    message = fails(make_t5.write(tmp_path, "ankh3_large", state=state), entry_of("ankh3_large"))
    assert "the file holds no encoder" in message and "decoder.block.0" in message


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("prott5_xl", {"d_ff": 100}, "wrong shape of encoder.block.0.layer.1.DenseReluDense.wi.weight"),
        ("prott5_xl", {"num_heads": 3, "d_kv": 16}, "relative_attention_bias.weight"),
        ("prott5_xl", {"num_layers": 1}, "unexpected: encoder.block.1."),
        ("prott5_xl", {"feed_forward_proj": "gated-silu"}, "feed_forward_proj | found gated-silu; expected relu"),
        ("ankh3_large", {"feed_forward_proj": "gated-gelu"}, "feed_forward_proj | found gated-gelu"),
        ("ankh3_large", {"dense_act_fn": "gelu_new"}, "dense_act_fn | found gelu_new; expected silu"),
        ("ankh3_large", {"relative_attention_num_buckets": 32}, "relative_attention_num_buckets"),
        ("ankh3_large", {"relative_attention_max_distance": 256}, "relative_attention_max_distance"),
        ("prott5_xl", {"relative_attention_max_distance": 64}, "relative_attention_max_distance"),
        ("prott5_xl", {"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon"),
        ("prott5_xl", {"vocab_size": 150}, "vocab_size | found 150; expected 128"),
        ("prott5_xl", {"model_type": "umt5"}, "model_type"),
        ("prott5_xl", {"is_decoder": True}, "is_decoder"),
        ("prott5_xl", {"d_kv": "12"}, "d_kv is no positive integer"),
        ("prott5_xl", {"d_kv": None}, "d_kv is no positive integer"),
        ("prott5_xl", {"d_model": 1024, "d_kv": 128, "d_ff": 16384, "num_layers": 24, "num_heads": 16}, "num_heads is"),
    ],
)
def test_config_of_another_network(tmp_path, entry_of, name, change, expected):
    folder = make_t5.write(tmp_path, name)
    (folder / "config.json").write_text(json.dumps(make_t5.config(name) | change))
    assert expected in fails(folder, entry_of(name))


def test_xl_is_not_xxl(tmp_path, entry_of):
    """Both are 1024 wide; XL's files under XXL's name are told apart by the config."""
    folder = make_t5.write(tmp_path, "prott5_xxl")
    full = {**make_t5.config("prott5_xxl"), **entry_of("prott5_xl")["architecture"]}
    (folder / "config.json").write_text(json.dumps(full))
    assert "d_ff is not that of ProtT5 XXL U50 | found 16384; expected 65536" in fails(folder, entry_of("prott5_xxl"))


def test_ids_of_config_may_be_absent(tmp_path, entry_of):
    """The maximal distance is missing in ProtT5's config, where it means 128; an absent size is an error."""
    content = make_t5.config("prott5_xl")
    assert "relative_attention_max_distance" not in content
    folder = make_t5.write(tmp_path, "prott5_xl")
    assert open_weights(folder, entry_of("prott5_xl"), "float32").config["relative_attention_max_distance"] == 128
    del content["num_layers"]
    (folder / "config.json").write_text(json.dumps(content))
    assert "num_layers is no positive integer" in fails(folder, entry_of("prott5_xl"))


@pytest.mark.parametrize("content", ['{"d_model": ', "[]", "3"])
def test_broken_config(tmp_path, entry_of, content):
    folder = make_t5.write(tmp_path, "prott5_xl")
    (folder / "config.json").write_text(content)
    assert "config.json: not JSON" in fails(folder, entry_of("prott5_xl"))


@pytest.mark.parametrize("file", ["config.json", "spiece.model", "pytorch_model.bin"])
def test_missing_file(tmp_path, entry_of, file):
    folder = make_t5.write(tmp_path, "prott5_xl")
    (folder / file).unlink()
    assert file in fails(folder, entry_of("prott5_xl"))


def test_missing_shard(tmp_path, entry_of):
    folder = make_t5.write(tmp_path, "ankh3_large", layout="pytorch_model.bin.index.json")
    (folder / "pytorch_model-00002-of-00003.bin").unlink()
    assert "shard pytorch_model-00002-of-00003.bin is missing" in fails(folder, entry_of("ankh3_large"))


def test_truncated_file(tmp_path, entry_of):
    file = make_t5.write(tmp_path, "prott5_xl") / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:5000])
    assert "damaged" in fails(tmp_path, entry_of("prott5_xl"))


@pytest.mark.parametrize(("name", "dtype"), [("prott5_xxl", "bfloat16"), ("prott5_xl", "float32")])
def test_conversion(tmp_path, entry_of, settings_of, name, dtype):
    """Encoder only, in the compute type, same states; the official folder is not needed again, spiece.model neither."""
    entry, settings = entry_of(name), settings_of(name, dtype=dtype)
    official = make_t5.write(tmp_path / "official", name)
    record = convert.convert(official, entry, dtype, tmp_path / "converted")
    with safe_open(tmp_path / "converted" / "encoder.safetensors", framework="pt") as handle:
        stored = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    assert {value.dtype for value in stored.values()} == {getattr(torch, dtype)}
    assert len(stored) == len(record["used"])
    assert ("decoder" in record["unused"].values()) is (name == "prott5_xxl")
    ids = {"input_ids": np.array([[3, 4, 5, 1]])}
    states = []
    for folder in (official, tmp_path / "converted"):
        built = family(entry).build(open_weights(folder, entry, dtype), settings, "cpu", None)
        built.check()
        states.append(built.forward(ids)["last_hidden_state"])
    np.testing.assert_array_equal(*states)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"tokens": np.array([[3, 1]])}, "wrong input arrays"),
        ({}, "wrong input arrays"),
        ({"input_ids": np.array([3, 1])}, "wrong input_ids"),
        ({"input_ids": np.array([[0.5, 1]])}, "wrong input_ids"),
        ({"input_ids": np.array([[3, 128]])}, "found 3 to 128; expected 0 to 127"),
        ({"input_ids": np.array([[3, 1]]), "attention_mask": np.ones((1, 3))}, "wrong shape of attention_mask"),
    ],
)
def test_wrong_inputs(tmp_path, entry_of, settings_of, inputs, expected):
    opened = open_weights(make_t5.write(tmp_path, "prott5_xl"), entry_of("prott5_xl"), "float32")
    with pytest.raises(InputError, match=expected):
        network.build(opened, settings_of("prott5_xl"), "cpu").forward(inputs)
