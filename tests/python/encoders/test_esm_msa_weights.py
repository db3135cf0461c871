"""ESM-MSA's official file: every tensor accounted for, every wrong file is one line with the place to get it."""

from __future__ import annotations

import argparse

import make_esm_msa
import numpy as np
import pytest
import torch

from vcbench.core.errors import InputError
from vcbench.encoders.plm import convert
from vcbench.encoders.plm.weights import open_weights

PREFIX = make_esm_msa.PREFIX


@pytest.fixture
def entry(entry_of):
    return entry_of("esm_msa1b")


def fails(folder, entry) -> str:
    with pytest.raises(InputError) as caught:
        open_weights(folder, entry, "float32")
    message = str(caught.value)
    assert "\n" not in message and entry["weights"]["source"] in message and str(folder) in message
    return message


def test_account_of_tensors(tmp_path, entry):
    weights = open_weights(make_esm_msa.write(tmp_path), entry, "float32")
    names = set(make_esm_msa.tensors(make_esm_msa.arguments()))
    assert set(weights.used) | set(weights.unused) == names and not set(weights.used) & set(weights.unused)
    assert {name for name in names if "lm_head" in name} == set(weights.unused)
    assert weights.facts["official_size"] is False


def test_rows_and_columns_are_exchanged(tmp_path, entry):
    """The file's `column` is the attention along the sequence, which we call `row` as fair-esm does."""
    weights = open_weights(make_esm_msa.write(tmp_path), entry, "float32")
    stored = make_esm_msa.tensors(make_esm_msa.arguments())
    for ours, theirs in (("row", "column"), ("column", "row")):
        value = weights.tensor(f"layers.1.{ours}_self_attention.layer.q_proj.weight")
        assert torch.equal(value, stored[f"{PREFIX}layers.1.{theirs}_self_attention.layer.q_proj.weight"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_conversion_changes_nothing(tmp_path, entry, entry_of, settings_of, encoder_of, request_of, protein, dtype):
    """Official and converted weights give the same bits; contact weights merged into the file are unused."""
    args = make_esm_msa.arguments()
    state = make_esm_msa.tensors(args) | make_esm_msa.regression(args)
    folder = make_esm_msa.write(tmp_path / "official", args, state)
    record = convert.convert(folder, entry, dtype, tmp_path / "converted")
    assert "contact_head.regression.bias" in record["unused"]
    requests = [request_of("A1V", protein)]
    official, converted = (
        encoder_of("esm_msa1b", tmp_path / name, allow_no_msa=True, dtype=dtype).encode(requests)
        for name in ("official", "converted")
    )
    np.testing.assert_array_equal(official.alt, converted.alt)
    assert np.abs(official.alt).max() > 0.1


def test_wrong_files(tmp_path, entry):
    state = make_esm_msa.tensors(make_esm_msa.arguments())
    renamed = dict(state)
    renamed[f"{PREFIX}layers.0.row_self_attention.layer.query.weight"] = renamed.pop(
        f"{PREFIX}layers.0.row_self_attention.layer.q_proj.weight"
    )
    message = fails(make_esm_msa.write(tmp_path / "renamed", state=renamed), entry)
    assert f"missing: {PREFIX}layers.0.row_self_attention.layer.q_proj.weight" in message and "unexpected: " in message
    cut = state | {f"{PREFIX}embed_tokens.weight": state[f"{PREFIX}embed_tokens.weight"][:-1].clone()}
    assert "found (32, 32); expected (33, 32)" in fails(make_esm_msa.write(tmp_path / "shape", state=cut), entry)
    twice = state | {"encoder.emb_layer_norm_after.bias": state[f"{PREFIX}emb_layer_norm_after.bias"]}
    assert "two tensors of one name" in fails(make_esm_msa.write(tmp_path / "twice", state=twice), entry)


def test_the_first_release_is_refused(tmp_path, entry):
    """esm_msa1: its positions of rows are one number wide."""
    state = make_esm_msa.tensors(make_esm_msa.arguments())
    state[f"{PREFIX}msa_position_embedding"] = torch.randn(1, 1024, 1, 1)
    message = fails(make_esm_msa.write(tmp_path, state=state), entry)
    assert "this is esm_msa1, the first release" in message and "expected esm_msa1b" in message


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"arch": "roberta_large"}, "not ESM-MSA-1b: arch"),
        ({"embed_positions_msa": False}, "embed_positions_msa"),
        ({"max_positions": 512}, "max_positions"),
        ({"layers": None}, "layers is no positive integer"),
        ({"attention_heads": 5}, "do not divide"),
        ({"layers": 1}, "unexpected: encoder.sentence_encoder.layers.1"),
        ({"embed_dim": 768}, "layers is not that of ESM-MSA-1b"),
    ],
)
def test_wrong_arguments(tmp_path, entry, changed, message):
    state = make_esm_msa.tensors(make_esm_msa.arguments())
    values = vars(make_esm_msa.arguments()) | changed
    if changed == {"embed_dim": 768}:
        values["attention_heads"] = 12
    assert message in fails(make_esm_msa.write(tmp_path, argparse.Namespace(**values), state), entry)


