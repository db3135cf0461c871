"""ProtT5 and Ankh3 as encoders: which vector, windows, batches, replaced residues, prefix (specs: 1.5, 2.3, 2.5)."""

from __future__ import annotations

import make_t5
import numpy as np
import pytest
import torch
from transformers import T5EncoderModel

from vcbench.core.errors import InputError

NAMES = ["prott5_xl", "ankh3_large"]
OFFSET = {"prott5_xl": 0, "ankh3_large": 1}
LETTERS = {letter: 3 + number for number, letter in enumerate("ALGVSREDTIPKFQNYMHWCXBOUZ")}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder above small checkpoints of the family."""
    folder = tmp_path_factory.mktemp("weights")
    for name in NAMES:
        make_t5.write(folder / name, name, seed=1)
    return folder


@pytest.fixture(scope="module")
def row(weights):
    """Return the library's vector of a residue (1-based) of a whole sequence, from ids written out by hand."""
    models = {
        name: T5EncoderModel.from_pretrained(weights / name, dtype=torch.float32, attn_implementation="eager").eval()
        for name in NAMES
    }

    def read(name: str, sequence: str, position: int, start: tuple[int, ...] | None = None) -> np.ndarray:
        start = ((28,) if name == "ankh3_large" else ()) if start is None else start
        ids = [*start, *(LETTERS[letter] for letter in sequence), 1]
        with torch.no_grad():
            return models[name](input_ids=torch.tensor([ids])).last_hidden_state[0, len(start) + position - 1].numpy()

    return read


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_those_of_the_mutated_residue(weights, row, encoder_of, request_of, protein, name):
    encoded = encoder_of(name, weights).encode([request_of("C2W", protein), request_of("M11A", protein)])
    for index, (position, new) in enumerate([(2, "W"), (11, "A")]):
        mutant = protein[: position - 1] + new + protein[position:]
        np.testing.assert_allclose(encoded.ref[index], row(name, protein, position), atol=1e-5)
        np.testing.assert_allclose(encoded.alt[index], row(name, mutant, position), atol=1e-5)
        assert np.abs(encoded.alt[index] - encoded.ref[index]).max() > 0.1
    assert encoded.rows["token_index"] == [str(1 + OFFSET[name]), str(10 + OFFSET[name])]
    assert encoded.alt.dtype == np.float32 and encoded.alt.shape == (2, 32)


@pytest.mark.parametrize("name", NAMES)
def test_batch_padding_and_order_do_not_matter(weights, encoder_of, request_of, protein, name):
    """Sequences of different lengths, one per pass or all in one padded batch, in any order."""
    requests = [request_of(variant, protein[:end]) for end in (30, 47, 90) for variant in ("A1C", "M11A", "D3D", "")]
    together = encoder_of(name, weights, batch_tokens=100_000).encode(requests)
    apart = encoder_of(name, weights, batch_tokens=32).encode(requests)
    np.testing.assert_allclose(apart.alt, together.alt, atol=1e-5)
    np.testing.assert_allclose(apart.ref, together.ref, atol=1e-5)
    backwards = encoder_of(name, weights, batch_tokens=100_000).encode(requests[::-1])
    np.testing.assert_array_equal(backwards.alt[::-1], together.alt)
    np.testing.assert_array_equal(backwards.ref[::-1], together.ref)
    np.testing.assert_array_equal(together.ref[2], together.alt[2])  # synonymous
    assert not together.alt[3].any()  # wild type


@pytest.mark.parametrize("name", NAMES)
def test_long_protein(weights, row, encoder_of, request_of, protein, name):
    """REF and ALT come from the same tile, and task token and </s> stand at its edges too."""
    position, tile = 75, protein[50:90]
    new = "W" if protein[position - 1] != "W" else "A"
    request = request_of(f"{protein[position - 1]}{position}{new}", protein)
    encoded = encoder_of(name, weights, max_residues=40).encode([request])
    assert encoded.rows["window_start"] == ["50"] and encoded.rows["pos_in_window"] == ["25"]
    assert encoded.rows["token_index"] == [str(24 + OFFSET[name])]
    np.testing.assert_allclose(encoded.ref[0], row(name, tile, 25), atol=1e-5)
    np.testing.assert_allclose(encoded.alt[0], row(name, tile[:24] + new + tile[25:], 25), atol=1e-5)


