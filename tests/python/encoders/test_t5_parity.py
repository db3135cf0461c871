"""Our ProtT5 and Ankh3 against transformers' `T5EncoderModel`, read from the same folder (specs: 2.3, 2.5, 7.2)."""

from __future__ import annotations

import math

import make_t5
import numpy as np
import pytest
import torch
import weight_files
from transformers import T5EncoderModel

from vcbench.encoders.plm.weights import family, open_weights

NAMES = list(make_t5.KINDS)
#: A L G </s>, written out by hand: ProtT5 without, Ankh3 with [NLU] (28).
IDS = {"prott5_xl": [3, 4, 5, 1], "prott5_xxl": [3, 4, 5, 1], "ankh3_large": [28, 3, 4, 5, 1]}


def ours(folder, entry, settings, attention="sdpa"):
    """Return our network on official files."""
    weights = open_weights(folder, entry, settings["dtype"])
    return family(entry).build(weights, settings, "cpu", None, attention)


def theirs(folder, ids, attention="eager", dtype=torch.float32) -> list[np.ndarray]:
    """Return every hidden state of the library's model for padded ids."""
    model = T5EncoderModel.from_pretrained(folder, dtype=dtype, attn_implementation=attention).eval()
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=(ids != 0).long(), output_hidden_states=True)
    return [state.float().numpy() for state in out.hidden_states]


def long_ids(name: str, length: int) -> list[int]:
    """Return ids of a random protein, longer than the largest relative distance."""
    body = np.random.default_rng(0).integers(3, 23, length).tolist()
    return [*IDS[name][:-4], *body, 1]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", NAMES)