def test_no_arguments(tmp_path, entry):
    torch.save({"model": make_esm_msa.tensors(make_esm_msa.arguments())}, tmp_path / make_esm_msa.FILE)
    assert "no training arguments" in fails(tmp_path, entry)


def test_missing_file(tmp_path, entry):
    assert make_esm_msa.FILE in fails(tmp_path, entry)
    make_esm_msa.write(tmp_path).joinpath(make_esm_msa.FILE).rename(tmp_path / "esm_msa1_t12_100M_UR50S.pt")
    assert "not found" in fails(tmp_path, entry)


def test_names_without_prefix_are_taken_with_a_warning(tmp_path, entry, caplog):
    """fair-esm's loader takes them; whether rows and columns are as published cannot be seen, hence the warning."""
    state = {
        name.removeprefix(PREFIX).removeprefix("encoder."): value
        for name, value in make_esm_msa.tensors(make_esm_msa.arguments()).items()
    }
    weights = open_weights(make_esm_msa.write(tmp_path, state=state), entry, "float32")
    assert len(weights.used) == len(state) - 6
    assert "names lack" in caplog.text


def test_command_line(tmp_path, protein, capsys):
    """vcb_check_weights.py lists every tensor; vcb_encode.py writes vectors from a folder of alignments."""
    import anndata as ad

    from vcbench.core import check_weights
    from vcbench.core.hashing import sha256_text
    from vcbench.encoders import encode

    make_esm_msa.write(tmp_path / "weights" / "esm_msa1b")
    make_esm_msa.write_a3m(tmp_path / "msas" / "x.a3m", make_esm_msa.homologs(protein, 6))
    check_weights.main(["--model", "esm_msa1b", "--weights", str(tmp_path / "weights")])
    assert f"used    {PREFIX}msa_position_embedding (1, 1024, 1, 32)" in capsys.readouterr().out
    (tmp_path / "p.fasta").write_text(f">TP53|P04637|1\n{protein}\n")
    digest = sha256_text(protein)
    row = {
        "perturbation": "TP53~A1V", "gene": "TP53", "sequence_sha256": digest, "hgvs_p": "p.Ala1Val",
        "consequence": "missense", "ref": "A", "pos": "1", "alt": "V", "status": "encoded", "n_cells": "5",
    }  # fmt: skip
    (tmp_path / "p.tsv").write_text("\t".join(row) + "\n" + "\t".join(row.values()) + "\n")
    encode.main([
        "--encoders", "esm_msa1b", "--weights", str(tmp_path / "weights"), "--msas", str(tmp_path / "msas"),
        "--perturbations", str(tmp_path / "p.tsv"), "--proteins", str(tmp_path / "p.fasta"),
        "--out-dir", str(tmp_path / "out"),
    ])  # fmt: skip
    adata = ad.read_h5ad(tmp_path / "out" / "esm_msa1b.vectors.h5ad")
    assert f"{digest}:A1V" in adata.obs_names and adata.shape[1] == 32
