"""ESM C against transformers' own EsmcModel, and its strict loading from both published layouts (specs 8.1, 7.8)."""

from __future__ import annotations

import json

import make_esmc
import numpy as np
import pytest
import torch
from transformers import EsmcConfig, EsmcModel

from vcbench.core.errors import InputError
from vcbench.encoders.esmc import layouts, network
from vcbench.encoders.plm import convert, weights

NAME = "esmc_300m"
#: ids written out by hand: <cls> M K T W O <eos>, <cls> A C D <eos> <pad> <pad>
IDS = [[0, 20, 15, 11, 22, 28, 2], [0, 5, 23, 13, 2, 1, 1]]


@pytest.fixture(scope="module", params=make_esmc.STYLES)
def root(request, tmp_path_factory):
    """A weights folder that holds a small checkpoint, in each layout."""
    folder = tmp_path_factory.mktemp(f"weights_{request.param}")
    make_esmc.write(folder / NAME, style=request.param)
    return folder


@pytest.fixture(scope="module")
def load(entry_of, settings_of):
    """Load a network from an official or converted folder."""

    def make(folder, dtype="float32", attention=network.ATTENTION):
        opened = weights.open_weights(folder, entry_of(NAME), dtype)
        return network.build(opened, settings_of(NAME, dtype=dtype), "cpu", attention=attention)

    return make


def library(hidden=32, layers=3, heads=4, seed=0) -> EsmcModel:
    """Return EsmcModel made by its own constructor, with the numbers of the small checkpoint."""
    config = EsmcConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=make_esmc.feed_forward(hidden), attn_implementation="eager",
    )  # fmt: skip
    model = EsmcModel(config)
    model.load_state_dict(make_esmc.blocks(hidden, layers, seed), strict=True)
    return model.eval()


@pytest.mark.parametrize("style", make_esmc.STYLES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("hidden", "layers", "heads"), [(32, 3, 4), (48, 5, 2)])
def test_equals_the_library(tmp_path, load, style, attention, hidden, layers, heads):
    """Every layer of a padded batch: within 1e-5 of EsmcModel called with ids written by hand, eager bit for bit."""
    settings = make_esmc.config(hidden, layers, heads, style)
    loaded = load(make_esmc.write(tmp_path, settings, seed=layers), attention=attention)
    ids = torch.tensor(IDS)
    with torch.no_grad():
        model = library(hidden, layers, heads, layers)
        theirs = model(input_ids=ids, attention_mask=(ids != 1).long(), output_hidden_states=True)
    ours = loaded.forward({"input_ids": np.array(IDS)})
    real = (ids != 1).numpy()
    assert len(theirs.hidden_states) == layers + 1
    for layer, state in enumerate(theirs.hidden_states):
        found, expected = ours[f"hidden_states_{layer}"][real], state.numpy()[real]
        assert expected.std() > 0.1
        # before the final norm the numbers are large, so is their rounding
        assert np.abs(found - expected).max() <= (0 if attention == "eager" else 1e-5 * np.abs(expected).max())
    found, expected = ours["last_hidden_state"][real], theirs.last_hidden_state.numpy()[real]
    assert np.abs(found - expected).max() <= 1e-5
    centred = expected / make_esmc.blocks(hidden, layers, layers)["norm.weight"].numpy()
    np.testing.assert_allclose(centred.mean(axis=1), 0, atol=1e-5)  # it is after the final norm
    np.testing.assert_allclose(centred.std(axis=1), 1, atol=1e-3)


def test_offset(root, load, protein):
    """<cls> residues <eos>; exchanging residue p changes one id, at token p."""
    loaded = load(root / NAME)
    loaded.check()
    assert loaded.layout.encode("MKTWO") == IDS[0] and loaded.layout.encode("ACD") == IDS[1][:5]
    ids = loaded.layout.encode(protein)
    assert len(ids) == len(protein) + 2 and 3 not in ids
    for position in (1, 2, 45, len(protein)):
        other = "W" if protein[position - 1] != "W" else "A"
        mutant = loaded.layout.encode(protein[: position - 1] + other + protein[position:])
        changed = [index for index in range(len(ids)) if ids[index] != mutant[index]]
        assert changed == [position] == [loaded.token_index(position)]


def test_vectors_are_those_of_the_mutated_residue(root, encoder_of, request_of, protein):
    encoded = encoder_of(NAME, root).encode([request_of("C2W", protein), request_of("A1C", protein)])
    model = library()
    for row, (position, alt) in enumerate([(2, "W"), (1, "C")]):
        mutant = protein[: position - 1] + alt + protein[position:]
        for found, sequence in ((encoded.ref, protein), (encoded.alt, mutant)):
            ids = [0, *(make_esmc.VOCABULARY.index(letter) for letter in sequence), 2]
            with torch.no_grad():
                expected = model(input_ids=torch.tensor([ids])).last_hidden_state[0, position].numpy()
            np.testing.assert_allclose(found[row], expected, atol=1e-5)
    assert encoded.facts["prefix"] == "<cls>" and encoded.rows["token_index"] == ["2", "1"]


