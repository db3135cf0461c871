"""Strategies and the shuffled control: closed forms and properties that must hold for any vectors."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from vcbench.core.errors import InputError, ModelError
from vcbench.encoders import derive
from vcbench.encoders.requests import PERTURBATION_COLUMNS


def dataset(
    names: list[str], genes: bool = False, synonymous: tuple[str, ...] = (), name: str = "tp53"
) -> derive.Dataset:
    """Return a dataset with these perturbations; variants are of a protein called `sha`."""
    rows = []
    for each in sorted(names):
        status = "identical_to_ref" if each in synonymous else "encoded"
        rows.append({"perturbation": each, "consequence": "gene" if genes else "missense", "status": status})
    prefix = "gene:" if genes else "sha:"
    return derive.Dataset(name, tuple(rows), tuple(f"{prefix}{each}" for each in sorted(names)))


def vectors(keys: list[str], scopes: list[str] | None = None, seed: int = 0, ref: bool = True) -> ad.AnnData:
    """Return random REF and ALT vectors of these keys, in this order; a key's vector does not depend on the order."""
    width = len(scopes) if scopes else 5
    draw = {key: np.random.default_rng([seed, *key.encode()]).normal(size=(2, width)) for key in keys}
    alt = np.array([draw[key][0] for key in keys], dtype=np.float32)
    obs = pd.DataFrame({"window_start": [f"at {key}" for key in keys]}, index=pd.Index(keys, dtype=object))
    var = pd.DataFrame({"scope": scopes or ["any"] * width}, index=[f"dim_{i}" for i in range(width)])
    return ad.AnnData(alt, obs=obs, var=var, layers={"ref": np.array([draw[key][1] for key in keys], np.float32) * ref})


FACTS = {"encoder_id": "physchem", "modalities": ["variant"]}


def test_strategies():
    data, source = dataset(["b", "a"]), vectors(["sha:b", "sha:x", "sha:a"])
    chosen = derive.select(data, source, FACTS)
    alt, ref = source.X[[2, 0]], source.layers["ref"][[2, 0]]
    for strategy, expected in (("alt", alt), ("ref", ref), ("diff", ref - alt)):
        out = derive.to_anndata(data, chosen, strategy)
        assert list(out.obs_names) == ["a", "b", "control"] and out.X.dtype == np.float32
        np.testing.assert_array_equal(out.X[:2], expected)
        assert not out.X[2].any() and out.obs.loc["control", "consequence"] == "control"
        assert list(out.obs["window_start"]) == ["at sha:a", "at sha:b", ""]


def test_diff_of_genes_is_minus_the_vector():
    data = dataset(["CBL", "KLF1"], genes=True)
    chosen = derive.select(data, vectors(["gene:KLF1", "gene:CBL"], ref=False), FACTS | {"encoder_id": "onehot"})
    np.testing.assert_array_equal(derive.derive(chosen, "diff"), -derive.derive(chosen, "alt"))
    assert chosen.alt.any()


def test_missing_vector_is_an_error():
    with pytest.raises(ModelError, match="physchem has no vector for 2 perturbations of tp53: b, c"):
        derive.select(dataset(["a", "b", "c"]), vectors(["sha:a"]), FACTS)


def test_columns_of_a_dataset():
    """Columns of other kinds and of other datasets go, so that a dataset's vectors do not depend on its company."""
    source = vectors(["sha:a", "sha:b", "gene:KLF1"], ["any", "variant", "used", "used"])
    source.X[:2, 2] = source.layers["ref"][:2, 2] = 0
    variants = derive.select(dataset(["a", "b"]), source, FACTS)
    genes = derive.select(dataset(["KLF1"], genes=True), source, FACTS)
    assert variants.columns == ("dim_0", "dim_1", "dim_3") and genes.columns == ("dim_0", "dim_2", "dim_3")


def test_synonymous_with_a_diff_is_an_error():
    data, source = dataset(["a", "s"], synonymous=("s",)), vectors(["sha:a", "sha:s"])
    with pytest.raises(ModelError, match="synonymous"):
        derive.to_anndata(data, derive.select(data, source, FACTS), "diff")
    source.X[1] = source.layers["ref"][1]
    assert not derive.to_anndata(data, derive.select(data, source, FACTS), "diff")["s"].X.any()
    # an encoder without REF does not know that the variant is synonymous
    source.layers["ref"][:] = 0
    assert derive.to_anndata(data, derive.select(data, source, FACTS), "diff")["s"].X.any()


def test_derangement():
    rng = np.random.default_rng(0)
    for n in (2, 3, 7):
        for _ in range(20):
            order = derive.derangement(n, rng)
            assert sorted(order) == list(range(n)) and (order != np.arange(n)).all()
    # both derangements of three items occur, about equally often
    counts = np.unique([derive.derangement(3, rng)[0] for _ in range(400)], return_counts=True)[1]
    assert counts.min() > 150


def test_shuffled_deals_everyone_anothers_vectors():
    names = [f"v{i}" for i in range(12)]
    data = dataset(names)
    original = derive.select(data, vectors([f"sha:{name}" for name in names]), FACTS)
    dealt, owners = derive.shuffle(data, original, 7)
    ids = sorted(names)
    assert sorted(owners) == ids and all(a != b for a, b in zip(owners, ids, strict=True))
    for row, owner in enumerate(owners):
        np.testing.assert_array_equal(dealt.alt[row], original.alt[ids.index(owner)])
        np.testing.assert_array_equal(dealt.ref[row], original.ref[ids.index(owner)])
        assert dealt.window["window_start"][row] == f"at sha:{owner}"
    out = derive.to_anndata(data, dealt, "diff", owners)
    assert list(out.obs["vector_of"]) == [*owners, ""] and not out["control"].X.any()
    assert dealt.facts["encoder_id"] == "shuffled" and dealt.facts["base_encoder"] == "physchem"
    backwards = derive.select(data, vectors([f"sha:{name}" for name in names[::-1]]), FACTS)
    np.testing.assert_array_equal(derive.shuffle(data, backwards, 7)[1], owners)
    assert (derive.shuffle(data, original, 8)[1] != owners).any()
    assert (derive.shuffle(dataset(names, name="other"), original, 7)[1] != owners).any()


def test_shuffling_one_perturbation_is_an_error():
    data = dataset(["a"])
    with pytest.raises(InputError, match="single perturbation"):
        derive.shuffle(data, derive.select(data, vectors(["sha:a"]), FACTS), 0)


def test_base_of_shuffled():
    assert derive.base_of(dataset(["a"]), "esm2_650m") == "esm2_650m"
    assert derive.base_of(dataset(["KLF1"], genes=True), "esm2_650m") == "onehot"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "no perturbation has cells"),
        ([("a", "missense"), ("KLF1", "gene")], "gene perturbations and variants in one dataset"),
        ([("a", "missense"), ("a", "missense")], "not unique"),
        ([("control", "missense")], "not unique, or one is the control"),
    ],
)
def test_wrong_tables(tmp_path, lines, expected):
    path = tmp_path / "tp53.perturbations.tsv"
    defaults = dict.fromkeys(PERTURBATION_COLUMNS, "") | {"n_cells": "5", "status": "encoded"}
    rows = [defaults | {"perturbation": name, "consequence": kind} for name, kind in lines]
    text = ["\t".join(PERTURBATION_COLUMNS), *("\t".join(row[c] for c in PERTURBATION_COLUMNS) for row in rows)]
    path.write_text("\n".join(text) + "\n")
    with pytest.raises(InputError, match=expected):
        derive.read_dataset(path)
