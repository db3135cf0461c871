"""What PREPARE writes: cells, genes, normalisation, table, halves; against values worked out beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from screens import GENES, SEQUENCE, Prepared, prepared, screen

from vcbench.core.errors import InputError


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The plain run of the toy screen."""
    return prepared(tmp_path_factory.mktemp("toy"), screen(), "--batch-column", "batch", "--cell-line", "A549")


def test_perturbations_table(toy: Prepared) -> None:
    status = {name: (row["status"], int(row["n_cells_total"]), int(row["n_cells"])) for name, row in toy.table.items()}
    assert status == {
        "TOY~A4V": ("encoded", 30, 30),
        "TOY~A7*": ("skipped_nonsense", 30, 0),
        "TOY~I6L": ("skipped_too_few_cells", 9, 0),
        "TOY~K2R": ("encoded", 42, 42),  # two spellings
        "TOY~K8R;Q9H": ("encoded", 30, 30),
        "TOY~Q11K+TOY~R10K": ("skipped_multiple_alleles", 30, 0),
        "TOY~T3A": ("encoded", 30, 30),
        "TOY~T3S": ("encoded", 30, 30),
        "TOY~Y5C": ("encoded", 30, 30),
    }
    assert list(toy.table) == sorted(toy.table)
    row = toy.table["TOY~K8R;Q9H"]
    assert [row[c] for c in ("gene", "ref", "pos", "alt", "consequence", "hgvs_p")] == [
        "TOY", "K;Q", "8;9", "R;H", "missense_multi", "p.Lys8_Gln9delinsArgHis",
    ]  # fmt: skip
    assert toy.table["TOY~K2R"]["labels"] == "K2R | p.Lys2Arg"
    assert row["sequence_sha256"] == hashlib.sha256(SEQUENCE.encode()).hexdigest()
    assert (row["sequence_length"], row["protein_id"], row["isoform"]) == ("20", "P00001", "1")
    assert toy.table["TOY~I6L"]["reason"] == "found 9 cells; expected at least 25"
    assert toy.quality["excluded:TOY~A7*"].startswith("30 cells: skipped_nonsense")


def test_cells_and_labels(toy: Prepared) -> None:
    obs = toy.data.obs
    used = {name: int(row["n_cells"]) for name, row in toy.table.items() if int(row["n_cells"])}
    assert dict(obs["perturbation"].value_counts()) == used | {"control": 63}
    source = screen().obs
    assert (source.loc[obs.index, "variant"] == obs["condition"].astype(str)).all()
    assert (source.loc[obs.index, "batch"] == obs["batch"].astype(str)).all()
    assert set(obs["cell_line"]) == {"A549"}


def test_counts_masking_and_normalisation(toy: Prepared) -> None:
    """The matrix is the file's counts without the perturbed gene, scaled by totals that leave it out too."""
    source = screen()[toy.data.obs_names]
    assert "TOY" not in toy.data.var_names and toy.facts["masked_genes"] == ["TOY"]
    assert list(toy.data.var_names) == [gene for gene in GENES if gene != "TOY"]
    counts = source[:, toy.data.var_names].X.toarray()
    np.testing.assert_array_equal(toy.data.layers["counts"].toarray(), counts)
    np.testing.assert_array_equal(toy.data.obs["n_counts"], counts.sum(axis=1))
    half_b = (toy.data.obs["control_half"] == "B").to_numpy()
    target = np.median(counts.sum(axis=1)[half_b])
    assert toy.facts["target_sum"] == target
    expected = np.log1p(counts / counts.sum(axis=1, keepdims=True) * target)
    np.testing.assert_allclose(toy.data.X.toarray(), expected, rtol=1e-6)
    assert sp.issparse(toy.data.X) and toy.data.X.dtype == np.float32 and toy.data.layers["counts"].dtype == np.int32


def test_gene_flags(toy: Prepared) -> None:
    half_b = (toy.data.obs["control_half"] == "B").to_numpy()
    share = (toy.data.layers["counts"].toarray()[half_b] > 0).mean(axis=0)
    np.testing.assert_array_equal(toy.data.var["expressed"], share >= 0.05)
    assert not toy.data.var["is_target"].any()  # the target is masked


def test_control_halves_are_disjoint_and_stratified(toy: Prepared) -> None:
    obs = toy.data.obs
    control = obs[obs["perturbation"] == "control"]
    assert set(control["control_half"]) == {"A", "B"}
    assert set(obs.loc[obs["perturbation"] != "control", "control_half"]) == {""}
    sizes = control.groupby(["batch", "control_half"], observed=True).size().unstack()
    assert ((sizes["A"] - sizes["B"]).abs() <= 1).all()
    assert (toy.facts["size"]["n_control_a"], toy.facts["size"]["n_control_b"]) == (31, 32)
    assert set(control["condition"]) == {"WT", "K2K"}


