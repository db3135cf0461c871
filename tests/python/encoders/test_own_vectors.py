"""The user's own vectors: what a file may hold, how rows are matched, what is refused, what comes out."""

from __future__ import annotations

import json
import logging
import pickle
import zipfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from vcbench.core import catalogue, cli, h5ad
from vcbench.core.errors import InputError
from vcbench.core.hashing import sha256_file, sha256_text
from vcbench.core.tables import write_tsv
from vcbench.encoders import derive, export
from vcbench.encoders.import_vectors import main
from vcbench.encoders.provenance import MANDATORY

PROTEIN = "MKTAYIAKQRQISFVK"
SHA = sha256_text(PROTEIN)
#: perturbation -> (labels as in the data, status)
VARIANTS = {
    "TOY~A4V": ("A4V", "encoded"),
    "TOY~K2K": ("K2K", "identical_to_ref"),
    "TOY~K2R": ("K2R | p.Lys2Arg", "encoded"),
    "TOY~K8R;Q9H": ("KQ8RH", "encoded"),
}
IDS = sorted(VARIANTS)
RNG = np.random.default_rng(11)
X, REF = (RNG.normal(size=(4, 3)).astype(np.float32) for _ in range(2))
REF[IDS.index("TOY~K2K")] = X[IDS.index("TOY~K2K")]


def table(folder: Path, name: str = "toy", genes: tuple[str, ...] = ()) -> Path:
    """Write `<name>.perturbations.tsv` with the variants (one of them without cells), or with genes."""
    rows = []
    for each, (labels, status) in (VARIANTS if not genes else {gene: (gene, "encoded") for gene in genes}).items():
        changes = [] if genes else each.split("~")[1].split(";")
        rows.append({
            "perturbation": each, "labels": labels, "gene": ";".join(each.split("+")) if genes else "TOY",
            "sequence_sha256": "" if genes else SHA, "hgvs_p": "", "status": status, "n_cells": 30,
            "consequence": "gene" if genes else "synonymous" if status == "identical_to_ref" else "missense",
            **{key: ";".join(change[part] for change in changes)
               for key, part in (("ref", slice(1)), ("pos", slice(1, -1)), ("alt", slice(-1, None)))},
        })  # fmt: skip
    rows.append({**rows[0], "perturbation": "TOY~Q9*", "labels": "Q9*", "n_cells": 0, "status": "skipped_nonsense"})
    path = folder / f"{name}.perturbations.tsv"
    write_tsv(path, rows, list(rows[0]))
    return path


def write_h5ad(path: Path, ids=tuple(IDS), x=X, ref=None, facts=None, where: str = "vcbench") -> Path:
    """Write a file as a user would, without any help of the project's code."""
    data = ad.AnnData(x, obs=pd.DataFrame(index=list(ids)))
    if ref is not None:
        data.layers["ref"] = ref
    if facts is not None:
        data.uns[where] = facts if isinstance(facts, str) else json.dumps(facts)
    data.write_h5ad(path)
    return path


def write_npz(path: Path, ids=tuple(IDS), x=X, **more) -> Path:
    np.savez(path, X=x, variant_id=np.array(ids), **more)
    return path


def imported(folder: Path, file: Path, *strategies: str, tables: tuple[Path, ...] = ()) -> dict[str, ad.AnnData]:
    """Run the step; return what it wrote by file name."""
    tables = tables or (table(folder),)
    out = folder / "out"
    arguments = ["--vectors", str(file), "--perturbations", *map(str, tables), "--out-dir", str(out)]
    main([*arguments, "--strategies", *(strategies or ("alt",))])
    return {path.name: h5ad.read(path) for path in sorted(out.iterdir())}


