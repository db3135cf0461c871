"""Each bad input is one line that names the file, the place, what was found and what was expected."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from screens import CELLS, FASTA, SEQUENCE, prepared, screen

from vcbench.core.errors import InputError


def changed(value: float, row: int = 7, gene: int = 4) -> ad.AnnData:
    adata = screen()
    dense = adata.X.toarray()
    dense[row, gene] = value
    adata.X = sp.csr_matrix(dense)
    return adata


def log_normalised() -> ad.AnnData:
    adata = screen()
    adata.layers["counts"] = adata.X.copy()
    adata.X = sp.csr_matrix(np.log1p(adata.X.toarray() / np.asarray(adata.X.sum(axis=1)) * 100))
    return adata


def renamed(change: Callable[[ad.AnnData], None]) -> ad.AnnData:
    adata = screen()
    change(adata)
    return adata


def gene_names(names: list[str]) -> Callable[[ad.AnnData], None]:
    def change(adata: ad.AnnData) -> None:
        adata.var.index = pd.Index(names + list(adata.var_names[len(names) :]))

    return change


def barcode_twice(adata: ad.AnnData) -> None:
    adata.obs.index = pd.Index(["same", "same", *adata.obs_names[2:]])


def no_label(adata: ad.AnnData) -> None:
    adata.obs["variant"] = adata.obs["variant"].astype(object)
    adata.obs.iloc[:3, 0] = np.nan


BAD_MATRICES = {
    "fractional": (changed(2.25), r"X: the counts are fractional.*2.25 in cell cell\d+-1 \(row 8\), gene G4"),
    "negative": (changed(-1), r"X: the counts are negative.*-1.0 in cell .*gene G4.*expected raw integer counts"),
    "nan": (changed(np.nan), "X: the counts hold NaN"),
    "huge": (changed(2.0**25), "impossibly large"),
    "log": (log_normalised(), r"looks log-normalised.*layers/counts holds integers: set counts_layer to counts"),
    "zero": (renamed(lambda a: a.X.data.fill(0)), "every count is zero"),
    "duplicate genes": (renamed(gene_names(["TOY", "G1", "G1"])), r"var index: duplicate gene names.*1, e.g. G1"),
    "empty gene": (renamed(gene_names(["TOY", "", "nan"])), "missing gene names.*found 2, first in row 2"),
    "ensembl": (renamed(gene_names([f"ENSG{i:011d}" for i in range(29)])), "Ensembl ids instead of gene symbols"),
    "barcodes": (renamed(barcode_twice), r"obs index: duplicate cell barcodes.*1, e.g. same"),
    "no label": (renamed(no_label), r"obs\['variant'\]: cells without a label.*3 cells"),
    "no cells": (screen()[:0].copy(), r"empty matrix.*0 cells x 30 genes"),
}


@pytest.mark.parametrize("case", BAD_MATRICES)
def test_matrix(case: str, tmp_path: Path) -> None:
    adata, message = BAD_MATRICES[case]
    with pytest.raises(InputError, match=message) as caught:
        prepared(tmp_path, adata)
    assert str(tmp_path / "screen.h5ad") in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_dense_matrix_names_the_cell_too(tmp_path: Path) -> None:
    adata = changed(2.25)
    adata.X = adata.X.toarray()
    with pytest.raises(InputError, match=r"2.25 in cell .* \(row 8\), gene G4"):
        prepared(tmp_path, adata)
    adata.X = sp.csc_matrix(adata.X)
    with pytest.raises(InputError, match=r"2.25 in cell .* \(row 8\), gene G4"):
        prepared(tmp_path / "csc", adata)


BAD_OPTIONS = {
    "column": (("--perturbation-column", "variants"), r"no column 'variants' in obs.*did you mean 'variant'"),
    "batch": (("--batch-column", "bach"), "no column 'bach' in obs.*did you mean 'batch'"),
    "layer": (("--counts-layer", "counts"), "no layer 'counts'"),
    "gene column": (("--gene-column", "symbol"), "no column 'symbol' in var"),
    "no controls": (("--control-labels", "control"), r"no control cells: label control not found"),
    "one control": (("--control-labels", "WT;K2KK"), r"label K2KK not found.*did you mean 'K2K'"),
    "few controls": (("--control-labels", "K2K;TOY~I6L"), r"too few control cells.*32 cells.*at least 50"),
    "too few controls for a score": (
        ("--control-labels", "TOY~I6L", "--min-cells-per-perturbation", "4"),
        r"too few control cells.*9 cells.*at least 20: two halves of 10",
    ),
    "drop": (("--drop-labels", "multiples"), "label multiples not found"),
    "gene": (("--gene", "TOYS"), "protein of TOYS missing.*did you mean 'TOY'"),
    "isoform": (("--isoform", "11"), "isoform '11' of TOY is not in the FASTA"),
    "few cells": (("--on-few-cells", "error"), r"1 perturbation with too few cells.*TOY~I6L 9.*at least 25"),
    "no cells": (
        ("--min-cells-per-perturbation", "31", "--drop-labels", "K2R;p.Lys2Arg"),
        "too few cells.*at least 31",
    ),
    "no genes": (("--min-cells-per-gene", "5000"), "no genes left"),
    "range": (("--min-cells-per-gene", "0"), r"--min-cells-per-gene: value out of range.*expected >= 1"),
    "name": (("--dataset", "a.b"), "not a dataset name"),
    "cap": (("--max-cells-per-perturbation", "10"), "below --min-cells-per-perturbation"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_option(case: str, tmp_path: Path) -> None:
    options, message = BAD_OPTIONS[case]
    with pytest.raises(InputError, match=message) as caught:
        prepared(tmp_path, screen(), *options)
    assert "\n" not in str(caught.value)


def test_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.h5ad: file not found"):
        prepared(tmp_path, tmp_path / "none.h5ad")
    text = tmp_path / "text.h5ad"
    text.write_text("cell,gene\n")
    with pytest.raises(InputError, match=r"text.h5ad: not a readable h5ad file"):
        prepared(tmp_path, text)
    import h5py

    other = tmp_path / "other.h5ad"
    with h5py.File(other, "w") as handle:
        handle["matrix"] = [1]
    with pytest.raises(InputError, match=r"other.h5ad: not an h5ad file: it has no obs"):
        prepared(tmp_path, other)
    with pytest.raises(InputError, match=r"none.fasta: file not found"):
        prepared(tmp_path, screen(), "--proteins", str(tmp_path / "none.fasta"))
    with pytest.raises(InputError, match="variants need the FASTA"):
        prepared(tmp_path, screen(), "--proteins", "")


LABELS = {
    "unparsable": ({"banana": 30}, r"'banana' \(30 cells\): not a protein variant"),
    "reference": ({"R2K": 30}, r"'R2K' \(30 cells\): residue 2 of TOY\|P00001\|1 is K, not R \(reversed\? K2R\)"),
    "beyond": ({"K99R": 30}, r"'K99R' .*residue 99 is outside the protein \(1..20"),
    "other gene": ({"KRAS~G12D": 30}, "gene KRAS is not in the FASTA"),
    "other accession": ({"NP_000537.3:p.Lys2Arg": 30}, "protein NP_000537.3 of the label is not in the FASTA"),
    "control word": ({"ctrl": 30}, "label 'ctrl' means control but is not among control_labels"),
    "same as control": ({"p.Lys2=": 30}, "label 'p.Lys2=' means the same as the control label 'K2K'"),
}


@pytest.mark.parametrize("case", LABELS)
def test_label(case: str, tmp_path: Path) -> None:
    extra, message = LABELS[case]
    with pytest.raises(InputError, match=message) as caught:
        prepared(tmp_path, screen(CELLS | extra))
    assert "obs['variant']" in str(caught.value)


def test_numbering_off_by_one_names_offset_and_counts(tmp_path: Path) -> None:
    """Labels numbered on a protein without its first residue: 5 of 5 fit at +1."""
    cells = {"WT": 40, "K2K": 23} | {f"{SEQUENCE[p]}{p}G": 30 for p in range(8, 13)}
    with pytest.raises(InputError, match=r"5 of 5 match at offset \+1") as caught:
        prepared(tmp_path, screen(cells))
    assert "5 of 5 labels are not usable variants" in str(caught.value)


def test_wrong_isoform_is_named(tmp_path: Path) -> None:
    """Isoform 2 starts two residues later; labels fit isoform 1."""
    (tmp_path / "toy.fasta").write_text(FASTA + f">TOY|P00001-2|2\n{SEQUENCE[2:]}\n")
    with pytest.raises(InputError, match=r"2 isoforms of TOY and none is chosen.*TOY\|P00001\|1 fits 11 of 11 labels"):
        prepared(tmp_path, screen())
    with pytest.raises(InputError, match=r"match isoform TOY\|P00001\|1; .*choose the isoform with --isoform"):
        prepared(tmp_path, screen(), "--isoform", "2", "--control-labels", "WT")
    assert prepared(tmp_path, screen(), "--isoform", "1").table["TOY~T3A"]["isoform"] == "1"


def test_gene_labels(tmp_path: Path) -> None:
    options = ("--perturbation-type", "gene", "--perturbation-column", "variant", "--control-labels", "ctrl")
    for label, message in (("G1+G1", "a gene is named twice"), ("TP53~R175H", "set perturbation_type to variant")):
        with pytest.raises(InputError, match=message):
            prepared(tmp_path, screen({"ctrl": 50, label: 30}), *options, variant=False)


def test_the_command_ends_with_one_line_and_the_code_for_bad_input(project: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(project / "bin" / "vcb_prepare.py"), "--dataset", "x", "--h5ad", "none.h5ad"]
    done = subprocess.run(
        [*command, "--perturbation-type", "gene"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 65
    assert done.stderr.strip().splitlines() == ["vcb: error: none.h5ad: file not found"]
