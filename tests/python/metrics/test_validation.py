"""Validation perturbations: scored like test ones, apart from them, and what chooses between configurations."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from vcbench.core import h5ad
from vcbench.core.errors import InputError, ModelError
from vcbench.core.tables import read_tsv, write_tsv
from vcbench.metrics import bundle, score, truth_cli
from vcbench.stats import aggregate

NAMES = [f"TP53~A{10 + i}G" for i in range(12)]
GENES = ["TP53", *(f"gene{i:03d}" for i in range(1, 80))]
FOLDS = (1, 2, 3)
#: Test blocks of four; the last two of the block before validate.
TEST = {fold: NAMES[4 * (fold - 1) : 4 * fold] for fold in FOLDS}
VALID = {fold: NAMES[4 * (fold - 2) % 12 :][2:4] for fold in FOLDS}
ENCODERS = ("esm2_8m", "esm2_35m")


def folds_of(path, tested, validated):
    rows = [
        {"perturbation": name, "fold": fold, "reason": "", "role": "test" if name in tested[fold] else
         "valid" if name in validated[fold] else "excluded" if name in TEST[fold] + VALID[fold] else "train"}
        for fold in FOLDS for name in NAMES
    ]  # fmt: skip
    write_tsv(path, rows, ("perturbation", "fold", "role", "reason"))


def run(main, *arguments):
    return main([str(item) for item in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A screen, its truth, and the truth where validation perturbations are test perturbations."""
    folder = tmp_path_factory.mktemp("validation")
    rng = np.random.default_rng(3)
    base = rng.gamma(1.0, 2.0, len(GENES)) + 0.5
    labels = np.repeat(["control", *NAMES], [120, *[40] * 12])
    effect = {name: np.exp(rng.normal(0, 0.5, len(GENES))) for name in NAMES} | {"control": np.ones(len(GENES))}
    counts = np.array([rng.poisson(base * effect[name]) for name in labels], dtype=float)
    obs = pd.DataFrame({"perturbation": labels, "cell_line": "A549", "batch": "1"})
    obs["control_half"] = ["AB"[i % 2] if label == "control" else "" for i, label in enumerate(labels)]
    obs.index = [f"cell{i:04d}" for i in range(len(labels))]
    x = sp.csr_matrix(np.log1p(counts / counts.sum(1, keepdims=True) * 300).astype(np.float32))
    h5ad.write(ad.AnnData(x, obs, pd.DataFrame(index=GENES)), folder / "tp53.h5ad", {"target_sum": 300.0})
    write_tsv(folder / "tp53.perturbations.tsv", [{"perturbation": n, "gene": "TP53", "pos": n[6:-1]} for n in NAMES],
              ("perturbation", "gene", "pos"))  # fmt: skip
    nobody = {fold: [] for fold in FOLDS}
    for name, tested, validated in (("both", TEST, VALID), ("swapped", VALID, nobody), ("none", TEST, nobody)):
        folds_of(folder / f"{name}.tsv", tested, validated)
        run(truth_cli.main, "--dataset", folder / "tp53.h5ad", "--perturbations", folder / "tp53.perturbations.tsv",
            "--folds", folder / f"{name}.tsv", "--dataset-id", "tp53", "--split", "variant",
            "--out-dir", folder / name)  # fmt: skip
    return folder


def files(folder, of=""):
    return folder / f"tp53.variant{of}.truth.h5ad", folder / f"tp53.variant{of}.de.parquet"


@pytest.fixture(scope="module")
def predictions(folder):
    """Two encoders, the first better on test, the second on validation perturbations."""
    made = []
    for role, which in (("predictions", TEST), ("validation", VALID)):
        truth = bundle.read(*files(folder / "both", "" if role == "predictions" else ".validation"))
        for fold in FOLDS:
            rng = np.random.default_rng(fold)
            of = truth.fold(fold)
            assert list(of.ids) == sorted(which[fold])
            for i, encoder in enumerate(ENCODERS):
                good = (i == 0) == (role == "predictions")
                noise = rng.normal(0, 0.1 if good else 1.0, of.profile.shape)
                path = folder / f"tp53.variant.f{fold}.linear.{encoder}.alt.s0.{role}.h5ad"
                obs = pd.DataFrame({"perturbation": list(of.ids)}, index=list(of.ids))
                h5ad.write(ad.AnnData((of.profile + noise).astype(np.float32), obs, pd.DataFrame(index=GENES)), path,
                           {"unit": path.name})  # fmt: skip
                made.append(path)
    return made


def arguments(folder, predictions, out, validation=True):
    both = folder / "both"
    found = ["--truth", files(both)[0], "--de", files(both)[1], "--predictions", *predictions, "--out", out]
    of = files(both, ".validation")
    own = ["--validation-truth", of[0], "--validation-de", of[1], "--validation-out", out.with_suffix(".validation")]
    return found + (own if validation else [])


