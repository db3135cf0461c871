"""Our ESM2 against fair-esm, the original implementation (specs: plm_encoders.md 7.4, 7.8.1)."""

from __future__ import annotations

import argparse
import hashlib

import esm
import make_esm2
import numpy as np
import pytest
import torch
import weight_files
from safetensors.torch import load_file

from vcbench.encoders.esm2 import tokens

BLOCKS = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.out_proj": "attention.output.dense",
    "self_attn_layer_norm": "attention.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "final_layer_norm": "LayerNorm",
}


def original(folder, layers: int, hidden: int, heads: int) -> tuple[torch.nn.Module, esm.data.Alphabet]:
    """Return fair-esm's ESM2 with the tensors of an official-layout file, by the key map of 7.4."""
    file = load_file(folder / "model.safetensors")
    alphabet = esm.data.Alphabet.from_architecture("ESM-1b")
    model = esm.ESM2(num_layers=layers, embed_dim=hidden, attention_heads=heads, alphabet=alphabet, token_dropout=True)
    state = {"embed_tokens.weight": file["esm.embeddings.word_embeddings.weight"]}
    for layer in range(layers):
        source = f"esm.encoder.layer.{layer}"
        for ours, theirs in BLOCKS.items():
            for kind in ("weight", "bias"):
                state[f"layers.{layer}.{ours}.{kind}"] = file[f"{source}.{theirs}.{kind}"]
        frequencies = file[f"{source}.attention.self.rotary_embeddings.inv_freq"]
        state[f"layers.{layer}.self_attn.rot_emb.inv_freq"] = frequencies
    for kind in ("weight", "bias"):
        state[f"emb_layer_norm_after.{kind}"] = file[f"esm.encoder.emb_layer_norm_after.{kind}"]
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith(("lm_head.", "contact_head.")) for name in missing)
    return model.eval(), alphabet


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("layers", "hidden", "heads"), [(2, 32, 4), (5, 48, 2)])
def test_equals_fair_esm(tmp_path, load_esm2, attention, layers, hidden, heads):
    """Every layer, in a padded batch with non-standard residues and a masked token: within 1e-5, eager bit for bit."""
    folder = make_esm2.write(tmp_path, make_esm2.config(hidden, layers, heads), seed=layers)
    model, alphabet = original(folder, layers, hidden, heads)
    sequences = [
        ("long", "".join(np.random.default_rng(0).choice(list("ACDEFGHIKLMNPQRSTVWY"), 400))),
        ("rare", "MKUXBZOLV"),
        ("masked", "MK<mask>L"),
    ]
    _, _, ids = alphabet.get_batch_converter()(sequences)
    with torch.no_grad():
        theirs = model(ids, repr_layers=list(range(layers + 1)))["representations"]
    ours = load_esm2(folder, attention=attention).forward({"input_ids": ids.numpy()})
    padding = (ids == alphabet.padding_idx).numpy()
    for layer in range(layers + 1):
        a, b = ours[f"hidden_states_{layer}"][~padding], theirs[layer].numpy()[~padding]
        assert np.std(b) > 0.1
        scale = 1 if layer == layers else max(1, np.std(b))  # only the last layer is after a norm
        assert np.abs(a - b).max() <= (0 if attention == "eager" else 1e-5 * scale), layer
    np.testing.assert_array_equal(ours["last_hidden_state"], ours[f"hidden_states_{layers}"])


