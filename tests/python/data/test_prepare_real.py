"""PREPARE on real screens: counts recovered exactly, labels canonical (data.md 2.1)."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from screens import Prepared, prepared

from vcbench.core.errors import InputError


def assert_counts_recovered(run: Prepared, source: ad.AnnData) -> None:
    """expm1(X) * n_counts / target sum is the integer count of the file, cell by barcode and gene by symbol."""
    raw = source[run.data.obs_names, run.data.var_names].X.tocsr()
    raw.sort_indices()
    assert (run.data.layers["counts"] != raw).nnz == 0
    scale = run.data.obs["n_counts"].to_numpy() / run.facts["target_sum"]
    recovered = np.expm1(run.data.X.data.astype(float)) * np.repeat(scale, np.diff(run.data.X.indptr))
    np.testing.assert_allclose(recovered, run.data.layers["counts"].data, rtol=2e-6)
    np.testing.assert_array_equal(np.rint(recovered), run.data.layers["counts"].data)
    totals = np.asarray(source[run.data.obs_names].X.sum(axis=1)).ravel()
    np.testing.assert_array_equal(run.data.obs["n_counts"], totals)


def test_norman(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "perturbseq" / "norman19_devel_rawcounts.h5ad"
    run = prepared(
        tmp_path, path, "--perturbation-type", "gene", "--perturbation-column", "condition", variant=False
    )  # fmt: skip
    assert len(run.table) == 33 and run.data.n_obs == 3375
    assert {"KLF1+SET", "PTPN12+SAMD1", "PTPN12+ZBTB10"} <= set(run.table)  # sorted doubles
    assert run.table["KLF1+SET"]["labels"] == "SET+KLF1"
    assert (run.table["PLK4"]["n_cells"], run.table["FOXL2+HOXB9"]["n_cells"]) == ("95", "80")
    assert (run.facts["size"]["n_control_a"], run.facts["size"]["n_control_b"]) == (50, 50)
    assert_counts_recovered(run, ad.read_h5ad(path))


def test_datlinger(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "perturbseq" / "datlinger2021_scperturb_subset_counts.h5ad"
    run = prepared(
        tmp_path, path, "--perturbation-type", "gene", "--batch-column", "perturbation_2", variant=False
    )  # fmt: skip
    assert len(run.table) == 40 and run.table["RUNX2_1"]["n_cells"] == "57"
    source = ad.read_h5ad(path)
    assert run.data.n_obs == 7500 - (np.asarray(source.X.sum(axis=1)).ravel() == 0).sum()
    assert set(run.data.obs["batch"]) == {"stimulated", "unstimulated"}
    assert_counts_recovered(run, source)


def test_log_normalised_devel_set_is_refused(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "perturbseq" / "norman19_mcfaline23_devel.h5ad"
    with pytest.raises(InputError, match="this looks log-normalised"):
        prepared(tmp_path, path, "--perturbation-type", "gene", "--perturbation-column", "condition", variant=False)
