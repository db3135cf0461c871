"""What must hold for every encoder with a network, whatever its family (specs: plm_encoders.md 1.3, 1.5, 7.8.3).

Batches, padding, order, windows and pooling are those of `plm.encoder`; a family that lets one of them leak into its
vectors fails here. The encoders are those of `kinds`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import kinds
import make_esm_msa
import numpy as np
import pytest
import torch
from kinds import ENTRIES

from vcbench.encoders import base

VECTORS = [name for name, entry in ENTRIES.items() if "pooling" in entry["settings"]]

LENGTHS = (30, 47, 90)
NAMES = ("A1C", "M11A", "C2W;M11A", "D3D", "")
LONG, TILE, POSITION = 90, (50, 90), 75


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A folder above small checkpoints; encoders that share official files share the folder."""
    root = tmp_path_factory.mktemp("weights")
    for name in ENTRIES:
        kinds.write(name, root)
    return root


@pytest.fixture(scope="module")
def alignments(tmp_path_factory, protein) -> Path:
    """Alignments of the proteins used here; a tile's and a mutant's hold the same homologs."""
    folder = tmp_path_factory.mktemp("alignments")
    rows = ["".join(letter for letter in row if not letter.islower()) for row in make_esm_msa.homologs(protein, 6)]
    mutant = protein[0] + "W" + protein[2:30]
    for length in LENGTHS:
        make_esm_msa.write_a3m(folder / f"first{length}.a3m", [row[:length] for row in rows])
    make_esm_msa.write_a3m(folder / "tile.a3m", [row[slice(*TILE)] for row in rows])
    make_esm_msa.write_a3m(folder / "mutant.a3m", [mutant, *(row[:30] for row in rows[1:])])
    return folder


@pytest.fixture(scope="module")
def encoder(catalogue, settings_of, weights, alignments) -> Callable:
    """Make an encoder in fp32 as ENCODE does; one with alignments takes their first rows."""

    def make(name: str, **overrides):
        if ENTRIES[name]["family"] == "esm_msa":
            overrides = {"msa_select": "first", **overrides}
        settings = settings_of(name, dtype="float32", **overrides)
        return base.load(name, catalogue)(base.Context(name, ENTRIES[name], settings, weights, alignments))

    return make


@pytest.fixture(scope="module")
def requests(request_of, protein) -> list:
    return [request_of(name, protein[:end]) for end in LENGTHS for name in NAMES]


