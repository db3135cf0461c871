"""Closed forms of the control encoders, and the literature values behind them (specs: plm_encoders.md 8.2)."""

from __future__ import annotations

import hashlib
import importlib
import math

import numpy as np
import pytest
from scipy.optimize import brentq

from vcbench.core.errors import InputError
from vcbench.encoders import amino_acids
from vcbench.encoders.base import Context

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


@pytest.fixture
def encode(catalogue):
    """Encode requests with a control encoder; seed and settings may be given."""

    def run(name, requests, seed=0, inputs=None, **settings):
        cls = importlib.import_module(f"vcbench.encoders.{name}").ENCODER
        return cls(Context(name, catalogue["entries"][name], settings, inputs=inputs, seed=seed)).encode(requests)

    return run


def test_onehot_of_residues(encode, request_of, protein):
    encoded = encode("onehot", [request_of("A1C", protein), request_of("C2W;D3A", protein), request_of("C2C", protein)])
    assert encoded.columns == tuple(f"residue_{letter}" for letter in LETTERS)
    diff = encoded.ref - encoded.alt
    expected = np.zeros((3, 20))
    expected[0, [LETTERS.index("A"), LETTERS.index("C")]] = 1, -1
    expected[1, [LETTERS.index(letter) for letter in "CDWA"]] = 0.5, 0.5, -0.5, -0.5
    np.testing.assert_array_equal(diff, expected)
    np.testing.assert_array_equal(encoded.alt.sum(axis=1), [1, 1, 1])
    assert encoded.alt[0, LETTERS.index("C")] == 1


def test_onehot_of_genes_adds_up(encode, request_of, protein):
    encoded = encode(
        "onehot", [request_of(name) for name in ("CBL", "CBL+CNN1", "CNN1")] + [request_of("A1C", protein)]
    )
    assert encoded.columns[20:] == ("gene_CBL", "gene_CNN1")
    np.testing.assert_array_equal(encoded.alt[:, 20:], [[1, 0], [1, 1], [0, 1], [0, 0]])
    np.testing.assert_array_equal(encoded.alt[1], encoded.alt[0] + encoded.alt[2])
    assert not encoded.ref[:3].any()
    assert set(encoded.scopes[:20]) == {"variant"} and set(encoded.scopes[20:]) == {"used"}


GMT = "CYCLE\tfrom a paper\tCDK1\tCBL\nEMPTY_HERE\t-\tTP53\tGATA1\nGROWTH\t-\tCBL\tKLF1\t\nALL\t-\tKLF1\tCBL\tCDK1\n"


@pytest.fixture
def gmt(tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_text(GMT)
    return path


def test_gene_sets_by_hand(encode, request_of, gmt):
    """Rows of sets with a perturbed gene, in the order of the file; doubles add up; a gene in no set has no vector."""
    names = ("CBL", "CBL+KLF1", "KLF1", "CDK1", "XYZ9", "CBL+XYZ9")
    encoded = encode("gene_sets", [request_of(name) for name in names], inputs=gmt)
    assert encoded.columns == ("CYCLE", "GROWTH", "ALL") and set(encoded.scopes) == {"used"}
    np.testing.assert_array_equal(encoded.alt, [[1, 1, 1], [1, 2, 2], [0, 1, 1], [1, 0, 1]])
    assert encoded.alt.dtype == np.float32 and not encoded.ref.any() and encoded.ref.shape == (4, 3)
    assert encoded.skipped == dict.fromkeys(
        ("gene:XYZ9", "gene:CBL+XYZ9"), "a perturbed gene is in no set of --gene_sets"
    )
    assert encoded.facts["gene_sets"]["sha256"] == hashlib.sha256(GMT.encode()).hexdigest()
    assert encoded.alt.any(axis=1).all()  # no perturbation looks like a control cell


def test_gene_sets_do_not_depend_on_the_order_of_requests(encode, request_of, gmt):
    names = ("KLF1", "CBL+KLF1", "CDK1")
    first, second = (encode("gene_sets", [request_of(n) for n in order], inputs=gmt) for order in (names, names[::-1]))
    assert first.columns == second.columns
    np.testing.assert_array_equal(first.alt, second.alt[::-1])


def test_gene_sets_that_fit_nothing(encode, request_of, gmt):
    with pytest.raises(InputError, match=r"gene sets needed.*--gene-sets"):
        encode("gene_sets", [request_of("CBL")])
    with pytest.raises(InputError, match=r"no perturbed gene is in a gene set.*found cbl; expected gene symbols like"):
        encode("gene_sets", [request_of("cbl")], inputs=gmt)


def test_position_onehot(encode, request_of, protein):
    names = ["A1C", "A1D", "C2C", "C2W;M11A", ""]
    other = request_of("A1C", protein[:50], gene="KRAS")
    encoded = encode("position_onehot", [*(request_of(name, protein) for name in names), other])
    assert [column.rsplit("_", 1)[1] for column in encoded.columns] == ["1", "1", "2", "11"]
    assert encoded.columns[0].startswith("position_KRAS_") and encoded.columns[1].startswith("position_TP53_")
    expected = [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0.5, 0.5], [0, 0, 0, 0], [1, 0, 0, 0]]
    np.testing.assert_array_equal(encoded.alt, expected)
    assert not encoded.ref.any()


