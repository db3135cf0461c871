"""The canary of metrics.md 5: other counts in the test cells of a fold, from the raw screen on, change nothing a model
learns from, no fitted model and no prediction, for every model of the catalogue.

What may depend on the expression of test cells, and why: which genes are on the axis (PREPARE leaves out genes that
fewer than `--min-cells-per-gene` cells of the screen detect, all cells alike, before there are folds; it uses no label,
and scores use genes detected in training cells only), the cells' own rows of the dataset, quality.tsv, and the
evaluator's labels (DE lists, weights, reliabilities), which no model sees.
"""

from __future__ import annotations

import json
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from vcbench.core import catalogue, h5ad
from vcbench.core.settings import SCALING
from vcbench.core.tables import read_tsv, write_tsv
from vcbench.data import prepare_cli
from vcbench.metrics import profiles, truth, truth_cli
from vcbench.models import predict_cli, train_cli
from vcbench.splits import split_cli

ENTRIES = catalogue.load("models")["entries"]
MODELS = [name for name, entry in ENTRIES.items() if "variant" in entry["modalities"]]
#: Models of doubles, on a screen of genes.
COMBINATIONS = [name for name, entry in ENTRIES.items() if "variant" not in entry["modalities"]]
SEQUENCE = "MKTAYIAKQRQISFVKSHFS"
VARIANTS = [f"{SEQUENCE[p - 1]}{p}{'GV'[i % 2]}" for p in range(2, 12) for i in range(1 + p % 2)]
GENES = [f"G{i:02d}" for i in range(40)]
SINGLES = [*GENES[:6]]
DOUBLES = ["G00+G01", "G00+G02", "G01+G02", "G02+G03", "G03+G04", "G04+G05"]
CELLS, CONTROLS = 26, 60
#: Settings that make a test quick; everything else is the default.
QUICK = {
    "random_forest": {"trees": 10, "selection_trees": 3},
    "sclambda": {"epochs": 2, "batch_size": 32, "hidden": 8, "latent": 2, "validate_every": 1},
}