def assert_same(found: base.Encoded, expected: base.Encoded) -> None:
    """Equal to rounding; the vectors themselves must be of order 1, or the comparison says nothing."""
    assert expected.alt.std() > 0.1
    np.testing.assert_allclose(found.alt, expected.alt, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(found.ref, expected.ref, atol=1e-5, rtol=1e-5)
    assert found.rows == expected.rows


@pytest.mark.parametrize("name", ENTRIES)
def test_batches_and_padding_do_not_matter(encoder, requests, name):
    """All lengths in one padded batch, or every sequence alone."""
    together = encoder(name, batch_tokens=1_000_000).encode(requests)
    apart = encoder(name, batch_tokens=32).encode(requests)
    assert_same(apart, together)
    assert apart.facts["n_passes"] == together.facts["n_passes"]


@pytest.mark.parametrize("name", ENTRIES)
def test_order_and_company_do_not_matter(encoder, requests, name):
    """Any order gives the same bits, and a request on its own gives what it gives among others."""
    together = encoder(name).encode(requests)
    order = np.random.default_rng(0).permutation(len(requests))
    shuffled = encoder(name).encode([requests[index] for index in order])
    np.testing.assert_array_equal(shuffled.alt, together.alt[order])
    np.testing.assert_array_equal(shuffled.ref, together.ref[order])
    for index in (0, 7):
        alone = encoder(name).encode([requests[index]])
        np.testing.assert_allclose(alone.alt[0], together.alt[index], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(alone.ref[0], together.ref[index], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_window_is_a_protein_of_its_own(encoder, request_of, protein, name):
    """A variant of a long protein has the vectors of the same variant in its tile, and not those of the whole."""
    start, end = TILE
    new = "W" if protein[POSITION - 1] != "W" else "A"
    variant = request_of(f"{protein[POSITION - 1]}{POSITION}{new}", protein)
    tiled = encoder(name, max_residues=end - start).encode([variant])
    assert tiled.rows["window_start"] == [str(start)] and tiled.rows["pos_in_window"] == [str(POSITION - start)]
    inside = request_of(f"{protein[POSITION - 1]}{POSITION - start}{new}", protein[start:end])
    alone = encoder(name).encode([inside])
    np.testing.assert_allclose(tiled.alt, alone.alt, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(tiled.ref, alone.ref, atol=1e-5, rtol=1e-5)
    assert np.abs(encoder(name).encode([variant]).alt - tiled.alt).max() > 1e-3


@pytest.mark.parametrize("name", ENTRIES)
def test_passes_and_rows_without_a_change(encoder, request_of, protein, name):
    """Synonymous variants are the reference, exactly, and cost no pass of their own; neither does the wild type."""
    sequence = protein[:30]
    variants = [request_of(text, sequence) for text in ("A1C", "A1D")]
    with_more = [*variants, *(request_of(text, sequence) for text in ("A1A", ""))]
    encoded = encoder(name).encode(with_more)
    assert encoded.facts["n_passes"] == encoder(name).encode(variants).facts["n_passes"]
    np.testing.assert_array_equal(encoded.ref[2], encoded.ref[0])
    np.testing.assert_array_equal(encoded.alt[2], encoded.ref[2])
    assert not encoded.alt[3].any() and not encoded.ref[3].any()
    assert np.abs(encoded.alt[:2] - encoded.ref[:2]).min(axis=0).max() > 1e-3


@pytest.mark.parametrize("name", VECTORS)
def test_mean_is_the_mean_of_all_residues(encoder, request_of, protein, name):
    """Mean pooling by its definition: special tokens and padding left out; ALT of the mutant, REF of the wild type."""
    sequence = protein[:30]
    mutant = sequence[0] + "W" + sequence[2:]

    def residues(of: str) -> np.ndarray:
        return encoder(name).encode([request_of(f"{r}{p}{r}", of) for p, r in enumerate(of, start=1)]).ref

    batch = [request_of("C2W", sequence), request_of("", sequence), request_of("A1C", protein)]  # the last one pads
    pooled = encoder(name, pooling="mean").encode(batch)
    np.testing.assert_allclose(pooled.ref[0], residues(sequence).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(pooled.alt[0], residues(mutant).mean(axis=0), atol=1e-5)
    np.testing.assert_array_equal(pooled.alt[1], pooled.ref[0])  # the wild type under its own name
    assert np.abs(pooled.alt[0] - pooled.ref[0]).max() > 1e-4


@pytest.mark.parametrize("name", VECTORS)
def test_mean_of_a_long_protein_is_that_of_all_its_tiles(encoder, request_of, protein, name):
    """Of every residue in its nearest tile, wild type and mutant alike: ALT must not tell tiles apart.

    The expected mean is that of the residues' own vectors, which pooling `position` reads.
    """
    limit, mutant = 40, protein[:74] + ("W" if protein[74] != "W" else "A") + protein[75:]

    def residues(of: str) -> np.ndarray:
        names = [f"{r}{p}{r}" for p, r in enumerate(of, start=1)]
        return encoder(name, max_residues=limit).encode([request_of(text, of) for text in names]).ref

    texts = ["", f"{protein[74]}75{mutant[74]}", f"{protein[9]}10{protein[9]}", "A1C"]
    pooled = encoder(name, pooling="mean", max_residues=limit).encode([request_of(text, protein) for text in texts])
    wild_type = residues(protein).mean(axis=0)
    for row in pooled.ref:
        np.testing.assert_allclose(row, wild_type, atol=1e-5)  # one wild type, whichever tile a variant is in
    np.testing.assert_array_equal(pooled.alt[0], pooled.ref[0])
    np.testing.assert_array_equal(pooled.alt[2], pooled.ref[0])
    if ENTRIES[name]["family"] != "esm_msa":  # whose mutant has no alignment of its own here
        np.testing.assert_allclose(pooled.alt[1], residues(mutant).mean(axis=0), atol=1e-5)
    assert np.abs(pooled.alt[1] - pooled.ref[1]).max() > 1e-4
    assert set(pooled.rows["window_start"]) == {"0;20;40;50"} and set(pooled.rows["pos_in_window"]) == {""}
    assert pooled.facts["n_passes"] == 4 + 2 + 1  # four tiles, two more hold residue 75, one holds residue 1
    assert "mean over the whole protein" in " ".join(pooled.facts["window_policy"].split())


@pytest.mark.parametrize("name", VECTORS)
def test_out_of_memory_halves_the_batch(encoder, requests, name, monkeypatch):
    """Vectors and number of passes stay; only batches shrink."""
    expected = encoder(name, batch_tokens=1_000_000).encode(requests)
    small = encoder(name, batch_tokens=1_000_000)
    hidden, sizes = small.network.hidden, []

    def limited(batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hidden(batch)

    monkeypatch.setattr(small.network, "hidden", limited)
    found = small.encode(requests)
    assert max(sizes) > 3 and min(sizes) <= 3
    assert_same(found, expected)
    assert found.facts["n_passes"] == expected.facts["n_passes"] == sum(size for size in sizes if size <= 3)
