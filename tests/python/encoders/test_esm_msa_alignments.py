"""Alignments: every format gives the same, found by sequence; selection of rows; every bad file is one clear line."""

from __future__ import annotations

import gzip
import itertools

import make_esm_msa
import numpy as np
import pytest

from vcbench.core.errors import InputError
from vcbench.encoders.esm_msa.alignments import Alignments
from vcbench.encoders.esm_msa.selection import most_diverse, select
from vcbench.encoders.esm_msa.tokens import GAP, OF_BYTE

PROTEIN = "MEEPQSDPSV"
#: What every file of GOOD says, one column per residue of PROTEIN.
ROWS = ["MEEPQSDPSV", "MDE-QSDPSA", "-EXPQSEPUV"]


def ids(*rows: str) -> list[list[int]]:
    return [[int(OF_BYTE[ord(letter)]) for letter in row] for row in rows]


GOOD = {
    "plain.a3m": ">q\nMEEPQSDPSV\n>a some words\nMDE-QSDPSA\n>b\n-EXPQSEPUV\n",
    "insertions.a3m": ">q\nMEEPQSDPSV\n>a\nMDkkE-QSDPSAw\n>b\n-EXPQyS\nEPUV\n",
    "colabfold.a3m": "#10\t1\n>101\nMEEPQSDPSV\n>a\t99\t0.4\nMDkE-QSDPSA\n>b\n-EXPQSEPUV\n",
    "hhsuite.a3m": ">ss_pred PSIPRED\nCCHHHHHHCC\n>ss_conf\n9988899999\n>q\nMEEPQSDPSV\n"
    ">a\nMDE-QSDPSA\n>b\n-EXPQSEPUV\n",
    "dots_as_gaps.a3m": ">q\nMEEPQSDPSV\n>a\nMDkE.QSDPSA\n>b\n.EXPQSEPUV\n",
    "gapped_query.a3m": ">q\nMEE-PQSDPSV\n>a\nMDEK-QSDPSA\n>b\n-EXKPQSEPUV\n",
    "dots.a2m": ">q\nMEE.PQSDPSV\n>a\nMDEk-QSDPSA\n>b\n-EX.PQSEPUV\n",
    "aligned.fasta": ">q\nMEE--PQSDPSV\n>a\nMDEKK-QSDPSA\n>b\n-EX--PQSEPUV\n",
    "soft_masked.afa": ">q\nmeePQSDPSV\n>a\nmDE-QSDPSA\n>b\n-eXPQSEPUV\n",
    "really_a3m.fasta": ">q\nMEEPQSDPSV\n>a\nMDkE-QSDPSA\n>b\n-EXPQSEPUV\n",
    "blocks.sto": "# STOCKHOLM 1.0\n#=GF ID x\n\nq    MEE.PQ\na    MDEk-Q\nb    -EX.PQ\n#=GC RF xxx.xx\n\n"
    "q    SDPSV\na    SDPSA\nb    SEPUV\n//\n",
    "blocks.aln": "CLUSTAL W (1.83) multiple sequence alignment\n\nq      MEE-PQ 5\na      MDEK-Q 5\nb      -EX-PQ 4\n"
    "       :*   *\n\nq      SDPSV 10\na      SDPSA 10\nb      SEPUV 9\n",
    "windows.a3m": ">q\r\nMEEPQSDPSV\r\n>a\r\nMDE-QSDPSA\r\n>b\r\n-EXPQSEPUV\r\n",
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("packed", [False, True])
def test_formats(tmp_path, name, packed):
    """Insertions go, dots are gaps, the query's gaps are no columns, whatever the format; gzip is no difference."""
    path = tmp_path / (name + ".gz" if packed else name)
    path.write_bytes(gzip.compress(GOOD[name].encode()) if packed else GOOD[name].encode())
    found = Alignments(tmp_path).find(PROTEIN)
    assert found.ids.tolist() == ids(*ROWS)
    assert found.path == path and len(found.sha256) == 64
    assert Alignments(path).find(PROTEIN).ids.tolist() == ids(*ROWS)  # a single file serves too


def test_found_by_sequence_never_by_name(tmp_path):
    (tmp_path / "TP53.a3m").write_text(">TP53\nMKVLLW\n")
    (tmp_path / "KRAS.a3m").write_text(GOOD["plain.a3m"].replace(">q", ">KRAS"))
    (tmp_path / "README").write_text("not an alignment")
    alignments = Alignments(tmp_path)
    assert alignments.find(PROTEIN).path.name == "KRAS.a3m"
    assert alignments.find("MKVLLW").path.name == "TP53.a3m"
    assert alignments.find("MEEPQSDPSA") is None


def test_query_in_another_row_of_an_aligned_file(tmp_path):
    """The row becomes the first; the others keep their order. In A3M the columns belong to the first row only."""
    text = ">a\nMDEK-QSDPSA\n>q\nMEE-PQSDPSV\n>b\n-EX-PQSEPUV\n"
    (tmp_path / "x.afa").write_text(text)
    assert Alignments(tmp_path).find(PROTEIN).ids.tolist() == ids(*ROWS)
    (tmp_path / "x.afa").rename(tmp_path / "x.a3m")
    assert Alignments(tmp_path).find(PROTEIN) is None
    (tmp_path / "x.a3m").rename(tmp_path / "x.afa")
    (tmp_path / "y.afa").write_text(text.replace("MDEK", "MDEW"))
    with pytest.raises(InputError, match=r"x\.afa, y\.afa"):
        Alignments(tmp_path).find(PROTEIN)
    (tmp_path / "own.a3m").write_text(f">q\n{PROTEIN}\n")  # its own alignment always wins
    assert Alignments(tmp_path).find(PROTEIN).path.name == "own.a3m"


BAD = {
    "ragged": ("x.a3m", ">q\nMEEPQSDPSV\n>a\nMEEPQSDPS\n", r"unequal lengths.*row 2 \('a'\) has 9.*10"),
    "ragged Stockholm": ("x.sto", "# STOCKHOLM 1.0\nq MEEPQSDPSV\na MEE\n//\n", "unequal lengths.*has 3"),
    "unknown letter": ("x.a3m", ">q\nMEEPQSDPSV\n>a\nMEEPJSDPSV\n", "row 'a'.*found 'J' in column 5"),
    "stop": ("x.a3m", ">q\nMEEPQSDPSV\n>a\nMEEPQSDPS*\n", r"found '\*' in column 10"),
    "empty": ("x.a3m", "\n \n", "empty"),
    "no sequence": ("x.a3m", "#10\t1\n", "no sequence"),
    "only a header": ("x.a3m", ">q\n>a\nMEEPQSDPSV\n", "row 'q' has no letters"),
    "no FASTA": ("x.fasta", "CLUSTAL\n\nq MEEPQSDPSV\n", "before the first '>'.*CLUSTAL"),
    "no Stockholm": ("x.sto", ">q\nMEEPQSDPSV\n", "not a Stockholm file"),
    "cut Stockholm": ("x.sto", "# STOCKHOLM 1.0\nq MEEPQSDPSV\n", "cut off"),
    "two in one Stockholm": ("x.sto", "# STOCKHOLM 1.0\nq MEE\n//\n# STOCKHOLM 1.0\nq MEE\n//\n", "more than one"),
    "odd Stockholm": ("x.sto", "# STOCKHOLM 1.0\nq M E E\n//\n", "not a row.*line 2|line 2.*not a row"),
    "no Clustal": ("x.aln", ">q\nMEEPQSDPSV\n", "not a Clustal file"),
    "odd Clustal": ("x.aln", "CLUSTAL\n\nq M E E P\n", "line 3.*not a row"),
    "no text": ("x.a3m", b">q\nM\xff\xfe\n", "not plain text"),
    "broken gzip": ("x.a3m.gz", b"\x1f\x8b\x08\x00rubbish", "cannot be read"),
    "no gzip": ("x.a3m.gz", b">q\nMEEPQSDPSV\n", "cannot be read"),
    "lower-case query": ("x.a3m", ">q\nMEEpQSDPSV\n>a\nMEEPQSDPSV\n", "first row holds lower-case.*1 of 10 letters"),
    "all lower-case query": (
        "x.a3m",
        ">q\nmeepqsdpsv\n>a\nMEEPQSDPSV\n",
        "first row holds lower-case.*10 of 10 letters",
    ),
    "one name twice in Stockholm": (
        "x.sto",
        "# STOCKHOLM 1.0\nq MEEPQSDPSV\na MEE\na MEE\n//\n",
        "line 4: two rows.*'a'",
    ),
    "one name twice in Clustal": ("x.aln", "CLUSTAL\n\nq MEEPQSDPSV\nq MEEPQSDPSV\n", "line 4: two rows.*'q'"),
    "lower-case query alone": ("x.a3m", ">q\nMEEpQSDPSV\n", "no column.*9 columns"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, case):
    name, content, message = BAD[case]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        Alignments(tmp_path).find(PROTEIN)
    assert "\n" not in str(caught.value) and str(tmp_path / name) in str(caught.value)


def test_cut_gzip(tmp_path):
    packed = gzip.compress("".join(f">{row}\nMEEPQSDPSV\n" for row in range(200)).encode())
    (tmp_path / "x.a3m.gz").write_bytes(packed[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        Alignments(tmp_path)


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match=r"no alignments found.*no such folder"):
        Alignments(tmp_path / "absent")
    (tmp_path / "README").write_text("nothing")
    with pytest.raises(InputError, match=r"no alignments found.*found none"):
        Alignments(tmp_path)
    (tmp_path / "a.a3m").write_text(GOOD["plain.a3m"])
    (tmp_path / "b.sto").write_text(GOOD["blocks.sto"])
    with pytest.raises(InputError, match=r"two alignments of one protein.*a\.a3m and b\.sto"):
        Alignments(tmp_path)


def test_alignment_of_another_protein_says_which(tmp_path):
    (tmp_path / "other.a3m").write_text(">q\nMKVLLW\n")
    (tmp_path / "isoform.a3m").write_text(">q\nMEEPQSRPSV\n")
    alignments = Alignments(tmp_path)
    message = str(alignments.missing(PROTEIN))
    assert "other.a3m: MKVLLW... (6 residues" in message and "isoform.a3m: the same but for D7R" in message


def brute_force(matrix: np.ndarray, depth: int) -> list[int]:
    """The authors' selection in plain loops: largest mean distance to the chosen, the earlier row on ties."""
    chosen = [0]
    while len(chosen) < depth:
        best = max(
            (row for row in range(len(matrix)) if row not in chosen),
            key=lambda row: (sum(int((matrix[row] != matrix[other]).sum()) for other in chosen), -row),  # whole numbers
        )
        chosen.append(best)
    return sorted(chosen)


@pytest.mark.parametrize(("rows", "columns", "depth"), [(30, 20, 1), (30, 20, 2), (30, 20, 12), (40, 130, 39)])
def test_most_diverse_is_the_authors_selection(rows, columns, depth):
    matrix = np.random.default_rng(rows + depth).integers(4, 12, (rows, columns)).astype(np.uint8)
    assert most_diverse(matrix, depth).tolist() == brute_force(matrix, depth)


def test_most_diverse_ties_go_to_the_earlier_row_and_long_rows_do_not_overflow():
    same = np.full((5, 8), 4, dtype=np.uint8)
    assert most_diverse(same, 3).tolist() == [0, 1, 2]
    far = np.full((4, 1000), 4, dtype=np.uint8)
    far[2], far[3, :400] = 5, 6
    assert most_diverse(far, 2).tolist() == [0, 2]


def test_selection():
    matrix = np.random.default_rng(0).integers(4, 24, (50, 30)).astype(np.uint8)
    matrix[3] = GAP
    usable = [row for row in range(50) if row != 3]
    assert [rows.tolist() for rows in select(matrix, 5, "first", 0, 1)] == [[0, 1, 2, 4, 5]]  # no row of gaps
    assert [rows.tolist() for rows in select(matrix, 1, "maxdiv", 0, 1)] == [[0]]
    for how in ("first", "maxdiv", "random"):
        assert [rows.tolist() for rows in select(matrix, 49, how, 0, 3)] == [usable]  # nothing to choose: once


def test_random_rows_depend_on_seed_sample_and_purpose_only():
    matrix = np.random.default_rng(0).integers(4, 24, (50, 30)).astype(np.uint8)

    def draw(seed: int = 0, samples: int = 1, *purpose: object) -> list[list[int]]:
        return [rows.tolist() for rows in select(matrix, 10, "random", seed, samples, *purpose)]

    assert draw() == draw() and draw(0, 3)[:1] == draw()
    for rows in draw(0, 20):
        assert rows[0] == 0 and rows == sorted(set(rows)) and len(rows) == 10
    different = [*draw(0, 3), *draw(1), *draw(0, 1, "another protein")]
    assert all(a != b for a, b in itertools.combinations(different, 2))
    assert {row for rows in draw(0, 60) for row in rows} == set(range(50))  # every row can be drawn


@pytest.fixture
def weights(tmp_path):
    return make_esm_msa.write(tmp_path / "esm_msa1b")


@pytest.fixture
def msas(tmp_path, protein):
    make_esm_msa.write_a3m(tmp_path / "msas" / "a.a3m", make_esm_msa.homologs(protein, 40))
    return tmp_path / "msas"


def test_reproducible_and_independent_of_order(weights, msas, encoder_of, request_of, protein):
    requests = [request_of(name, protein) for name in ("A1V", "C2W", "D3D", "A1V;F5W", "")]

    def encode(order=1, **overrides):
        return encoder_of("esm_msa1b", weights, inputs=msas, msa_depth=8, **overrides).encode(requests[::order])

    for overrides in ({}, {"msa_select": "random"}, {"msa_select": "random", "n_subsamples": 3}):
        first, again, backwards = encode(**overrides), encode(**overrides), encode(-1, **overrides)
        np.testing.assert_array_equal(first.alt, again.alt)
        np.testing.assert_array_equal(first.alt, backwards.alt[::-1])
        small = encode(batch_tokens=32, **overrides)
        np.testing.assert_allclose(first.alt, small.alt, rtol=0, atol=5e-6)
    np.testing.assert_array_equal(first.alt[2], first.ref[2])  # synonymous
    assert not first.alt[4].any()  # wild type
    other = encode(msa_select="random", msa_seed=1)
    assert np.abs(other.alt[0] - encode(msa_select="random").alt[0]).max() > 1e-3


def test_subsamples_are_averaged(weights, msas, encoder_of, request_of, protein):
    """Three subsamples give the mean of three passes over the rows that are drawn for them."""
    from vcbench.core.hashing import sha256_text

    chosen = {"msa_depth": 8, "msa_select": "random", "msa_seed": 5}
    request = request_of("C2W", protein)
    averaged = encoder_of("esm_msa1b", weights, inputs=msas, n_subsamples=3, **chosen).encode([request])
    matrix = Alignments(msas).find(protein).ids
    rows = make_esm_msa.homologs(protein, 40)
    parts = []
    for number, draw in enumerate(select(matrix, 8, "random", 5, 3, sha256_text(protein), 0)):
        folder = msas.parent / f"sample{number}"
        make_esm_msa.write_a3m(folder / "a.a3m", [rows[row] for row in draw])
        parts.append(encoder_of("esm_msa1b", weights, inputs=folder, msa_select="first").encode([request]).alt[0])
    np.testing.assert_allclose(averaged.alt[0], np.mean(parts, axis=0), rtol=0, atol=5e-6)
    assert np.abs(parts[0] - parts[1]).max() > 1e-3
    assert averaged.facts["msa"][sha256_text(protein)]["n_subsamples"] == 3
    assert averaged.facts["n_passes"] == 3 * 2  # mutant and reference with each draw


def test_provenance(weights, msas, encoder_of, request_of, protein):
    from vcbench.core.hashing import sha256_file, sha256_text

    encoded = encoder_of("esm_msa1b", weights, inputs=msas, msa_depth=8).encode([request_of("A1V", protein)])
    assert encoded.facts["msa"] == {
        sha256_text(protein): {
            "sha256": sha256_file(msas / "a.a3m"), "file": "a.a3m", "rows": 40, "columns": 90, "depth_used": 8,
            "selection": "maxdiv", "seed": None, "n_subsamples": 1, "tiles": [[0, 90, 8]],
        }
    }  # fmt: skip
    assert encoded.facts["n_passes"] == 2


def test_long_protein_is_tiled(weights, tmp_path, encoder_of, request_of):
    """A protein of 1024 residues has two tiles; 1023 residues are one pass of 1024 columns."""
    rng = np.random.default_rng(0)
    protein = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 1024))
    make_esm_msa.write_a3m(tmp_path / "msas" / "long.a3m", make_esm_msa.homologs(protein, 3))
    make_esm_msa.write_a3m(tmp_path / "msas" / "fits.a3m", make_esm_msa.homologs(protein[1:], 3))
    letter = "A" if protein[1023] != "A" else "C"
    requests = [
        request_of(f"{protein[1023]}1024{letter}", protein),
        request_of(f"{protein[1023]}1023{letter}", protein[1:]),
    ]
    encoded = encoder_of("esm_msa1b", weights, inputs=tmp_path / "msas", max_residues=1023).encode(requests)
    assert encoded.rows["window_start"] == ["1", "0"] and encoded.rows["token_index"] == ["1023", "1023"]
    # the last tile of the long protein and the short one hold the same residues but other homologs
    assert np.isfinite(encoded.alt).all() and np.abs(encoded.alt[0] - encoded.alt[1]).max() > 1e-3


def test_no_alignment(weights, msas, encoder_of, request_of, protein):
    """An error unless asked for; then the protein alone, and the provenance says so."""
    other = request_of("W1A", "W" + protein[1:])
    with pytest.raises(InputError, match=r"no alignment of the protein.*a\.a3m: the same but for W1A") as caught:
        encoder_of("esm_msa1b", weights, inputs=msas).encode([other])
    assert "\n" not in str(caught.value) and str(msas) in str(caught.value)
    with pytest.raises(InputError, match="--msas"):
        encoder_of("esm_msa1b", weights).encode([other])
    alone = encoder_of("esm_msa1b", weights, inputs=msas, allow_no_msa=True).encode([other])
    (facts,) = alone.facts["msa"].values()
    assert facts["depth_used"] == 1 and facts["selection"] == "no alignment" and facts["sha256"] is None
    without = encoder_of("esm_msa1b", weights, allow_no_msa=True).encode([other])
    np.testing.assert_array_equal(alone.alt, without.alt)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"max_residues": 1024}, "max_residues"),
        ({"msa_depth": 1025}, "msa_depth"),
        ({"n_subsamples": 2}, "n_subsamples.*random"),
    ],
)
def test_settings_that_the_network_cannot_take(weights, entry_of, settings_of, overrides, message):
    from vcbench.encoders.esm_msa import network
    from vcbench.encoders.plm.weights import open_weights

    opened = open_weights(weights, entry_of("esm_msa1b"), "float32")
    with pytest.raises(InputError, match=message):
        network.build(opened, settings_of("esm_msa1b") | overrides, "cpu", None)
    if "n_subsamples" not in overrides:  # the catalogue refuses it before any weights are read
        with pytest.raises(InputError, match=message):
            settings_of("esm_msa1b", **overrides)