# ------------------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("kind", ["h5ad", "npz", "sparse", "float64"])
def test_all_strategies_from_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    order = [2, 0, 3, 1]  # the order of rows plays no role
    ids = [IDS[row] for row in order]
    if kind == "npz":
        file = write_npz(tmp_path / "my_vectors.npz", ids, X[order], ref=REF[order])
    else:
        change = {"sparse": sp.csr_matrix, "float64": np.float64, "h5ad": np.float32}[kind]
        file = write_h5ad(tmp_path / "my_vectors.h5ad", ids, change(X[order]), change(REF[order]))
    found = imported(tmp_path, file, "alt", "diff", "ref")
    assert list(found) == [f"toy.my_vectors.{name}.h5ad" for name in ("alt", "diff", "ref")]
    for strategy, expected in (("alt", X), ("diff", REF - X), ("ref", REF)):
        data = found[f"toy.my_vectors.{strategy}.h5ad"]
        assert list(data.obs_names) == [*IDS, "control"]
        assert data.X.dtype == np.float32
        np.testing.assert_array_equal(data.X[:4], expected)
        assert not data.X[4].any()
    assert not found["toy.my_vectors.diff.h5ad"]["TOY~K2K"].X.any()


def test_the_file_looks_like_those_of_derive(tmp_path: Path) -> None:
    data = imported(tmp_path, write_h5ad(tmp_path / "my_vectors.h5ad"))["toy.my_vectors.alt.h5ad"]
    assert list(data.obs.columns) == [*derive.CARRIED, "vector_row"]
    assert data.obs.loc["TOY~K2R", "status"] == "encoded"
    assert data.obs.loc["control", "consequence"] == "control"
    facts = h5ad.provenance(data)
    assert set(MANDATORY) <= facts.keys()
    assert facts["encoder_id"] == "my_vectors"
    assert (facts["library"], facts["licence"], facts["noncommercial"]) == ("user", "unknown", None)
    assert facts["file_sha256"] == sha256_file(tmp_path / "my_vectors.h5ad")
    assert (facts["strategy"], facts["dataset"], facts["diff_sign"]) == ("alt", "toy", "ref_minus_alt")
    assert facts["sequence_sha256"] == [SHA]
    assert facts["modalities"] == ["variant", "gene"]


@pytest.mark.parametrize("place", ["vcbench", "plm"])
def test_what_the_file_states_about_itself_is_kept(tmp_path: Path, place: str) -> None:
    stated = {"licence": "CC-BY-4.0", "url": "https://example.org", "encoder_id": "other", "library": "torch", "x": 1}
    file = write_h5ad(tmp_path / "mine.h5ad", facts=stated, where=place)
    facts = h5ad.provenance(imported(tmp_path, file)["toy.mine.alt.h5ad"])
    assert (facts["licence"], facts["url"]) == ("CC-BY-4.0", "https://example.org")
    assert (facts["encoder_id"], facts["library"]) == ("mine", "user")  # the run's names, not the file's
    assert facts["stated"] == stated


def test_control_row_of_the_file(tmp_path: Path) -> None:
    ids, x, ref = [*IDS, "control"], np.vstack([X, [[7, 8, 9]]]), np.vstack([REF, [[7, 8, 9]]])
    found = imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad", ids, x, ref), "alt", "diff", "ref")
    for strategy in ("alt", "ref"):
        np.testing.assert_array_equal(found[f"toy.mine.{strategy}.h5ad"]["control"].X[0], [7, 8, 9])
    assert not found["toy.mine.diff.h5ad"]["control"].X.any()


@pytest.mark.parametrize("name", ["TOY~K2K", "control"])
@pytest.mark.parametrize("kind", ["ref", "diff"])
def test_a_diff_of_what_is_the_reference(tmp_path: Path, name: str, kind: str) -> None:
    """One line, as the shipped encoders; without DIFF the same file is taken."""
    ids = [*IDS, "control"]
    x, ref = np.vstack([X, [[1, 1, 1]]]), np.vstack([REF, [[1, 1, 1]]])
    x[ids.index(name)] += 0.25
    if kind == "ref":
        file = write_h5ad(tmp_path / "mine.h5ad", ids, x, ref)
        imported(tmp_path, file, "alt", "ref")
    else:
        file = write_h5ad(tmp_path / "mine.h5ad", ids, ref - x, facts={"strategy": "diff"})
    with pytest.raises(InputError, match=rf"DIFF of 1 rows of toy .* not zero \| found {name}, up to 0.25"):
        imported(tmp_path, file, "diff")