def test_halves_hold_out_the_target_sum(tmp_path: Path) -> None:
    """Evaluation controls and perturbed cells do not move the target sum: nothing leaks into the scale."""
    adata = screen()
    first = prepared(tmp_path / "a", adata)
    other = first.data.obs.index[first.data.obs["control_half"] != "B"]
    adata.X = sp.csr_matrix(adata.X.multiply(np.where(adata.obs_names.isin(other), 3, 1)[:, None]))
    second = prepared(tmp_path / "b", adata)
    assert first.facts["target_sum"] == second.facts["target_sum"]


def test_row_order_does_not_matter(tmp_path: Path) -> None:
    adata = screen()
    shuffled = adata[np.random.default_rng(1).permutation(adata.n_obs)].copy()
    options = ("--batch-column", "batch", "--max-cells-per-perturbation", "26", "--n-top-genes", "12")
    a, b = (prepared(tmp_path / name, data, *options) for name, data in (("a", adata), ("b", shuffled)))
    for kind in ("perturbations.tsv", "quality.tsv", "proteins.fasta"):
        assert Path(f"{a.stem}.{kind}").read_bytes() == Path(f"{b.stem}.{kind}").read_bytes()
    assert list(a.data.obs_names) == list(b.data.obs_names) and list(a.data.var_names) == list(b.data.var_names)
    assert a.data.obs.equals(b.data.obs) and a.data.var.equals(b.data.var)
    assert (a.data.X != b.data.X).nnz == 0 and (a.data.layers["counts"] != b.data.layers["counts"]).nnz == 0


def test_same_seed_same_bytes_other_seed_other_halves(tmp_path: Path) -> None:
    runs = [prepared(tmp_path / str(i), screen(), "--seed", seed) for i, seed in enumerate("001")]
    files = [Path(f"{run.stem}.h5ad").read_bytes() for run in runs]
    assert files[0] == files[1] != files[2]
    halves = [run.data.obs["control_half"] for run in runs]
    assert halves[0].equals(halves[1]) and not halves[0].equals(halves[2])


def test_cap_is_a_seeded_sample(tmp_path: Path) -> None:
    run = prepared(tmp_path, screen(), "--max-cells-per-perturbation", "26")
    sizes = run.data.obs["perturbation"].value_counts()
    assert sizes.drop("control").eq(26).all() and sizes["control"] == 63
    assert run.table["TOY~K2R"]["n_cells_total"] == "42" and run.table["TOY~K2R"]["n_cells"] == "26"
    assert len(set(run.data.obs.loc[run.data.obs["perturbation"] == "TOY~K2R", "condition"])) == 2


def test_variable_genes_come_from_training_controls(tmp_path: Path) -> None:
    """A gene that varies wildly in all other cells is not chosen; one that varies in training controls is."""
    adata = screen(genes=("TOY", *(f"G{i}" for i in range(1, 300))))
    plain = prepared(tmp_path / "plain", adata)
    in_training = adata.obs_names.isin(plain.data.obs.index[plain.data.obs["control_half"] == "B"])
    rng = np.random.default_rng(5)
    dense = rng.poisson(5.0, adata.shape)
    dense[~in_training, 1] = rng.choice([0, 10], (~in_training).sum())
    dense[in_training, 2] = rng.choice([0, 10], in_training.sum())
    dense[in_training, 1] = 5
    adata.X = sp.csr_matrix(dense.astype(np.float32))
    run = prepared(tmp_path / "hvg", adata, "--n-top-genes", "20", "--target-sum", "100")
    assert run.data.n_vars == 20 and "G2" in run.data.var_names and "G1" not in run.data.var_names
    assert run.facts["target_sum"] == 100 and run.facts["target_sum_from"] == "--target-sum"
    dense[~in_training] = rng.poisson(np.linspace(1, 9, dense.shape[1]), ((~in_training).sum(), dense.shape[1]))
    adata.X = sp.csr_matrix(dense.astype(np.float32))
    other = prepared(tmp_path / "other", adata, "--n-top-genes", "20", "--target-sum", "100")
    assert list(other.data.var_names) == list(run.data.var_names)


def test_options_of_masking(tmp_path: Path) -> None:
    assert "TOY" in prepared(tmp_path / "none", screen(), "--mask-genes", "none").data.var_names
    run = prepared(tmp_path / "two", screen(), "--mask-genes", "TOY;G3")
    assert run.facts["masked_genes"] == ["G3", "TOY"] and run.data.n_vars == len(GENES) - 2
    with pytest.raises(InputError, match=r"gene TOI not found.*did you mean 'TOY'"):
        prepared(tmp_path / "typo", screen(), "--mask-genes", "TOI")


