"""The labels of a real library: Ursu 2022, TP53 and KRAS (data.md sections 6.1 and 9, plm_encoders.md 1.2)."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from vcbench.variants.grammar import Grammar
from vcbench.variants.proteins import Protein
from vcbench.variants.validate import Verdict, check, diagnose


def sequences(shared_data: Path) -> dict[str, str]:
    """Sequence by the first word of the header (the bundled headers name no gene)."""
    records = (shared_data / "tp53" / "reference_proteins.fasta").read_text().split(">")[1:]
    return {record.split()[0]: "".join(record.split("\n")[1:]) for record in records}


def verdicts(path: Path, protein: Protein) -> dict[str, Verdict]:
    grammar = Grammar(gene=protein.gene)
    labels = [row["variant"] for row in csv.DictReader(path.open())]
    return {label: check(grammar.parse(label)[0], protein) for label in labels if label != "unassigned"}


@pytest.mark.parametrize("header", ["sp|P04637|P53_HUMAN", "P53_HUMAN_R72"])
def test_all_98_tp53_labels_and_wt_fit_both_forms(shared_data: Path, header: str) -> None:
    protein = Protein("TP53", "P04637", header, sequences(shared_data)[header])
    found = verdicts(shared_data / "tp53" / "ursu2022_tp53_variant_table.csv", protein)
    assert len(found) == 99
    kinds = [verdict.variant.consequence for verdict in found.values()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"wt": 1, "synonymous": 14, "missense": 84}
    assert {v.status for v in found.values()} == {"encoded", "identical_to_ref"}


def test_kras_labels_fit_4b_except_y166h(shared_data: Path) -> None:
    protein = Protein("KRAS", "P01116-2", "4B", sequences(shared_data)["sp|P01116-2|RASK_HUMAN"])
    found = verdicts(shared_data / "kras" / "ursu2022_kras_variant_table.csv", protein)
    failed = {label: verdict for label, verdict in found.items() if verdict.status.startswith("failed")}
    assert list(failed) == ["Y166H"]
    assert failed["Y166H"].reason.startswith("residue 166 of KRAS|P01116-2|4B is H, not Y (reversed? H166Y)")
    assert found["AG11TD"].variant.id == "KRAS~A11T;G12D"
    assert found["AG59GV"].variant.id == "KRAS~A59G;G60V"
    assert {found[label].status for label in ("AG11TD", "AG59GV")} == {"encoded"}
    text = diagnose([v.variant for v in found.values()], protein, [protein])
    assert "96 of 97 labels of KRAS match" in text and "no offset" in text


def test_tp53_labels_numbered_one_too_low_are_diagnosed(shared_data: Path) -> None:
    whole = sequences(shared_data)["P53_HUMAN_R72"]
    protein = Protein("TP53", "P04637", "R72", whole)
    fitting = verdicts(shared_data / "tp53" / "ursu2022_tp53_variant_table.csv", protein)
    shorter = Protein("TP53", "P04637", "without methionine", whole[1:])
    text = diagnose([v.variant for v in fitting.values()], shorter, [shorter, protein])
    assert "98 of 98 match isoform TP53|P04637|R72" in text and "98 of 98 match at offset -1" in text
