"""Predictions made elsewhere: matched by name, in any gene order, profiles or cells, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from vcbench.core import h5ad
from vcbench.core.errors import InputError, ModelError
from vcbench.core.tables import write_tsv
from vcbench.models import import_predictions

GENES = [f"G{i}" for i in range(12)]
IDS = ["TP53~A1G", "TP53~A1V", "TP53~K2E", "TP53~M3V"]
LABELS = {"TP53~A1G": "A1G | p.Ala1Gly", "TP53~A1V": "A1V", "TP53~K2E": "K2E", "TP53~M3V": "M3V"}
TEST = {1: IDS[:3], 2: IDS[3:]}
RNG = np.random.default_rng(3)
#: One row of values per perturbation, totals like those of the data.
VALUES = np.log1p(RNG.gamma(1.0, 10.0, (4, 12))).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cells = np.log1p(RNG.gamma(1.0, 10.0, (30, 12))).astype(np.float32)
    data = ad.AnnData(sp.csr_matrix(cells), var=pd.DataFrame(index=GENES))
    h5ad.write(data, tmp_path / "tp53.h5ad", {"target_sum": 120.0})
    rows = [{"perturbation": name, "labels": LABELS[name], "gene": "TP53"} for name in IDS]
    write_tsv(tmp_path / "tp53.perturbations.tsv", rows, ("perturbation", "labels", "gene"))
    rows = [
        {"perturbation": name, "fold": fold, "role": "test" if name in TEST[fold] else "train"}
        for fold in TEST
        for name in IDS
    ]
    write_tsv(tmp_path / "tp53.variant.folds.tsv", rows, ("perturbation", "fold", "role"))
    return tmp_path


def unit(fold: int, model: str = "mine") -> str:
    return f"tp53.variant.f{fold}.{model}.none.none.s0"


def write(folder: Path, x: object, names: list[str], genes: list[str] = GENES, **obs: object) -> None:
    frame = pd.DataFrame({"perturbation": names, **obs}, index=[f"r{i}" for i in range(len(names))])
    ad.AnnData(x, obs=frame, var=pd.DataFrame(index=genes)).write_h5ad(folder / "mine.h5ad")


def take(folder: Path, *units: str) -> Path:
    out = folder / "out"
    import_predictions.main([
        "--predictions", str(folder / "mine.h5ad"), "--units", *(units or (unit(1),)),
        "--dataset", str(folder / "tp53.h5ad"), "--perturbations", str(folder / "tp53.perturbations.tsv"),
        "--folds", str(folder / "tp53.variant.folds.tsv"), "--out-dir", str(out),
    ])  # fmt: skip
    return out


def read(out: Path, name: str) -> tuple[ad.AnnData, dict]:
    found = ad.read_h5ad(out / f"{name}.predictions.h5ad")
    return found, h5ad.provenance(found)


@pytest.mark.parametrize("kind", ["dense", "csr", "csc"])
def test_each_fold_gets_its_test_perturbations_by_name(folder: Path, kind: str) -> None:
    order, genes = RNG.permutation(4), RNG.permutation(12)
    x = VALUES[order][:, genes]
    x = {"dense": x, "csr": sp.csr_matrix(x), "csc": sp.csc_matrix(x)}[kind]
    write(folder, x, [IDS[i] for i in order], [GENES[i] for i in genes])
    out = take(folder, unit(1), unit(2))
    for fold, ids in TEST.items():
        found, facts = read(out, unit(fold))
        assert list(found.obs["perturbation"]) == ids
        assert list(found.var_names) == GENES
        np.testing.assert_array_equal(found.X, VALUES[[IDS.index(name) for name in ids]])
        assert facts["kind"] == "profile"
        assert "absent" not in facts
        assert facts["same_rows_in_all_folds"] is True
        assert "not checked" in facts["test_cells"]
        status = json.loads((out / f"{unit(fold)}.predict.status.json").read_text())
        assert (status["state"], status["note"]) == ("ok", "")


def test_labels_of_the_data_and_cells(folder: Path) -> None:
    names = ["A1V", "p.Ala1Gly", "A1V", "control", "TP53~K2E", "A1V"]
    x = np.vstack([VALUES, VALUES[:2]])
    write(folder, sp.csr_matrix(x), names)
    found, facts = read(take(folder), unit(1))
    assert facts["kind"] == "cells"
    assert list(found.obs["perturbation"]) == ["TP53~A1G", *["TP53~A1V"] * 3, "TP53~K2E"]
    np.testing.assert_array_equal(found.X.toarray(), x[[1, 0, 2, 5, 4]])


def test_missing_and_extra_perturbations_are_reported(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder, VALUES, ["TP53~A1G", "TP53~W9C", "TP53~M3V", "control"])
    out = take(folder)
    found, facts = read(out, unit(1))
    assert list(found.obs["perturbation"]) == ["TP53~A1G"]
    assert facts["absent"] == dict.fromkeys(["TP53~A1V", "TP53~K2E"], "not in mine.h5ad")
    assert facts["unknown"] == ["TP53~W9C"]
    assert "1 unknown perturbations are ignored: TP53~W9C" in caplog.text
    status = json.loads((out / f"{unit(1)}.predict.status.json").read_text())
    assert status["note"] == "2 of 3 test perturbations are not in mine.h5ad"


def test_predictions_by_fold(folder: Path) -> None:
    write(folder, np.vstack([VALUES, VALUES[::-1]]), IDS + IDS[::-1], fold=[2] * 4 + [1] * 4)
    out = take(folder, unit(1), unit(2))
    for fold, source in ((1, VALUES), (2, VALUES)):
        found, facts = read(out, unit(fold))
        np.testing.assert_array_equal(found.X, source[[IDS.index(name) for name in TEST[fold]]])
        assert facts["same_rows_in_all_folds"] is False
        assert facts["not_test"] == sorted(set(IDS) - set(TEST[fold]))
    # another fold's rows must not be taken
    write(folder, np.vstack([VALUES, VALUES + 1]), IDS * 2, fold=["1"] * 4 + ["2"] * 4, split="variant")
    found, _ = read(take(folder, unit(2)), unit(2))
    np.testing.assert_array_equal(found.X, VALUES[3:] + 1)


REFUSED = {
    "gene": (lambda f: write(f, VALUES[:, 1:], IDS, GENES[1:]), "1 of 12 genes of the dataset are missing: G0"),
    "doubled gene": (lambda f: write(f, VALUES, IDS, [GENES[1], *GENES[1:]]), "duplicate gene names"),
    "NaN": (lambda f: write(f, np.where(np.isin(VALUES, VALUES[1, 2]), np.nan, VALUES), IDS), "first TP53~A1V"),
    "counts": (lambda f: write(f, np.expm1(VALUES) * 9, IDS), "are these counts"),
    "two names": (lambda f: write(f, VALUES, ["A1G", "TP53~A1G", "K2E", "A1V"]), "two names for TP53~A1G: A1G, TP53"),
    "nothing": (lambda f: write(f, VALUES, list("abcd")), "none of the 3 test perturbations"),
    "other fold": (lambda f: write(f, VALUES, IDS, fold=2), "no rows with fold 1"),
    "other dataset": (lambda f: write(f, VALUES, IDS, dataset="kras"), "no rows with dataset tp53"),
    "no label": (lambda f: ad.AnnData(VALUES).write_h5ad(f / "mine.h5ad"), "no column obs"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(folder: Path, case: str) -> None:
    spoil, message = REFUSED[case]
    spoil(folder)
    with pytest.raises(ModelError, match=message) as error:
        take(folder)
    assert "\n" not in str(error.value)
    assert not list(folder.glob("out/*.predictions.h5ad"))


def test_ambiguous_label(folder: Path) -> None:
    rows = [{"perturbation": name, "labels": "same", "gene": "TP53"} for name in IDS]
    write_tsv(folder / "tp53.perturbations.tsv", rows, ("perturbation", "labels", "gene"))
    write(folder, VALUES, ["same", *IDS[1:]])
    with pytest.raises(ModelError, match="'same' is TP53~A1G and TP53~A1V"):
        take(folder)


def test_one_bad_fold_does_not_stop_the_other(folder: Path) -> None:
    write(folder, VALUES, IDS, fold=2)
    out = take(folder, unit(1), unit(2))
    assert [path.name for path in out.glob("*.predictions.h5ad")] == [f"{unit(2)}.predictions.h5ad"]
    assert json.loads((out / f"{unit(1)}.predict.status.json").read_text())["state"] == "failed"


def test_other_normalisation_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder, np.log1p(np.expm1(VALUES) * 10), IDS)
    take(folder)
    assert "times that of the mean profile of the measured cells" in caplog.text
    caplog.clear()
    write(folder, np.log1p(np.expm1(np.repeat(VALUES, 2, axis=0)) * 10), np.repeat(IDS, 2).tolist())
    take(folder)
    assert "times those of the measured cells" in caplog.text


def test_profiles_of_shallow_cells_are_no_other_normalisation(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Half the genes of a cell are not seen: totals of cells stay, that of their mean profile is a fraction of them."""
    data = ad.read_h5ad(folder / "tp53.h5ad")
    seen = np.where(RNG.random(data.shape) < 0.2, np.expm1(data.X.toarray()), 0)
    data.X = sp.csr_matrix(np.log1p(seen * 5).astype(np.float32))
    data.write_h5ad(folder / "tp53.h5ad")
    mean = np.asarray(data.X.mean(axis=0))
    assert np.expm1(mean).sum() < 0.4 * np.median(np.expm1(data.X.toarray()).sum(1))
    write(folder, np.tile(mean, (4, 1)), IDS)
    take(folder)
    assert "predicted totals" not in caplog.text
    write(folder, np.tile(mean, (8, 1)), np.repeat(IDS, 2).tolist())
    take(folder)
    assert "times those of the measured cells" in caplog.text


def test_files_must_belong_together(folder: Path) -> None:
    write(folder, VALUES, IDS)
    with pytest.raises(InputError, match="unit of another model"):
        take(folder, unit(1, "theirs"))
    with pytest.raises(InputError, match="file does not belong"):
        take(folder, unit(1).replace("variant", "position"))
