"""Zero-shot LLR: masked marginals against transformers and fair-esm, passes, sums, windows, the head's tensors."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import esm
import make_esm2
import numpy as np
import pytest
import torch

from vcbench.core.errors import InputError
from vcbench.encoders import base, derive
from vcbench.encoders.plm.convert import convert
from vcbench.encoders.plm.weights import open_weights

NAMES = ("C2W", "C2A", "D3K", "M11A", "W19R", "C2W;M11A")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Tensors of a small checkpoint, with exact rotary frequencies: transformers ignores rounded ones of a file."""
    content = make_esm2.tensors(make_esm2.config(48, 3, 4), seed=9)
    exact = 10000.0 ** (-torch.arange(0, 12, 2) / 12)
    return {name: exact.clone() if "inv_freq" in name else tensor for name, tensor in content.items()}


@pytest.fixture(scope="module")
def folder(state, tmp_path_factory) -> Path:
    return make_esm2.write(tmp_path_factory.mktemp("weights") / "esm2_650m", make_esm2.config(48, 3, 4), state)


@pytest.fixture(scope="module")
def llr(catalogue, settings_of, folder) -> Callable:
    """Make the encoder as ENCODE does."""

    def make(weights: Path = folder, **overrides):
        entry = catalogue["entries"]["esm2_llr"]
        context = base.Context("esm2_llr", entry, settings_of("esm2_llr", **overrides), weights)
        return base.load("esm2_llr", catalogue)(context)

    return make


def by_definition(log_probabilities: Callable, sequence: str, name: str) -> float:
    """Masked marginals written out: mask one position of the wild type, log p(alt) - log p(ref), added up."""
    total = 0.0
    for part in name.split(";"):
        ref, position, alt = part[0], int(part[1:-1]), part[-1]
        tokens = [0, *(make_esm2.VOCABULARY.index(letter) for letter in sequence), 2]
        assert tokens[position] == make_esm2.VOCABULARY.index(ref)
        tokens[position] = make_esm2.VOCABULARY.index("<mask>")
        row = log_probabilities(torch.tensor([tokens]))[position]
        total += float(row[make_esm2.VOCABULARY.index(alt)] - row[make_esm2.VOCABULARY.index(ref)])
    return total


