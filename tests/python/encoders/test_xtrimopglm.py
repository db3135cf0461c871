"""xTrimoPGLM against a formula written from the specification, and its strict loading (plm_encoders.md 2.4, 7.8)."""

from __future__ import annotations

import cmath
import json
import math

import make_xtrimopglm
import numpy as np
import pytest
import torch

from vcbench.core.errors import InputError, ModelError
from vcbench.encoders.plm import convert, weights
from vcbench.encoders.xtrimopglm import network, tokens

NAME = "xtrimopglm_10b"
QKV = "transformer.encoder.layers.1.self_attention.query_key_value.weight"
LETTERS = make_xtrimopglm.VOCABULARY


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A weights folder that holds a small checkpoint."""
    folder = tmp_path_factory.mktemp("weights")
    make_xtrimopglm.write(folder / NAME)
    return folder


@pytest.fixture(scope="module")
def load(entry_of, settings_of):
    """Load a network from an official or converted folder."""

    def make(folder, dtype="float32"):
        opened = weights.open_weights(folder, entry_of(NAME), dtype)
        return network.build(opened, settings_of(NAME, dtype=dtype), "cpu")

    return make


def ids_of(sequence: str) -> list[int]:
    """Return residues and <eos> (id 34), looked up in the vocabulary file by hand."""
    return [*(LETTERS.index(letter) for letter in sequence), 34]


def formula(state: dict[str, torch.Tensor], config: dict, ids: list[int], frequencies=None) -> list[np.ndarray]:
    """Return the embedding and the states after every block (the last one normed), in numpy and double precision.

    Section 2.4 token by token and head by head: rotary pairs are complex numbers, softmax and GELU are written out.
    """
    w = {name.removeprefix("transformer."): value.double().numpy() for name, value in state.items()}
    heads, width, layers = config["num_attention_heads"], config["kv_channels"], config["num_layers"]
    half, alpha = width // 2, math.sqrt(2 * layers)
    if frequencies is None:
        frequencies = [10000.0 ** (-2 * i / width) for i in range(half)]

    def norm(rows, name):
        centred = rows - rows.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + config["layernorm_epsilon"])
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(rows, name):
        return rows @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def turned(vector, position):
        pairs = [complex(vector[i], vector[i + half]) * cmath.exp(1j * position * frequencies[i]) for i in range(half)]
        return np.array([pair.real for pair in pairs] + [pair.imag for pair in pairs])

    def attention(rows, stem):
        fused = linear(rows, f"{stem}.query_key_value")
        out = np.zeros((len(rows), heads * width))
        for head in range(heads):
            start = 3 * width * head
            query = [turned(fused[t, start : start + width], t) for t in range(len(rows))]
            key = [turned(fused[t, start + width : start + 2 * width], t) for t in range(len(rows))]
            value = fused[:, start + 2 * width : start + 3 * width]
            for t in range(len(rows)):
                scores = [float(query[t] @ other) / math.sqrt(width) for other in key]
                exponents = np.exp(np.array(scores) - max(scores))
                out[t, head * width : (head + 1) * width] = (exponents / exponents.sum()) @ value
        return linear(out, f"{stem}.dense")

    def feed_forward(rows, stem):
        both = linear(rows, f"{stem}.dense_h_to_4h")
        first, second = both[:, : both.shape[1] // 2], both[:, both.shape[1] // 2 :]
        gelu = second * 0.5 * (1 + np.vectorize(math.erf)(second / math.sqrt(2)))
        return linear(first * gelu, f"{stem}.dense_4h_to_h")

    hidden = w["embedding.word_embeddings.weight"][ids]
    states = [hidden]
    for layer in range(layers):
        stem = f"encoder.layers.{layer}"
        a = norm(hidden, f"{stem}.input_layernorm")
        middle = alpha * a + attention(a, f"{stem}.self_attention")
        b = norm(middle, f"{stem}.post_attention_layernorm")
        hidden = alpha * b + feed_forward(b, f"{stem}.mlp")
        states.append(hidden)
    states[-1] = norm(hidden, "encoder.final_layernorm")
    return states


@pytest.mark.parametrize(("layers", "hidden", "heads", "ffn"), [(3, 32, 4, 43), (5, 36, 2, 20), (1, 24, 3, 8)])
def test_equals_the_formula(tmp_path, load, layers, hidden, heads, ffn):
    """Every layer, in a padded batch with rare residues: within 1e-5 of section 2.4 in double precision."""
    config = make_xtrimopglm.config(hidden, layers, heads, ffn)
    state = make_xtrimopglm.tensors(config, seed=layers, rounded=False)
    assert min(float((value - 1).abs().max()) for name, value in state.items() if "layernorm.weight" in name) > 0.1
    loaded = load(make_xtrimopglm.write(tmp_path, config, state))
    rows = [ids_of("MKTAYIAKQRWLVACDEFGHNPSMKKW"), ids_of("MKUXBZOLV"), ids_of("W")]
    longest = max(map(len, rows))
    ours = loaded.forward({"input_ids": np.array([row + [0] * (longest - len(row)) for row in rows])})
    for number, row in enumerate(rows):
        theirs = formula(state, config, row)
        assert len(theirs) == layers + 1
        for layer, expected in enumerate(theirs):
            found = ours[f"hidden_states_{layer}"][number, : len(row)]
            assert expected.std() > 0.1
            np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(ours["last_hidden_state"][number, : len(row)], theirs[-1], atol=1e-5)


def test_stored_rotary_frequencies_win(tmp_path, load):
    """A file that holds frequencies rounded in training is computed with those; without any, with the formula."""
    config = make_xtrimopglm.config()
    state = make_xtrimopglm.tensors(config)
    bare = {name: value for name, value in state.items() if "inv_freq" not in name}
    rounded, exact = (
        load(make_xtrimopglm.write(tmp_path / "a", config, state)),
        load(make_xtrimopglm.write(tmp_path / "b", config, bare)),
    )
    row = ids_of("ACDEFGHIKLMNPQRSTVWY" * 5)
    ours = [loaded.forward({"input_ids": np.array([row])})["last_hidden_state"][0] for loaded in (rounded, exact)]
    frequencies = state["transformer.encoder.layers.0.self_attention.rotary_emb.inv_freq"].double().tolist()
    np.testing.assert_allclose(ours[0], formula(state, config, row, frequencies)[-1], atol=3e-5)
    np.testing.assert_allclose(ours[1], formula(state, config, row)[-1], atol=3e-5)
    assert np.abs(ours[0] - ours[1]).max() > 1e-4
    assert rounded.facts["rotary_frequencies"] == "stored" and exact.facts["rotary_frequencies"] == "formula"


def test_bfloat16_beyond_256_residues(root, load):
    """Positions are counted in fp32: rounded to bf16 they would be wrong beyond 256 (7.8.4)."""
    full, half = load(root / NAME), load(root / NAME, "bfloat16")
    assert {value.dtype for value in half.model.parameters()} == {torch.bfloat16}
    assert half.model.inv_freq.dtype == torch.float32
    sequence = "".join(np.random.default_rng(0).choice(list("ACDEFGHIKLMNPQRSTVWY"), 600))
    a, b = (each.forward({"input_ids": np.array([ids_of(sequence)])})["last_hidden_state"][0] for each in (full, half))
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine[:256].min() > 0.999 and cosine[256:600].min() > 0.999


def test_offset(root, load, protein):
    """Tokens are residues and <eos>; exchanging residue p changes one id, at token p - 1."""
    loaded = load(root / NAME)
    loaded.check()
    ids = loaded.layout.encode(protein)
    assert ids == ids_of(protein) and len(ids) == len(protein) + 1 and 35 not in ids
    assert loaded.tokens(loaded.window(protein, protein, 0)) == len(protein) + 1
    for position in (1, 2, 45, len(protein)):
        other = "W" if protein[position - 1] != "W" else "A"
        mutant = loaded.layout.encode(protein[: position - 1] + other + protein[position:])
        changed = [index for index in range(len(ids)) if ids[index] != mutant[index]]
        assert changed == [position - 1] == [loaded.token_index(position)]


def test_vectors_are_those_of_the_mutated_residue(root, encoder_of, request_of, protein):
    """The encoder reads token p - 1 of the formula, of the reference and of the mutant."""
    config = make_xtrimopglm.config()
    state = make_xtrimopglm.tensors(config)
    frequencies = state["transformer.encoder.layers.0.self_attention.rotary_emb.inv_freq"].double().tolist()
    short = protein[:30]
    encoded = encoder_of(NAME, root, dtype="float32").encode([request_of("C2W", short), request_of("A1C", short)])
    for row, (position, alt) in enumerate([(2, "W"), (1, "C")]):
        mutant = short[: position - 1] + alt + short[position:]
        for found, sequence in ((encoded.ref, short), (encoded.alt, mutant)):
            expected = formula(state, config, ids_of(sequence), frequencies)[-1][position - 1]
            np.testing.assert_allclose(found[row], expected, atol=1e-5)
    assert encoded.facts["prefix"] == "none" and encoded.facts["layer"] == 3
    assert encoded.rows["token_index"] == ["1", "0"]


def test_batch_padding_and_order_do_not_matter(root, encoder_of, request_of, protein):
    requests = [request_of(name, protein[:end]) for end in (30, 47, 90) for name in ("A1C", "C2W", "M11A", "D3D")]
    together = encoder_of(NAME, root, dtype="float32", batch_tokens=100_000).encode(requests)
    for count in (32, 200):
        apart = encoder_of(NAME, root, dtype="float32", batch_tokens=count).encode(requests)
        np.testing.assert_allclose(apart.alt, together.alt, atol=1e-5)
        np.testing.assert_allclose(apart.ref, together.ref, atol=1e-5)
    backwards = encoder_of(NAME, root, dtype="float32", batch_tokens=100_000).encode(requests[::-1])
    np.testing.assert_array_equal(backwards.alt[::-1], together.alt)


def test_converted_weights_give_the_same_bits(root, tmp_path, entry_of, load):
    """Shards become one bf16 file; the frequencies stay fp32."""
    record = convert.convert(root / NAME, entry_of(NAME), "bfloat16", tmp_path)
    assert record["facts"]["dtype_compute"] == "bfloat16" and set(record["facts"]["weights_sha256"]) == {
        f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)
    }
    ids = {"input_ids": np.array([ids_of("ACDEFGHIKLMNPQRSTVWY" * 20)])}
    converted, official = load(tmp_path, "bfloat16"), load(root / NAME, "bfloat16")
    assert converted.model.inv_freq.dtype == torch.float32
    for name, value in official.forward(ids).items():
        np.testing.assert_array_equal(converted.forward(ids)[name], value)


def test_account_of_tensors(root, entry_of):
    official = network.describe(root / NAME, entry_of(NAME))
    names = set(make_xtrimopglm.tensors(make_xtrimopglm.config()))
    used = set(official.tensors.values())
    assert used | set(official.unused) == names and not used & set(official.unused)
    assert set(official.unused) == {"transformer.output_layer.weight"} | {
        f"transformer.encoder.layers.{layer}.self_attention.rotary_emb.inv_freq" for layer in (1, 2)
    }
    assert official.official_size is False


def test_full_size_architecture(entry_of):
    """47 blocks of width 4352: 10.69 billion parameters, 42.74 GB in fp32 as the published shards have (2.0)."""
    model = network.full_size(entry_of(NAME))
    d, ffn = 4352, 11606
    block = (3 * d * d + 3 * d) + (d * d + d) + (2 * ffn * d + 2 * ffn) + (ffn * d + d) + 4 * d
    count = sum(value.numel() for value in model.parameters())
    assert count == 47 * block + 128 * d + 2 * d
    assert round(count / 1e9, 2) == 10.69 and round(4 * count / 1e9, 2) == 42.74
    assert all(value.is_meta for value in model.parameters())


def fails(folder, entry) -> str:
    """Return the one-line message of a failing load; it must say where to get the weights."""
    with pytest.raises(InputError) as caught:
        network.describe(folder, entry)
    message = str(caught.value)
    assert "\n" not in message and "biomap-research/proteinglm-10b-mlm" in message and str(folder) in message
    return message


def test_renamed_tensor(tmp_path, entry_of):
    state = make_xtrimopglm.tensors(make_xtrimopglm.config())
    state[QKV.replace("query_key_value", "qkv")] = state.pop(QKV)
    message = fails(make_xtrimopglm.write(tmp_path, state=state), entry_of(NAME))
    assert f"missing: {QKV}" in message and "unexpected: transformer.encoder.layers.1.self_attention.qkv" in message


def test_unknown_tensor(tmp_path, entry_of):
    """A bias in place of another position code, say, would change the result: anything unknown is named."""
    state = make_xtrimopglm.tensors(make_xtrimopglm.config())
    state["transformer.embedding.position_embeddings.weight"] = torch.ones(8, 32)
    message = fails(make_xtrimopglm.write(tmp_path, state=state), entry_of(NAME))
    assert "unexpected: transformer.embedding.position_embeddings.weight" in message


def test_wrong_hidden_size(tmp_path, entry_of):
    folder = make_xtrimopglm.write(tmp_path)
    config = make_xtrimopglm.config() | {"hidden_size": 40, "kv_channels": 10}
    (folder / "config.json").write_text(json.dumps(config))
    assert "wrong shape of transformer." in fails(folder, entry_of(NAME))


def test_missing_shard(tmp_path, entry_of):
    folder = make_xtrimopglm.write(tmp_path)
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "shard model-00002-of-00003.safetensors is missing" in fails(folder, entry_of(NAME))


def test_another_rotary_table(tmp_path, entry_of):
    state = make_xtrimopglm.tensors(make_xtrimopglm.config())
    name = "transformer.encoder.layers.2.self_attention.rotary_emb.inv_freq"
    state[name] = state[name] * 1.01
    assert f"{name} does not hold the rotary" in fails(
        make_xtrimopglm.write(tmp_path / "a", state=state), entry_of(NAME)
    )
    for layer in range(3):
        stored = name.replace("2", str(layer), 1)
        state[stored] = state[stored][:2].clone()
    message = fails(make_xtrimopglm.write(tmp_path / "b", state=state), entry_of(NAME))
    assert "is it another rotary embedding?" in message and "found (2,); expected (4,)" in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"rotary_embedding_2d": True}, "rotary_embedding_2d | found True; expected False"),
        ({"rotary_embedding_2d": None}, "rotary_embedding_2d"),
        ({"is_causal": True}, "is_causal | found True; expected False"),
        ({"deepnorm": False}, "deepnorm"),
        ({"apply_residual_connection_post_layernorm": False}, "apply_residual_connection_post_layernorm"),
        ({"post_layer_norm": False}, "post_layer_norm"),
        ({"rmsnorm": True}, "rmsnorm"),
        ({"glu_activation": "swiglu"}, "glu_activation"),
        ({"add_qkv_bias": False}, "add_qkv_bias"),
        ({"quantization_bit": 4}, "quantization_bit"),
        ({"moe": True}, "moe"),
        ({"model_type": "chatglm"}, "model_type"),
        ({"layernorm_epsilon": None}, "layernorm_epsilon"),
        ({"rotary_freq_base": 500000}, "rotary_freq_base"),
        ({"num_layers": "3"}, "num_layers is no positive integer"),
        ({"num_attention_heads": 8}, "kv_channels does not fit"),
        ({"num_layers": 2}, "unexpected: transformer.encoder.layers.2."),
        ({"padded_vocab_size": 64}, "padded_vocab_size"),
    ],
)
def test_config_of_another_network(tmp_path, entry_of, change, expected):
    folder = make_xtrimopglm.write(tmp_path)
    (folder / "config.json").write_text(json.dumps(make_xtrimopglm.config() | change))
    assert expected in fails(folder, entry_of(NAME))


@pytest.mark.parametrize("key", ["layernorm_epsilon", "deepnorm", "rotary_embedding_2d", "is_causal"])
def test_a_key_the_arithmetic_needs_is_missing(tmp_path, entry_of, key):
    folder = make_xtrimopglm.write(tmp_path)
    config = make_xtrimopglm.config()
    del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    assert f"{key} | found nothing" in fails(folder, entry_of(NAME)).replace("is needed ", "")


def test_layernorm_epsilon_is_used(tmp_path, load):
    config = make_xtrimopglm.config() | {"layernorm_epsilon": 5e-3}
    state = make_xtrimopglm.tensors(config, rounded=False)
    ours = load(make_xtrimopglm.write(tmp_path, config, state)).forward({"input_ids": np.array([ids_of("MKTW")])})
    np.testing.assert_allclose(ours["last_hidden_state"][0], formula(state, config, ids_of("MKTW"))[-1], atol=1e-5)


def test_heads_of_the_published_size(tmp_path, entry_of):
    """At the published width the tensors cannot reveal a wrong number of heads; the catalogue does."""
    folder = make_xtrimopglm.write(tmp_path)
    wide = make_xtrimopglm.config(4352, 47, 16, 11606)
    (folder / "config.json").write_text(json.dumps(wide))
    assert "num_attention_heads is not that of xTrimoPGLM 10B MLM" in fails(folder, entry_of(NAME))


def vocabulary(**changes) -> str:
    """Return the vocabulary file with tokens exchanged: t5="J" makes token 5 a J."""
    found = list(LETTERS)
    for key, token in changes.items():
        found[int(key[1:])] = token
    return "\n".join(found)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (vocabulary(t34="<end>"), "token 34) | found <end>; expected <eos>"),
        (vocabulary(t0="[pad]"), "token 0) | found [pad]; expected <pad>"),
        (vocabulary(t5="Ser"), "token 5) | found Ser; expected one letter"),
        (vocabulary(t1="J"), "no token for L"),
        (vocabulary(t26="L"), "a token appears twice"),
        ("\n".join(LETTERS[:-1]), "found 35 tokens; expected 36"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 112\n", "a Git LFS pointer"),
    ],
)
def test_another_vocabulary(tmp_path, entry_of, content, expected):
    folder = make_xtrimopglm.write(tmp_path)
    (folder / "tokenizer.model").write_text(content)
    assert expected in fails(folder, entry_of(NAME))


def test_vocabulary_file(tmp_path, entry_of):
    """112 bytes as published; a SentencePiece file or none is refused, and so are two residues exchanged."""
    folder = make_xtrimopglm.write(tmp_path)
    assert (folder / "tokenizer.model").stat().st_size == 112
    layout = tokens.layout(network.describe(folder, entry_of(NAME)).config["vocabulary"])
    assert layout.encode("LAC") == [1, 2, 20, 34]
    other = ["<pad>", "A", "L", *LETTERS[3:]]
    (folder / "tokenizer.model").write_text("\n".join(other) + "\n")
    assert "residues in another order | found ALGVSERTIDPKQNFYMHWC; expected LAGV" in fails(folder, entry_of(NAME))
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\xff\x80")
    assert "no SentencePiece file" in fails(folder, entry_of(NAME))
    (folder / "tokenizer.model").unlink()
    assert "vocabulary not found" in fails(folder, entry_of(NAME))


def test_unknown_letters(root, load):
    with pytest.raises(InputError, match="residue 3 is no amino acid"):
        load(root / NAME).layout.encode("MK*")
    lacking = tokens.layout([token if token != "O" else "J" for token in LETTERS])
    lacking.check(probe="".join(lacking.ids))
    with pytest.raises(InputError, match="residue 2 is no amino acid"):
        lacking.encode("MO")


def test_check_notices_shifted_hidden_rows(root, load, monkeypatch):
    loaded = load(root / NAME)
    monkeypatch.setattr(
        loaded, "states", lambda ids, mask, all_layers: [torch.zeros(ids.shape[0], ids.shape[1] - 1, 32)]
    )
    with pytest.raises(ModelError, match="hidden states have shape"):
        loaded.check()


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"tokens": np.array([[1, 34]])}, "wrong input arrays"),
        ({"input_ids": np.array([1, 34])}, "wrong input_ids"),
        ({"input_ids": np.array([[1, 128]])}, "token id out of range"),
        ({"input_ids": np.array([[1, 34]]), "attention_mask": np.ones((1, 3))}, "wrong shape of attention_mask"),
    ],
)
def test_wrong_inputs(root, load, inputs, expected):
    with pytest.raises(InputError, match=expected):
        load(root / NAME).forward(inputs)