def test_genes(tmp_path: Path) -> None:
    genes = ("CBL", "CBL+CNN1", "KLF1")
    file = write_h5ad(tmp_path / "mine.h5ad", genes[::-1], X[:3])
    data = imported(tmp_path, file, tables=(table(tmp_path, "norman", genes),))["norman.mine.alt.h5ad"]
    assert list(data.obs_names) == [*genes, "control"]
    np.testing.assert_array_equal(data.X[:3], X[:3][::-1])


def test_several_datasets_from_one_file(tmp_path: Path) -> None:
    tables = (table(tmp_path), table(tmp_path, "norman", ("CBL", "KLF1")))
    file = write_h5ad(tmp_path / "mine.h5ad", [*IDS, "KLF1", "CBL"], np.vstack([X, REF[:2]]))
    found = imported(tmp_path, file, tables=tables)
    assert list(found) == ["norman.mine.alt.h5ad", "toy.mine.alt.h5ad"]
    np.testing.assert_array_equal(found["norman.mine.alt.h5ad"].X[:2], REF[[1, 0]])
    with pytest.raises(InputError, match=r"no vector for 2 of 2 perturbations of norman: CBL, KLF1"):
        imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad"), tables=tables)


@pytest.mark.parametrize("kind", ["h5ad", "npz"])
@pytest.mark.parametrize("strategy", ["alt", "diff"])
def test_encodings_of_the_pipeline_can_be_given_back(tmp_path: Path, kind: str, strategy: str) -> None:
    """What the pipeline writes is a file of vectors, and a DIFF in it is never taken for ALT."""
    first = imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad", ref=REF), "alt", "diff")
    written = first[f"toy.mine.{strategy}.h5ad"]
    again = tmp_path / "again"
    again.mkdir()
    file = again / f"back.{kind}"
    if kind == "h5ad":
        file.write_bytes((tmp_path / "out" / f"toy.mine.{strategy}.h5ad").read_bytes())
    else:
        export.write(written, again / "back", h5ad.provenance(written))
    back = imported(again, file, strategy)[f"toy.back.{strategy}.h5ad"]
    np.testing.assert_array_equal(back.X, written.X)
    if strategy == "diff":
        with pytest.raises(InputError, match=r"holds DIFF vectors .*'alt' needs \| use --strategies diff"):
            imported(again, file, "alt")


# ------------------------------------------------------------------------------------------------------- matching


def test_labels_as_in_the_data_are_understood_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ids = ["A4V", "TOY~K2K", "p.Lys2Arg", "KQ8RH", "TOY~Y5C", "R99W"]
    file = write_h5ad(tmp_path / "mine.h5ad", ids, np.vstack([X, REF[:2]]))
    with caplog.at_level(logging.WARNING):
        data = imported(tmp_path, file)["toy.mine.alt.h5ad"]
    np.testing.assert_array_equal(data.X[:4], X)
    assert data.obs["vector_row"].tolist() == ["A4V", "TOY~K2K", "p.Lys2Arg", "KQ8RH", ""]
    log = caplog.text
    assert "2 vectors belong to no perturbation in use: TOY~Y5C, R99W" in log
    assert "A4V = TOY~A4V, p.Lys2Arg = TOY~K2R, KQ8RH = TOY~K8R;Q9H" in log


def other_table(tmp_path: Path, old: str, new: str) -> Path:
    """Write the table of a second dataset with other text in it."""
    path = table(tmp_path, "other")
    path.write_text(path.read_text().replace(old, new))
    return path


def test_a_label_that_means_two_variants_in_two_datasets_is_refused(tmp_path: Path) -> None:
    tables = (table(tmp_path), other_table(tmp_path, "TOY", "OTHER"))
    names = [VARIANTS[name][0].split(" | ")[0] for name in IDS]
    with pytest.raises(InputError, match=r"one vector fits two .* A4V for TOY~A4V and OTHER~A4V"):
        imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad", names), tables=tables)
    both = write_h5ad(
        tmp_path / "mine.h5ad", [*IDS, *(name.replace("TOY", "OTHER") for name in IDS)], np.vstack([X, -X])
    )
    found = imported(tmp_path, both, tables=tables)
    assert np.array_equal(found["other.mine.alt.h5ad"].X[:4], -X)


