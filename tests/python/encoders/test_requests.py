"""What ENCODE is asked for: distinct perturbations in use, sequences found by hash, wrong tables refused."""

from __future__ import annotations

import hashlib

import pytest

from vcbench.core.errors import InputError
from vcbench.encoders.requests import PERTURBATION_COLUMNS, collect


@pytest.fixture
def files(tmp_path, protein):
    """Write a perturbations table (rows override defaults) and the FASTA; return their paths."""

    def write(*rows: dict, name: str = "tp53"):
        defaults = {
            "gene": "TP53", "sequence_sha256": hashlib.sha256(protein.encode()).hexdigest(), "hgvs_p": "",
            "consequence": "missense", "status": "encoded", "n_cells": "30",
        }  # fmt: skip
        lines = ["\t".join(PERTURBATION_COLUMNS)]
        for row in rows:
            lines.append("\t".join((defaults | row)[column] for column in PERTURBATION_COLUMNS))
        table, fasta = tmp_path / f"{name}.perturbations.tsv", tmp_path / f"{name}.proteins.fasta"
        table.write_text("\n".join(lines) + "\n")
        fasta.write_text(f">TP53|P04637|R72\n{protein[:60]}\n{protein[60:]}\n")
        return table, fasta

    return write


def variant(name: str, ref: str, pos: str, alt: str, **facts: str) -> dict:
    """Return the identifying columns of a variant."""
    return {"perturbation": f"TP53~{name}", "ref": ref, "pos": pos, "alt": alt, **facts}


def test_distinct_perturbations_in_use(files, protein, tmp_path):
    one = files(
        variant("A1C", "A", "1", "C"),
        variant("D3C", "D", "3", "C", n_cells="0", status="skipped_few_cells"),
        variant("C2C", "C", "2", "=", consequence="synonymous", status="identical_to_ref"),
        name="one",
    )
    two = files(
        variant("A1C", "A", "1", "C"),
        variant("A1C;M11A", "M;A", "11;1", "A;C", consequence="missense_multi"),
        name="two",
    )
    genes = files(
        {
            "perturbation": "CBL+CNN1", "gene": "CBL;CNN1", "consequence": "gene", "ref": "", "pos": "", "alt": "",
            "sequence_sha256": "",
        },
        name="genes",
    )  # fmt: skip
    genes[1].write_text("")
    requests = collect([one[0], two[0], genes[0]], [one[1], two[1], genes[1]])
    digest = hashlib.sha256(protein.encode()).hexdigest()
    assert [request.key for request in requests] == [
        f"{digest}:A1C", f"{digest}:A1C;M11A", f"{digest}:C2C", "gene:CBL+CNN1",
    ]  # fmt: skip
    assert requests[1].mutant() == "C" + protein[1:10] + "A" + protein[11:]
    assert requests[2].mutant() == protein and not requests[2].changes_protein
    assert requests[3].genes == ("CBL", "CNN1") and requests[3].is_gene


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (variant("W1C", "W", "1", "C"), "TP53~W1C does not fit its protein: W1C: residue 1 is A, not W"),
        (variant("A91C", "A", "91", "C"), "outside 1..90"),
        (variant("A1C", "A;C", "1", "C"), "do not belong together"),
        (variant("A1C", "A", "one", "C"), "do not belong together"),
        (variant("A1C", "A", "1", "C", status="failed_ref_mismatch"), "has cells but status failed_ref_mismatch"),
        (variant("A1C", "A", "1", "C", n_cells=""), "n_cells of TP53~A1C is no number"),
        (variant("A1C", "A", "1", "C", sequence_sha256="0"), "is in no --proteins file"),
        (variant("fs", "", "", ""), "names no residue but is no wild type"),
    ],
)
def test_wrong_rows(files, row, expected):
    table, fasta = files(variant("A1D", "A", "1", "D"), row)
    with pytest.raises(InputError, match=expected) as caught:
        collect([table], [fasta])
    assert f"{table}, line 3" in str(caught.value)


def test_missing_fasta(files, tmp_path):
    table, _ = files(variant("A1C", "A", "1", "C"))
    with pytest.raises(InputError, match="file not found"):
        collect([table], [tmp_path / "none.fasta"])
    with pytest.raises(InputError, match=r"none.tsv: file not found"):
        collect([tmp_path / "none.tsv"], [])