def test_batch_padding_and_order_do_not_matter(root, encoder_of, request_of, protein):
    requests = [request_of(name, protein[:end]) for end in (30, 47, 90) for name in ("A1C", "C2W", "M11A", "D3D")]
    together = encoder_of(NAME, root, batch_tokens=100_000).encode(requests)
    for count in (32, 200):
        apart = encoder_of(NAME, root, batch_tokens=count).encode(requests)
        np.testing.assert_allclose(apart.alt, together.alt, atol=1e-5)
        np.testing.assert_allclose(apart.ref, together.ref, atol=1e-5)
    backwards = encoder_of(NAME, root, batch_tokens=100_000).encode(requests[::-1])
    np.testing.assert_array_equal(backwards.alt[::-1], together.alt)


def test_bfloat16_beyond_256_residues(root, load):
    full, half = load(root / NAME), load(root / NAME, "bfloat16")
    assert {value.dtype for value in half.model.parameters()} == {torch.bfloat16}
    assert half.model.rotary_emb.inv_freq.dtype == torch.float32
    rng = np.random.default_rng(0)
    ids = {"input_ids": np.array([[0, *rng.integers(4, 24, 600), 2]])}
    a, b = (each.forward(ids)["last_hidden_state"][0] for each in (full, half))
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine[:257].min() > 0.999 and cosine[257:].min() > 0.999


def test_converted_weights_give_the_same_bits(root, tmp_path, entry_of, load):
    record = convert.convert(root / NAME, entry_of(NAME), "float32", tmp_path)
    assert sum(np.prod(shape) for shape in record["used"].values()) == record["facts"]["n_parameters"]
    converted, official = load(tmp_path), load(root / NAME)
    for name, value in official.forward({"input_ids": np.array(IDS)}).items():
        np.testing.assert_array_equal(converted.forward({"input_ids": np.array(IDS)})[name], value)


def test_account_of_tensors(tmp_path, entry_of):
    """Every value of the file is used once or named with its reason; a fused tensor is listed by its parts."""
    for style in make_esmc.STYLES:
        state = make_esmc.tensors(style=style)
        official = network.describe(make_esmc.write(tmp_path / style, style=style), entry_of(NAME))
        used = list(official.tensors.values())
        assert len(used) == len(set(used)) and not set(used) & set(official.unused)
        assert {name.split("[")[0] for name in used} | set(official.unused) == set(state)
        assert all(name.startswith("lm_head.") or name.endswith("._extra_state") for name in official.unused)
        count = sum(int(np.prod(official.checkpoint.shapes[name])) for name in used)
        assert count == sum(value.numel() for value in make_esmc.blocks().values())
        shown = "esmc.transformer.blocks.0.attn.layernorm_qkv.weight[rows 32-63]"
        expected = shown if style == "fused" else "esmc.layers.0.self_attn.k_proj.weight"
        assert official.tensors["layers.0.self_attn.k_proj.weight"] == expected
        key = make_esmc.blocks()["layers.0.self_attn.k_proj.weight"]
        assert torch.equal(official.checkpoint.tensor(expected), key)


def test_a_part_does_not_keep_the_whole_in_memory(tmp_path, entry_of):
    official = network.describe(make_esmc.write(tmp_path), entry_of(NAME))
    assert isinstance(official.checkpoint, layouts.Parts)
    part = official.checkpoint.tensor(official.tensors["layers.0.self_attn.k_proj.weight"])
    assert part.untyped_storage().nbytes() == part.nbytes


