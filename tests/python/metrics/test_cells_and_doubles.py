"""Groups of metrics on request, from files: predicted cells, the challenge, log-of-mean profiles, doubles, sets."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from vcbench.core import h5ad
from vcbench.core.errors import InputError
from vcbench.core.tables import write_tsv
from vcbench.metrics import bundle, contract, registry, score, truth_cli

GENES = [f"gene{i:03d}" for i in range(160)]
SINGLES = ["A", "B", "C", "D", "E", "F"]
DOUBLES = ["A+B", "A+C", "B+D", "C+D", "E+F", "A+Z"]
NAMES = sorted([*SINGLES, *DOUBLES])
TEST = {1: ["A+B", "C+D", "E", "A+Z"], 2: ["A+C", "B+D", "E+F", "F"]}
GROUPS = ("extended", "cells", "vcc", "interactions", "lm", "bench_compat")
CELLS, CONTROLS = 60, 160
METRICS = registry.load()


def counts_of(rng, mean, n):
    return rng.poisson(mean * rng.gamma(8, 1 / 8, (n, 1)), (n, len(mean)))


def normalised(counts):
    return np.log1p(counts / counts.sum(1, keepdims=True) * 400).astype(np.float32)


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    """A screen of singles and doubles on disk, with the true means behind it."""
    folder = tmp_path_factory.mktemp("screen")
    rng = np.random.default_rng(5)
    base = rng.gamma(2.0, 1.5, len(GENES))
    effects = {name: rng.normal(0, 1, len(GENES)) * (rng.random(len(GENES)) < 0.25) for name in SINGLES}
    effects["Z"] = np.zeros(len(GENES))
    shift = {}
    for name in NAMES:
        parts = name.split("+")
        shift[name] = sum(effects[part] for part in parts)
        if len(parts) == 2:  # a few genes answer to both together
            shift[name] = shift[name] + 1.5 * (rng.random(len(GENES)) < 0.06)
    labels = ["control"] * CONTROLS + [name for name in NAMES for _ in range(CELLS)]
    counts = np.concatenate([
        counts_of(rng, base, CONTROLS), *(counts_of(rng, base * np.exp(shift[name]), CELLS) for name in NAMES)
    ])  # fmt: skip
    obs = pd.DataFrame({"perturbation": labels, "cell_line": "K562"})
    obs["control_half"] = ["AB"[i % 2] if label == "control" else "" for i, label in enumerate(labels)]
    obs.index = [f"cell{i:05d}" for i in range(len(labels))]
    data = ad.AnnData(X=sp.csr_matrix(normalised(counts)), obs=obs, var=pd.DataFrame(index=GENES))
    lists = {name: GENES[i : i + 25] for i, name in enumerate(NAMES)}
    h5ad.write(data, folder / "screen.h5ad", {"target_sum": 400.0, "gene_lists": lists})
    write_tsv(folder / "perturbations.tsv", [
        {"perturbation": name, "gene": name.replace("+", ";"), "pos": ""} for name in NAMES
    ], ("perturbation", "gene", "pos"))  # fmt: skip
    rows = [
        {"perturbation": name, "fold": fold, "role": "test" if name in TEST[fold] else "train"}
        for fold in TEST for name in NAMES
    ]  # fmt: skip
    write_tsv(folder / "folds.tsv", rows, ("perturbation", "fold", "role"))
    return folder, data, base, shift


def run_truth(folder, out, *extra, groups=GROUPS):
    truth_cli.main([
        "--dataset", str(folder / "screen.h5ad"), "--perturbations", str(folder / "perturbations.tsv"), "--folds",
        str(folder / "folds.tsv"), "--dataset-id", "screen", "--split", "gene", "--seed", "1", "--out-dir", str(out),
        "--metrics", *groups, *extra,
    ])  # fmt: skip
    return out / "screen.gene.truth.h5ad", out / "screen.gene.de.parquet"


@pytest.fixture(scope="module")
def truth_files(screen):
    return run_truth(screen[0], screen[0] / "truth")


@pytest.fixture(scope="module")
def truth(truth_files):
    return bundle.read(*truth_files)


def write(path, labels, matrix):
    obs = pd.DataFrame({"perturbation": labels}, index=[f"r{i:05d}" for i in range(len(labels))])
    h5ad.write(ad.AnnData(X=np.asarray(matrix, np.float32), obs=obs, var=pd.DataFrame(index=GENES)), path, {})
    return path


@pytest.fixture(scope="module")
def scores(screen, truth_files, truth):
    """Scores of a model that emits good cells, one that repeats its profile, and one that predicts profiles."""
    folder, _, base, shift = screen
    rng = np.random.default_rng(9)
    paths = []
    for fold in truth.folds:
        drawn = np.concatenate([normalised(counts_of(rng, base * np.exp(0.8 * shift[n]), 40)) for n in fold.ids])
        profile = np.stack([drawn[i * 40 : (i + 1) * 40].mean(0) for i in range(len(fold.ids))])
        unit = f"screen.gene.f{fold.fold}.{{}}.none.none.s0.predictions.h5ad"
        repeated = [name for name in fold.ids for _ in range(40)]
        paths += [
            write(folder / unit.format("emits"), repeated, drawn),
            write(folder / unit.format("repeats"), repeated, np.repeat(profile, 40, axis=0)),
            write(folder / unit.format("profiles"), fold.ids, profile),
        ]
    out = folder / "scores.parquet"
    arguments = ["--truth", truth_files[0], "--de", truth_files[1], "--predictions", *paths, "--metrics",
                 ",".join(GROUPS), "--seed", "1", "--out", out]  # fmt: skip
    score.main([str(item) for item in arguments])
    table = pq.read_table(out).to_pandas()
    return table[table.metric.isin(METRICS)]


def test_every_metric_of_every_group_has_its_rows(scores):
    found = set(zip(scores.metric, scores.gene_set, strict=True))
    for metric in METRICS.values():
        for gene_set in set(metric.gene_sets) - {registry.FIXED, registry.PATHWAYS}:
            assert (metric.id, gene_set if gene_set != "listed" else "gears_ttest") in found, metric.id


def test_models_have_the_same_rows_and_each_value_a_status(scores):
    table = scores[~scores.model.map(contract.is_evaluator)]
    assert len(set(table.groupby("model").size())) == 1
    defined = table.status.isin([contract.OK, *contract.FLAGS])
    assert (table.value.notna() <= (defined | (table.perturbation == ""))).all()
    for row in table[table.value.isna()].itertuples():
        assert row.status in METRICS[row.metric].undefined, row


def test_profiles_have_no_cells_repeated_ones_neither(scores):
    of_cells = [metric.id for metric in METRICS.values() if metric.cells]
    for model in ("repeats", "profiles"):
        found = scores[(scores.model == model) & scores.metric.isin(of_cells)]
        assert found.value.isna().all()
        assert "no_cells" in set(found.status)
    found = scores[(scores.model == "emits") & scores.metric.isin(of_cells) & (scores.perturbation == "")]
    assert found.value.notna().all()


def test_a_repeated_profile_scores_as_the_profile(scores):
    one, other = (
        scores[(scores.model == m) & ~scores.metric.str.startswith("nmse")].set_index(
            ["fold", "perturbation", "metric", "gene_set"]
        ) for m in ("repeats", "profiles")
    )  # fmt: skip
    np.testing.assert_allclose(one.value, other.value.reindex(one.index), atol=1e-6)


def test_only_doubles_have_interactions(scores, truth):
    found = scores[(scores.metric == "gi_c1") & (scores.model == "profiles")].set_index("perturbation")
    assert set(found.index) == set(DOUBLES)
    assert found.status["A+Z"] == "no_single"
    assert found.status.drop("A+Z").eq("ok").all()


def test_extras_survive_the_file(screen, truth):
    """What is read equals what was built, part by part."""
    from vcbench.metrics import extras

    for fold in truth.folds:
        assert fold.extras.cells.coordinates.shape[1] == len(fold.extras.cells.components.T)
        assert len(fold.extras.vcc.listed) == len(fold.ids)
        again = extras.from_uns(extras.to_uns([(fold.fold, fold.extras)]), fold.fold)
        for name in ("spread", "cells", "vcc", "log_of_mean", "doubles"):
            one, other = getattr(fold.extras, name), getattr(again, name)
            for part in one.__dataclass_fields__:
                a, b = getattr(one, part), getattr(other, part)
                for x, y in zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]:
                    np.testing.assert_array_equal(x, y)
        assert (fold.extras.controls.expression != again.controls.expression).nnz == 0


def test_groups_must_be_in_the_truth(screen, truth_files, tmp_path):
    folder = screen[0]
    plain = run_truth(folder, tmp_path / "plain", groups=("extended",))
    path = next(folder.glob("*emits*"))
    arguments = ["--truth", plain[0], "--de", plain[1], "--predictions", path, "--out", tmp_path / "x.parquet"]
    with pytest.raises(InputError, match="no truth for metrics of group cells, vcc"):
        score.main([str(item) for item in [*arguments, "--metrics", "cells", "vcc", "extended"]])
    with pytest.raises(InputError, match=r"unknown group of metrics 'celsl'.*did you mean 'cells'"):
        score.main([str(item) for item in [*arguments, "--metrics", "celsl"]])


def test_lists_of_the_file_are_the_compat_lists(screen, tmp_path):
    files = run_truth(screen[0], tmp_path / "lists", "--bench-compat-de-list", "file", groups=("bench_compat",))
    found = bundle.read(*files)
    for fold in found.folds:
        for name, index in zip(fold.ids, fold.listed, strict=True):
            start = NAMES.index(name)
            assert index.tolist() == list(range(start, start + 20))
