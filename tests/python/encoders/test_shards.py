"""Encoding only what is new: shards beside each other equal one piece; damaged or foreign ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from vcbench.core import h5ad
from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv
from vcbench.encoders import derive, encode, requests_cli, shards
from vcbench.encoders.requests import PERTURBATION_COLUMNS

VARIANTS = ("A1C", "C2D", "C2C", "D3E", "A1C;E4F")


@pytest.fixture
def files(tmp_path, protein):
    """Write a table of these variants of a protein (or two) and the FASTA; return the arguments that name them."""
    import hashlib

    def write(name: str, *variants: str, other: bool = False) -> list[str]:
        folder = tmp_path / name
        folder.mkdir()
        sequences = [protein, protein[:40]] if other else [protein]
        lines = ["\t".join(PERTURBATION_COLUMNS)]
        for number, sequence in enumerate(sequences):
            digest = hashlib.sha256(sequence.encode()).hexdigest()
            for each in variants:
                changes = each.split(";")
                ref, pos, alt = (
                    ";".join(parts) for parts in zip(*((c[0], c[1:-1], c[-1]) for c in changes), strict=True)
                )
                status = "identical_to_ref" if ref == alt else "encoded"
                row = [f"P{number}~{each}", f"P{number}", digest, "", "missense", ref, pos, alt, status, "30"]
                lines.append("\t".join(row))
        (folder / "tp53.perturbations.tsv").write_text("\n".join(lines) + "\n")
        fasta = "".join(f">P{number}|x|1\n{sequence}\n" for number, sequence in enumerate(sequences))
        (folder / "tp53.proteins.fasta").write_text(fasta)
        return [
            "--perturbations",
            str(folder / "tp53.perturbations.tsv"),
            "--proteins",
            str(folder / "tp53.proteins.fasta"),
        ]

    return write


@pytest.fixture
def store(tmp_path, weights_folder):
    """Encode into one folder; return its h5ad files."""

    def run(arguments: list[str], shard: str, folder: str = "store", **settings: object) -> list[Path]:
        out = tmp_path / folder
        known = [str(path) for path in sorted(out.glob("*.keys.txt"))]
        encode.main([
            "--encoders", "esm2_650m", "--weights", str(weights_folder), *arguments, "--known", *known,
            "--shard", shard,
            "--settings", json.dumps({"esm2_650m": settings}), "--out-dir", str(out),
        ])  # fmt: skip
        return sorted(out.glob("*.h5ad"))

    return run


def test_requests_name_what_encode_writes(files, store, tmp_path):
    arguments = files("all", *VARIANTS, other=False)
    requests_cli.main([*arguments, "--out-dir", str(tmp_path)])
    rows = read_tsv(tmp_path / "requests.tsv", requests_cli.COLUMNS)
    assert {row["kind"] for row in rows} == {"variant"} and len(rows) == len(VARIANTS) + 1
    store(arguments, "one")
    keys = (tmp_path / "store" / "esm2_650m.one.keys.txt").read_text().splitlines()
    assert keys[1:] == [row["key"] for row in rows]
    assert shards.read_known([tmp_path / "store" / "esm2_650m.one.keys.txt"], "esm2_650m") == set(keys[1:])
    assert not shards.read_known([tmp_path / "store" / "esm2_650m.one.keys.txt"], "esm2")


def test_only_what_is_new_is_encoded(files, store, tmp_path):
    some, full = files("some", *VARIANTS[:3]), files("full", *VARIANTS)
    store(some, "one")
    paths = store(full, "two")
    assert [path.name for path in paths] == ["esm2_650m.one.vectors.h5ad", "esm2_650m.two.vectors.h5ad"]
    facts = [h5ad.provenance(ad.read_h5ad(path)) for path in paths]
    assert [each["n_passes"] for each in facts] == [1 + 2, 1 + 2]  # two mutants and the reference each
    assert [ad.read_h5ad(path).n_obs for path in paths] == [4, 2]
    assert store(full, "three") == paths  # nothing left
    whole = ad.read_h5ad(store(full, "all", folder="whole")[0])
    united, provenance = shards.read(paths)["esm2_650m"]
    assert list(united.obs_names) == list(whole.obs_names)
    np.testing.assert_allclose(united.X, whole.X, atol=1e-6)
    np.testing.assert_allclose(united.layers["ref"], whole.layers["ref"], atol=1e-6)
    assert united.obs.astype(str).equals(whole.obs.astype(str))
    assert provenance["n_passes"] == 6 and [each["file"] for each in provenance["shards"]] == [p.name for p in paths]


def test_derive_unites_shards(files, store, tmp_path):
    full = files("full", *VARIANTS)
    store(files("some", "D3E", "A1C"), "b")
    paths = store(full, "a")
    out = tmp_path / "out"
    derive.main([
        "--vectors", *map(str, paths), *full[:2], "--strategies", "alt", "diff", "--out-dir", str(out), "--versions",
        str(tmp_path / "versions.txt"),
    ])  # fmt: skip
    alt = ad.read_h5ad(out / "tp53.esm2_650m.alt.h5ad")
    assert sorted(alt.obs_names[:-1]) == sorted(f"P0~{name}" for name in VARIANTS)
    united = shards.read(paths)["esm2_650m"][0]
    rows = {name.split(":")[1]: row for name, row in zip(united.obs_names, united.X, strict=True)}
    for name in VARIANTS:
        np.testing.assert_array_equal(alt[f"P0~{name}"].X[0], rows[name])
    assert not alt["control"].X.any()
    assert {"torch", "transformers", "numpy"} <= {
        item.split("=")[0] for item in (tmp_path / "versions.txt").read_text().split()
    }


def test_damaged_vectors_are_named(files, store, tmp_path):
    path = store(files("all", *VARIANTS), "one")[0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"store/esm2_650m\.one\.vectors\.h5ad: stored vectors are damaged .* delete"):
        shards.read([path])
    shards.keys_file(path).write_text("")
    with pytest.raises(InputError, match="not a list of keys"):
        shards.read([path])


def test_vectors_made_in_different_ways_are_not_mixed(files, store, tmp_path):
    one = store(files("some", "A1C"), "one")
    other = store(files("full", "C2D"), "two", "other", max_residues=40)
    with pytest.raises(InputError, match=r"made in different ways \(max_residues, settings\)"):
        shards.read([*one, *other])


def test_alignments_are_united_protein_by_protein():
    facts = {
        "msa": {"a": {"sha256": "1"}},
        "sequence_sha256": ["a"],
        "n_passes": 2,
        "created": "1",
        "deterministic": True,
    }
    facts |= {"device": "cpu", "versions": {}}
    other = facts | {"msa": {"b": {"sha256": "2"}}, "sequence_sha256": ["b"], "created": "2"}
    united = shards._united([facts, other], [Path("one"), Path("two")])
    assert united["msa"] == {"a": {"sha256": "1"}, "b": {"sha256": "2"}} and united["sequence_sha256"] == ["a", "b"]
    with pytest.raises(InputError, match="different alignments"):
        shards._united([facts, facts | {"msa": {"a": {"sha256": "3"}}}], [Path("one"), Path("two")])


def test_control_row_under_mean_pooling(files, store, tmp_path):
    """Control cells are wild type: mean over the proteins of their wild-type vector; DIFF is zero."""
    arguments = files("all", *VARIANTS, other=True)
    paths = store(arguments, "one", pooling="mean")
    derive.main(
        ["--vectors", str(paths[0]), *arguments[:2], "--strategies", "alt", "diff", "ref", "--out-dir", str(tmp_path)]
    )
    source = ad.read_h5ad(paths[0])
    wild = [name for name in source.obs_names if name.endswith(":WT")]
    assert len(wild) == 2
    expected = np.asarray(source[wild].layers["ref"]).mean(axis=0)
    for strategy in ("alt", "ref"):
        control = ad.read_h5ad(tmp_path / f"tp53.esm2_650m.{strategy}.h5ad")["control"].X[0]
        np.testing.assert_allclose(control, expected, rtol=1e-6)
        assert np.abs(control).max() > 0.1
    diff = ad.read_h5ad(tmp_path / "tp53.esm2_650m.diff.h5ad")
    assert not diff["control"].X.any() and diff["P0~A1C"].X.any()


def test_a_file_of_another_kind_is_one_line(files, tmp_path):
    """The screen itself or an encoding given as --vectors: said in one line, no traceback."""
    arguments = files("all", *VARIANTS)
    other = ad.AnnData(np.ones((2, 3), np.float32))
    path = tmp_path / "esm2_650m.vectors.h5ad"
    for facts, message in ((None, "not a file of this pipeline"), ({"encoder_id": "x"}, "no vectors of an encoder")):
        other.write_h5ad(path) if facts is None else h5ad.write(other, path, facts)
        with pytest.raises(InputError, match=f"{path.name}: {message}"):
            derive.main(["--vectors", str(path), *arguments[:2], "--out-dir", str(tmp_path)])


def test_plain_export(files, store, tmp_path):
    arguments = files("all", *VARIANTS)
    paths = store(arguments, "one")
    for out in ("first", "second"):
        derive.main(["--vectors", str(paths[0]), *arguments[:2], "--export-npz", "--out-dir", str(tmp_path / out)])
    adata = ad.read_h5ad(tmp_path / "first" / "tp53.esm2_650m.diff.h5ad")
    stem = tmp_path / "first" / "tp53.esm2_650m.diff"
    with np.load(f"{stem}.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["X"], adata.X)
        assert arrays["variant_id"].tolist() == list(adata.obs_names) and arrays["variant_id"].dtype.kind == "U"
    assert [row["variant_id"] for row in read_tsv(f"{stem}.tsv")] == list(adata.obs_names)
    assert json.loads(Path(f"{stem}.json").read_text()).items() <= h5ad.provenance(adata).items()
    second = tmp_path / "second" / "tp53.esm2_650m.diff.npz"
    assert Path(f"{stem}.npz").read_bytes() == second.read_bytes()