def test_mean_is_over_residues_only(weights, row, encoder_of, request_of):
    """Neither task token nor </s> nor padding of a longer neighbour enters the mean."""
    for name in NAMES:
        requests = [request_of("C2W", "ACDEF"), request_of("C2W", "ACDEFGHIKLMNPQ")]
        encoded = encoder_of(name, weights, pooling="mean").encode(requests)
        expected = np.mean([row(name, "AWDEF", position) for position in range(1, 6)], axis=0)
        np.testing.assert_allclose(encoded.alt[0], expected, atol=1e-5)


def test_prott5_replaces_rare_residues_and_says_so(weights, row, encoder_of, request_of):
    """U, Z, O and B go in as X; Ankh3 has pieces of its own for them."""
    encoded = encoder_of("prott5_xl", weights).encode([request_of("A1C", "AUZOBM")])
    np.testing.assert_allclose(encoded.alt[0], row("prott5_xl", "CXXXXM", 1), atol=1e-5)
    assert encoded.facts["residue_replacements"] == "U by X, Z by X, O by X, B by X"
    assert encoded.facts["prefix"] == "none" and encoded.facts["attn_impl"] == "sdpa"
    encoded = encoder_of("ankh3_large", weights).encode([request_of("A1C", "AUZOBM")])
    np.testing.assert_allclose(encoded.alt[0], row("ankh3_large", "CUZOBM", 1), atol=1e-5)
    assert encoded.facts["residue_replacements"] == "none"


@pytest.mark.parametrize(("prefix", "start"), [("[NLU]", (28,)), ("[S2S]", (29,)), ("none", ())])
def test_prefix_of_ankh3(weights, row, encoder_of, request_of, protein, prefix, start):
    """The prefix changes the vectors and is in the provenance; [NLU] is the default."""
    chosen = {} if prefix == "[NLU]" else {"prefix": prefix}
    encoded = encoder_of("ankh3_large", weights, **chosen).encode([request_of("C2W", protein)])
    np.testing.assert_allclose(encoded.ref[0], row("ankh3_large", protein, 2, start), atol=1e-5)
    assert encoded.facts["prefix"] == prefix
    assert encoded.facts["token_layout"].startswith("residues" if prefix == "none" else f"{prefix} residues")
    assert encoded.rows["token_index"] == [str(1 + len(start))]


def test_unknown_residue(weights, encoder_of, request_of, protein):
    with pytest.raises(InputError, match="residue 3 is no amino acid"):
        encoder_of("prott5_xl", weights).encode([request_of("A1C", "AC*" + protein)])
    with pytest.raises(InputError, match="residue 1 is no amino acid"):
        encoder_of("ankh3_large", weights).encode([request_of("C2A", "aCD")])


def test_provenance(weights, encoder_of, request_of, protein):
    """What the vectors were made with; the sizes are not the published ones."""
    facts = encoder_of("ankh3_large", weights, dtype="bfloat16").encode([request_of("C2W", protein)]).facts
    assert facts["dtype_compute"] == "bfloat16" and facts["after_final_norm"] is True and facts["layer"] == 2
    assert facts["library"].startswith("transformers ") and facts["official_size"] is False
    assert set(facts["weights_sha256"]) == {"pytorch_model.bin"} and "sentencepiece" in facts


def test_prott5_reads_two_letters_as_one(weights, encoder_of, request_of):
    """U and X are the same to ProtT5: no vector under the name of such a variant, and the message says why."""
    requests = [request_of("U2X", "MUKT"), request_of("U2A", "MUKT")]
    with pytest.raises(InputError, match=r"^TP53~U2X: prott5_xl reads U and X both as X"):
        encoder_of("prott5_xl", weights).encode(requests)
    assert encoder_of("prott5_xl", weights).encode([request_of("U2X;K3A", "MUKT"), requests[1]]).alt.any(axis=1).all()
    assert encoder_of("ankh3_large", weights).encode(requests).alt.any(axis=1).all()
