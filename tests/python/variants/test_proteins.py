"""FASTA reading, sequence editing and validation against the protein."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcbench.core.errors import InputError
from vcbench.variants.grammar import Grammar
from vcbench.variants.proteins import Protein, apply, read_fasta, write_fasta
from vcbench.variants.record import Change
from vcbench.variants.validate import candidates, check, diagnose

SEQUENCE = "MKTAYIAKQRQISFVK"
TOY = Protein("TOY", "P00001", "1", SEQUENCE)
READ = Grammar(gene="TOY")


def written(folder: Path, text: str) -> Path:
    path = folder / "p.fasta"
    path.write_text(text)
    return path


def test_both_header_styles(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        ">TP53|P04637|R72 a note\nMEEP\nQSDP\n\n>sp|P01116-2|RASK_HUMAN KRas OS=Homo sapiens GN=KRAS PE=1\nMTEY\n",
    )
    assert read_fasta(path) == [Protein("TP53", "P04637", "R72", "MEEPQSDP"), Protein("KRAS", "P01116-2", "", "MTEY")]
    again = tmp_path / "again.fasta"
    write_fasta(again, read_fasta(path))
    assert again.read_text() == ">TP53|P04637|R72\nMEEPQSDP\n>KRAS|P01116-2|\nMTEY\n"
    assert read_fasta(again) == read_fasta(path)


def test_hash_is_that_of_the_residues() -> None:
    # printf 'MEEP' | sha256sum
    assert Protein("G", "A", "", "MEEP").sha256 == "c1420cc746aaed583cfa4afb92b49d02b1213142869f04f8decd3e508b064c9d"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", "", "no protein"),
        ("MEEP\n", "line 1", "before the first header"),
        (">G|A|1\n>G|B|1\nME\n", "line 1", "without a sequence"),
        (">G|A|1\nME\n>G|A|1\nMK\n", "line 3", "duplicate protein"),
        (">G|A|1\nMEep\n", "line 2", "lower-case"),
        (">G|A|1\nME\nM-E\n", "line 3", "gaps"),
        (">G|A|1\nMEX\n", "line 2", "non-standard"),
        (">G|A|1\nME*\n", "line 2", "stop symbol"),
        (">G|A|1\nM1E\n", "line 2", "not protein letters"),
        (">P53_HUMAN_R72 (target)\nME\n", "line 1", "header not understood"),
        (">sp|P04637|P53_HUMAN P72\nME\n", "line 1", "without a gene"),
        (">|A|1\nME\n", "line 1", "header not understood"),
    ],
)
def test_bad_fasta_is_one_line_naming_file_and_line(tmp_path: Path, text: str, line: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_fasta(path)
    assert str(path) in str(caught.value) and line in str(caught.value) and "\n" not in str(caught.value)


def test_missing_fasta(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="file not found"):
        read_fasta(tmp_path / "none.fasta")


def test_apply_changes_exactly_the_residues_named() -> None:
    assert apply("MKTA", [Change(2, "K", "R"), Change(4, "A", "V")]) == "MRTV"
    assert apply("MKTA", []) == "MKTA"
    for wrong in (Change(0, "M", "V"), Change(5, "A", "V"), Change(2, "R", "K"), Change(2, "K", "*"), Change(2, "K")):
        with pytest.raises(ValueError, match=str(wrong).replace("*", r"\*")):
            apply("MKTA", [wrong])


@pytest.mark.parametrize(
    ("label", "status"),
    [
        ("K2R", "encoded"), ("K2R;T3A", "encoded"), ("KT2RA", "encoded"), ("K2K", "identical_to_ref"),
        ("WT", "identical_to_ref"), ("K2*", "skipped_nonsense"), ("K2fs", "skipped_frameshift"),
        ("M1?", "skipped_start_lost"), ("K2del", "skipped_inframe_del"), ("K2_A4del", "skipped_inframe_del"),
        ("K2dup", "skipped_inframe_ins"), ("K2_T3insA", "skipped_inframe_ins"), ("?", "skipped_unknown"),
        ("K2_A4delinsW", "skipped_delins_inframe"), ("*17Qext*5", "skipped_extension"),
        ("R2K", "failed_ref_mismatch"), ("R2*", "failed_ref_mismatch"), ("K2R;A3T", "failed_ref_mismatch"),
        ("*16Qext*5", "failed_ref_mismatch"), ("K17R", "failed_out_of_range"), ("A0V", "failed_out_of_range"),
        ("K2_K99del", "failed_out_of_range"),
    ],
)  # fmt: skip
def test_status(label: str, status: str) -> None:
    (variant,) = READ.parse(label)
    verdict = check(variant, TOY)
    assert verdict.status == status
    assert bool(verdict.reason) == (status not in ("encoded", "identical_to_ref"))


def test_block_of_three_is_resolved_by_the_sequence() -> None:
    (variant,) = READ.parse("p.Lys2_Ala4delinsArgThrVal")  # K2R, T3T, A4V
    resolved = check(variant, TOY)
    assert (resolved.status, resolved.variant.id) == ("encoded", "TOY~K2R;A4V")


def test_a_reversed_label_is_recognised() -> None:
    (variant,) = READ.parse("R2K")
    assert "reversed? K2R" in check(variant, TOY).reason


def test_offset_is_diagnosed_and_never_applied() -> None:
    shifted = [READ.parse(f"{SEQUENCE[p]}{p}G")[0] for p in range(3, 15)]  # numbered without the first methionine
    text = diagnose(shifted, TOY, [TOY])
    assert "12 of 12 match at offset +1" in text
    assert check(shifted[0], TOY).status == "failed_ref_mismatch"


def test_isoform_is_diagnosed() -> None:
    other = Protein("TOY", "P00001", "2", SEQUENCE[:5] + SEQUENCE[9:])
    variants = [READ.parse(f"{other.sequence[p - 1]}{p}G")[0] for p in range(2, 12)]
    text = diagnose(variants, TOY, [TOY, other])
    assert "10 of 10 match isoform TOY|P00001|2" in text and "--isoform" in text


def test_single_wrong_label_is_not_blamed_on_the_numbering() -> None:
    variants = [READ.parse(f"{SEQUENCE[p - 1]}{p}G")[0] for p in range(2, 12)] + [READ.parse("R2K")[0]]
    text = diagnose(variants, TOY, [TOY])
    assert text.startswith("10 of 11 labels of TOY match") and "no offset or isoform fits better" in text


def test_protein_of_a_label() -> None:
    two = [TOY, Protein("TOY", "P00001-2", "2", "MK"), Protein("OTHER", "NP_1.2", "", "ML")]
    assert candidates(two, "TOY", "2") == ([two[1]], "")
    assert len(candidates(two, "TOY")[0]) == 2
    assert candidates(two, "", "", "NP_1") == ([two[2]], "")
    assert candidates(two, "", "", "NP_1.3")[0] == []
    assert "did you mean 'TOY'?" in candidates(two, "TOI")[1]
