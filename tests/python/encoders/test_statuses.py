"""Every status of plm_encoders.md 1.3, from the label in a screen to the vector a model sees.

What must never happen: a vector of the wild type under a variant's name. Every vector is held against transformers' own
output on a sequence edited by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from vcbench.core import h5ad
from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv
from vcbench.encoders import derive, encode

sys.path.append(str(Path(__file__).parents[1] / "data"))

from screens import SEQUENCE, Prepared, prepared, screen

assert SEQUENCE == "MKTAYIAKQRQISFVKSHFS"

#: Perturbation -> (all labels used for it, consequence, status, mutated positions, protein edited by hand or None).
#: A label that failed stands under itself.
TABLE = {
    "TOY~K2R": (
        ("K2R", "p.K2R", "Lys2Arg", "p.Lys2Arg", "p.(Lys2Arg)", "TOY~K2R", "TOY_p.K2R", "P00001:p.Lys2Arg", "K2R+ctrl"),
        "missense", "encoded", (2,), "MRTAYIAKQRQISFVKSHFS",
    ),
    "TOY~K8R;Q9H": (
        ("K8R;Q9H", "Q9H,K8R", "K8R:Q9H", "K8R_Q9H", "p.[Lys8Arg;Gln9His]", "KQ8RH", "p.Lys8_Gln9delinsArgHis"),
        "missense_multi", "encoded", (8, 9), "MKTAYIARHRQISFVKSHFS",
    ),
    "TOY~Y5C;F19L": (("Y5C;F19L", "TOY~F19L;Y5C"), "missense_multi", "encoded", (5, 19), "MKTACIAKQRQISFVKSHLS"),
    # only one residue of the block changes: the same protein as the plain substitution
    "TOY~A4V": (("A4V", "AY4VY"), "missense", "encoded", (4,), "MKTVYIAKQRQISFVKSHFS"),
    "TOY~T3T": (
        ("T3T", "p.Thr3Thr", "T3=", "p.Thr3=", "p.(Thr3=)"), "synonymous", "identical_to_ref", (3,), SEQUENCE,
    ),
    "TOY~WT": (("WT", "wt", "REF", "=", "p.=", "p.(=)", "TOY~WT"), "wt", "identical_to_ref", (), SEQUENCE),
    "TOY~Q9*": (
        ("Q9*", "Q9Ter", "p.Gln9Ter", "p.Gln9Stop", "p.Gln9*"), "nonsense", "skipped_nonsense", (9,), None,
    ),
    "TOY~K8fs": (("K8fs", "p.Lys8fs"), "frameshift", "skipped_frameshift", (8,), None),
    "TOY~K8Pfs*3": (("p.Lys8ProfsTer3", "K8Pfs*3"), "frameshift", "skipped_frameshift", (8,), None),
    "TOY~M1?": (("p.Met1?", "M1?"), "start_lost", "skipped_start_lost", (1,), None),
    "TOY~S13del": (("S13del", "p.Ser13del"), "inframe_del", "skipped_inframe_del", (13,), None),
    "TOY~S13_V15del": (("p.Ser13_Val15del",), "inframe_del", "skipped_inframe_del", (13, 15), None),
    "TOY~S13dup": (("p.Ser13dup",), "inframe_ins", "skipped_inframe_ins", (13,), None),
    "TOY~K2_T3insQSK": (("K2_T3insQSK",), "inframe_ins", "skipped_inframe_ins", (2, 3), None),
    "TOY~S13_V15delinsW": (
        ("p.Ser13_Val15delinsTrp",), "delins_inframe", "skipped_delins_inframe", (13, 15), None,
    ),
    "TOY~*21Qext*5": (("p.Ter21GlnextTer5",), "extension", "skipped_extension", (21,), None),
    "TOY~?": (("p.?",), "unknown", "skipped_unknown", (), None),
    "TOY~Q9H+TOY~K8R": (("TOY~Q9H+TOY~K8R",), None, "skipped_multiple_alleles", None, None),
    "R2K": (("R2K",), None, "failed_ref_mismatch", None, None),
    "K21R": (("K21R",), None, "failed_out_of_range", None, None),
    "A0V": (("A0V",), None, "failed_out_of_range", None, None),
    "banana": (("banana",), None, "failed_unparsable", None, None),
    "k2w": (("k2w",), None, "failed_unparsable", None, None),
    "KRAS~G12D": (("KRAS~G12D",), None, "failed_protein_missing", None, None),
    **{f"K8{letter}": ((f"K8{letter}",), None, "failed_nonstandard_residue", None, None) for letter in "UOXBZ"},
    "Q11X": (("Q11X",), None, "failed_nonstandard_residue", None, None),
}  # fmt: skip
CELLS = {label: 12 for labels, *_ in TABLE.values() for label in labels} | {"safe": 60}
OPTIONS = ("--control-labels", "safe", "--min-cells-per-perturbation", "10")


def row_of(table: dict[str, dict], labels: tuple[str, ...]) -> dict[str, str]:
    """The one row of perturbations.tsv that holds exactly these labels."""
    (found,) = [row for row in table.values() if set(row["labels"].split(" | ")) & set(labels)]
    assert set(found["labels"].split(" | ")) == set(labels)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """One screen with every label of the table."""
    return prepared(tmp_path_factory.mktemp("run"), screen(CELLS), *OPTIONS, "--on-invalid", "skip")


@pytest.fixture(scope="module")
def encodings(run: Prepared, weights_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """REF, ALT and DIFF of the screen, from a small ESM2 in the official layout and from a control encoder."""
    out = tmp_path_factory.mktemp("encodings")
    files = ["--perturbations", f"{run.stem}.perturbations.tsv"]
    proteins = ["--proteins", f"{run.stem}.proteins.fasta", "--weights", str(weights_folder.parent)]
    encode.main(["--encoders", "esm2_650m", "physchem", *files, *proteins, "--out-dir", str(out)])
    vectors = [str(out / f"{name}.vectors.h5ad") for name in ("esm2_650m", "physchem")]
    derive.main(["--vectors", *vectors, *files, "--strategies", "alt", "diff", "ref", "--out-dir", str(out)])
    return out


@pytest.fixture(scope="module")
def states(weights_folder: Path):
    """Hidden states (residues, D) of a protein, from transformers alone."""
    import torch
    from transformers import EsmModel, EsmTokenizer

    model = EsmModel.from_pretrained(weights_folder, add_pooling_layer=False, dtype=torch.float32).eval()
    tokenizer = EsmTokenizer(str(weights_folder / "vocab.txt"))

    def of(sequence: str) -> np.ndarray:
        with torch.no_grad():
            hidden = model(**tokenizer(sequence, return_tensors="pt")).last_hidden_state[0]
        assert len(hidden) == len(sequence) + 2
        return hidden[1:-1].numpy()

    return of


@pytest.mark.parametrize("name", TABLE)
def test_status(run: Prepared, name: str) -> None:
    labels, consequence, status, positions, _ = TABLE[name]
    row = row_of(run.table, labels)
    assert row["status"] == status
    usable = status in ("encoded", "identical_to_ref")
    assert int(row["n_cells"]) == (12 * len(labels) if usable else 0)
    assert int(row["n_cells_total"]) == 12 * len(labels)
    assert bool(row["reason"]) != usable
    if consequence:
        assert (row["perturbation"], row["consequence"]) == (name, consequence)
        assert tuple(map(int, filter(None, row["pos"].split(";")))) == positions


def test_every_consequence_and_status_of_the_specification_is_met() -> None:
    from vcbench.variants.record import CONSEQUENCES
    from vcbench.variants.validate import SKIPPED

    assert {row[1] for row in TABLE.values()} - {None} == set(CONSEQUENCES)
    found = {row[2] for row in TABLE.values()}
    assert {f"skipped_{name}" for name in SKIPPED} | {"encoded", "identical_to_ref"} <= found


def test_cells_of_what_is_not_encoded_are_gone(run: Prepared, encodings: Path) -> None:
    usable = {name for name, row in TABLE.items() if row[4]}
    assert set(run.data.obs["perturbation"]) == {*usable, "control"}
    for path in encodings.glob("toy.*.h5ad"):
        assert set(h5ad.read(path).obs_names) == {*usable, "control"}, path.name


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row[4]])
def test_vectors_are_those_of_the_protein_that_the_label_names(encodings: Path, states, name: str) -> None:
    _, _, status, positions, mutant = TABLE[name]
    alt, diff, ref = (
        h5ad.read(encodings / f"toy.esm2_650m.{strategy}.h5ad")[name].X[0] for strategy in ("alt", "diff", "ref")
    )
    rows = [position - 1 for position in positions]
    if not rows:  # a wild type has no residue to look at
        assert not alt.any() and not diff.any() and not ref.any()
        return
    np.testing.assert_allclose(ref, states(SEQUENCE)[rows].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(alt, states(mutant)[rows].mean(axis=0), atol=1e-5)
    np.testing.assert_array_equal(diff, ref - alt)
    if status == "identical_to_ref":
        assert not diff.any()
    else:
        assert np.abs(diff).max() > 1e-2


@pytest.mark.parametrize("encoder", ["esm2_650m", "physchem"])
def test_no_variant_has_the_vector_of_the_wild_type(encodings: Path, encoder: str) -> None:
    data = {name: h5ad.read(encodings / f"toy.{encoder}.{name}.h5ad") for name in ("alt", "diff", "ref")}
    for name, (_, _, status, *_) in TABLE.items():
        if status == "encoded":
            assert (data["alt"][name].X != data["ref"][name].X).any(), name
            assert data["diff"][name].X.any(), name


def test_failed_labels_stop_the_run_by_default(tmp_path: Path) -> None:
    for number, name in enumerate(name for name, row in TABLE.items() if row[2].startswith("failed")):
        cells = {"safe": 60, "K2R": 12, TABLE[name][0][0]: 12}
        with pytest.raises(InputError, match=f"'{TABLE[name][0][0]}'") as caught:
            prepared(tmp_path / str(number), screen(cells), *OPTIONS)
        assert "\n" not in str(caught.value)


def statuses(folder: Path, label: str, *options: str) -> tuple[str, str]:
    """(perturbation, status) of a label beside a plain variant."""
    cells = {"safe": 60, "T3A": 12, label: 12}
    prepared(folder, screen(cells), *OPTIONS, "--on-invalid", "skip", *options)
    rows = {row["labels"]: row for row in read_tsv(folder / "out" / "toy.perturbations.tsv")}
    return rows[label]["perturbation"], rows[label]["status"]


def test_x_is_a_stop_only_on_demand(tmp_path: Path) -> None:
    assert statuses(tmp_path / "a", "Q9X") == ("Q9X", "failed_nonstandard_residue")
    assert statuses(tmp_path / "b", "Q9X", "--x-is-stop") == ("TOY~Q9*", "skipped_nonsense")
    # read as a stop it is held against the sequence like any other
    assert statuses(tmp_path / "c", "R9X", "--x-is-stop")[1] == "failed_ref_mismatch"


def test_lower_case_only_on_demand(tmp_path: Path) -> None:
    assert statuses(tmp_path / "a", "k2r") == ("k2r", "failed_unparsable")
    assert statuses(tmp_path / "b", "k2r", "--ignore-case") == ("TOY~K2R", "encoded")
    assert statuses(tmp_path / "c", "lys2arg", "--ignore-case") == ("lys2arg", "failed_unparsable")


@pytest.mark.parametrize("letter", "UOXBZ")
def test_other_letters_only_on_demand_and_with_a_vector_of_their_own(
    letter: str, tmp_path: Path, weights_folder: Path, states
) -> None:
    assert statuses(tmp_path, f"K8{letter}", "--allow-nonstandard") == (f"TOY~K8{letter}", "encoded")
    stem = tmp_path / "out" / "toy"
    arguments = ["--perturbations", f"{stem}.perturbations.tsv", "--proteins", f"{stem}.proteins.fasta"]
    encode.main(
        ["--encoders", "esm2_650m", *arguments, "--weights", str(weights_folder.parent), "--out-dir", str(tmp_path)]
    )
    derive.main(["--vectors", str(tmp_path / "esm2_650m.vectors.h5ad"), *arguments[:2], "--out-dir", str(tmp_path)])
    alt = h5ad.read(tmp_path / "toy.esm2_650m.alt.h5ad")[f"TOY~K8{letter}"].X[0]
    np.testing.assert_allclose(alt, states(SEQUENCE[:7] + letter + SEQUENCE[8:])[7], atol=1e-5)
    with pytest.raises(InputError):  # an encoder that does not know the letter says so
        encode.main(["--encoders", "physchem", *arguments, "--out-dir", str(tmp_path)])
