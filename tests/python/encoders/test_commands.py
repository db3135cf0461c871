"""The three commands from files to files: real TP53 variants, gene perturbations, wrong command lines."""

from __future__ import annotations

import hashlib
import json

import anndata as ad
import numpy as np
import pytest

from vcbench.core import check_weights, cli
from vcbench.core.errors import InputError
from vcbench.encoders import derive, encode, provenance

COLUMNS = (
    "perturbation", "labels", "gene", "protein_id", "isoform", "sequence_sha256", "sequence_length", "hgvs_p",
    "consequence", "ref", "pos", "alt", "status", "reason", "n_cells_total", "n_cells", "severity", "domain",
)  # fmt: skip
STRATEGIES = ("alt", "diff", "ref")
VARIANTS = ("R5H", "K7E", "K7Q", "E9E", "C2W;M11A")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Two datasets as PREPARE writes them: variants of a protein, and gene perturbations."""
    folder = tmp_path_factory.mktemp("prepared")
    sequence = "ACDFRGKLEPMSTVWYHIKN" * 3
    digest = hashlib.sha256(sequence.encode()).hexdigest()

    def table(name: str, rows: list[dict]) -> None:
        lines = ["\t".join(COLUMNS)]
        defaults = dict.fromkeys(COLUMNS, "") | {"n_cells": "40", "status": "encoded"}
        lines += ["\t".join((defaults | row)[column] for column in COLUMNS) for row in rows]
        (folder / f"{name}.perturbations.tsv").write_text("\n".join(lines) + "\n")

    rows = []
    for name in VARIANTS:
        parts = name.split(";")
        silent = all(part[0] == part[-1] for part in parts)
        rows.append(
            {
                "perturbation": f"TP53~{name}", "gene": "TP53", "sequence_sha256": digest,
                "consequence": "synonymous" if silent else "missense",
                "status": "identical_to_ref" if silent else "encoded", "ref": ";".join(part[0] for part in parts),
                "pos": ";".join(part[1:-1] for part in parts), "alt": ";".join(part[-1] for part in parts),
            }
        )  # fmt: skip
    rows.append({"perturbation": "TP53~C2*", "consequence": "nonsense", "status": "skipped_nonsense", "n_cells": "0"})
    table("tp53", rows)
    genes = ("CBL", "CNN1", "CBL+CNN1", "KLF1")
    table("k562", [{"perturbation": g, "gene": g.replace("+", ";"), "consequence": "gene"} for g in genes])
    (folder / "tp53.proteins.fasta").write_text(f">TP53|P04637|1\n{sequence}\n")
    (folder / "k562.proteins.fasta").write_text("")
    return folder


@pytest.fixture(scope="module")
def results(inputs, weights_folder, tmp_path_factory):
    """Run ENCODE and DERIVE over all encoders; return the folder of the vectors and of the encodings."""
    vectors, encodings = tmp_path_factory.mktemp("vectors"), tmp_path_factory.mktemp("encodings")
    tables = [str(path) for path in sorted(inputs.glob("*.perturbations.tsv"))]
    fastas = [str(path) for path in sorted(inputs.glob("*.proteins.fasta"))]
    names = ["esm2_650m", "onehot", "position_onehot", "physchem", "random", "constant"]
    encode.main([
        "--encoders", *names, "--weights", str(weights_folder.parent), "--perturbations", *tables, "--proteins",
        *fastas,
        "--settings", json.dumps({"random": {"width": 16}}), "--seed", "3", "--out-dir", str(vectors),
    ])  # fmt: skip
    derive.main([
        "--vectors", *map(str, sorted(vectors.iterdir())), "--perturbations", *tables, "--strategies", *STRATEGIES,
        "--shuffled-base", "esm2_650m", "--seed", "3", "--out-dir", str(encodings),
    ])  # fmt: skip
    return vectors, encodings


def test_files(results):
    vectors, encodings = results
    assert len(list(vectors.iterdir())) == 6
    variants = {"esm2_650m", "onehot", "position_onehot", "physchem", "random", "constant", "shuffled"}
    expected = {f"tp53.{e}.{s}.h5ad" for e in variants for s in ("alt", "diff", "ref")}
    expected |= {
        f"k562.{e}.{s}.h5ad" for e in ("onehot", "random", "constant", "shuffled") for s in ("alt", "diff", "ref")
    }
    assert {path.name for path in encodings.iterdir()} == expected


def test_vectors_carry_their_provenance(results, weights_folder):
    adata = ad.read_h5ad(results[0] / "esm2_650m.vectors.h5ad")
    facts = json.loads(adata.uns["vcbench"])
    assert set(provenance.MANDATORY) <= set(facts)
    digest = hashlib.sha256((weights_folder / "model.safetensors").read_bytes()).hexdigest()
    assert facts["weights_sha256"] == {"model.safetensors": digest}
    assert facts["revision"] == "08e4846e537177426273712802403f7ba8261b6c" and facts["licence"] == "MIT"
    assert facts["diff_sign"] == "ref_minus_alt" and facts["layer"] == 2 and facts["n_passes"] == 1 + 4
    assert adata.X.dtype == adata.layers["ref"].dtype == np.float32
    digest = facts["sequence_sha256"][0]
    assert list(adata.obs_names) == sorted(f"{digest}:{name}" for name in [*VARIANTS, "WT"])


@pytest.mark.parametrize(
    "encoder", ["esm2_650m", "onehot", "position_onehot", "physchem", "random", "constant", "shuffled"]
)
def test_encodings(results, encoder):
    alt, diff, ref = (ad.read_h5ad(results[1] / f"tp53.{encoder}.{s}.h5ad") for s in ("alt", "diff", "ref"))
    assert list(alt.obs_names) == [*sorted(f"TP53~{name}" for name in VARIANTS), "control"]
    np.testing.assert_array_equal(diff.X, ref.X - alt.X)
    assert alt.X[:-1].any(axis=1).all() and not alt["control"].X.any()
    facts = json.loads(diff.uns["vcbench"])
    assert (facts["encoder_id"], facts["strategy"], facts["dataset"]) == (encoder, "diff", "tp53")
    silent = diff["TP53~E9E"].X
    assert silent.any() == (encoder in ("position_onehot", "random", "constant", "shuffled"))


def test_gene_encodings(results):
    onehot = ad.read_h5ad(results[1] / "k562.onehot.alt.h5ad")
    assert list(onehot.var_names) == ["gene_CBL", "gene_CNN1", "gene_KLF1"]
    np.testing.assert_array_equal(onehot["CBL+CNN1"].X, onehot["CBL"].X + onehot["CNN1"].X)
    diff = ad.read_h5ad(results[1] / "k562.onehot.diff.h5ad")
    np.testing.assert_array_equal(diff.X, -onehot.X)
    shuffled = ad.read_h5ad(results[1] / "k562.shuffled.alt.h5ad")
    assert json.loads(shuffled.uns["vcbench"])["base_encoder"] == "onehot"
    assert sorted(map(tuple, shuffled.X)) == sorted(map(tuple, onehot.X)) and not (shuffled.X[:4] == onehot.X[:4]).all()


def test_a_dataset_does_not_depend_on_its_company(inputs, results, tmp_path):
    """Encoded alone, or with other rows first: the same files of the same dataset."""
    lines = (inputs / "tp53.perturbations.tsv").read_text().splitlines()
    (tmp_path / "tp53.perturbations.tsv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    table = str(tmp_path / "tp53.perturbations.tsv")
    names = ["onehot", "position_onehot", "physchem", "random"]
    encode.main([
        "--encoders", *names, "--perturbations", table, "--proteins", str(inputs / "tp53.proteins.fasta"),
        "--settings", json.dumps({"random": {"width": 16}}), "--seed", "3", "--out-dir", str(tmp_path),
    ])  # fmt: skip
    files = [str(tmp_path / f"{name}.vectors.h5ad") for name in names]
    derive.main(["--vectors", *files, "--perturbations", table, "--out-dir", str(tmp_path)])
    for name in names:
        alone = ad.read_h5ad(tmp_path / f"tp53.{name}.alt.h5ad")
        together = ad.read_h5ad(results[1] / f"tp53.{name}.alt.h5ad")
        assert list(alone.obs_names) == list(together.obs_names) and list(alone.var_names) == list(together.var_names)
        np.testing.assert_array_equal(alone.X, together.X)


def test_derive_without_a_vector_fails(inputs, results, tmp_path, capsys):
    text = (inputs / "tp53.perturbations.tsv").read_text().replace("R\t5\tH", "F\t4\tH")
    (tmp_path / "tp53.perturbations.tsv").write_text(text)
    arguments = [
        "--vectors",
        str(results[0] / "onehot.vectors.h5ad"),
        "--perturbations",
        str(tmp_path / "tp53.perturbations.tsv"),
    ]
    with pytest.raises(SystemExit) as caught:
        cli.run(derive.main, [*arguments, "--out-dir", str(tmp_path / "out")])
    assert caught.value.code == 1
    assert "vcb: error: encoder onehot has no vector for 1 perturbations of tp53: TP53~R5H" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_a_perturbation_that_cannot_be_encoded_is_declared_and_left_out(inputs, tmp_path):
    """KLF1 is in no set: no vector of that name anywhere, one reason, and a plain gap is still an error."""
    (tmp_path / "sets.gmt").write_text("A\t-\tCBL\nB\t-\tCNN1\tCBL\n")
    table = str(inputs / "k562.perturbations.tsv")
    arguments = ["--encoders", "gene_sets", "--perturbations", table, "--out-dir", str(tmp_path)]
    with pytest.raises(InputError, match="gene sets needed"):
        encode.main(arguments)
    encode.main([*arguments, "--gene-sets", str(tmp_path / "sets.gmt")])
    vectors = tmp_path / "gene_sets.vectors.h5ad"
    derive.main(
        ["--vectors", str(vectors), "--perturbations", table, "--strategies", "alt", "--out-dir", str(tmp_path)]
    )
    encoding = ad.read_h5ad(tmp_path / "k562.gene_sets.alt.h5ad")
    assert sorted(encoding.obs_names) == ["CBL", "CBL+CNN1", "CNN1", "control"]
    np.testing.assert_array_equal(encoding[["CBL", "CBL+CNN1", "CNN1", "control"]].X, [[1, 1], [1, 2], [0, 1], [0, 0]])
    reason = "a perturbed gene is in no set of --gene_sets"
    assert json.loads(encoding.uns["vcbench"])["not_encoded"] == {"KLF1": reason}

    facts = {"encoder_id": "gene_sets", "not_encoded": {"gene:KLF1": reason}}
    whole = derive.read_dataset(inputs / "k562.perturbations.tsv")
    left, own = derive.encodable(whole, facts)
    assert len(left.rows) == 3 and own["not_encoded"] == {"KLF1": reason}
    assert derive.encodable(whole, {"encoder_id": "gene_sets"}) == (whole, {"encoder_id": "gene_sets"})
    with pytest.raises(InputError, match="no vector for any perturbation of k562"):
        derive.encodable(whole, facts | {"not_encoded": dict.fromkeys(whole.keys, reason)})


@pytest.mark.parametrize("option", ["--perturbations", "--substitutions"])
def test_two_tables_of_one_dataset(inputs, results, tmp_path, option):
    """The results of the second would overwrite those of the first."""
    one = inputs / "tp53.perturbations.tsv"
    other = tmp_path / "tp53.other.tsv"
    other.write_text(one.read_text())
    vectors = str(results[0] / "onehot.vectors.h5ad")
    tables = [*(["--perturbations", str(one)] if option == "--substitutions" else []), option, str(one), str(other)]
    with pytest.raises(InputError, match=r"tp53.other.tsv: two tables of dataset tp53"):
        derive.main(["--vectors", vectors, *tables, "--out-dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--encoders", "physchm"], "did you mean 'physchem'?"),
        (["--encoders", "shuffled"], "--shuffled-base"),
        (["--encoders", "random", "--settings", '{"random": {"with": 3}}'], "did you mean 'width'?"),
        (["--encoders", "random", "--settings", '{"random": {"width": 0}}'], "out of range"),
        (["--encoders", "random", "--settings", '{"rndom": {}}'], "did you mean 'random'?"),
        (
            ["--encoders", "onehot", "--settings", '{"random": {"width": 3}}'],
            "settings of random, which is not encoded",
        ),
        (["--encoders", "random", "--settings", "width=3"], "--settings: not JSON"),
        (["--encoders", "esm2_650m"], "esm2_650m needs weights"),
    ],
)
def test_wrong_command_lines(inputs, tmp_path, capsys, arguments, expected):
    files = [
        "--perturbations",
        str(inputs / "tp53.perturbations.tsv"),
        "--proteins",
        str(inputs / "tp53.proteins.fasta"),
    ]
    with pytest.raises(SystemExit) as caught:
        cli.run(encode.main, [*arguments, *files, "--out-dir", str(tmp_path)])
    assert caught.value.code == 65
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("vcb: error: ") and expected in message


def test_nothing_to_encode(inputs, tmp_path, capsys):
    files = ["--perturbations", str(inputs / "k562.perturbations.tsv")]
    with pytest.raises(SystemExit):
        cli.run(encode.main, ["--encoders", "physchem", *files, "--out-dir", str(tmp_path)])
    assert "nothing to encode" in capsys.readouterr().err


def test_check_weights(weights_folder, tmp_path, capsys):
    np.savez(tmp_path / "x.npz", input_ids=np.array([[0, 20, 15, 2], [0, 11, 2, 1]]))
    out = tmp_path / "y"  # a name without suffix is kept
    check_weights.main([
        "--model", "esm2_650m", "--weights", str(weights_folder), "--inputs", str(tmp_path / "x.npz"),
        "--outputs", str(out),
    ])  # fmt: skip
    printed = capsys.readouterr().out
    assert "used    esm.embeddings.word_embeddings.weight (33, 32)" in printed
    assert "unused  lm_head.bias" in printed and "36 tensors used" in printed and "11 unused" in printed
    with np.load(out) as arrays:
        assert set(arrays) == {"last_hidden_state", *(f"hidden_states_{layer}" for layer in range(3))}
        assert arrays["last_hidden_state"].shape == (2, 4, 32)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "esm2_650", "--weights", "."], "did you mean 'esm2_650m'?"),
        (["--model", "onehot", "--weights", "."], "no model or encoder with weights is called 'onehot'"),
        (["--model", "esm2_650m", "--weights", "nowhere"], "get config.json, vocab.txt, model.safetensors or"),
        (["--model", "esm2_650m", "--weights", ".", "--inputs", "x.npz"], "belong together"),
        (
            ["--model", "esm2_650m", "--weights", ".", "--inputs", "x.npz", "--outputs", "y.npz"],
            "x.npz: file not found",
        ),
    ],
)
def test_check_weights_errors(tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        cli.run(check_weights.main, arguments)
    assert caught.value.code == 65 and expected in capsys.readouterr().err


def test_inputs_with_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", input_ids=np.array([{}], dtype=object))
    with pytest.raises(check_weights.InputError, match="plain arrays"):
        check_weights.read_inputs(tmp_path / "x.npz")