@pytest.mark.parametrize(("name", "parameters", "gigabytes"), [("esmc_300m", 0.332, 1.3), ("esmc_600m", 0.574, 2.3)])
def test_full_size_architecture(entry_of, name, parameters, gigabytes):
    """Parameters in billions; with the head and in fp32 they are as large as the published files."""
    entry = entry_of(name)
    d, ffn, layers = (entry["architecture"][key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    model = network.full_size(entry)
    count = sum(value.numel() for value in model.parameters())
    assert count == layers * (4 * d * d + 3 * d * ffn + 6 * d) + 64 * d + d
    assert round(count / 1e9, 3) == parameters
    head = d * d + d + 2 * d + 64 * d + 64
    assert round(4 * (count + head) / 1e9, 1) == gigabytes
    assert make_esmc.feed_forward(d) == ffn and d // entry["architecture"]["num_attention_heads"] == 64


def fails(folder, entry) -> str:
    """Return the one-line message of a failing load; it must say where to get the weights."""
    with pytest.raises(InputError) as caught:
        network.describe(folder, entry)
    message = str(caught.value)
    assert "\n" not in message and "https://huggingface.co/biohub/ESMC-300M" in message and str(folder) in message
    return message


@pytest.mark.parametrize(
    ("style", "old", "new"),
    [
        ("fused", "esmc.transformer.blocks.1.attn.layernorm_qkv.weight", "esmc.transformer.blocks.1.attn.qkv.weight"),
        ("native", "esmc.layers.1.self_attn.q_proj.weight", "esmc.layers.1.self_attn.query.weight"),
    ],
)
def test_renamed_tensor(tmp_path, entry_of, style, old, new):
    state = make_esmc.tensors(style=style)
    state[new] = state.pop(old)
    message = fails(make_esmc.write(tmp_path, make_esmc.config(style=style), state), entry_of(NAME))
    assert f"missing: {old}" in message and f"unexpected: {new}" in message


def test_tensors_of_the_other_layout(tmp_path, entry_of):
    state = make_esmc.tensors(style="native")
    assert "tensor names do not match" in fails(make_esmc.write(tmp_path, make_esmc.config(), state), entry_of(NAME))


def test_wrong_shape(tmp_path, entry_of):
    state = make_esmc.tensors()
    name = "esmc.transformer.blocks.2.ffn.fc1_weight"
    state[name] = state[name][:-1].clone()
    message = fails(make_esmc.write(tmp_path, state=state), entry_of(NAME))
    assert f"wrong shape of {name}" in message and "found (511, 32); expected (512, 32)" in message


def test_missing_shard(tmp_path, entry_of):
    folder = make_esmc.write(tmp_path, layout="model.safetensors.index.json")
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "shard model-00002-of-00003.safetensors is missing" in fails(folder, entry_of(NAME))


@pytest.mark.parametrize("layout", ["model.safetensors.index.json", "pytorch_model.bin"])
def test_other_files_give_the_same_bits(tmp_path, load, layout):
    ids = {"input_ids": np.array(IDS)}
    found = load(make_esmc.write(tmp_path / "a", layout=layout)).forward(ids)["last_hidden_state"]
    expected = load(make_esmc.write(tmp_path / "b")).forward(ids)["last_hidden_state"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("style", "change", "expected"),
    [
        ("fused", {"model_type": "esm"}, "model_type"),
        ("fused", {"vocab_size": 33}, "vocab_size"),
        ("fused", {"d_model": 40}, "wrong shape"),
        ("fused", {"n_layers": None}, "n_layers is no positive integer"),
        ("fused", {"n_layers": 2}, "unexpected: esmc.transformer.blocks.2."),
        ("fused", {"n_heads": 5}, "number of attention heads"),
        ("fused", {"rope_theta": 500000.0}, "rope_theta"),
        ("fused", {"d_model": 960, "n_layers": 30, "n_heads": 16}, "num_attention_heads is not that of ESM C 300M"),
        ("fused", {"d_model": 960, "n_layers": 29, "n_heads": 15}, "num_hidden_layers is not that of ESM C 300M"),
        ("native", {"hidden_act": "gelu"}, "hidden_act"),
        ("native", {"attention_bias": True}, "attention_bias"),
        ("native", {"num_key_value_heads": 2}, "num_key_value_heads"),
        ("native", {"head_dim": 16}, "head_dim"),
        ("native", {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 2.0}}, "rope_param"),
        ("native", {"intermediate_size": 128}, "wrong shape"),
        ("native", {"quantization_config": {"bits": 8}}, "quantization_config"),
    ],
)
def test_config_of_another_network(tmp_path, entry_of, style, change, expected):
    folder = make_esmc.write(tmp_path, style=style)
    (folder / "config.json").write_text(json.dumps(make_esmc.config(style=style) | change))
    assert expected in fails(folder, entry_of(NAME))


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"])
def test_a_missing_size_is_not_that_of_the_6b_model(tmp_path, entry_of, key):
    folder = make_esmc.write(tmp_path, style="native")
    settings = make_esmc.config(style="native")
    del settings[key]
    (folder / "config.json").write_text(json.dumps(settings))
    assert f"{key} is no positive integer" in fails(folder, entry_of(NAME))


def test_weights_of_the_other_member(tmp_path, entry_of):
    """The 600M model under the name of the 300M one is refused (here with its sizes shrunk in the catalogue)."""
    folder, entry = make_esmc.write(tmp_path), entry_of(NAME)
    ((title, sizes),) = entry["siblings"].items()
    shrunk = dict(zip(sizes, (32, 3, 4, 256), strict=True))
    with pytest.raises(InputError, match=f"weights of another encoder.*{title}"):
        weights.open_weights(folder, entry | {"siblings": {title: shrunk}}, "float32")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"L": 5, "A": 4}, "id of L | found 5; expected 4"),
        ({"<eos>": 3}, "id of <eos>"),
        ({"<mask>": 31}, "id of <mask>"),
    ],
)
def test_another_vocabulary(tmp_path, entry_of, change, expected):
    folder = make_esmc.write(tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= change
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert expected in fails(folder, entry_of(NAME))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_or_broken_file(tmp_path, entry_of, name):
    folder = make_esmc.write(tmp_path)
    (folder / name).write_text("{")
    assert name in fails(folder, entry_of(NAME))
    (folder / name).unlink()
    assert name in fails(folder, entry_of(NAME))