def test_one_vector_for_two_isoforms_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tables = (table(tmp_path), other_table(tmp_path, SHA, sha256_text(PROTEIN + "A")))
    with caplog.at_level(logging.WARNING):
        imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad"), tables=tables)
    assert "one vector for two proteins of one gene: TOY~A4V, TOY~K2K" in caplog.text


def test_two_vectors_for_one_perturbation(tmp_path: Path) -> None:
    for ids in ([*IDS, "K2R"], [*(name for name in IDS if name != "TOY~K2R"), "K2R", "p.Lys2Arg"]):
        file = write_h5ad(tmp_path / "mine.h5ad", ids, RNG.normal(size=(5, 3)))
        with pytest.raises(InputError, match=r"two vectors for TOY~K2R of toy"):
            imported(tmp_path, file)


def test_every_missing_perturbation_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad", ["TOY~A4V", "toy~k2r"], X[:2]))
    text = str(caught.value)
    assert "no vector for 3 of 4 perturbations of toy: TOY~K2K, TOY~K2R, TOY~K8R;Q9H" in text
    assert "found rows named TOY~A4V, toy~k2r" in text
    assert "toy.perturbations.tsv" in text and "\n" not in text
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------- never the wrong vector


def test_the_wild_types_vector_under_a_variants_name_is_refused(tmp_path: Path) -> None:
    """What the published code leaves behind: a variant that failed and was stored as wild type."""
    x = X.copy()
    x[2] = REF[2]
    message = r"the vector of 1 perturbations of toy is exactly that of the reference \| found TOY~K2R"
    with pytest.raises(InputError, match=message):
        imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad", x=x, ref=REF))
    with pytest.raises(InputError, match=message):  # a DIFF of zero
        imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad", x=REF - x, facts={"strategy": "diff"}), "diff")
    with pytest.raises(InputError, match=message):  # the same as the row of the wild type
        file = write_h5ad(tmp_path / "mine.h5ad", [*IDS, "TOY~WT"], np.vstack([x, x[2:3]]))
        imported(tmp_path, file)
    # a synonymous variant is the reference, and a single number may coincide
    imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad", ref=REF), "alt", "diff")
    imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad", x=x[:, :1], ref=REF[:, :1]), "diff")


def test_vectors_of_another_protein(tmp_path: Path) -> None:
    for stated in ([sha256_text("MKT")], {"TOY": sha256_text("MKT")}):
        file = write_h5ad(tmp_path / "mine.h5ad", facts={"sequence_sha256": stated})
        with pytest.raises(InputError, match="made from another protein than that of toy"):
            imported(tmp_path, file)
    imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad", facts={"sequence_sha256": [sha256_text("MKT"), SHA]}))


