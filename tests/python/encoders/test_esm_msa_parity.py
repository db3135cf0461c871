"""Parity of ESM-MSA with fair-esm's own loader and model, and the invariances of its passes (specs: 2.2, 7.5, 7.8)."""

from __future__ import annotations

import argparse
import copy

import make_esm_msa
import numpy as np
import pytest
import torch

from vcbench.encoders.esm_msa import network, tokens
from vcbench.encoders.plm.network import Window
from vcbench.encoders.plm.weights import open_weights

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_esm_msa.write(tmp_path_factory.mktemp("weights") / "esm_msa1b")


@pytest.fixture(scope="module")
def fair_esm(folder):
    """fair-esm's model and alphabet, loaded by fair-esm from the same file, with the companion it demands."""
    import esm

    path = folder / make_esm_msa.FILE
    companion = path.with_name(path.stem + "-contact-regression.pt")
    torch.save({"model": make_esm_msa.regression(make_esm_msa.arguments())}, companion)
    with torch.serialization.safe_globals([argparse.Namespace]):
        model, alphabet = esm.pretrained.load_model_and_alphabet_local(str(path))
    companion.unlink()
    return model.eval(), alphabet


@pytest.fixture(scope="module")
def net_of(folder, entry_of, settings_of):
    """Make the network, without alignments unless a folder of them is given."""

    def make(inputs=None, dtype="float32", **overrides):
        weights = open_weights(folder, entry_of("esm_msa1b"), dtype)
        return network.build(weights, settings_of("esm_msa1b", dtype=dtype, **overrides), "cpu", inputs)

    return make


@pytest.fixture(scope="module")
def net(net_of):
    return net_of()


