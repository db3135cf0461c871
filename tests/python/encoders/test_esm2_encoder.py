"""The ESM2 encoder: offsets, windows, batches, passes, synonymous and joint variants (specs: 7.8.2, 7.8.3)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vcbench.core.device import CudaOutOfMemoryError
from vcbench.core.errors import EXIT_CUDA_OUT_OF_MEMORY, InputError, ModelError
from vcbench.encoders.esm2 import tokens
from vcbench.encoders.plm import batching


def row(encoder, sequence: str, position: int) -> np.ndarray:
    """Return the vector of a residue in a whole sequence, straight from the network."""
    ids = np.array([[0, *(tokens.VOCABULARY.index(letter) for letter in sequence), 2]])
    return encoder.network.run(ids)[-1][0, position].numpy()


def test_offset(protein):
    """Exchanging residue p changes exactly one id, at token p (constant of ESM2: +1 for <cls>)."""
    ids = tokens.LAYOUT.encode(protein)
    assert len(ids) == len(protein) + 2 and ids[0] == 0 and ids[-1] == 2
    for position in (1, 2, 45, len(protein)):
        other = "W" if protein[position - 1] != "W" else "A"
        mutant = tokens.LAYOUT.encode(protein[: position - 1] + other + protein[position:])
        assert [i for i in range(len(ids)) if ids[i] != mutant[i]] == [position]
    with pytest.raises(ModelError):
        tokens.LAYOUT.check([*ids[1:], 2], protein)


def test_vectors_are_those_of_the_mutated_residue(esm2, request_of, protein):
    encoder = esm2()
    encoded = encoder.encode([request_of("C2W", protein), request_of("M11A", protein)])
    for index, (position, old, new) in enumerate([(2, "C", "W"), (11, "M", "A")]):
        assert protein[position - 1] == old
        mutant = protein[: position - 1] + new + protein[position:]
        np.testing.assert_allclose(encoded.ref[index], row(encoder, protein, position), atol=1e-6)
        np.testing.assert_allclose(encoded.alt[index], row(encoder, mutant, position), atol=1e-6)
        assert np.abs(encoded.alt[index] - encoded.ref[index]).max() > 0.1
    assert encoded.alt.dtype == encoded.ref.dtype == np.float32
    assert encoded.rows["token_index"] == ["2", "11"] and encoded.rows["window_start"] == ["0", "0"]


def test_passes(esm2, request_of, protein):
    """N variants and one reference are N + 1 passes; synonymous, wild type and repeated sequences cost nothing."""
    encoder = esm2()
    names = ["A1C", "A1D", "C2W", "A1A", "", "A1C;C2W"]
    encoded = encoder.encode([request_of(name, protein) for name in names])
    assert encoder.passes == encoded.facts["n_passes"] == 1 + 4
    encoder = esm2()
    # a protein that is another one's mutant: one pass serves as its REF and as the other's ALT
    mutant = "C" + protein[1:]
    encoder.encode([request_of("A1C", protein), request_of("C1D", mutant), request_of("A1D", protein)])
    assert encoder.passes == 3


def test_synonymous_and_wild_type(esm2, request_of, protein):
    encoded = esm2().encode([request_of("C2C", protein), request_of("", protein), request_of("C2W", protein)])
    np.testing.assert_array_equal(encoded.ref[0], encoded.alt[0])
    np.testing.assert_array_equal(encoded.ref[0], encoded.ref[2])
    assert np.abs(encoded.ref[0]).max() > 0.1
    assert not encoded.ref[1].any() and not encoded.alt[1].any()


def test_joint_mutant_is_the_mean_over_positions(esm2, request_of, protein):
    encoder = esm2()
    encoded = encoder.encode([request_of("C2W;M11A", protein)])
    mutant = protein[0] + "W" + protein[2:10] + "A" + protein[11:]
    expected = (row(encoder, mutant, 2).astype(float) + row(encoder, mutant, 11)) / 2
    np.testing.assert_allclose(encoded.alt[0], expected, atol=1e-6)
    expected = (row(encoder, protein, 2).astype(float) + row(encoder, protein, 11)) / 2
    np.testing.assert_allclose(encoded.ref[0], expected, atol=1e-6)
    assert encoded.rows["token_index"] == ["2;11"]


def test_batch_padding_and_order_do_not_matter(esm2, request_of, protein):
    """Sequences of different lengths, one per pass or all in one batch, in any order."""
    requests = [request_of(name, protein[:end]) for end in (30, 47, 90) for name in ("A1C", "C2W", "M11A", "D3D")]
    together = esm2(batch_tokens=100_000).encode(requests)
    for limit in (32, 200):  # one sequence per pass, and a few
        apart = esm2(batch_tokens=limit).encode(requests)
        np.testing.assert_allclose(apart.alt, together.alt, atol=1e-5)
        np.testing.assert_allclose(apart.ref, together.ref, atol=1e-5)
    backwards = esm2(batch_tokens=100_000).encode(requests[::-1])
    np.testing.assert_array_equal(backwards.alt[::-1], together.alt)
    np.testing.assert_array_equal(backwards.ref[::-1], together.ref)


def test_batches_are_the_same_for_any_order_of_requests(esm2, request_of, protein, monkeypatch):
    """On a GPU the composition of a batch may change the last bits, so it must not depend on the order of rows."""
    requests = [request_of(name, protein[:end]) for end in (47, 30, 90) for name in ("A1C", "C2W", "M11A")]
    seen = []
    for order in (requests, requests[::-1]):
        encoder, batches = esm2(batch_tokens=200), []
        hidden = encoder.network.hidden
        monkeypatch.setattr(
            encoder.network, "hidden", lambda batch, run=hidden, log=batches: log.append(tuple(batch)) or run(batch)
        )
        encoder.encode(order)
        seen.append(batches)
    assert seen[0] == seen[1]
    lengths = [len(window.sequence) for batch in seen[0] for window in batch]
    assert lengths == sorted(lengths) and len(lengths) == 12


def test_a_cpu_takes_few_tokens_at_a_time(esm2, request_of, protein, monkeypatch):
    """Whatever the setting: more tokens cost memory there and gain nothing (benchmarks/README.md)."""
    encoder, sizes = esm2(batch_tokens=100_000), []
    hidden = encoder.network.hidden
    monkeypatch.setattr(encoder.network, "hidden", lambda batch: sizes.append(len(batch)) or hidden(batch))
    letters = [letter for letter in "CDEFGHIKLMNPQRSTVWY" if letter != protein[0]]
    encoder.encode([request_of(f"{protein[0]}1{letter}", protein) for letter in letters])
    assert sum(sizes) == 1 + len(letters) and max(sizes) * (len(protein) + 2) <= 1024 and max(sizes) > 1


def test_long_protein(esm2, request_of, protein):
    """A variant beyond the first tile is encoded in the tile nearest to it; REF and ALT use the same tile."""
    encoder = esm2(max_residues=40)  # tiles of 90 residues start at 0, 20, 40 and 50
    position = 75
    name = f"{protein[position - 1]}{position}{'W' if protein[position - 1] != 'W' else 'A'}"
    encoded = encoder.encode([request_of(name, protein)])
    assert encoded.rows["window_start"] == ["50"] and encoded.rows["window_len"] == ["40"]
    assert encoded.rows["pos_in_window"] == ["25"] and encoded.rows["token_index"] == ["25"]
    tile = protein[50:90]
    np.testing.assert_allclose(encoded.ref[0], row(encoder, tile, 25), atol=1e-6)
    mutant = tile[:24] + name[-1] + tile[25:]
    np.testing.assert_allclose(encoded.alt[0], row(encoder, mutant, 25), atol=1e-6)


def test_variants_of_one_tile_share_its_reference(esm2, request_of, protein):
    encoder = esm2(max_residues=40)
    pairs = [(61, "W"), (62, "W"), (63, "W")]
    names = [f"{protein[p - 1]}{p}{alt if protein[p - 1] != alt else 'A'}" for p, alt in pairs]
    encoded = encoder.encode([request_of(name, protein) for name in names])
    assert len(set(encoded.rows["window_start"])) == 1 and encoder.passes == 3 + 1


def test_never_wild_type_under_a_variants_name(esm2, request_of, protein, monkeypatch):
    encoder = esm2()
    shape = (1, len(protein) + 2, encoder.network.width)
    monkeypatch.setattr(encoder.network, "hidden", lambda batch: torch.ones((len(batch), *shape[1:])))
    with pytest.raises(ModelError, match=r"wild-type vector for TP53~C2W"):
        encoder.encode([request_of("C2W", protein)])


def test_unknown_residue(esm2, request_of, protein):
    with pytest.raises(InputError, match="residue 3 is no amino acid"):
        esm2().encode([request_of("A1C", "AC*" + protein)])


def test_missing_weights_say_where_to_get_them(entry, tmp_path):
    from vcbench.encoders.base import Context
    from vcbench.encoders.plm.encoder import ENCODER

    for weights in (None, tmp_path):
        with pytest.raises(InputError, match="facebook/esm2_t33_650M_UR50D"):
            ENCODER(Context("esm2_650m", entry, {"max_residues": 1022, "batch_tokens": 100}, weights))


def test_cuda_without_gpu_is_an_error(weights_folder, encoder_of):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match="no GPU is visible"):
        encoder_of("esm2_650m", weights_folder, device="cuda")


def test_batches_are_bounded_by_padded_tokens():
    lengths = [5, 5, 10, 10, 50]
    calls = []
    list(batching.run("abcde", lengths, 20, lambda batch: calls.append(list(batch))))
    # 3 x 10 padded tokens would be too many; a sequence longer than the limit goes alone
    assert calls == [["a", "b"], ["c", "d"], ["e"]]


def test_cuda_out_of_memory_halves_the_batch_and_goes_on():
    calls = []

    def forward(batch):
        calls.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "".join(batch)

    done = [result for _, result in batching.run("abcdefghij", [10] * 10, 1000, forward)]
    assert "".join(done) == "abcdefghij"
    assert calls == [10, 5, 2, 2, 2, 2, 2]

    def never(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(CudaOutOfMemoryError) as caught:
        list(batching.run("ab", [10, 10], 1000, never))
    assert caught.value.exit_code == EXIT_CUDA_OUT_OF_MEMORY == 97 and caught.value.stops_task