@pytest.fixture(scope="module")
def scored(folder, predictions):
    assert run(score.main, *arguments(folder, predictions, folder / "scores.parquet")) == 0
    return folder / "scores.parquet", folder / "scores.validation"


def test_validation_truth_is_what_a_truth_of_the_same_perturbations_as_test_is(folder):
    validation, swapped = bundle.read(*files(folder / "both", ".validation")), bundle.read(*files(folder / "swapped"))
    assert (validation.facts["role"], swapped.facts["role"]) == ("validation", "test")
    for one, other in zip(validation.folds, swapped.folds, strict=True):
        assert one.ids == other.ids == tuple(sorted(VALID[one.fold]))
        for name in ("profile", "variance", "train_mean", "train_pc1", "expressed", "p_adj", "log2fc", "control_a"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_truth_of_test_perturbations_does_not_change_with_it(folder):
    one, other = bundle.read(*files(folder / "both")), bundle.read(*files(folder / "none"))
    assert one.facts["truth_sha256"] == other.facts["truth_sha256"]
    assert not files(folder / "none", ".validation")[0].exists()
    names = (folder / name / "tp53.variant.reference.scores.parquet" for name in ("both", "none"))
    pd.testing.assert_frame_equal(*map(pd.read_parquet, names), check_exact=True)


def test_scores_are_those_of_the_same_predictions_as_test_predictions(folder, predictions, scored, tmp_path):
    as_test = []
    for path in predictions:
        if path.name.endswith(".validation.h5ad"):
            as_test.append(tmp_path / path.name.replace(".validation.", ".predictions."))
            as_test[-1].symlink_to(path)
    truth = files(folder / "swapped")
    run(score.main, "--truth", truth[0], "--de", truth[1], "--predictions", *as_test, "--out", tmp_path / "as_test")
    keys = ["fold", "encoder", "perturbation", "metric", "gene_set"]
    found, expected = (pd.read_parquet(path).set_index(keys).sort_index() for path in (scored[1], tmp_path / "as_test"))
    assert set(found.reset_index()[["metric", "gene_set"]].itertuples(index=False)) == {("dpearson_pm", "expr_nt")}
    pd.testing.assert_frame_equal(found, expected.loc[found.index])
    assert len(found) == 12  # three folds, two encoders, two perturbations


def test_what_chooses_depends_on_no_test_cell_and_no_held_out_control(folder, predictions, scored, tmp_path):
    """Other cells in their place: the same choice, other scores of test perturbations."""
    data = h5ad.read(folder / "tp53.h5ad")
    x = data.X.toarray()
    test_of_1 = data.obs["perturbation"].isin(TEST[1]).to_numpy()
    held_out = (data.obs["control_half"] == "A").to_numpy()
    for changed in (test_of_1, held_out):
        x[changed] = x[changed][::-1] * 0.5 + 0.7
    data.X = sp.csr_matrix(x)
    h5ad.write(data, tmp_path / "tp53.h5ad", {"target_sum": 300.0})
    run(truth_cli.main, "--dataset", tmp_path / "tp53.h5ad", "--perturbations", folder / "tp53.perturbations.tsv",
        "--folds", folder / "both.tsv", "--dataset-id", "tp53", "--split", "variant",
        "--out-dir", tmp_path)  # fmt: skip
    fold_1 = [path for path in predictions if ".f1." in path.name]
    truth, of = files(tmp_path), files(tmp_path, ".validation")
    run(score.main, "--truth", truth[0], "--de", truth[1], "--predictions", *fold_1, "--out", tmp_path / "scores",
        "--validation-truth", of[0], "--validation-de", of[1], "--validation-out", tmp_path / "validation")  # fmt: skip
    keys = ["encoder", "perturbation", "metric", "gene_set"]
    for name, before, same in (("validation", scored[1], True), ("scores", scored[0], False)):
        one, other = (pd.read_parquet(path) for path in (before, tmp_path / name))
        one, other = (t[(t["fold"] == 1) & (t["model"] == "linear")].set_index(keys)["value"] for t in (one, other))
        one, other = one.align(other, join="inner")
        assert len(one) > 3
        assert one.equals(other) is same


def test_scores_of_test_perturbations_do_not_change_with_it(folder, predictions, scored, tmp_path):
    tested = [path for path in predictions if path.name.endswith(".predictions.h5ad")]
    run(score.main, *arguments(folder, tested, tmp_path / "alone", validation=False))
    pd.testing.assert_frame_equal(*map(pd.read_parquet, (tmp_path / "alone", scored[0])), check_exact=True)


@pytest.fixture(scope="module")
def tables(folder, scored):
    rows = [
        {"unit": f"tp53.variant.f{fold}.linear.{encoder}.alt.s0", "dataset": "tp53", "split": "variant", "fold": fold,
         "model": "linear", "encoder": encoder, "strategy": "alt", "seed": 0, "class": "baseline",
         "process": "BASELINES", "task": "t", "settings": "{}"}
        for fold in FOLDS for encoder in ENCODERS
    ]  # fmt: skip
    write_tsv(folder / "plan.tsv", rows, tuple(rows[0]))
    (folder / "failures.json").write_text(json.dumps([]))
    reference, own = (folder / "both" / f"tp53.variant{of}.reference.scores.parquet" for of in ("", ".validation"))
    for out, validation in (("chosen", [scored[1], own]), ("unchosen", [])):
        run(aggregate.main, "--plan", folder / "plan.tsv", "--scores", scored[0], reference, "--validation-scores",
            *validation, "--failures", folder / "failures.json", "--perturbations", folder / "tp53.perturbations.tsv",
            "--bootstrap", 50, "--out-dir", folder / out)  # fmt: skip
    return folder


def test_validation_chooses_and_test_reports(tables):
    rows = {(row["metric"], row["gene_set"]): row for row in read_tsv(tables / "chosen" / "selection.tsv")}
    assert {row["chosen"] for row in rows.values()} == {"1:esm2_35m.alt;2:esm2_35m.alt;3:esm2_35m.alt"}
    assert {row["chosen_by"] for row in rows.values()} == {"dpearson_pm__expr_nt"}
    ranks = {key for key in rows if key[0].startswith("c_acc")}  # both encoders find every perturbation
    assert {rows[key]["optimism"] for key in ranks} == {"0.0"}
    for row in (rows[key] for key in rows.keys() - ranks):
        assert (row["naive_encoder"], row["n_validation"], row["status"]) == ("esm2_8m", "2", "ok")
        assert float(row["optimism"]) > 0
    board = {row["encoder"]: row for row in read_tsv(tables / "chosen" / "leaderboard.tsv")
             if (row["metric"], row["gene_set"]) == ("dpearson_pm", "expr_nt")}  # fmt: skip
    assert rows["dpearson_pm", "expr_nt"]["value"] == board["esm2_35m"]["value"]
    assert pq.read_table(tables / "chosen" / "validation.parquet").num_rows > 12


def test_no_other_table_depends_on_it(tables):
    for name in aggregate.TABLES:
        same = (tables / "chosen" / f"{name}.tsv").read_bytes() == (tables / "unchosen" / f"{name}.tsv").read_bytes()
        assert same is (name != "selection"), name
    assert {row["status"] for row in read_tsv(tables / "unchosen" / "selection.tsv")} == {"no_validation"}


def test_tables_of_the_other_role_are_refused(folder, scored, tables):
    names = (folder / "both" / f"tp53.variant{of}.reference.scores.parquet" for of in ("", ".validation"))
    of_test, of_validation = zip(scored, names, strict=True)
    for role, test, validation in (("test", of_validation, ()), ("validation", of_test, of_test)):
        with pytest.raises(InputError, match=f"not scores of {role} perturbations"):
            run(aggregate.main, "--plan", folder / "plan.tsv", "--scores", *test, "--validation-scores", *validation,
                "--perturbations", folder / "tp53.perturbations.tsv", "--out-dir", folder / "refused")  # fmt: skip


def test_a_perturbation_has_one_role_in_a_fold(folder, tmp_path):
    rows = read_tsv(folder / "both.tsv")
    for role in ("train", "valid"):
        write_tsv(tmp_path / "folds.tsv", [*rows, {**rows[0], "role": role}], list(rows[0]))
        with pytest.raises(InputError, match="several roles in fold 1"):
            truth_cli.read_folds(tmp_path / "folds.tsv")


@pytest.mark.parametrize("case", ["role", "without truth", "other perturbations", "incomplete", "alone"])
def test_bad_input_is_one_clear_line(folder, predictions, tmp_path, case):
    both, options = folder / "both", arguments(folder, predictions, tmp_path / "out")
    if case == "role":
        options[options.index(files(both)[0])] = files(both, ".validation")[0]
        options[options.index(files(both)[1])] = files(both, ".validation")[1]
        with pytest.raises(InputError, match="not the truth of test perturbations"):
            run(score.main, *options)
    elif case == "without truth":
        with pytest.raises(InputError, match="validation perturbations without their truth"):
            run(score.main, *arguments(folder, predictions, tmp_path / "out", validation=False))
    elif case == "incomplete":
        with pytest.raises(InputError, match="--validation-truth, --validation-de, --validation-out"):
            run(score.main, *options[:-2])
    elif case == "alone":
        only = [path for path in predictions if path.name.endswith(".validation.h5ad")]
        with pytest.raises(InputError, match="no predictions of test perturbations"):
            run(score.main, *arguments(folder, only, tmp_path / "out"))
    else:
        swapped = tmp_path / predictions[-1].name  # of fold 3, now with the perturbations of fold 1
        swapped.symlink_to(next(path for path in predictions if ".f1." in path.name and "validation" in path.name))
        one = predictions[-1].name.replace(".validation.", ".predictions.")
        pair = [swapped, next(path for path in predictions if path.name == one)]
        with pytest.raises(ModelError, match="2 missing perturbations"):
            run(score.main, *arguments(folder, pair, tmp_path / "out"))
