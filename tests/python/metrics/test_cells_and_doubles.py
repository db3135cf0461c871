"""Groups of metrics on request, from files: predicted cells, the challenge, log-of-mean profiles, doubles, sets."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import oracles
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from scipy import stats

from vcbench.core import h5ad
from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv, write_tsv
from vcbench.metrics import bundle, contract, evaluate, predictions, registry, score, scoring, truth_cli
from vcbench.models.base import Perturbation, TrainingData
from vcbench.models.ce_mean import ControlAndTrainMean
from vcbench.stats import aggregate

GENES = [f"gene{i:03d}" for i in range(160)]
SINGLES = ["A", "B", "C", "D", "E", "F"]
DOUBLES = ["A+B", "A+C", "B+D", "C+D", "E+F", "A+Z"]
NAMES = sorted([*SINGLES, *DOUBLES])
TEST = {1: ["A+B", "C+D", "E", "A+Z"], 2: ["A+C", "B+D", "E+F", "F"]}
GROUPS = ("extended", "cells", "vcc", "interactions", "lm", "bench_compat")
CELLS, CONTROLS = 60, 160
CLASSES = {"A": "pathogenic", "B": "benign", "C": "pathogenic", "D": "benign", "F": "pathogenic", "A+B": "benign",
           "C+D": "pathogenic", "E": "benign", "A+Z": "VUS", "A+C": "pathogenic", "B+D": "benign"}  # fmt: skip
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
        {"perturbation": name, "gene": name.replace("+", ";"), "pos": "", "clinvar": CLASSES.get(name, ""), "score": i}
        for i, name in enumerate(NAMES)
    ], ("perturbation", "gene", "pos", "clinvar", "score"))  # fmt: skip
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
    return run_truth(screen[0], screen[0] / "truth", "--known-function", "absent,score,clinvar")


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
            named = {"listed": "gears_ttest", registry.PHENOTYPE: "phenotype@clinvar"}.get(gene_set, gene_set)
            assert (metric.id, named) in found, metric.id


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


def test_only_cells_that_differ_are_compared_with_measured_ones(screen, scores):
    found = pq.read_table(screen[0] / "scores.parquet").to_pandas().set_index(["metric", "gene_set"])
    of_counts = found[found.index.isin(["diag_zeros", "diag_mean_variance", "diag_dispersion"], level="metric")]
    assert set(of_counts.model) == {"emits"}
    # the model draws its cells as the screen was drawn, with 0.8 of the effect: normalised counts of shallower cells
    # vary more, by the ratio of the totals
    _, _, base, shift = screen
    depth = [(base * np.exp(shift[n])).sum() / (base * np.exp(0.8 * shift[n])).sum() for f in TEST for n in TEST[f]]
    assert np.median(depth) > 1.1
    found = of_counts.value["diag_dispersion", "predicted/measured"]
    assert found == pytest.approx(np.median(depth), rel=0.1)
    zeros = of_counts.value["diag_zeros"]
    assert zeros["predicted"] == pytest.approx(zeros["measured"], abs=0.05)
    assert zeros["r over genes"] > 0.9


def test_only_doubles_have_interactions(scores, truth):
    found = scores[(scores.metric == "gi_c1") & (scores.model == "profiles")].set_index("perturbation")
    assert found.status["A+Z"] == "no_single"
    assert found.status.drop("A+Z").loc[[name for name in DOUBLES if name != "A+Z"]].eq("ok").all()
    assert found.status.drop(DOUBLES).eq("no_double").all() and len(found) > len(DOUBLES)


def test_singles_of_a_double_are_those_of_its_own_fold(screen, tmp_path):
    """A single that is kept for validation in a fold is no single there, though another fold trains on it."""
    folds = [{**row, "role": "valid"} if (row["fold"], row["perturbation"]) == ("1", "B") else row
             for row in read_tsv(screen[0] / "folds.tsv", ("perturbation", "fold", "role"))]  # fmt: skip
    write_tsv(tmp_path / "folds.tsv", folds, ("perturbation", "fold", "role"))
    # the later option wins
    files = run_truth(screen[0], tmp_path, "--folds", str(tmp_path / "folds.tsv"), groups=("interactions",))
    for fold in bundle.read(*files).folds:
        doubles = fold.extras.doubles
        lack = {fold.ids[row] for row, *single in zip(doubles.row, doubles.first, doubles.second, strict=True)
                if min(single) < 0}  # fmt: skip
        assert lack == ({"A+B", "A+Z"} if fold.fold == 1 else set())
    table = pq.read_table(tmp_path / "screen.gene.reference.scores.parquet").to_pandas()
    found = table[table.metric == "gi_c1"].set_index(["model", "fold", "perturbation"]).status
    for model in (contract.TRUTH, contract.NO_SKILL):
        assert found[model, 1, "A+B"] == "no_single"
        assert [found[model, 1, "C+D"], found[model, 2, "B+D"]] == ["ok", "ok"]


def test_extras_survive_the_file(screen, truth):
    """What is read equals what was built, part by part."""
    from vcbench.metrics import extras

    for fold in truth.folds:
        assert fold.extras.cells.coordinates.shape[1] == len(fold.extras.cells.components.T)
        assert len(fold.extras.vcc.listed) == len(fold.ids)
        again = extras.from_uns(extras.to_uns([(fold.fold, fold.extras)]), fold.fold)
        for name in ("spread", "cells", "counts", "vcc", "log_of_mean", "doubles", "classes"):
            one, other = getattr(fold.extras, name), getattr(again, name)
            for part in one.__dataclass_fields__:
                a, b = getattr(one, part), getattr(other, part)
                for x, y in zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]:
                    np.testing.assert_array_equal(x, y)
        assert (fold.extras.controls.expression != again.controls.expression).nnz == 0


def test_measured_doubles_and_etests_are_facts_of_the_truth(screen, truth):
    table = pq.read_table(screen[0] / "truth" / "screen.gene.reference.scores.parquet").to_pandas()
    facts = table[table.model == contract.TRUTH].set_index(["perturbation", "metric"])
    found = facts.xs("gi_score", level="metric")
    assert set(found.index) == set(DOUBLES) and found.status["A+Z"] == "no_single"
    for fold in truth.folds:
        for k in fold.extras.doubles.row:
            if fold.ids[k] != "A+Z":
                d, a, b = oracles.parts(fold, fold.profile, k, measured=True)
                assert found.value[fold.ids[k]] == pytest.approx(np.sqrt(np.mean((d - a - b) ** 2)))
    p = facts.xs("etest_p", level="metric")
    assert set(p.index) == {*TEST[1], *TEST[2]} and (p.value < 0.05).all()  # every effect of this screen is large
    assert facts.xs("etest_distance", level="metric").value.min() > 0
    width = table[table.metric == "diag_mmd_bandwidth"].set_index("gene_set").value
    for fold in truth.folds:
        cells = fold.extras.cells.coordinates
        apart = np.linalg.norm(cells[:, None] - cells[None], axis=2)[np.triu_indices(len(cells), 1)]
        assert width[f"fold {fold.fold}"] == pytest.approx(np.median(apart))
    assert len(width) == len(truth.folds)


def test_distances_have_a_ceiling(screen):
    """Half of the cells of a perturbation are nearer to the other half than controls, and not at distance 0."""
    table = pq.read_table(screen[0] / "truth" / "screen.gene.reference.scores.parquet").to_pandas()
    for metric in ("ediff", "mmd"):
        keys = ["fold", "perturbation"]
        found = table[table.metric == metric].set_index(keys)
        half, control = (found[found.model == m].value for m in (contract.TECH_DUPLICATE, contract.NO_SKILL))
        assert (half > 0).all() and (half < control.reindex(half.index)).all()
    found = table[(table.metric == "edist_pearson") & (table.model == contract.TECH_DUPLICATE) & (table.fold == 0)]
    assert found.value.item() > 0.8


def test_a_measured_interaction_lies_above_the_cut(screen, truth):
    """Genes to which 1.5 was added on top of both singles are found, most others are not."""
    _, _, _, shift = screen
    inside, outside = [], []
    for fold in truth.folds:
        for k in fold.extras.doubles.row:
            name = fold.ids[k]
            if name == "A+Z":
                continue
            extra = shift[name] - shift[name[0]] - shift[name[2]]
            d, a, b = oracles.parts(fold, fold.profile, k, measured=True)
            above = (d - a - b) > fold.extras.doubles.upper
            inside += above[extra > 1].tolist()
            outside += above[extra == 0].tolist()
    assert np.mean(inside) > 0.5 > 0.1 > np.mean(outside)


def test_baseline_of_the_challenge_is_the_model_ce_mean(screen, truth):
    """Mean of group means with the training controls as one group (metrics.md 6.1, 6.7): fitted, scored by hand."""
    _, data, _, _ = screen
    labels, half = data.obs["perturbation"].to_numpy(object), data.obs["control_half"].to_numpy()
    controls = data.X[labels == "control"].toarray().astype(float)
    for fold in truth.folds:
        train = tuple(Perturbation(name, ()) for name in NAMES if name not in TEST[fold.fold])
        seen = (half == "B") | np.isin(labels, [one.id for one in train])
        nothing = np.zeros(seen.sum(), dtype=object)
        model = ControlAndTrainMean({})
        model.fit(TrainingData(data.X[seen], labels[seen], nothing, tuple(GENES), train, (), None, data.X[seen]), 0, "")
        mean = model.tensors["profile"]
        p = [stats.mannwhitneyu(np.full(CELLS, np.float32(mean[g])), controls[:, g], method="asymptotic").pvalue
             for g in range(len(GENES))]  # fmt: skip
        change = np.abs(np.log2(np.expm1(mean) / np.expm1(controls.mean(0))))
        called = sorted(np.flatnonzero(stats.false_discovery_control(p) < 0.05), key=lambda g, by=change: -by[g])
        distance = np.abs(mean - fold.profile)
        k = len(fold.ids)
        of_fold = fold.extras.vcc
        for row in range(k):
            true = of_fold.listed[row].tolist()
            assert of_fold.baseline[row, 0] == pytest.approx(len(set(true) & set(called[: len(true)])) / len(true))
            order = stats.rankdata(distance.sum(1))
            assert of_fold.baseline[row, 1] == pytest.approx(1 - (order[row] - 1) / k)
            assert of_fold.baseline[row, 2] == pytest.approx(distance[row].mean(), rel=1e-9)


def test_aggregate_has_every_group(screen, scores, tmp_path):
    """Tables of models with and without cells; what a model lacks is a reason, what has no skill value stays empty."""
    folder = screen[0]
    units = [f"screen.gene.f{fold}.{model}.none.none.s0" for fold in TEST for model in ("emits", "repeats", "profiles")]
    plan = [
        {"dataset": "screen", "split": "gene", "fold": name.split(".")[2][1:], "model": name.split(".")[3],
         "encoder": "none", "strategy": "none", "seed": 0, "unit": name, "class": "baseline", "process": "X",
         "task": name, "settings": "{}"} for name in units
    ]  # fmt: skip
    write_tsv(tmp_path / "plan.tsv", plan, tuple(plan[0]))
    (tmp_path / "failures.json").write_text("[]")
    (tmp_path / "screen.perturbations.tsv").write_text((folder / "perturbations.tsv").read_text())
    arguments = ["--plan", tmp_path / "plan.tsv", "--scores", folder / "scores.parquet",
                 folder / "truth" / "screen.gene.reference.scores.parquet", "--failures", tmp_path / "failures.json",
                 "--perturbations", tmp_path / "screen.perturbations.tsv", "--seed", "1", "--bootstrap", "100",
                 "--out-dir", tmp_path / "tables"]  # fmt: skip
    aggregate.main([str(item) for item in arguments])
    rows = {(r["model"], r["metric"], r["gene_set"]): r for r in read_tsv(tmp_path / "tables" / "leaderboard.tsv")}
    for metric in METRICS.values():
        if metric.level == "term":
            continue
        for gene_set in set(metric.gene_sets) - {registry.FIXED, registry.PATHWAYS, "listed"}:
            gene_set = "phenotype@clinvar" if gene_set == registry.PHENOTYPE else gene_set
            row = rows["emits", metric.id, gene_set]
            assert row["value"] or row["reasons"], metric.id
            if metric.cells:
                other = rows["repeats", metric.id, gene_set]
                assert not other["value"] and "no_cells" in other["reasons"], metric.id
    assert rows["emits", "gi_c1", "top1000ctrl"]["n"] == "5"
    assert rows["emits", "gi_c1", "top1000ctrl"]["reasons"] == "no_double:2;no_single:1"
    for metric in ("gi_ap", "gi_tpr_fdp_50", "vcc_score", "edist_pearson", "de_nsig_spearman"):
        row = rows["emits", metric, METRICS[metric].gene_sets[0]]
        assert float(row["value_imputed"]) == pytest.approx(float(row["value"]), abs=1e-9), metric
    limits = {
        r["metric"]: r for r in read_tsv(tmp_path / "tables" / "ceilings.tsv") if r["gene_set"] in ("expr_nt", "all")
    }
    for metric in ("de_jaccard", "de_mcc", "de_recall", "de_f1", "vcc_des", "vcc_score", "mse_lm", "dpearson_ctrl_lm"):
        assert float(limits[metric]["tech_duplicate"]) > 0, metric
    assert float(limits["dpearson_ctrl"][contract.CE2_CONTEXT_MEAN]) > 0
    assert {model for model, *_ in rows} == {"emits", "repeats", "profiles"}
    value = float(rows["emits", "vcc_score", "all"]["value"])
    assert value == pytest.approx(
        scores[(scores.model == "emits") & (scores.metric == "vcc_score")].value.iloc[0], abs=1e-9
    )


def test_evaluate_alone_has_every_group(screen, truth, scores, tmp_path):
    """vcb_evaluate.py on cells of one fold: the values of SCORE, and what needs cells for nobody else."""
    folder, data, _, _ = screen
    test = data.obs["perturbation"].isin(TEST[1]) | (data.obs["control_half"] == "A")
    train = (data.obs["control_half"] == "B") | ~(data.obs["perturbation"].isin([*TEST[1], "control"]))
    for name, part in (("truth", test), ("train", train)):
        data[part.to_numpy()].copy().write_h5ad(tmp_path / f"{name}.h5ad")
    write_tsv(tmp_path / "p.tsv", read_tsv(folder / "perturbations.tsv", ("perturbation",)),
              ("perturbation", "gene", "clinvar", "score"))  # fmt: skip
    predictions_of_1 = next(folder.glob("screen.gene.f1.emits*"))
    evaluate.main([
        "--truth", str(tmp_path / "truth.h5ad"), "--train", str(tmp_path / "train.h5ad"), "--predictions",
        str(predictions_of_1), "--perturbations", str(tmp_path / "p.tsv"), "--metrics", *GROUPS, "--target-sum", "400",
        "--bootstrap", "100", "--out", str(tmp_path / "out"), "--known-function", "clinvar",
    ])  # fmt: skip
    rows = {(row["metric"], row["gene_set"]): row for row in read_tsv(tmp_path / "out" / "summary.tsv")}
    mine = scores[(scores.model == "emits") & (scores.fold == 1)]
    # Neither depends on random halves, samples of cells or the other fold.
    for metric, gene_set in (("mse_lm", "expr_nt"), ("de_mcc", "expr_nt"), ("vcc_mae", "all"), ("vcc_des", "all"),
                             ("gi_c1", "top1000ctrl"), ("var_ratio", "expr"), ("ediff", "hvg")):  # fmt: skip
        found = mine[(mine.metric == metric) & (mine.gene_set == gene_set)].value
        assert float(rows[metric, gene_set]["value"]) == pytest.approx(found.mean(), rel=1e-6), metric
    # one damaging, two harmless in fold 1: the terms of the pairs of that fold alone
    same = scoring.Rows("screen", "gene", "emits")
    made = predictions.read(predictions_of_1, truth.genes)
    scoring.score_combination(replace(truth, folds=truth.folds[:1]), {
        1: scoring.align(truth.folds[0], made.ids, made.mean, made.variance, made.n_cells)
    }, {name: METRICS[name] for name in ("phenotype_auc", "phenotype_auc_term")}, same, 0, nulls=False)  # fmt: skip
    (wanted,) = [row[10] for row in same.rows if not row[7]]
    assert float(rows["phenotype_auc", "phenotype@clinvar"]["value"]) == pytest.approx(wanted)
    assert float(rows["phenotype_auc", "phenotype@clinvar"]["train_mean"]) == 0.5
    assert rows["ediff", "hvg"]["train_mean"] == "" and rows["ediff", "hvg"]["no_change"] == ""


@pytest.mark.parametrize(("item", "more", "message"), [
    ("clinvar", [], "no effect without --perturbations and --metrics extended"),
    ("score", ["--metrics", "extended"], "--known-function: gives no classes"),
    ("clinvr", ["--metrics", "extended"], "--known-function: gives no classes"),
])  # fmt: skip
def test_evaluate_refuses_classes_that_are_none(screen, item, more, message):
    folder = screen[0]
    table = ["--perturbations", str(folder / "perturbations.tsv")] if more else []
    with pytest.raises(InputError, match=message):
        evaluate.read_classes(evaluate.parse([
            "--truth", "t", "--train", "t", "--predictions", "p", "--out", "o", *table, "--known-function", item, *more
        ]))  # fmt: skip


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(("value", "message"), [
    (np.nan, "values that are not finite.*NaN or inf in cell cell00203"),
    (np.inf, "values that are not finite.*cell00203"),
    (-0.5, "negative values.*-0.5 in cell cell00203"),
])  # fmt: skip
def test_values_that_no_cell_has_end_the_truth_with_one_line(screen, tmp_path, monkeypatch, value, message, in_memory):
    folder, data, _, _ = screen
    if not in_memory:
        monkeypatch.setattr(truth_cli, "VALUES_IN_MEMORY", 0)
    wrong, values = data.copy(), data.X.toarray()
    values[203, 7] = value
    wrong.X = sp.csr_matrix(values)
    # the rows of the file are in another order than the names of its cells
    h5ad.write(wrong[::-1].copy(), tmp_path / "wrong.h5ad", {"target_sum": 400.0})
    with pytest.raises(InputError, match=rf"wrong.h5ad, X: {message}.*expected log1p expression"):
        run_truth(folder, tmp_path / "out", "--dataset", str(tmp_path / "wrong.h5ad"), groups=())


def test_groups_must_be_in_the_truth(screen, truth_files, tmp_path):
    folder = screen[0]
    plain = run_truth(folder, tmp_path / "plain", groups=("extended",))
    path = next(folder.glob("*emits*"))
    arguments = ["--truth", plain[0], "--de", plain[1], "--predictions", path, "--out", tmp_path / "x.parquet"]
    with pytest.raises(InputError, match="no truth for metrics of group cells, vcc"):
        score.main([str(item) for item in [*arguments, "--metrics", "cells", "vcc", "extended"]])
    with pytest.raises(InputError, match=r"unknown group of metrics 'celsl'.*did you mean 'cells'"):
        score.main([str(item) for item in [*arguments, "--metrics", "celsl"]])


def test_classes_are_held_against_prototypes_of_training_perturbations_alone(screen, truth, scores):
    folder, data, _, _ = screen
    labels, values = data.obs["perturbation"].to_numpy(), data.X.toarray().astype(np.float64)
    mean = {name: values[labels == name].mean(0) for name in NAMES}
    top = bottom = 0.0
    for fold in truth.folds:
        known = {name: CLASSES[name] == "pathogenic" for name in NAMES if CLASSES.get(name, "VUS") != "VUS"}
        train = [name for name in known if name not in TEST[fold.fold]]
        prototypes = [np.mean([mean[n] for n in train if known[n] == side], axis=0) for side in (False, True)]
        assert fold.extras.classes.names.tolist() == [
            "clinvar"
        ]  # a column of numbers and an absent one give no classes
        np.testing.assert_allclose(fold.extras.classes.prototypes[0], prototypes, atol=1e-9)
        at = oracles.panel_genes(fold, "expr_nt")
        tests = [name for name in fold.ids if name in known]
        of = predictions.read(next(folder.glob(f"screen.gene.f{fold.fold}.emits*")), truth.genes)
        score = {n: np.subtract(*(((p - one)[at] ** 2).mean() for one in prototypes))
                 for n, p in zip(of.ids, of.mean, strict=True)}  # fmt: skip
        pairs = [(a, b) for a in tests for b in tests if known[a] and not known[b]]
        top, bottom = top + sum(score[a] > score[b] for a, b in pairs), bottom + len(pairs)
    rows = scores[(scores.metric == "phenotype_auc") & (scores.perturbation == "")].set_index("model")
    assert rows.value["emits"] == pytest.approx(top / bottom) and bottom == 4
    terms = scores[(scores.metric == "phenotype_auc_term") & (scores.model == "emits")].set_index("perturbation")
    assert set(terms.index[terms.status == contract.NO_CLASS]) == {"A+Z", "E+F"}


def test_items_without_classes_are_left_out_and_those_of_no_use_are_said(screen, caplog):
    found = truth_cli.read_classes(screen[0] / "perturbations.tsv", "absent,score,score>=6,clinvar=VUS")
    assert set(found) == {"score>=6", "clinvar=VUS"}
    assert found["score>=6"] == {name: i >= 6 for i, name in enumerate(NAMES)}
    assert found["clinvar=VUS"] == {name: value == "VUS" for name, value in CLASSES.items()}
    assert "no phenotype_auc by absent" in caplog.text and "by score" not in caplog.text


def test_one_profile_for_all_tells_no_class_and_a_class_without_training_perturbations_is_no_class(truth):
    rows = scoring.Rows("screen", "gene", "same")
    metrics = {name: METRICS[name] for name in ("phenotype_auc", "phenotype_auc_term")}
    same = {f.fold: scoring.train_mean_prediction(f) for f in truth.folds}
    scoring.score_combination(truth, same, metrics, rows, 0, nulls=False)
    assert [row[10] for row in rows.rows if not row[7]] == [0.5]
    classes = truth.folds[0].extras.classes
    prototypes = classes.prototypes.copy()
    prototypes[:, 1] = np.nan
    extras = replace(truth.folds[0].extras, classes=replace(classes, prototypes=prototypes))
    lacking = replace(truth, folds=(replace(truth.folds[0], extras=extras), truth.folds[1]))
    rows = scoring.Rows("screen", "gene", contract.NO_SKILL)
    scoring.add_no_skill(lacking, metrics, rows)
    assert {row[14] for row in rows.rows if row[2] == 1} == {contract.NO_CLASS}
    # without any class there is no row at all
    plain = replace(truth, folds=tuple(replace(f, extras=replace(f.extras, classes=None)) for f in truth.folds))
    rows = scoring.Rows("screen", "gene", "same")
    scoring.score_combination(plain, same, metrics, rows, 0, nulls=False)
    assert rows.rows == []


def test_lists_of_the_file_are_the_compat_lists(screen, tmp_path):
    files = run_truth(screen[0], tmp_path / "lists", "--bench-compat-de-list", "file", groups=("bench_compat",))
    found = bundle.read(*files)
    for fold in found.folds:
        for name, index in zip(fold.ids, fold.listed, strict=True):
            start = NAMES.index(name)
            assert index.tolist() == list(range(start, start + 20))