def canary(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return wholly other counts that are detected in every gene, so that the axis stays."""
    return values[::-1] * 3 + rng.integers(1, 40, values.shape)


class Screen:
    """A raw screen of variants (or genes) and everything the pipeline makes of it, on disk."""

    def __init__(self, folder, kind):
        self.folder, self.kind = folder, kind
        labels = VARIANTS if kind == "variant" else [*SINGLES, *DOUBLES]
        rng = np.random.default_rng(4)
        self.labels = np.repeat([*labels, "control"], [CELLS] * len(labels) + [CONTROLS])
        base = 2 + rng.gamma(2.0, 2.0, len(GENES))
        effect = {label: np.exp(rng.normal(0, 0.5, len(GENES))) for label in [*labels, "control"]}
        self.counts = np.array([rng.poisson(base * effect[label]) for label in self.labels])
        self.names = [f"cell{i:04d}" for i in rng.permutation(len(self.labels))]
        self.models = MODELS if kind == "variant" else COMBINATIONS
        (folder / "toy.fasta").write_text(f">TOY|P00001|1\n{SEQUENCE}\n")
        annotations = [f"{label}\t{'hm'[i % 2]}" for i, label in enumerate(labels)]
        (folder / "annotations.tsv").write_text("\n".join(["label\tseverity", *annotations]) + "\n")

    def prepare(self, counts, out):
        """PREPARE and SPLIT; returns their folder."""
        folder = self.folder / out
        folder.mkdir()
        obs = pd.DataFrame({"perturbation": self.labels}, index=self.names)
        ad.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs, pd.DataFrame(index=GENES)).write_h5ad(
            folder / "raw.h5ad"
        )
        given = ["--dataset", "toy", "--h5ad", folder / "raw.h5ad", "--perturbation-type", self.kind,
                 "--min-cells-per-perturbation", 5, "--annotations", self.folder / "annotations.tsv",
                 "--out-dir", folder]  # fmt: skip
        if self.kind == "variant":
            given += ["--proteins", self.folder / "toy.fasta", "--gene", "TOY"]
        else:
            given += ["--mask-genes", "none"]
        prepare_cli.main([str(item) for item in given])
        split_cli.main(["--dataset", "toy", "--perturbations", str(folder / "toy.perturbations.tsv"), "--splits",
                        "variant", "--trials", "20", "--out-dir", str(folder)])  # fmt: skip
        if self.kind == "gene":  # doubles are tested, all their singles are in training
            roles = dict.fromkeys([*SINGLES, *DOUBLES], "train") | dict.fromkeys(DOUBLES[:4], "test")
            rows = [{"perturbation": name, "fold": 1, "role": role, "reason": ""} for name, role in roles.items()]
            write_tsv(folder / "toy.variant.folds.tsv", rows, list(rows[0]))
        return folder

    def fit(self, folder):
        """TRAIN and PREDICT of fold 1 with every model; returns all files by name."""
        names = [row["perturbation"] for row in read_tsv(folder / "toy.perturbations.tsv")]
        vectors = np.random.default_rng(9).normal(size=(len(names) + 1, 6)).astype(np.float32)
        h5ad.write(ad.AnnData(vectors, pd.DataFrame(index=[*names, "control"])), folder / "toy.random.alt.h5ad", {})
        units, settings = [], {}
        for model in self.models:
            encoder = ENTRIES[model]["encoder"]
            units.append(f"toy.variant.f1.{model}.{'random.alt' if encoder else 'none.none'}.s0")
            settings[model] = {key: spec["default"] for key, spec in ENTRIES[model]["settings"].items()}
            settings[model] |= QUICK.get(model, {}) | ({SCALING: "zscore"} if encoder else {})
        common = ["--units", *units, "--settings", json.dumps(settings), "--dataset", str(folder / "toy.h5ad"),
                  "--perturbations", str(folder / "toy.perturbations.tsv"),
                  "--folds", str(folder / "toy.variant.folds.tsv"), "--encodings", str(folder / "toy.random.alt.h5ad"),
                  "--out-dir"]  # fmt: skip
        train_cli.main([*common, str(folder / "models")])
        fitted = map(str, (folder / "models").glob("*.model"))
        predict_cli.main([*common, str(folder / "predictions"), "--models", *fitted])
        found = {
            str(path.relative_to(folder)): path.read_bytes()
            for part in ("models", "predictions") for path in sorted((folder / part).rglob("*"))
            if path.is_file() and ".status." not in path.name
        }  # fmt: skip
        assert {name.split(".")[3] for name in found} == set(self.models)
        assert sum(name.endswith("predictions.h5ad") for name in found) == len(self.models)
        return found

    def held_out(self, folder):
        """(cells,) of the raw screen: test cells of fold 1, and control cells kept for the evaluation."""
        rows = read_tsv(folder / "toy.variant.folds.tsv")
        test = {row["perturbation"] for row in rows if row["fold"] == "1" and row["role"] == "test"}
        obs = h5ad.read(folder / "toy.h5ad").obs.loc[self.names]
        return obs.perturbation.isin(test).to_numpy(), (obs.control_half == "A").to_numpy()


@pytest.fixture(scope="module", params=["variant", "gene"])
def case(request, tmp_path_factory):
    """A screen, what PREPARE and SPLIT make of it, and all files of TRAIN and PREDICT."""
    screen = Screen(tmp_path_factory.mktemp(request.param), request.param)
    folder = screen.prepare(screen.counts, "before")
    return screen, folder, screen.fit(folder)


def tables(folder):
    return {name: (folder / name).read_bytes() for name in ("toy.perturbations.tsv", "toy.variant.folds.tsv",
                                                            "toy.leakage.tsv")}  # fmt: skip


def test_other_counts_in_test_cells_and_held_out_controls_change_nothing_a_model_has_to_do_with(case):
    screen, before, files = case
    test, controls = screen.held_out(before)
    assert test.sum() > 3 * CELLS and controls.sum() == CONTROLS / 2
    counts, rng = screen.counts.copy(), np.random.default_rng(6)
    for hidden in (test, controls):
        counts[hidden] = canary(counts[hidden], rng)
    after = screen.prepare(counts, "canary")
    assert tables(after) == tables(before)
    one, other = (h5ad.read(folder / "toy.h5ad") for folder in (before, after))
    assert h5ad.provenance(one)["target_sum"] == h5ad.provenance(other)["target_sum"]
    pd.testing.assert_frame_equal(one.var, other.var)
    pd.testing.assert_frame_equal(one.obs.drop(columns="n_counts"), other.obs.drop(columns="n_counts"))
    hidden = set(np.array(screen.names)[test | controls])
    seen = np.array([name not in hidden for name in one.obs_names])
    for matrix in ("X", "counts"):
        pair = [(data.X if matrix == "X" else data.layers[matrix])[seen].toarray() for data in (one, other)]
        np.testing.assert_array_equal(*pair)
    changed = screen.fit(after)
    assert [name for name in files if changed[name] != files[name]] == []
    assert changed.keys() == files.keys()
    shutil.rmtree(after)


def test_the_canary_can_sing(case):
    """Counts of training perturbations change every model but the one that knows controls only."""
    screen, before, files = case
    rows = read_tsv(before / "toy.variant.folds.tsv")
    train = {row["perturbation"] for row in rows if row["fold"] == "1" and row["role"] == "train"}
    obs = h5ad.read(before / "toy.h5ad").obs.loc[screen.names]
    seen = obs.perturbation.isin(train).to_numpy()
    counts = screen.counts.copy()
    counts[seen] = canary(counts[seen], np.random.default_rng(7))
    changed = screen.fit(screen.prepare(counts, "seen"))
    same = {name.split(".")[3] for name in files if "predictions" in name and changed[name] == files[name]}
    assert same == ({"no_change"} if screen.kind == "variant" else set())
    shutil.rmtree(screen.folder / "seen")


def test_references_of_the_evaluator_do_not_depend_on_test_cells_and_its_labels_do(case):
    _, before, _ = case
    folds = truth_cli.read_folds(before / "toy.variant.folds.tsv")[:1]
    cells, *_ = truth_cli.read_cells(before / "toy.h5ad")
    facts = {"dataset": "toy", "split": "variant"}
    built = [truth.build(cells, folds, {}, dict(facts), 0).test]
    other = profiles.take(cells.expression, np.arange(len(cells.labels))).toarray()
    test = np.isin(cells.labels.astype(str), folds[0].test)
    other[test] = other[test][::-1] * 0.5 + 0.7
    cells = truth.Cells(sp.csr_matrix(other), cells.labels, cells.half, cells.genes, cells.target_sum)
    built.append(truth.build(cells, folds, {}, dict(facts), 0).test)
    one, two = (item.folds[0] for item in built)
    for name in ("train_mean", "train_pc1", "expressed", "control_a", "control_b", "control_all"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert built[0].facts["train_mean_sha256"] == built[1].facts["train_mean_sha256"]
    assert not np.array_equal(one.profile, two.profile)
    assert not np.array_equal(one.p_adj, two.p_adj, equal_nan=True)


def test_which_genes_are_on_the_axis_is_all_that_test_cells_decide(case):
    """A gene that only test cells detect is on the axis; it is in no gene set that scores use."""
    screen, before, _ = case
    test, _ = screen.held_out(before)
    counts = screen.counts.copy()
    counts[~test, -1] = 0
    folder = screen.prepare(counts, "axis")
    assert GENES[-1] in h5ad.read(folder / "toy.h5ad").var_names
    folds = truth_cli.read_folds(folder / "toy.variant.folds.tsv")[:1]
    cells, *_ = truth_cli.read_cells(folder / "toy.h5ad")
    fold = truth.build(cells, folds, {}, {"dataset": "toy", "split": "variant"}, 0).test.folds[0]
    assert not fold.expressed[cells.genes.tolist().index(GENES[-1])]
    assert not any(cells.genes.tolist().index(GENES[-1]) in found for found in fold.significant)
    counts[:, -1] = 0
    assert GENES[-1] not in h5ad.read(screen.prepare(counts, "gone") / "toy.h5ad").var_names