def test_equals_transformers(llr, folder, request_of, protein):
    from transformers import EsmForMaskedLM

    model = EsmForMaskedLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    assert model.config.token_dropout

    def log_probabilities(ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.log_softmax(model(input_ids=ids).logits[0], dim=-1)

    ours = llr().encode([request_of(name, protein) for name in NAMES])
    theirs = np.array([by_definition(log_probabilities, protein, name) for name in NAMES])
    assert ours.alt.shape == (len(NAMES), 1) and ours.alt.dtype == np.float32
    assert np.std(theirs) > 0.5
    np.testing.assert_allclose(ours.alt[:, 0], theirs, atol=1e-5, rtol=0)
    assert not ours.ref.any()
    model.config.token_dropout = model.esm.embeddings.token_dropout = False  # what the tolerance above must notice
    assert abs(by_definition(log_probabilities, protein, NAMES[0]) - ours.alt[0, 0]) > 1e-3


def test_equals_fair_esm(llr, state, request_of, protein, tmp_path):
    """fair-esm's own file: through its own loader, and through ours."""
    path = make_esm2.write_original(tmp_path / "esm2_650m", settings=make_esm2.config(48, 3, 4), state=state)
    with torch.serialization.safe_globals([argparse.Namespace]):
        model, _ = esm.pretrained.load_model_and_alphabet_local(path)
    model.eval()

    def log_probabilities(ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.log_softmax(model(ids)["logits"][0], dim=-1)

    theirs = [by_definition(log_probabilities, protein, name) for name in NAMES]
    requests = [request_of(name, protein) for name in NAMES]
    for weights in (tmp_path, None):  # the .pt file, and the same tensors as a Hugging Face folder
        ours = (llr(weights) if weights else llr()).encode(requests)
        np.testing.assert_allclose(ours.alt[:, 0], theirs, atol=1e-5, rtol=0)


def test_one_pass_per_position(llr, request_of, protein):
    """All variants of a position share its pass; synonymous and wild type need none and are exactly zero."""
    encoder = llr()
    names = ["C2W", "C2A", "M11A", "C2W;M11A", "D3D", ""]
    encoded = encoder.encode([request_of(name, protein) for name in names])
    assert encoder.passes == encoded.facts["n_passes"] == 2
    assert encoded.alt[:4].all() and not encoded.alt[4:].any()
    assert encoded.columns == ("llr",) and encoded.scopes == ("variant",)
    assert encoded.rows["token_index"] == ["2", "2", "11", "2;11", "3", ""]


def test_several_mutations_add_up(llr, request_of, protein):
    """Each position is masked on its own in the wild type, a position that stays as it is adds nothing."""
    alt = llr().encode([request_of(name, protein) for name in ("C2W", "M11A", "C2W;M11A", "C2W;D3D")]).alt[:, 0]
    assert alt[2] == pytest.approx(alt[0] + alt[1], abs=1e-5) and alt[3] == alt[0]


def test_opposite_exchanges_have_opposite_sign(llr, request_of, protein):
    """The context is the same behind the mask, so ref and alt can change places."""
    mutant = protein[0] + "W" + protein[2:]
    there = llr().encode([request_of("C2W", protein)]).alt
    back = llr().encode([request_of("W2C", mutant)]).alt
    assert there[0, 0] == -back[0, 0] != 0


def test_windows(llr, request_of, protein):
    """A tile of a long protein is scored like a protein of that sequence."""
    position = 75
    name = f"{protein[position - 1]}{position}{'W' if protein[position - 1] != 'W' else 'A'}"
    encoded = llr(max_residues=40).encode([request_of(name, protein)])
    start = int(encoded.rows["window_start"][0])
    assert start == 50 and encoded.rows["pos_in_window"] == ["25"]
    tile = protein[start : start + 40]
    alone = llr().encode([request_of(f"{name[0]}{position - start}{name[-1]}", tile)])
    assert alone.alt[0, 0] == pytest.approx(encoded.alt[0, 0], abs=1e-5)
    assert abs(llr().encode([request_of(name, protein)]).alt[0, 0] - encoded.alt[0, 0]) > 1e-4


def test_batches_padding_and_order_do_not_matter(llr, request_of, protein):
    requests = [request_of(name, protein[:end]) for end in (30, 47, 90) for name in NAMES]
    together = llr(batch_tokens=100_000).encode(requests).alt
    np.testing.assert_allclose(llr(batch_tokens=32).encode(requests).alt, together, atol=1e-5)
    np.testing.assert_array_equal(llr(batch_tokens=100_000).encode(requests[::-1]).alt[::-1], together)


def test_diff_is_minus_llr(llr, request_of, protein):
    encoded = llr().encode([request_of("C2W", protein)])
    vectors = derive.Vectors("esm2_llr", encoded.ref, encoded.alt, encoded.columns, {}, {}, np.zeros(1))
    assert derive.derive(vectors, "diff")[0, 0] == -encoded.alt[0, 0] != 0


def test_head_is_used_by_this_encoder_only(folder, state, entry_of):
    head = {name for name in state if name.startswith("lm_head.")}
    ours, plain = (open_weights(folder, entry_of(name), "float32") for name in ("esm2_llr", "esm2_650m"))
    assert head - set(ours.used) == {"lm_head.decoder.weight"} <= set(ours.unused)
    assert head <= set(plain.unused) and set(ours.used) | set(ours.unused) == set(state)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_converted_weights_give_the_same(llr, entry_of, folder, request_of, protein, tmp_path, dtype):
    """The head stays in fp32 in every compute type."""
    convert(folder, entry_of("esm2_llr"), dtype, tmp_path / "converted")
    converted, direct = llr(tmp_path / "converted", dtype=dtype), llr(dtype=dtype)
    assert {value.dtype for value in converted.network.model.lm_head.parameters()} == {torch.float32}
    requests = [request_of(name, protein) for name in NAMES]
    ours = direct.encode(requests).alt
    np.testing.assert_array_equal(converted.encode(requests).alt, ours)
    exact = llr().encode(requests).alt
    np.testing.assert_allclose(ours, exact, atol=1e-6 if dtype == "float32" else 0.3)
    assert (dtype == "float32") == np.array_equal(ours, exact)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("lm_head.dense.bias"), "the file has no language-model head"),
        (lambda state: state.update({"lm_head.bias": torch.zeros(32)}), "wrong shape of lm_head.bias"),
        (lambda state: state["lm_head.decoder.weight"].add_(1), "lm_head.decoder.weight is not the embedding matrix"),
    ],
)  # fmt: skip
def test_wrong_head(entry_of, state, tmp_path, change, message):
    wrong = {name: tensor.clone() for name, tensor in state.items()}
    change(wrong)
    make_esm2.write(tmp_path, make_esm2.config(48, 3, 4), wrong)
    with pytest.raises(InputError) as caught:
        open_weights(tmp_path, entry_of("esm2_llr"), "float32")
    assert message in str(caught.value) and "huggingface.co/facebook" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_decoder_may_be_left_out(entry_of, state, tmp_path):
    """A safetensors file stores shared tensors once."""
    shared = {name: tensor for name, tensor in state.items() if name != "lm_head.decoder.weight"}
    make_esm2.write(tmp_path, make_esm2.config(48, 3, 4), shared)
    assert "lm_head.dense.weight" in open_weights(tmp_path, entry_of("esm2_llr"), "float32").used


def test_check_weights_writes_logits(folder, tmp_path, protein):
    """The hook that lets a user compare the head too."""
    from transformers import EsmForMaskedLM

    from vcbench.core import check_weights

    ids = np.array([[0, 20, 15, 32, 5, 2]])
    np.savez(tmp_path / "in.npz", input_ids=ids)
    check_weights.main([
        "--model", "esm2_llr", "--weights", str(folder), "--inputs", str(tmp_path / "in.npz"), "--outputs",
        str(tmp_path / "out.npz"),
    ])  # fmt: skip
    model = EsmForMaskedLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    with torch.no_grad():
        theirs = model(input_ids=torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["logits"], theirs, atol=1e-5, rtol=1e-5)


def test_it_is_a_control(catalogue):
    """Its number knows the variant: a baseline on it may well be the best simple baseline."""
    entry = catalogue["entries"]["esm2_llr"]
    assert entry["class"] == "control" and not entry.get("negative_control")
    assert entry["weights"] == catalogue["entries"]["esm2_650m"]["weights"]
    assert json.dumps(entry["architecture"]) == json.dumps(catalogue["entries"]["esm2_650m"]["architecture"])