def test_layer_dense_csc_and_gene_column_give_the_same_dataset(tmp_path: Path, toy: Prepared) -> None:
    adata = screen()
    forms = {}
    forms["dense"] = adata.copy()
    forms["dense"].X = adata.X.toarray()
    forms["csc"] = adata.copy()
    forms["csc"].X = sp.csc_matrix(adata.X)
    forms["integers"] = adata.copy()
    forms["integers"].X = adata.X.astype(np.int64)
    forms["layer"] = adata.copy()
    forms["layer"].layers["raw"] = adata.X.copy()
    forms["layer"].X = np.log1p(adata.X)
    forms["symbols"] = adata.copy()
    forms["symbols"].var["symbol"] = adata.var_names
    forms["symbols"].var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]
    extra = {"layer": ("--counts-layer", "raw"), "symbols": ("--gene-column", "symbol")}
    for name, form in forms.items():
        run = prepared(tmp_path / name, form, "--batch-column", "batch", *extra.get(name, ()))
        assert (run.data.X != toy.data.X).nnz == 0, name
        assert list(run.data.var_names) == list(toy.data.var_names), name


def test_dropped_and_unusable_labels(tmp_path: Path) -> None:
    cells = {"WT": 40, "K2K": 23, "K2R": 30, "T3A": 30, "multiple": 11, "unassigned": 12, "R5C": 30}
    drop = ("--drop-labels", "multiple;unassigned")
    with pytest.raises(InputError, match=r"1 of 3 labels are not usable variants.*residue 5 of TOY\|P00001\|1 is Y"):
        prepared(tmp_path / "error", screen(cells), *drop)
    run = prepared(tmp_path / "skip", screen(cells), *drop, "--on-invalid", "skip")
    assert run.table["TOY~R5C"]["status"] == "failed_ref_mismatch" and run.table["TOY~R5C"]["n_cells"] == "0"
    assert "TOY~R5C" not in set(run.data.obs["perturbation"])
    assert run.quality["excluded:multiple"] == "11 cells: dropped on request"
    assert run.quality["n_cells_excluded"] == str(11 + 12 + 30)
    kept = prepared(tmp_path / "all", screen(cells), "--on-invalid", "skip")
    assert kept.table["unassigned"]["status"] == "failed_unparsable" and kept.table["unassigned"]["n_cells"] == "0"


def test_cells_without_counts_are_left_out(tmp_path: Path) -> None:
    adata = screen()
    dense = adata.X.toarray()
    dense[np.flatnonzero(adata.obs["variant"] == "T3A")[:4]] = 0
    adata.X = sp.csr_matrix(dense)
    run = prepared(tmp_path, adata)
    assert run.table["TOY~T3A"]["n_cells_total"] == "30" and run.table["TOY~T3A"]["n_cells"] == "26"
    assert run.quality["n_cells_without_counts"] == "4"


def test_annotations_join_by_label(tmp_path: Path) -> None:
    path = tmp_path / "notes.tsv"
    path.write_text(
        "label\tseverity\tdomain\tsource\nTOY~T3A\thigh\tD1\tx\np.Lys2Arg\tlow\tD2\ty\nWT\t\t\t\nQ9R\tlow\t\t\n"
    )
    run = prepared(tmp_path / "ok", screen(), "--annotations", str(path))
    assert [run.table["TOY~T3A"][c] for c in ("severity", "domain", "source")] == ["high", "D1", "x"]
    assert run.table["TOY~K2R"]["severity"] == "low" and run.table["TOY~A4V"]["severity"] == ""
    assert run.quality["annotations_unknown"] == "Q9R"
    for text, message in (
        ("label\tseverity\nT3A\ta\nT3A\tb\n", "line 3: duplicate label 'T3A'"),
        ("label\tseverity\nK2R\ta\np.Lys2Arg\tb\n", "line 3: labels of TOY~K2R contradict"),
        ("name\tseverity\nT3A\ta\n", "missing column label"),
        ("label\tstatus\nT3A\ta\n", "column 'status' is a name of this project"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            prepared(tmp_path / "bad", screen(), "--annotations", str(path))


def test_gene_screen(tmp_path: Path) -> None:
    cells = {"ctrl": 50, "G1+ctrl": 20, "ctrl+G1": 20, "G2+G1": 30, "G1+G2": 30, "G2": 30, "NEW": 30}
    options = ("--perturbation-type", "gene", "--perturbation-column", "variant", "--control-labels", "ctrl")
    run = prepared(tmp_path, screen(cells), *options, "--n-top-genes", "4", variant=False)
    assert {name: row["n_cells"] for name, row in run.table.items()} == {
        "G1": "40",
        "G1+G2": "60",
        "G2": "30",
        "NEW": "30",
    }
    assert run.table["G1+G2"]["gene"] == "G1;G2" and run.table["G1+G2"]["consequence"] == "gene"
    assert run.facts["masked_genes"] == [] and run.facts["perturbed_genes_not_measured"] == ["NEW"]
    assert set(run.data.var_names[run.data.var["is_target"]]) == {"G1", "G2"}  # kept whatever their variance
    assert Path(f"{run.stem}.proteins.fasta").read_text() == ""
    joined = {"ctrl": 50, "G1_G2": 30, "G2": 30}
    under = prepared(tmp_path / "u", screen(joined), *options, "--combination-separator", "_", variant=False)
    assert set(under.table) == {"G1+G2", "G2"}