def test_rotary_frequencies_come_from_the_file(tmp_path, load_esm2):
    """The published file may hold rounded frequencies; taking the formula instead moves the result visibly."""
    settings = make_esm2.config()
    state = make_esm2.tensors(settings)
    rounded = load_esm2(make_esm2.write(tmp_path / "a", settings, state))
    without = {name: value for name, value in state.items() if "inv_freq" not in name}
    exact = load_esm2(make_esm2.write(tmp_path / "b", settings, without))
    ids = {"input_ids": np.array([tokens.LAYOUT.encode("ACDEFGHIKLMNPQRSTVWY" * 15)])}
    assert np.abs(rounded.forward(ids)["last_hidden_state"] - exact.forward(ids)["last_hidden_state"]).max() > 1e-4
    width = settings["hidden_size"] // settings["num_attention_heads"]
    formula = [10000.0 ** (-2 * i / width) for i in range(width // 2)]
    np.testing.assert_allclose(exact.model.rotary_embeddings.inv_freq, formula, rtol=1e-6)


def test_token_ids_equal_fair_esm(protein):
    alphabet = esm.data.Alphabet.from_architecture("ESM-1b")
    assert list(tokens.VOCABULARY) == alphabet.all_toks
    for sequence in (protein, "UOXBZ", "M"):
        _, _, ids = alphabet.get_batch_converter()([("", sequence)])
        assert tokens.LAYOUT.encode(sequence) == ids[0].tolist()


def shapes(*sizes: int) -> dict[str, object]:
    """Return the settings of a small network."""
    return make_esm2.config(*sizes)


@pytest.mark.parametrize("name", ["esm2_8m", "esm2_650m"])
def test_original_file_equals_fair_esm(tmp_path, entry_of, load_esm2, name):
    """fair-esm's own file through fair-esm's own loader and through ours: every layer bit for bit."""
    path = make_esm2.write_original(tmp_path, name, shapes(48, 3, 4), seed=3)
    with torch.serialization.safe_globals([argparse.Namespace]):
        model, alphabet = esm.pretrained.load_model_and_alphabet_local(path)
    _, _, ids = alphabet.get_batch_converter()([("a", "ACDEFGHIKLMNPQRSTVWY" * 15), ("b", "MKUXBZOL")])
    with torch.no_grad():
        theirs = model.eval()(ids, repr_layers=list(range(4)))["representations"]
    loaded = load_esm2(tmp_path, of=entry_of(name))
    ours = loaded.forward({"input_ids": ids.numpy()})
    padding = (ids == alphabet.padding_idx).numpy()
    for layer in range(4):
        assert np.std(theirs[layer].numpy()) > 0.1
        np.testing.assert_array_equal(ours[f"hidden_states_{layer}"][~padding], theirs[layer].numpy()[~padding])
    assert set(loaded.weights.used) | set(loaded.weights.unused) == set(torch_names(path))
    assert loaded.weights.facts["weights_sha256"] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}


def torch_names(path) -> list[str]:
    """Return the names in fair-esm's file."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        return list(torch.load(path)["model"])


def test_original_file_equals_the_hugging_face_folder(tmp_path, load_esm2):
    """The same tensors in both layouts give the same bits; beside a config.json the folder counts, not the file."""
    make_esm2.write_original(tmp_path / "a")
    folder = make_esm2.write(tmp_path / "b")
    ids = {"input_ids": np.array([tokens.LAYOUT.encode("ACDEFGHIKLMNPQRSTVWY" * 3)])}
    expected = load_esm2(folder).forward(ids)
    for name, value in load_esm2(tmp_path / "a").forward(ids).items():
        np.testing.assert_array_equal(value, expected[name])
    # the provenance names the place each came from
    assert load_esm2(tmp_path / "a").weights.facts["url"].endswith("/fair-esm/models/esm2_t33_650M_UR50D.pt")
    assert load_esm2(tmp_path / "a").weights.facts["revision"] is None
    assert "url" not in load_esm2(folder).weights.facts, "that of the catalogue"
    make_esm2.write_original(tmp_path / "b", seed=1)
    np.testing.assert_array_equal(load_esm2(folder).forward(ids)["last_hidden_state"], expected["last_hidden_state"])


@pytest.mark.parametrize("layout", weight_files.LAYOUTS)
def test_equals_transformers(tmp_path, load_esm2, layout):
    """Whole or in shards, safetensors or torch: what transformers itself loads from the folder."""
    from transformers import EsmModel

    folder = make_esm2.write(tmp_path, shapes(48, 3, 4), seed=5, layout=layout)
    theirs = EsmModel.from_pretrained(
        folder, add_pooling_layer=False, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()
    ids = torch.tensor([tokens.LAYOUT.encode("ACDEFGHIKLMNPQRSTVWY" * 15)])
    ours = load_esm2(folder)
    assert len(ours.weights.facts["weights_sha256"]) == (3 if layout.endswith("index.json") else 1)
    # transformers ignores the frequencies of the file (see the test above)
    ours.model.rotary_embeddings.inv_freq = theirs.rotary_embeddings.inv_freq
    with torch.no_grad():
        expected = theirs(input_ids=ids).last_hidden_state.numpy()
    assert np.std(expected) > 0.1
    difference = ours.forward({"input_ids": ids.numpy()})["last_hidden_state"] - expected
    assert np.abs(difference).max() <= 1e-5


def test_bfloat16_guard(tmp_path, load_esm2):
    """Computed in bf16, residues beyond 256 are as good as the others: rotary angles stay in fp32 (specs: 7.8.4)."""
    folder = make_esm2.write(tmp_path, shapes(64, 4, 2), seed=11)
    rng = np.random.default_rng(2)
    ids = {"input_ids": np.array([tokens.LAYOUT.encode("".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 600)))])}
    exact = load_esm2(folder).forward(ids)["last_hidden_state"][0]

    def cosines(network) -> np.ndarray:
        found = network.forward(ids)["last_hidden_state"][0]
        return (found * exact).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)

    network = load_esm2(folder, "bfloat16")
    assert {value.dtype for value in network.model.parameters()} == {torch.bfloat16}
    assert network.model.rotary_embeddings.inv_freq.dtype == torch.float32
    good = cosines(network)
    assert good.min() > 0.999 and (1 - good[257:]).mean() < 1.2 * (1 - good[:257]).mean()
    network.model.rotary_embeddings.inv_freq = network.model.rotary_embeddings.inv_freq.bfloat16().float()
    assert (1 - cosines(network)[257:]).mean() > 2 * (1 - good[257:]).mean()  # what the guard is for