def test_a_variant_with_the_vector_of_a_synonymous_one_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Pooled over the protein, a synonymous variant is the wild type, and so is a variant that was never encoded."""
    x = X.copy()
    x[IDS.index("TOY~A4V")] = x[IDS.index("TOY~K2K")]
    with caplog.at_level(logging.WARNING):
        imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad"))
        assert "synonymous variant" not in caplog.text
        imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad", x=x))
    assert "exactly the vector of a synonymous variant in toy (never encoded?): TOY~A4V" in caplog.text


def test_zeros_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x = X.copy()
    x[2] = 0
    imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad", x=x))
    assert "mine: vectors of zeros in toy: TOY~K2R" in caplog.text


# ------------------------------------------------------------------------------------------------------ strategies


@pytest.mark.parametrize("strategy", ["diff", "ref"])
@pytest.mark.parametrize("kind", ["h5ad", "npz"])
def test_without_ref_there_is_only_alt(tmp_path: Path, kind: str, strategy: str) -> None:
    file = (write_h5ad if kind == "h5ad" else write_npz)(tmp_path / f"mine.{kind}")
    place = 'layers["ref"]' if kind == "h5ad" else "the array ref"
    with pytest.raises(InputError) as caught:
        imported(tmp_path, file, "alt", strategy)
    assert f"no REF vectors, which strategy '{strategy}' needs | use --strategies alt, or add {place}" in str(
        caught.value
    )
    assert not (tmp_path / "out").exists()  # said before anything is written


def test_a_file_that_says_diff_serves_diff_only(tmp_path: Path) -> None:
    facts = json.dumps({"strategy": "DIFF", "diff_sign": "ref_minus_alt"})
    file = write_npz(tmp_path / "mine.npz", x=REF - X, provenance=np.array(facts))
    np.testing.assert_array_equal(imported(tmp_path, file, "diff")["toy.mine.diff.h5ad"].X[:4], REF - X)
    with pytest.raises(InputError, match="the file holds DIFF vectors"):
        imported(tmp_path, file, "diff", "alt")


# ------------------------------------------------------------------------------------------------------- bad files


def nan_at(row: int) -> np.ndarray:
    x = X.copy()
    x[row, 1] = np.nan
    return x


@pytest.mark.parametrize("name", ["esm2_650m", "onehot", "controls", "shuffled", "none"])
def test_a_name_of_the_catalogue(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"--vectors: '{name}' is the name of an encoder or group"):
        imported(tmp_path, write_h5ad(tmp_path / f"{name}.h5ad"))


def test_two_of_one_name(tmp_path: Path) -> None:
    """The second would overwrite the results of the first."""
    (tmp_path / "other").mkdir()
    first, second = table(tmp_path), table(tmp_path / "other")
    with pytest.raises(InputError, match="two tables of dataset toy"):
        imported(tmp_path, write_h5ad(tmp_path / "mine.h5ad"), tables=(first, second))
    files = [str(write_h5ad(tmp_path / "mine.h5ad")), str(write_npz(tmp_path / "other" / "mine.npz"))]
    with pytest.raises(InputError, match="--vectors: two files of one name"):
        main(["--vectors", *files, "--perturbations", str(first), "--out-dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


BAD_H5AD = {
    "nan": ({"x": nan_at(1)}, "X holds values that are not finite in float32.*TOY~K2K"),
    "too large": ({"x": X.astype(np.float64) * 1e200}, "not finite in float32.*TOY~A4V, TOY~K2K"),
    "nan in ref": ({"ref": nan_at(3)}, r"ref holds values that are not finite in float32.*TOY~K8R;Q9H"),
    "twice": ({"ids": [IDS[0], *IDS[:3]]}, "two vectors under one name.*TOY~A4V"),
    "blank": ({"ids": [*IDS[:3], " "]}, "a row without a name.*row 4"),
    "no rows": ({"ids": [], "x": X[:0]}, "no vectors"),
    "no columns": ({"x": X[:, :0]}, "wrong shape of X"),
    "no matrix": ({"x": None}, "no vectors.*a matrix X"),
    "truth values": ({"x": X > 0}, "X does not hold numbers.*found bool"),
    "all equal": ({"x": np.ones_like(X)}, "all vectors of toy are equal.*4 perturbations"),
    "no json": ({"facts": "{strategy: diff}"}, "the provenance is no JSON"),
    "no object": ({"facts": "[1]"}, "the provenance is no JSON object"),
    "strategy": ({"facts": {"strategy": "delta"}}, "unknown strategy in the provenance.*found delta"),
    "sign": ({"facts": {"diff_sign": "alt_minus_ref"}}, "wrong diff_sign.*expected ref_minus_alt"),
}


@pytest.mark.parametrize("case", BAD_H5AD)
def test_bad_h5ad_is_one_line(tmp_path: Path, case: str) -> None:
    changes, message = BAD_H5AD[case]
    file = write_h5ad(tmp_path / "mine.h5ad", **changes)
    with pytest.raises(InputError, match=message) as caught:
        imported(tmp_path, file, "alt")
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


BAD_NPZ = {
    "no ids": ({"X": X}, "missing array variant_id.*found X"),
    "no matrix": ({"variant_id": np.array(IDS)}, "missing array X"),
    "misspelt": ({"X": X, "variant_id": np.array(IDS), "REF": REF}, "unknown array REF"),
    "bytes": ({"X": X, "variant_id": np.array(IDS, dtype="S")}, "variant_id is not a list of text"),
    "objects": ({"X": X, "variant_id": np.array(IDS, dtype=object)}, "pickled objects are never read"),
    "rows": ({"X": X[:3], "variant_id": np.array(IDS)}, r"wrong shape of X.*found \(3, 3\)"),
    "one number each": ({"X": X[:, 0], "variant_id": np.array(IDS)}, "wrong shape of X"),
    "text": ({"X": X.astype(str), "variant_id": np.array(IDS)}, "X does not hold numbers"),
    "width": ({"X": X, "variant_id": np.array(IDS), "ref": REF[:, :2]}, r"X and ref differ in shape"),
    "provenance": ({"X": X, "variant_id": np.array(IDS), "provenance": np.array([1, 2])}, "the provenance is no JSON"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_npz_is_one_line(tmp_path: Path, case: str) -> None:
    arrays, message = BAD_NPZ[case]
    file = tmp_path / "mine.npz"
    np.savez(file, **arrays)
    with pytest.raises(InputError, match=message) as caught:
        imported(tmp_path, file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


class Bomb:
    """An object whose unpickling leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