def random_tokens(batch: int, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Ids of random alignments: `<cls>`, then residues and gaps."""
    known = [identifier for identifier in tokens.OF_BYTE if identifier != tokens.UNKNOWN]
    ids = np.random.default_rng(seed).choice(known, (batch, rows, columns)).astype(np.int64)
    ids[:, :, 0] = tokens.CLS
    return ids


def library_states(model, ids: np.ndarray) -> dict[int, torch.Tensor]:
    with torch.no_grad():
        layers = range(model.num_layers + 1)
        return model(torch.as_tensor(ids), repr_layers=list(layers))["representations"]


@pytest.mark.parametrize(("batch", "rows", "columns"), [(1, 1, 9), (1, 7, 30), (3, 5, 12), (1, 2, 1024)])
def test_parity(net, fair_esm, batch, rows, columns):
    """Every layer of every row, and the shortcut to the first row, equal fair-esm to 1e-5."""
    ids = random_tokens(batch, rows, columns)
    expected = library_states(fair_esm[0], ids)
    ours = net.forward({"tokens": ids})
    assert len(ours) == 1 + len(expected) == 4
    for layer, states in expected.items():
        np.testing.assert_allclose(ours[f"hidden_states_{layer}"], states, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(ours["first_row"], expected[2][:, 0], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("batch", "rows", "columns"), [(2, 9, 20), (1, 2, 1024), (1, 1024, 3)])
def test_parity_in_double_precision(net, fair_esm, batch, rows, columns):
    """The same arithmetic: in float64 nothing is left but the order of sums, at the largest alignments too."""
    ids = torch.as_tensor(random_tokens(batch, rows, columns))
    expected = library_states(copy.deepcopy(fair_esm[0]).double(), ids.numpy())
    model = copy.deepcopy(net.model).double()
    with torch.inference_mode():
        for layer, states in enumerate(model.states(ids)):
            torch.testing.assert_close(states, expected[layer], rtol=0, atol=1e-10)
        torch.testing.assert_close(model.first_row(ids), expected[2][:, 0], rtol=0, atol=1e-10)


def test_parity_when_the_library_works_in_pieces(net, fair_esm):
    """Beyond 2^14 tokens fair-esm cuts its attention into pieces, and we the feed-forward layer."""
    ids = random_tokens(1, 180, 100)
    expected = library_states(fair_esm[0], ids)[2][:, 0]
    np.testing.assert_allclose(net.forward({"tokens": ids})["first_row"], expected, rtol=0, atol=TOLERANCE)


def test_layers_are_not_trivial(net):
    """Rows, columns and letters all matter; the states are no constant."""
    ids = random_tokens(1, 4, 20)
    states = net.forward({"tokens": ids})["first_row"]
    exchanged = net.forward({"tokens": ids[:, [0, 2, 1, 3]]})["first_row"]
    assert np.abs(states - exchanged).max() > 0.01  # rows have learned positions
    other = ids.copy()
    other[0, 3, 5] = (other[0, 3, 5] - 4 + 1) % 20 + 4
    assert np.abs(states - net.forward({"tokens": other})["first_row"])[0, 10:].max() > 1e-4  # homologs matter


def test_ids_equal_the_library(fair_esm):
    """The library's batch converter gives our ids, gaps included: `<cls>` before every row and no `<eos>`."""
    rows = [tokens.LETTERS, tokens.LETTERS[::-1]]
    _, _, library = fair_esm[1].get_batch_converter()([(str(number), row) for number, row in enumerate(rows)])
    ours = [[tokens.CLS, *tokens.OF_BYTE[np.frombuffer(row.encode(), np.uint8)]] for row in rows]
    assert library[0].tolist() == ours
    assert library.shape[2] == len(tokens.LETTERS) + 1
    assert tuple(fair_esm[1].all_toks) == tokens.VOCABULARY


def test_offset_is_one(net):
    """Mutating residue p changes one id, at token p: 1-based position + 1 - 1."""
    tokens.LAYOUT.check()
    old, new = tokens.LAYOUT.encode("MEEPQS"), tokens.LAYOUT.encode("MEEAQS")
    assert [index for index in range(7) if old[index] != new[index]] == [4] == [net.token_index(4)]
    net.check()


def test_published_size(entry_of):
    """The published network has 115.6 M parameters with its heads (spec 2.0); ours lacks just those heads."""
    ours = sum(value.numel() for value in network.full_size(entry_of("esm_msa1b")).parameters())
    dense, norm, bias, contacts = 768 * 769, 2 * 768, 33, 12 * 12 + 1
    assert round((ours + dense + norm + bias + contacts) / 1e6, 1) == 115.6
    assert {value.device.type for value in network.full_size(entry_of("esm_msa1b")).parameters()} == {"meta"}


def test_vectors_equal_the_library(folder, fair_esm, encoder_of, request_of, protein, tmp_path):
    """The way of a user: A3M in, vectors out, against fair-esm fed by hand; only the protein's row is mutated."""
    rows = make_esm_msa.homologs(protein, 9)
    make_esm_msa.write_a3m(tmp_path / "any_name.a3m", rows)
    encoder = encoder_of("esm_msa1b", folder, inputs=tmp_path, msa_select="first", msa_depth=6)
    names = ["A1V", "C2W;F5A", f"{protein[-1]}90C" if protein[-1] != "C" else "C90D"]
    encoded = encoder.encode([request_of(name, protein) for name in names])

    def library(query: str) -> np.ndarray:
        kept = [query, *("".join(letter for letter in row if not letter.islower()) for row in rows[1:6])]
        _, _, ids = fair_esm[1].get_batch_converter()([(str(number), row) for number, row in enumerate(kept)])
        return library_states(fair_esm[0], ids.numpy())[2][0, 0].numpy()

    mutants = ["V" + protein[1:], "AWDEA" + protein[5:], protein[:-1] + names[2][-1]]
    for row, (query, positions) in enumerate(zip(mutants, ([1], [2, 5], [90]), strict=True)):
        np.testing.assert_allclose(encoded.alt[row], library(query)[positions].mean(axis=0), rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(encoded.ref[row], library(protein)[positions].mean(axis=0), rtol=0, atol=TOLERANCE)
    assert encoded.facts["n_passes"] == 4  # three mutants and one reference


def test_batch_equals_single(net_of, protein, tmp_path):
    """Windows of two proteins with different depths and lengths give the same states together and alone."""
    other = protein[::-1][:50]
    make_esm_msa.write_a3m(tmp_path / "a.a3m", make_esm_msa.homologs(protein, 12))
    make_esm_msa.write_a3m(tmp_path / "b.a3m", make_esm_msa.homologs(other, 5, seed=1))
    net = net_of(tmp_path, msa_depth=8)
    windows = [
        net.window(sequence, reference, 0)
        for reference in (protein, other)
        for sequence in (reference, "W" + reference[1:], reference[:20] + "C" + reference[21:])
    ]
    together = net.hidden(windows)
    assert together.shape == (6, 91, 32)
    for window, states in zip(windows, together, strict=True):
        alone = net.hidden([window])[0]
        np.testing.assert_allclose(states[: len(alone)], alone, rtol=0, atol=5e-6)


def test_bfloat16_stays_near(net_of):
    """In bfloat16 every residue's state keeps its direction, beyond column 256 too (the guard of spec 7.8, 4)."""
    ids = random_tokens(1, 6, 400)
    exact, rounded = (net_of(dtype=dtype).forward({"tokens": ids})["first_row"][0] for dtype in ("float32", "bfloat16"))
    cosine = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosine.min() > 0.999
    assert np.abs(exact - rounded).max() > 0


def test_the_forward_hook_refuses_wrong_arrays(net):
    from vcbench.core.errors import InputError

    for inputs in (
        {},
        {"input_ids": random_tokens(1, 1, 4)},
        {"tokens": random_tokens(1, 1, 4)[0]},
        {"tokens": random_tokens(1, 1, 4) + 0.5},
        {"tokens": np.full((1, 1, 4), 33)},
        {"tokens": np.full((1, 1, 4), tokens.PAD)},
        {"tokens": random_tokens(1, 1, 1025)},
        {"tokens": random_tokens(1, 1025, 3)},
    ):
        with pytest.raises(InputError):
            net.forward(inputs)


def test_window_of_a_tile(net_of, protein, tmp_path):
    """A tile sees its columns of the alignment, and counts its positions from its own start."""
    make_esm_msa.write_a3m(tmp_path / "a.a3m", make_esm_msa.homologs(protein, 5))
    net = net_of(tmp_path, max_residues=32, msa_select="first")
    inside = net.hidden([net.window(protein[16:48], protein, 16)])
    cut = make_esm_msa.write_a3m(
        tmp_path / "cut" / "cut.a3m",
        ["".join(letter for letter in row if not letter.islower())[16:48] for row in make_esm_msa.homologs(protein, 5)],
    )
    alone = net_of(cut.parent, msa_select="first")
    expected = alone.hidden([alone.window(protein[16:48], protein[16:48], 0)])
    assert torch.equal(inside, expected)
    assert net.tokens(Window(protein[16:48], protein, 16)) == 5 * 33