def test_equals_transformers(tmp_path, entry_of, settings_of, name, attention):
    """Every layer, in a padded batch and alone: within 1e-5 in fp32, also of a half-precision file."""
    folder = make_t5.write(tmp_path, name, seed=3)
    network = ours(folder, entry_of(name), settings_of(name, dtype="float32"), attention)
    rows = [long_ids(name, 200), IDS[name]]
    ids = torch.tensor([row + [0] * (len(rows[0]) - len(row)) for row in rows])
    expected, found = theirs(folder, ids), network.forward({"input_ids": ids.numpy()})
    assert len(expected) == 3 and set(found) == {"last_hidden_state", *(f"hidden_states_{i}" for i in range(3))}
    real = (ids != 0).numpy()
    for layer, state in enumerate(expected):
        assert np.std(state[real]) > 0.1
        np.testing.assert_allclose(found[f"hidden_states_{layer}"][real], state[real], atol=1e-5)
    np.testing.assert_array_equal(found["last_hidden_state"], found["hidden_states_2"])
    alone = network.forward({"input_ids": ids.numpy()[:1]})["last_hidden_state"]
    np.testing.assert_allclose(alone[0], expected[-1][0], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_vectors_of_a_protein(tmp_path, entry_of, settings_of, name):
    """`hidden` of ALG equals the library's model on ids written out by hand."""
    folder = make_t5.write(tmp_path, name)
    network = ours(folder, entry_of(name), settings_of(name, dtype="float32"))
    network.check()
    hidden = network.hidden([network.window("ALG", "", 0)])
    np.testing.assert_allclose(hidden[0], theirs(folder, torch.tensor([IDS[name]]))[-1][0], atol=1e-5)


@pytest.mark.parametrize("name", ["prott5_xxl", "ankh3_large"])
def test_bfloat16_stays_close_to_float32(tmp_path, entry_of, settings_of, name):
    """bf16 weights and arithmetic as in the library, beyond residue 256 too; norms average in fp32 (7.7, 7.8.4)."""
    folder = make_t5.write(tmp_path, name, make_t5.config(name, d_model=64, layers=4))
    ids = np.array([long_ids(name, 330)])
    full = ours(folder, entry_of(name), settings_of(name, dtype="float32")).forward({"input_ids": ids})
    network = ours(folder, entry_of(name), settings_of(name, dtype="bfloat16"))
    assert {value.dtype for value in network.model.parameters()} == {torch.bfloat16}
    half = network.forward({"input_ids": ids})["last_hidden_state"][0]
    reference = full["last_hidden_state"][0]
    cosine = (half * reference).sum(1) / np.linalg.norm(half, axis=1) / np.linalg.norm(reference, axis=1)
    assert cosine.min() > 0.999 and cosine[256:].min() > 0.999
    assert np.abs(half - reference).max() > 0
    library = theirs(folder, torch.tensor(ids), attention="sdpa", dtype=torch.bfloat16)[-1][0]
    np.testing.assert_allclose(half, library, atol=1e-5)


@pytest.mark.parametrize("layout", weight_files.LAYOUTS)
def test_every_file_layout_gives_the_same(tmp_path, entry_of, settings_of, layout):
    """One file or shards, .bin or safetensors, with decoder or without: the same states."""
    name = "ankh3_large"
    entry, settings = entry_of(name), settings_of(name)
    reference = ours(make_t5.write(tmp_path / "a", name), entry, settings).forward({"input_ids": np.array([IDS[name]])})
    for number, decoder in enumerate((True, False)):
        state = make_t5.tensors(name, make_t5.config(name), decoder=decoder)
        folder = make_t5.write(tmp_path / f"b{number}", name, state=state, layout=layout)
        found = ours(folder, entry, settings).forward({"input_ids": np.array([IDS[name]])})
        np.testing.assert_array_equal(found["last_hidden_state"], reference["last_hidden_state"])


def test_attention_formula(tmp_path, entry_of, settings_of):
    """One block by the formulas of the T5 paper: buckets, unscaled attention, RMS norm, ReLU and gated SiLU."""
    for name in ("prott5_xxl", "ankh3_large"):
        settings = make_t5.config(name, layers=1)
        state = {key: value.double() for key, value in make_t5.tensors(name, settings).items()}
        folder = make_t5.write(tmp_path / name, name, settings)
        ids = long_ids(name, 150)
        network = ours(folder, entry_of(name), settings_of(name, dtype="float32"))
        found = network.forward({"input_ids": np.array([ids])})["last_hidden_state"][0]
        np.testing.assert_allclose(found, one_block(state, settings, ids).numpy(), atol=1e-5)


def one_block(state, settings, ids) -> torch.Tensor:
    """Return the states of a T5 encoder of one block in float64, residue by residue where buckets are concerned."""
    heads, length = settings["num_heads"], len(ids)

    def norm(x, name):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * state[f"encoder.{name}.weight"]

    def bucket(distance: int) -> int:  # key minus query
        half = settings["relative_attention_num_buckets"] // 2
        start, size = (half if distance > 0 else 0), abs(distance)
        exact = half // 2
        if size < exact:
            return start + size
        return start + min(half - 1, exact + int(math.log(size / exact) / math.log(128 / exact) * (half - exact)))

    x = state["shared.weight"][ids]
    at = "encoder.block.0.layer"
    normed = norm(x, "block.0.layer.0.layer_norm")
    q, k, v = (
        (normed @ state[f"{at}.0.SelfAttention.{part}.weight"].T).reshape(length, heads, -1).transpose(0, 1)
        for part in "qkv"
    )
    table = state[f"{at}.0.SelfAttention.relative_attention_bias.weight"]
    bias = table[torch.tensor([[bucket(key - query) for key in range(length)] for query in range(length)])]
    weights = torch.softmax(q @ k.transpose(1, 2) + bias.permute(2, 0, 1), dim=-1)
    mixed = (weights @ v).transpose(0, 1).reshape(length, -1)
    x = x + mixed @ state[f"{at}.0.SelfAttention.o.weight"].T
    normed = norm(x, "block.0.layer.1.layer_norm")
    stem = f"{at}.1.DenseReluDense"
    if settings["feed_forward_proj"] == "relu":
        inside = torch.relu(normed @ state[f"{stem}.wi.weight"].T)
    else:
        gate = normed @ state[f"{stem}.wi_0.weight"].T
        inside = gate * torch.sigmoid(gate) * (normed @ state[f"{stem}.wi_1.weight"].T)
    return norm(x + inside @ state[f"{stem}.wo.weight"].T, "final_layer_norm")


@pytest.mark.parametrize(
    ("name", "matrices", "count"),
    [("prott5_xl", 2, 1_208_141_824), ("prott5_xxl", 2, 4_832_023_552), ("ankh3_large", 3, 1_151_879_680)],
)
def test_full_size(entry_of, name, matrices, count):
    """1.208, 4.83 and 1.152 billion parameters (2.0), counted by hand from the published sizes."""
    entry = entry_of(name)
    size = entry["architecture"]
    d, inner = size["d_model"], size["num_heads"] * size["d_kv"]
    block = 4 * d * inner + matrices * d * size["d_ff"] + 2 * d
    _, _, _, buckets, vocabulary = make_t5.KINDS[name]
    by_hand = size["num_layers"] * block + vocabulary * d + buckets * size["num_heads"] + d
    module = family(entry).full_size(entry)
    assert all(value.is_meta for value in module.parameters())
    assert sum(value.numel() for value in module.parameters()) == by_hand == count