def test_physchem_is_standardised_over_the_amino_acids(encode, request_of, protein):
    names = [f"A1{letter}" for letter in LETTERS]
    encoded = encode("physchem", [request_of(name, protein) for name in names])
    assert encoded.alt.shape == (20, 23)
    np.testing.assert_allclose(encoded.alt.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(encoded.alt.std(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(encoded.ref, np.repeat(encoded.alt[:1], 20, axis=0))
    hydropathy, volume, charge = encoded.alt[:, -3:].T
    assert LETTERS[np.argmax(hydropathy)] == "I" and LETTERS[np.argmin(hydropathy)] == "R"
    assert LETTERS[np.argmax(volume)] == "W" and LETTERS[np.argmin(volume)] == "G"
    assert {LETTERS[i] for i in np.flatnonzero(charge == charge.max())} == {"K", "R"}
    assert {LETTERS[i] for i in np.flatnonzero(charge == charge.min())} == {"D", "E"}
    blosum = np.array([[amino_acids.BLOSUM62[a][b] for b in LETTERS] for a in LETTERS])
    for column in range(20):
        assert np.corrcoef(encoded.alt[:, column], blosum[:, column])[0, 1] == pytest.approx(1, abs=1e-6)


def test_blosum62_has_the_published_statistics():
    """Ungapped lambda 0.3176 and entropy 0.4 nats at Robinson & Robinson frequencies: the values BLAST prints."""
    frequency = {
        "A": 78.05, "C": 19.25, "D": 53.64, "E": 62.95, "F": 38.56, "G": 73.77, "H": 21.99, "I": 51.42, "K": 57.44,
        "L": 90.19, "M": 22.43, "N": 44.87, "P": 52.03, "Q": 42.64, "R": 51.29, "S": 71.20, "T": 58.41, "V": 64.41,
        "W": 13.30, "Y": 32.16,
    }  # fmt: skip
    p = np.array([frequency[letter] for letter in LETTERS]) / 1000
    scores = np.array([[amino_acids.BLOSUM62[a][b] for b in LETTERS] for a in LETTERS])
    np.testing.assert_array_equal(scores, scores.T)
    pairs = np.outer(p, p)
    lam = brentq(lambda x: (pairs * np.exp(x * scores)).sum() - 1, 0.1, 1)
    assert lam == pytest.approx(0.3176, abs=5e-5)
    entropy = lam * (pairs * np.exp(lam * scores) * scores).sum()
    assert entropy == pytest.approx(0.4012, abs=5e-4)


def test_literature_values():
    assert sum(amino_acids.HYDROPATHY.values()) == pytest.approx(-9.8)  # grand average -0.49 (Kyte & Doolittle 1982)
    assert amino_acids.VOLUME["W"] == 227.8 and amino_acids.VOLUME["G"] == 60.1
    ten_to = 10 ** (6.0 - 7.0)
    assert amino_acids.CHARGE["H"] == pytest.approx(ten_to / (1 + ten_to), abs=0.01)
    assert math.fsum(amino_acids.CHARGE.values()) == pytest.approx(0.1)


def test_random_depends_on_seed_and_perturbation_only(encode, request_of, protein):
    requests = [request_of(f"A1{letter}", protein) for letter in LETTERS]
    encoded = encode("random", requests, width=64)
    alone = encode("random", requests[5:6], width=64)
    np.testing.assert_array_equal(encoded.alt[5], alone.alt[0])
    assert not encoded.ref.any()
    assert np.abs(np.corrcoef(encoded.alt) - np.eye(20)).max() < 0.55
    values = encoded.alt.ravel()
    assert abs(values.mean()) < 4 / math.sqrt(values.size) and values.std() == pytest.approx(1, abs=0.08)
    assert not (encode("random", requests, seed=1, width=64).alt == encoded.alt).any()
    assert encode("random", [request_of("CBL")], width=3).alt.shape == (1, 3)


def test_constant(encode, request_of, protein):
    encoded = encode("constant", [request_of("A1C", protein), request_of("KLF1"), request_of("", protein)], width=4)
    np.testing.assert_array_equal(encoded.alt, [[1] * 4, [1] * 4, [0] * 4])
    assert not encoded.ref.any()


@pytest.mark.parametrize("name", ["onehot", "physchem"])
def test_residue_outside_the_table(encode, request_of, protein, name):
    with pytest.raises(InputError, match="found U"):
        encode(name, [request_of("A1U", protein)])