def test_pickles_are_never_run(tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "mine.npz"
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()  # the bomb works
    mark.unlink()
    file.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(InputError, match="pickled objects are never read"):
        imported(tmp_path, file)
    np.savez(file, X=np.array([Bomb(mark)], dtype=object), variant_id=np.array(["a"]))
    with pytest.raises(InputError, match="pickled objects are never read"):
        imported(tmp_path, file)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["mine.h5ad", "mine.npz"])
def test_files_of_another_kind(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with pytest.raises(InputError, match="file not found"):
        imported(tmp_path, file)
    whole = (write_h5ad if name.endswith("h5ad") else write_npz)(file).read_bytes()
    for content in (b"", b"perturbation,dim_0\n", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(InputError, match=f"not a readable {file.suffix[1:]} file") as caught:
            imported(tmp_path, file)
        assert "\n" not in str(caught.value)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("X", "no array")
        archive.writestr("variant_id", "no array")
    with pytest.raises(InputError):
        imported(tmp_path, file)


# ------------------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vectors.csv", r"not a file of vectors.*expected .h5ad or .npz"),
        ("My_Vectors.h5ad", "must have a plain name.*found My_Vectors.h5ad"),
        ("my-vectors.npz", "must have a plain name"),
        ("tp53.my.h5ad", "must have a plain name"),
        ("onehot.npz", "'onehot' is the name of an encoder or group"),
        ("paper.h5ad", "'paper' is the name of an encoder or group"),
        ("none.h5ad", "'none' is the name of an encoder or group"),
    ],
)
def test_names(name: str, message: str, catalogue: dict) -> None:
    from vcbench.core.catalogue import own_name

    with pytest.raises(InputError, match=message):
        own_name(name, "--vectors", catalogue)


def test_own_encoders_stand_in_the_catalogue_of_the_run_only() -> None:
    known = catalogue.load("encoders")
    before = set(known["entries"])
    own = catalogue.own_names(["a/my_vectors.h5ad", "b2.npz"], "--vectors", known)
    assert own == ["my_vectors", "b2"]
    assert set(catalogue.with_own(known, own)["entries"]) == before | {"my_vectors", "b2"}
    assert set(catalogue.load("encoders")["entries"]) == before
    with pytest.raises(InputError, match=r"two files of one name.*found mine"):
        catalogue.own_names(["a/mine.h5ad", "b/mine.npz"], "--vectors", known)


def test_the_command_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(main, ["--vectors", str(tmp_path / "mine.h5ad"), "--perturbations", str(table(tmp_path))])
    assert ended.value.code == 65
    assert capsys.readouterr().err.splitlines()[-1] == f"vcb: error: {tmp_path / 'mine.h5ad'}: file not found"
