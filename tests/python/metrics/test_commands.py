"""vcb_truth, vcb_score, vcb_aggregate and vcb_evaluate on files: contracts, accounting, reproducibility, bad input."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from vcbench.core import h5ad
from vcbench.core.errors import InputError, ModelError
from vcbench.core.tables import read_tsv, write_tsv
from vcbench.metrics import bundle, contract, diagnostics, docs, evaluate, registry, score, scoring, truth_cli
from vcbench.stats import aggregate, contrast_table

K, G, CELLS, CONTROLS, FOLDS = 12, 150, 60, 200, (1, 2, 3)
NAMES = [f"TP53~A{100 + i // 2 * 3}{'GV'[i % 2]}" for i in range(K)]  # two variants at each of six residues
GENES = ["TP53", *(f"gene{i:03d}" for i in range(1, G))]
#: Groups whose truth this screen has; the others: test_cells_and_doubles.py.
METRICS = {
    name: metric for name, metric in registry.chosen(registry.load(), ("extended", "bench_compat")).items()
    if registry.PHENOTYPE not in metric.gene_sets  # these perturbations have no classes
}  # fmt: skip


def read_scores(path):
    return pq.read_table(path).to_pandas()


def genes_beside(scores):
    """Path of the values gene by gene that belong to a score table."""
    return Path(str(scores).replace(".scores.", ".genes."))


@dataclass
class World:
    """A small screen on disk and its predictions by unit."""

    folder: Path
    cells: ad.AnnData
    folds: dict[int, list[str]]

    def truth(self, out, **kwargs):
        arguments = ["--dataset", kwargs.get("dataset", self.folder / "tp53.h5ad"),
                     "--perturbations", self.folder / "tp53.perturbations.tsv", "--folds", self.folder / "folds.tsv",
                     "--dataset-id", "tp53", "--split", "variant", "--seed", "3", "--bench-compat",
                     "--metrics", "extended", "--gene-sets", self.folder / "sets.gmt",
                     "--out-dir", out]  # fmt: skip
        truth_cli.main([str(item) for item in arguments])
        return out / "tp53.variant.truth.h5ad", out / "tp53.variant.de.parquet"

    def score(self, truth_files, predictions, out, *extra):
        arguments = ["--truth", truth_files[0], "--de", truth_files[1], "--predictions", *predictions, "--seed", "3",
                     "--bench-compat", "--metrics", "extended", "--genes-out", genes_beside(out), "--out", out,
                     *extra]  # fmt: skip
        return score.main([str(item) for item in arguments])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(17)
    base = rng.gamma(1.0, 1.5, G)
    base[-5:] = 0.001  # hardly ever detected
    shared = rng.normal(0, 0.9, G) * (rng.random(G) < 0.3)
    counts, labels = [rng.poisson(base, (CONTROLS, G))], ["control"] * CONTROLS
    for name in NAMES:
        own = rng.normal(0, 0.9, G) * (rng.random(G) < 0.15)
        counts.append(rng.poisson(base * np.exp(shared + own), (CELLS, G)))
        labels += [name] * CELLS
    counts = np.concatenate(counts).astype(np.float64)
    x = np.log1p(counts / counts.sum(1, keepdims=True) * 300).astype(np.float32)
    obs = pd.DataFrame({"perturbation": labels, "cell_line": "A549", "batch": "1"})
    obs["control_half"] = ["AB"[i % 2] if label == "control" else "" for i, label in enumerate(labels)]
    obs.index = [f"cell{i:05d}" for i in range(len(labels))]
    cells = ad.AnnData(X=sp.csr_matrix(x), obs=obs, var=pd.DataFrame(index=GENES))
    h5ad.write(cells, folder / "tp53.h5ad", {"target_sum": 300.0})
    rows = [{"perturbation": n, "gene": "TP53", "pos": n[6:-1]} for n in NAMES]
    write_tsv(folder / "tp53.perturbations.tsv", rows, ("perturbation", "gene", "pos"))
    folds = {fold: NAMES[fold - 1 :: 3] for fold in FOLDS}
    rows = [
        {"perturbation": n, "fold": fold, "role": "test" if n in folds[fold] else "train", "reason": ""}
        for fold in FOLDS
        for n in NAMES
    ]
    write_tsv(folder / "folds.tsv", rows, ("perturbation", "fold", "role", "reason"))
    pathways = {"HALLMARK_P53_PATHWAY": range(0, 40), "OTHER": range(30, 90), "SMALL": range(2)}
    lines = ["\t".join([name, "", *(GENES[i] for i in members), "ELSEWHERE"]) for name, members in pathways.items()]
    (folder / "sets.gmt").write_text("\n".join(lines) + "\n")
    return World(folder, cells, folds)


@pytest.fixture(scope="module")
def truth_files(world):
    return world.truth(world.folder / "truth")


@pytest.fixture(scope="module")
def truth(truth_files):
    return bundle.read(*truth_files)


def write_prediction(path, ids, matrix, genes=GENES):
    data = ad.AnnData(
        X=np.asarray(matrix, dtype=np.float32),
        obs=pd.DataFrame({"perturbation": list(ids)}, index=[f"row{i:04d}" for i in range(len(ids))]),
        var=pd.DataFrame(index=list(genes)),
    )
    h5ad.write(data, path, {"unit": path.name})
    return path


def unit(fold, model, encoder="none", strategy="none", seed=0):
    return f"tp53.variant.f{fold}.{model}.{encoder}.{strategy}.s{seed}"


@pytest.fixture(scope="module")
def predictions(world, truth):
    """Profiles by unit: baselines, a good model with two seeds, and a negative control that is better than all."""
    folder = world.folder / "predictions"
    folder.mkdir()
    rng = np.random.default_rng(4)
    paths = {}
    for fold in truth.folds:
        k = len(fold.ids)
        signal = fold.profile - fold.train_mean
        made = {
            unit(fold.fold, "no_change"): np.tile(fold.control_b, (k, 1)),
            unit(fold.fold, "train_mean"): np.tile(fold.train_mean, (k, 1)),
            unit(fold.fold, "nearest", "onehot", "alt"): fold.train_mean
            + 0.15 * signal
            + rng.normal(0, 0.1, signal.shape),
            unit(fold.fold, "nearest", "random", "alt"): fold.profile,
            **{
                unit(fold.fold, "sclambda", "esm2_650m", "alt", seed): fold.train_mean
                + 0.6 * signal
                + rng.normal(0, 0.05, signal.shape)
                for seed in (0, 1)
            },
        }
        for name, matrix in made.items():
            paths[name] = write_prediction(folder / f"{name}.predictions.h5ad", fold.ids, matrix)
    return paths


@pytest.fixture(scope="module")
def scored(world, truth_files, predictions):
    out = world.folder / "all.scores.parquet"
    assert world.score(truth_files, predictions.values(), out) == 0
    return out


def plan_rows(units, failed=()):
    rows = []
    for name in [*units, *failed]:
        part = score.Unit.parse(name)
        baseline = part.model in ("no_change", "train_mean", "nearest")
        rows.append({
            "unit": name, "dataset": part.dataset, "split": part.split, "fold": part.fold, "model": part.model,
            "encoder": part.encoder, "strategy": part.strategy, "seed": part.seed,
            "class": "baseline" if baseline else "supervised", "process": part.model.upper(), "task": name,
            "settings": "{}",
        })  # fmt: skip
    return rows


def run_aggregate(world, out, scores, rows, failures=(), *extra):
    folder = out.parent
    folder.mkdir(exist_ok=True, parents=True)
    write_tsv(folder / "plan.tsv", rows, tuple(rows[0]))
    (folder / "failures.json").write_text(json.dumps(list(failures)))
    by_gene = sorted({path for path in map(genes_beside, scores) if path.exists()})
    arguments = ["--plan", folder / "plan.tsv", "--scores", *scores, "--genes", *by_gene,
                 "--failures", folder / "failures.json",
                 "--perturbations", world.folder / "tp53.perturbations.tsv", "--seed", "3", "--bootstrap", "200",
                 "--out-dir", out, *extra]  # fmt: skip
    aggregate.main([str(item) for item in arguments])


GEARS = [unit(fold, "gears", "esm2_650m", "alt") for fold in FOLDS]
DIED = [
    {"stage": "TRAIN", "process": "GEARS_TRAIN", "task": name, "exit": 137, "reason": "out of memory"} for name in GEARS
]


@pytest.fixture(scope="module")
def tables(world, scored, predictions, truth_files):
    out = world.folder / "run" / "tables"
    reference = truth_files[0].parent / "tp53.variant.reference.scores.parquet"
    run_aggregate(world, out, [scored, reference], plan_rows(predictions, GEARS), DIED)
    return {
        "leaderboard": pd.read_csv(out / "leaderboard.tsv", sep="\t"),
        "contrasts": pd.read_csv(out / "contrasts.tsv", sep="\t"),
        "plan": read_tsv(out / "plan.tsv"),
        "folder": out,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Truth


def test_truth_profiles_and_references(world, truth):
    x, labels = world.cells.X.toarray().astype(np.float64), world.cells.obs["perturbation"].to_numpy()
    half = world.cells.obs["control_half"].to_numpy()
    for fold in truth.folds:
        assert list(fold.ids) == sorted(world.folds[fold.fold])
        for k, name in enumerate(fold.ids):
            cells = x[labels == name]
            np.testing.assert_allclose(fold.profile[k], cells.mean(0), atol=1e-12)
            np.testing.assert_allclose(fold.variance[k], cells.var(0, ddof=1) / CELLS, atol=1e-12)
        train = [name for name in NAMES if name not in fold.ids]
        centroid = np.mean([x[labels == name].mean(0) for name in train], axis=0)
        np.testing.assert_allclose(fold.train_mean, centroid, atol=1e-12)
        np.testing.assert_allclose(fold.control_a, x[half == "A"].mean(0), atol=1e-12)
        np.testing.assert_allclose(fold.control_b, x[half == "B"].mean(0), atol=1e-12)
        np.testing.assert_allclose(fold.cell_mean, x[np.isin(labels, fold.ids)].mean(0), atol=1e-12)
        share = ((x[half == "B"] > 0).mean(0) >= 0.05) | ((x[np.isin(labels, train)] > 0).mean(0) >= 0.05)
        np.testing.assert_array_equal(fold.expressed, share)
        assert not share[-5:].any()
        assert all(targets.tolist() == [0] for targets in fold.targets)


def test_halves_are_disjoint_and_complete(truth):
    fold = truth.folds[0]
    for seed in range(contract.N_HALF_SPLITS):
        one, other = scoring.half_truths(fold, seed)
        np.testing.assert_allclose((one.profile + other.profile) / 2, fold.profile, atol=1e-12)
        assert (one.profile != other.profile).any()
    assert (fold.first_half[0] != fold.first_half[1]).any()


def test_de_table_is_a_label_of_the_truth(world, truth, truth_files):
    from scipy.stats import false_discovery_control, mannwhitneyu

    table = pq.read_table(truth_files[1]).to_pandas()
    assert tuple(table.columns) == ("fold", "perturbation", "gene", "stat", "p", "p_adj", "log2fc", "rank")
    x, labels = world.cells.X.toarray().astype(np.float64), world.cells.obs["perturbation"].to_numpy()
    control = x[world.cells.obs["control_half"].to_numpy() == "A"]
    fold, name = truth.folds[1], truth.folds[1].ids[2]
    rows = table[table.perturbation == name]
    assert rows.gene.tolist() == [g for g, tested in zip(GENES, fold.expressed, strict=True) if tested]
    cells = x[labels == name][:, fold.expressed]
    p = mannwhitneyu(cells, control[:, fold.expressed], method="asymptotic", use_continuity=False).pvalue
    np.testing.assert_allclose(rows.p, p, atol=1e-10)
    np.testing.assert_allclose(rows.p_adj, false_discovery_control(p), atol=1e-10)
    scale = 1e4 / 300
    means = [np.expm1(part).mean(0) * scale + 0.01 for part in (cells, control[:, fold.expressed])]
    np.testing.assert_allclose(rows.log2fc, np.log2(means[0] / means[1]), atol=1e-9)
    ranked = rows[rows["rank"] > 0].sort_values("rank")
    assert set(ranked.gene) == set(rows.gene[rows.p_adj < 0.05])
    assert (np.diff(ranked.log2fc.abs()) <= 0).all()


def test_weights_come_from_other_cells_when_there_are_enough(world, truth, tmp_path):
    assert truth.folds[0].weights_shared.all()  # 60 cells
    np.testing.assert_array_equal(truth.folds[0].weight_profile, truth.folds[0].profile)
    np.testing.assert_allclose(truth.folds[0].weights.sum(1), 1)
    labels = world.cells.obs["perturbation"].to_numpy()
    more = ad.concat([world.cells, world.cells[labels == NAMES[0]]], index_unique="-")
    more.uns = dict(world.cells.uns)
    h5ad.write(more, tmp_path / "more.h5ad", {"target_sum": 300.0})
    larger = bundle.read(*world.truth(tmp_path / "truth", dataset=tmp_path / "more.h5ad"))
    fold = next(f for f in larger.folds if NAMES[0] in f.ids)
    row = fold.ids.index(NAMES[0])
    assert not fold.weights_shared[row]
    assert (fold.weight_profile[row] != fold.profile[row]).any()


def test_truth_and_de_table_must_belong_together(world, truth_files, tmp_path, caplog):
    cells = world.cells.copy()
    cells.X = cells.X * np.float32(1.1)
    h5ad.write(cells, tmp_path / "other.h5ad", {"target_sum": 300.0})
    other = world.truth(tmp_path / "truth", dataset=tmp_path / "other.h5ad")
    assert caplog.text.count("1 of 3 gene sets have fewer than 3 genes on the axis") == 1  # not once per fold
    with pytest.raises(InputError, match="made from another truth"):
        bundle.read(truth_files[0], other[1])


# ---------------------------------------------------------------------------------------------------------------------
# Score


def test_same_rows_for_every_model(scored):
    table = read_scores(scored)
    table = table[~table.model.map(contract.is_evaluator)]
    sizes = table.groupby(["model", "encoder", "seed"]).size()
    assert len(set(sizes)) == 1
    assert set(table.status) <= {contract.OK, *contract.FLAGS, *contract.PREDICTION_REASONS, *contract.TRUTH_REASONS}
    reasons = table.status.isin([contract.OK, *contract.FLAGS])
    assert (table.value.notna() == reasons).all()


def test_genes_behind_each_metric_are_those_of_the_score_table(tables, truth_files):
    reference = read_scores(truth_files[0].parent / "tp53.variant.reference.scores.parquet")
    rows = reference[(reference.model == contract.NO_SKILL) & (reference.n_genes > 0)]
    expected = rows.groupby(["metric", "gene_set"]).n_genes.agg(["median", "min"])
    found = pd.read_csv(tables["folder"] / "ceilings.tsv", sep="\t").set_index(["metric", "gene_set"])
    found = found[["n_genes_median", "n_genes_min"]].dropna()
    assert len(found) > 20
    np.testing.assert_array_equal(found.to_numpy(), expected.loc[found.index].to_numpy())
    assert (found.loc["mse"].to_numpy()[:, 0] != found.loc["mse"].to_numpy()[:, 1]).any()  # DE sets differ in size


def test_every_catalogue_metric_is_scored(scored):
    table = read_scores(scored)
    found = set(zip(table.metric, table.gene_set, strict=True))
    for metric in METRICS.values():
        for gene_set in metric.gene_sets:
            name = {"listed": "gears_ttest", registry.FIXED: "fixed_hallmark_p53_nt"}.get(gene_set, gene_set)
            assert (metric.id, name) in found
    assert {name for name in table.metric if not name.startswith(diagnostics.PREFIX)} == set(METRICS)
    for metric in METRICS.values():
        if metric.numerator or metric.id.endswith("_term"):
            assert not metric.function
        else:
            assert callable(scoring.function_of(metric))


def values(table, model, metric, gene_set):
    found = table[(table.model == model) & (table.metric == metric) & (table.gene_set == gene_set)]
    return found[found.perturbation != ""]


def test_baselines_behave_as_they_must(scored, truth):
    table = read_scores(scored)
    pm = values(table, "train_mean", "dpearson_pm", "expr_nt")
    assert len(pm) == K
    assert (pm.status == "const_pred").all()
    assert (values(table, "no_change", "dpearson_ctrl", "expr_nt").status == "const_pred").all()
    lift = values(table, "no_change", "ap_de_lift", "expr_nt")
    np.testing.assert_allclose(lift.value.dropna(), 0, atol=1e-12)
    for model in ("train_mean", "no_change"):
        accuracy = values(table, model, "c_acc", "expr_nt")
        assert accuracy.groupby("fold").value.mean().tolist() == pytest.approx([0.5] * 3, abs=1e-15)
    ratio = table[(table.model == "no_change") & (table.metric == "nmse_ctrl") & (table.fold > 0)]
    np.testing.assert_allclose(ratio.value, 1, atol=0.15)
    compat = values(table, "train_mean", "bench_compat_dspcc_cw_de", "gears_ttest")
    assert compat.value.mean() < -0.2
    gene_wise = table[(table.model == "train_mean") & (table.metric == "gw_pearson_wf")]
    assert gene_wise.status.tolist() == ["const_pred"]
    pooled = table[(table.model == "train_mean") & (table.metric == "bench_compat_pcc_gw")]
    assert pooled.value.item() < 0


def test_gene_wise_metrics_run_over_folds(world, truth_files, predictions, scored, tmp_path):
    table = read_scores(scored)
    row = table[(table.model == "sclambda") & (table.seed == 0) & (table.metric == "gw_nmse")]
    assert row[["fold", "n_perturbations", "n_folds", "status"]].to_numpy().tolist() == [[0, K, 3, "ok"]]
    two = [predictions[unit(fold, "sclambda", "esm2_650m", "alt")] for fold in (1, 3)]
    world.score(truth_files, two, tmp_path / "two.scores.parquet")
    short = read_scores(tmp_path / "two.scores.parquet")
    row = short[(short.model == "sclambda") & (short.metric == "gw_nmse")]
    assert row[["n_perturbations", "n_folds", "status"]].to_numpy().tolist() == [[8, 2, "missing_pred"]]
    assert row.value.notna().all()
    world.score(truth_files, two[:1], tmp_path / "one.scores.parquet")
    found = read_scores(tmp_path / "one.scores.parquet")
    few = found[(found.model == "sclambda") & found.metric.isin(["gw_nmse", "gw_pearson_wf"])]
    # of 12 perturbations the truth allows, 4 were predicted: that leaves too few, and it is not the truth's doing
    assert few[["n_perturbations", "status"]].to_numpy().tolist() == [[4, "missing_pred"]] * 2
    assert few.value.isna().all()


def test_null_of_a_useful_model_has_no_skill(scored):
    table = read_scores(scored)
    null = table[(table.model == "shuffled_labels:sclambda") & (table.seed == 0)]
    assert sorted(set(null.perturbation)) == [f"permutation_{i:02d}" for i in range(1, 21)]
    means = null.groupby(["metric", "gene_set"]).value.mean()
    # Four variants per fold: one permutation in four keeps a label, so the mean keeps a quarter of the signal.
    assert means["c_acc", "expr_nt"] == pytest.approx(0.5, abs=0.06)
    assert means["dpearson_pm", "expr_nt"] < 0.35
    own = values(table, "sclambda", "dpearson_pm", "expr_nt").value.mean()
    assert own > 0.8
    # What all variants share survives the shuffling.
    assert means["dpearson_ctrl", "expr_nt"] > means["dpearson_pm", "expr_nt"] + 0.1


def test_ceiling_lies_between_train_mean_and_one(truth_files, scored):
    reference = read_scores(truth_files[0].parent / "tp53.variant.reference.scores.parquet")
    assert set(reference.model) == set(contract.EVALUATORS)
    table = read_scores(scored)
    for metric, gene_set in (("dpearson_ctrl", "de20_nt"), ("dpearson_pm", "expr_nt"), ("c_acc", "expr_nt"),
                             ("ap_de", "expr_nt")):  # fmt: skip
        base = values(table, "train_mean", metric, gene_set).value.mean()
        half = values(reference, "tech_duplicate", metric, gene_set).value.mean()
        assert (0 if np.isnan(base) else base) < half <= 1
    facts = values(reference, "truth", "de_n_positive", "expr_nt")
    assert (facts.value == facts.value.round()).all()
    assert len(facts) == K


def test_bootstrap_duplicate_is_more_optimistic_than_a_replicate(truth_files):
    table = read_scores(truth_files[0].parent / "tp53.variant.reference.scores.parquet")
    mean = table[table.perturbation != ""].groupby(["model", "metric", "gene_set"]).value.mean()
    for metric, genes in (("dpearson_pm", "expr_nt"), ("c_acc", "expr_nt"), ("pearson", "expr_nt")):
        assert mean["bootstrap_duplicate", metric, genes] >= mean["tech_duplicate", metric, genes]
    # one sampling variance instead of the two of halves: a quarter of the squared error
    share = mean["bootstrap_duplicate", "mse", "expr_nt"] / mean["tech_duplicate", "mse", "expr_nt"]
    assert share == pytest.approx(0.25, abs=0.05)


def test_cells_are_averaged_and_their_noise_is_credited(world, truth_files, truth, tmp_path):
    fold = truth.folds[0]
    rng = np.random.default_rng(0)
    cells = np.repeat(fold.profile, 30, axis=0) + rng.normal(0, 0.3, (30 * len(fold.ids), G))
    ids = np.repeat(fold.ids, 30)
    name = unit(1, "cells")
    path = write_prediction(tmp_path / f"{name}.predictions.h5ad", ids, cells)
    world.score(truth_files, [path], tmp_path / "a.scores.parquet")
    table = read_scores(tmp_path / "a.scores.parquet")
    row = values(table, "cells", "mse", "de20_nt")
    assert (row.n_cells_pred == 30).all()
    mean = cells.astype(np.float32).astype(np.float64).reshape(len(fold.ids), 30, G).mean(1)
    index = fold.gene_set("de20_nt").index[0]
    assert row.value.iloc[0] == pytest.approx(((mean[0] - fold.profile[0])[index] ** 2).mean(), abs=1e-12)
    # Sampling noise of the prediction is subtracted on top of that of the truth.
    plain = write_prediction(tmp_path / f"{unit(1, 'plain')}.predictions.h5ad", fold.ids, mean)
    world.score(truth_files, [plain], tmp_path / "b.scores.parquet")
    other = read_scores(tmp_path / "b.scores.parquet")
    noisy = values(table, "cells", "nmse_ctrl_num", "expr_nt").value.to_numpy()
    clean = values(other, "plain", "nmse_ctrl_num", "expr_nt").value.to_numpy()
    assert (noisy < clean).all()


def test_wrong_predictions_fail_alone_and_are_recorded(world, truth_files, truth, predictions, tmp_path):
    fold = truth.folds[0]
    wrong = {
        unit(1, "a"): (fold.ids[:-1], fold.profile[:-1], GENES, "(--allow-missing scores the others and counts these)"),
        unit(1, "b"): ((*fold.ids, "TP53~W1C"), np.vstack([fold.profile, fold.profile[:1]]), GENES, "unexpected"),
        unit(1, "c"): (fold.ids, np.where(np.arange(G) == 3, np.nan, fold.profile), GENES, "not finite"),
        unit(1, "d"): (fold.ids, fold.profile[:, 1:], GENES[1:], "1 of 150 genes are missing"),
    }
    paths = [write_prediction(tmp_path / f"{n}.predictions.h5ad", *parts[:3]) for n, parts in wrong.items()]
    good = predictions[unit(1, "no_change")]
    assert world.score(truth_files, [*paths, good], tmp_path / "out" / "x.scores.parquet") == 0
    assert set(read_scores(tmp_path / "out" / "x.scores.parquet").model) == {"no_change", "shuffled_labels:no_change"}
    for name, parts in wrong.items():
        status = json.loads((tmp_path / "out" / f"{name}.score.status.json").read_text())
        assert status["state"] == "failed"
        assert parts[3] in status["reason"]
    with pytest.raises(ModelError, match="no unit could be scored"):
        world.score(truth_files, paths[:1], tmp_path / "out" / "y.scores.parquet")
    world.score(truth_files, paths[:1], tmp_path / "out" / "z.scores.parquet", "--allow-missing")
    table = read_scores(tmp_path / "out" / "z.scores.parquet")
    missing = table[(table.model == "a") & (table.perturbation == fold.ids[-1])]
    assert len(missing) > 10
    assert set(missing.status) <= {"missing_pred", *contract.TRUTH_REASONS}
    assert missing.value.dropna().empty


def test_gene_order_and_cell_order_of_a_prediction_do_not_matter(world, truth_files, truth, tmp_path):
    fold = truth.folds[0]
    rng = np.random.default_rng(0)
    matrix = (fold.profile + rng.normal(0, 0.1, fold.profile.shape)).astype(np.float32)
    tables = []
    for i in range(2):
        rows, columns = (np.arange(len(fold.ids)), np.arange(G)) if i == 0 else (rng.permutation(4), rng.permutation(G))
        folder = tmp_path / str(i)
        folder.mkdir()
        path = write_prediction(folder / f"{unit(1, 'm')}.predictions.h5ad", np.array(fold.ids)[rows],
                                matrix[np.ix_(rows, columns)], np.array(GENES)[columns])  # fmt: skip
        world.score(truth_files, [path], folder / "x.scores.parquet")
        tables.append((folder / "x.scores.parquet").read_bytes())
    assert tables[0] == tables[1]


def test_bench_compat_needs_its_truth(world, truth_files, predictions, tmp_path):
    with pytest.raises(InputError, match=r"found gears_ttest; expected readme_wilcoxon"):
        world.score(truth_files, list(predictions.values())[:1], tmp_path / "x.parquet",
                    "--bench-compat-de-list", "readme_wilcoxon")  # fmt: skip


def test_scoring_is_light():
    import subprocess
    import sys

    code = ("import sys; import vcbench.metrics.score, vcbench.stats.aggregate, anndata; "
            "print([m for m in ('illico', 'sklearn', 'scanpy', 'torch') if m in sys.modules])")  # fmt: skip
    folder = Path(score.__file__).resolve().parents[2]
    out = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# ---------------------------------------------------------------------------------------------------------------------
# Aggregate


def board(tables, model, metric, gene_set, encoder=None):
    found = tables["leaderboard"]
    found = found[(found.model == model) & (found.metric == metric) & (found.gene_set == gene_set)]
    return found[found.encoder == encoder].iloc[0] if encoder else found.iloc[0]


def test_every_planned_combination_has_every_metric(tables):
    found = tables["leaderboard"]
    combinations = {("no_change", "none"), ("train_mean", "none"), ("nearest", "onehot"), ("nearest", "random"),
                    ("sclambda", "esm2_650m"), ("gears", "esm2_650m")}  # fmt: skip
    assert set(zip(found.model, found.encoder, strict=True)) == combinations
    assert len(found) == len(combinations) * len(registry.reported(METRICS))
    assert not found.duplicated(["model", "encoder", "strategy", "metric", "gene_set"]).any()


def test_values_are_means_over_perturbations_with_seeds_averaged(tables, scored):
    table = values(read_scores(scored), "sclambda", "c_acc", "expr_nt")
    expected = table.groupby("perturbation").value.mean()
    row = board(tables, "sclambda", "c_acc", "expr_nt")
    assert row.value == pytest.approx(expected.mean(), abs=1e-9)
    assert (row.n, row.n_expected, row.n_seeds, row.n_clusters) == (K, K, 2, 6)
    assert row.interval == "t_approximate"
    assert row["sd"] == pytest.approx(expected.std(ddof=1), abs=1e-9)
    per_seed = table.groupby("seed").value.mean()
    assert row.seed_sd == pytest.approx(per_seed.std(ddof=1), abs=1e-9)


def test_ratios_of_sums(tables, scored):
    table = read_scores(scored)
    top, bottom = (values(table, "nearest", f"nmse_ctrl_{part}", "expr_nt") for part in ("num", "den"))
    top, bottom = (part[part.encoder == "onehot"].value.sum() for part in (top, bottom))
    assert board(tables, "nearest", "nmse_ctrl", "expr_nt", "onehot").value == pytest.approx(top / bottom, abs=1e-9)


def test_gene_wise_values_are_those_of_score(tables, scored):
    table = read_scores(scored)
    rows = table[(table.model == "sclambda") & (table.metric == "gw_pearson_wf")]
    row = board(tables, "sclambda", "gw_pearson_wf", "eligible")
    assert row.value == pytest.approx(rows.value.mean(), abs=1e-9)
    assert row.ci_low < row.value < row.ci_high


def test_median_and_spread_of_gene_wise_metrics_are_over_genes(tables, truth):
    found = pd.read_parquet(tables["folder"] / "genes.parquet")
    of_model = found[(found.model == "sclambda") & (found.status == "ok")]
    assert set(of_model.gene) == set(truth.genes[truth.eligible])
    for metric in ("gw_pearson_wf", "gw_nmse", "gw_mse"):
        row = board(tables, "sclambda", metric, "eligible")
        per_gene = of_model[of_model.metric == metric].groupby("gene", observed=True).value.mean().astype(float)
        assert row.value == pytest.approx(per_gene.mean(), rel=1e-6)
        assert row["median"] == pytest.approx(per_gene.median(), rel=1e-6)
        assert row.sd == pytest.approx(per_gene.std(), rel=1e-5)
    assert np.isnan(board(tables, "train_mean", "gw_pearson_wf", "eligible")["median"])
    flat = found[(found.model == "train_mean") & (found.metric == "gw_pearson_wf")]
    assert set(flat.status) == {"const_pred"}
    truth_rows = found[found.model == "truth"]
    assert truth_rows.groupby("metric", observed=True).size().to_dict() == dict.fromkeys(
        ("gene_ceiling", "gene_noise", "gene_reliability", "gene_variance"), G
    )
    reliability = truth_rows[truth_rows.metric == "gene_reliability"].set_index("gene").value
    assert set(reliability.index[reliability > 0]) == set(truth.genes[truth.eligible])


def test_undefined_predictions_take_the_no_skill_value(tables):
    row = board(tables, "train_mean", "dpearson_pm", "expr_nt")
    assert np.isnan(row.value)
    assert (row.value_imputed, row.n, row.n_nan, row.reasons) == (0, 0, K, f"const_pred:{K}")
    assert board(tables, "train_mean", "gw_pearson_wf", "eligible").value_imputed == 0
    assert board(tables, "no_change", "gw_pearson_wf", "eligible").reasons == f"const_pred:{K}"


def test_a_crashed_model_keeps_its_rows(tables):
    row = board(tables, "gears", "mse", "de20_nt")
    assert np.isnan(row.value)
    assert (row.n, row.n_expected, row.units_ok, row.units_planned) == (0, K, 0, 3)
    assert "not_scored" in row.reasons
    states = {r["unit"]: (r["state"], r["stage"], r["reason"]) for r in tables["plan"]}
    assert all(states[name] == ("failed", "TRAIN", "out of memory (exit 137)") for name in GEARS)
    assert sum(state[0] == "ok" for state in states.values()) == 18
    contrast = tables["contrasts"]
    contrast = contrast[contrast.model == "gears"]
    assert (contrast.n == 0).all()
    assert contrast.p.isna().all()


def test_ceiling_and_null_stand_beside_every_value(tables, truth_files):
    reference = read_scores(truth_files[0].parent / "tp53.variant.reference.scores.parquet")
    half = values(reference, "tech_duplicate", "dpearson_ctrl", "expr_nt").value.mean()
    row = board(tables, "sclambda", "dpearson_ctrl", "expr_nt")
    assert row.ceiling == pytest.approx(half, abs=1e-9)
    assert row.ceiling_full == pytest.approx(2 * half / (1 + half), abs=1e-9)
    assert board(tables, "sclambda", "mse", "de20_nt").ceiling_full == pytest.approx(
        board(tables, "sclambda", "mse", "de20_nt").ceiling / 2
    )
    found = tables["leaderboard"]
    scored_rows = found[(found.units_ok > 0) & found.value.notna()]
    crossed = scored_rows.gene_set.str.endswith("_xfit")
    assert crossed.any() and scored_rows.ceiling[crossed].isna().all()  # the half that would predict chose the genes
    assert scored_rows.ceiling[~crossed].notna().all()
    assert scored_rows.null_mean.notna().all()
    assert (scored_rows.null_low <= scored_rows.null_high).all()


def test_best_baseline_is_informative_and_best(tables):
    contrasts = tables["contrasts"]
    rows = contrasts[(contrasts.metric == "dpearson_pm") & (contrasts.gene_set == "expr_nt")]
    best = rows[rows.reference == "best_baseline"]
    # nearest on random vectors scores best, but says nothing about the variant
    assert set(zip(best.reference_model, best.reference_encoder, strict=True)) == {("nearest", "onehot")}
    assert len(best) == 5
    assert set(rows[rows.reference == "train_mean"].reference_model) == {"train_mean"}
    winner = best[best.model == "sclambda"].iloc[0]
    assert winner.difference == pytest.approx(
        board(tables, "sclambda", "dpearson_pm", "expr_nt").value
        - board(tables, "nearest", "dpearson_pm", "expr_nt", "onehot").value
    )
    # six residues: no p value below 2/2^6, and Holm over the combinations that were scored
    assert winner.p == pytest.approx(2 / 2**6)
    assert winner.p_holm == pytest.approx(4 * 2 / 2**6)
    assert (
        winner.verdict == "unresolved"
    )  # so few residues cannot carry a corrected claim, however large the difference
    error = contrasts[(contrasts.metric == "nmse_ctrl") & (contrasts.reference == "best_baseline")]
    assert error[error.model == "sclambda"].difference.item() < 0


def test_one_failed_fold_takes_the_no_skill_value(world, truth_files, predictions, tmp_path):
    wanted = [name for name in predictions if ".no_change." in name or (".sclambda." in name and name.endswith("s0"))]
    lost = unit(2, "sclambda", "esm2_650m", "alt")
    world.score(truth_files, [predictions[n] for n in wanted if n != lost], tmp_path / "x.scores.parquet")
    reference = truth_files[0].parent / "tp53.variant.reference.scores.parquet"
    run_aggregate(world, tmp_path / "tables", [tmp_path / "x.scores.parquet", reference], plan_rows(wanted))
    found = pd.read_csv(tmp_path / "tables" / "leaderboard.tsv", sep="\t")
    row = found[(found.model == "sclambda") & (found.metric == "c_acc")].iloc[0]
    assert (row.n, row.n_expected, row.reasons) == (8, K, "not_scored:4")
    assert row.value_imputed == pytest.approx((8 * row.value + 4 * 0.5) / 12, abs=1e-9)
    gene_wise = found[(found.model == "sclambda") & (found.metric == "gw_nmse")].iloc[0]
    assert gene_wise.value_imputed == pytest.approx((8 * gene_wise.value + 4) / 12, abs=1e-9)
    states = {row["unit"]: row["state"] for row in read_tsv(tmp_path / "tables" / "plan.tsv")}
    assert states[lost] == "missing"


def test_intervals_stay_within_the_range_of_the_metric(tables):
    found = tables["leaderboard"]
    for metric in METRICS.values():
        low, high = metric.range
        rows = found[(found.metric == metric.id) & found.ci_low.notna()]
        assert low is None or (rows.ci_low >= low).all()
        assert high is None or (rows.ci_high <= high).all()
    assert (found[found.metric == "c_acc_ctrl"].ci_low == 0).any()  # some interval was cut


def test_gene_perturbations_have_several_targets_and_clusters_by_gene(tmp_path):
    rows = [
        {"perturbation": "CBL+CNN1", "gene": "CBL;CNN1", "pos": ""},
        {"perturbation": "CBL", "gene": "CBL", "pos": ""},
    ]
    rows.append({"perturbation": "TP53~R175H", "gene": "TP53", "pos": "175"})
    path = tmp_path / "mixed.perturbations.tsv"
    write_tsv(path, rows, ("perturbation", "gene", "pos"))
    assert truth_cli.read_targets(path)["CBL+CNN1"] == ("CBL", "CNN1")
    assert aggregate.read_clusters([path]) == {
        "mixed": {"CBL+CNN1": "CBL;CNN1", "CBL": "CBL", "TP53~R175H": "TP53 175"}
    }


def test_verdicts_follow_the_direction_of_the_metric():
    for metric, difference, expected in (("c_acc", 0.1, "better"), ("mse", 0.1, "worse"), ("mse", -0.1, "better")):
        row = {"p_holm": 0.049, "difference": difference, "n_references": 1}
        assert contrast_table.verdict(row, METRICS[metric]) == expected
        assert contrast_table.verdict({**row, "p_holm": 0.05}, METRICS[metric]) == "unresolved"
        assert contrast_table.verdict({**row, "p_holm": np.nan}, METRICS[metric]) == "unresolved"


def test_rounding_noise_between_models_is_no_difference(world, truth_files, predictions, tmp_path):
    """A model equal to the train mean but for single precision does not beat or lose to it."""
    names = [name for name in predictions if ".train_mean." in name]
    paths, rows = [predictions[name] for name in names], plan_rows(names)
    for name, path in zip(names, paths.copy(), strict=True):
        data = ad.read_h5ad(path)
        data.X = np.nextafter(data.X, np.float32(9))
        copy = name.replace("train_mean", "copy")
        data.write_h5ad(tmp_path / f"{copy}.predictions.h5ad")
        paths.append(tmp_path / f"{copy}.predictions.h5ad")
        rows += plan_rows([copy])
    world.score(truth_files, paths, tmp_path / "x.scores.parquet")
    reference = truth_files[0].parent / "tp53.variant.reference.scores.parquet"
    run_aggregate(world, tmp_path / "tables", [tmp_path / "x.scores.parquet", reference], rows)
    found = pd.read_csv(tmp_path / "tables" / "contrasts.tsv", sep="\t")
    assert len(found) > 10
    assert (found.p.dropna() == 1).all()
    assert (found.difference.dropna() == 0).all()


def test_nothing_at_all_was_scored(world, tmp_path):
    run_aggregate(world, tmp_path / "tables", [], plan_rows(GEARS), DIED)
    found = pd.read_csv(tmp_path / "tables" / "leaderboard.tsv", sep="\t")
    assert found.value.isna().all()
    wanted = registry.reported(registry.chosen(METRICS, []))
    assert len(found) == sum(gene_set not in registry.OPTIONAL_SETS for _, gene_set in wanted)
    assert {row["state"] for row in read_tsv(tmp_path / "tables" / "plan.tsv")} == {"failed"}


def test_scores_without_their_reference_table_are_said(world, scored, predictions, tmp_path, caplog):
    run_aggregate(world, tmp_path / "tables", [scored], plan_rows(predictions))
    assert "scores without their reference table, tp53.variant.reference.scores.parquet" in caplog.text


def test_doubled_and_unplanned_scores_are_errors(world, scored, predictions, tmp_path):
    with pytest.raises(InputError, match="score rows given twice"):
        run_aggregate(world, tmp_path / "a" / "tables", [scored, scored], plan_rows(predictions))
    fewer = [name for name in predictions if ".sclambda." not in name]
    with pytest.raises(InputError, match="not in the plan"):
        run_aggregate(world, tmp_path / "b" / "tables", [scored], plan_rows(fewer))


def test_tables_do_not_depend_on_the_order_of_anything(world, predictions, tables, tmp_path):
    rng = np.random.default_rng(8)
    order = rng.permutation(world.cells.n_obs)
    h5ad.write(world.cells[order].copy(), tmp_path / "tp53.h5ad", {"target_sum": 300.0})
    truth_files = world.truth(tmp_path / "truth", dataset=tmp_path / "tp53.h5ad")
    names = rng.permutation(list(predictions)).tolist()
    model = [name for name in names if ".sclambda." in name]
    batches = [model, [name for name in names if name not in model]]
    for i, batch in enumerate(batches):
        world.score(truth_files, [predictions[n] for n in batch], tmp_path / f"{i}.scores.parquet")
    reference = truth_files[0].parent / "tp53.variant.reference.scores.parquet"
    scores = [reference, tmp_path / "1.scores.parquet", tmp_path / "0.scores.parquet"]
    run_aggregate(world, tmp_path / "tables", scores, plan_rows(names[::-1], GEARS[::-1]), DIED[::-1])
    for name in ("leaderboard.tsv", "contrasts.tsv", "plan.tsv", "scores.parquet", "genes.parquet"):
        assert (tmp_path / "tables" / name).read_bytes() == (tables["folder"] / name).read_bytes(), name


def test_a_dataset_that_stays_on_disk_has_the_same_truth(world, truth_files, tmp_path, monkeypatch):
    small = functools.partial(truth_cli.BlockReader, values_per_block=3000)
    monkeypatch.setattr(truth_cli, "BlockReader", small)
    monkeypatch.setattr(truth_cli, "VALUES_IN_MEMORY", 0)
    monkeypatch.setattr("vcbench.metrics.profiles.VALUES_TOGETHER", 20_000)
    monkeypatch.setattr("vcbench.metrics.de.VALUES_PER_BATCH", 20_000)
    cells = truth_cli.read_cells(world.folder / "tp53.h5ad")[0].expression
    assert len(list(cells.blocks())) > 10
    world.truth(tmp_path)
    tables = ("tp53.variant.de.parquet", "tp53.variant.reference.scores.parquet")
    for name in tables:
        assert (tmp_path / name).read_bytes() == (truth_files[0].parent / name).read_bytes(), name
    one, two = (
        bundle.read(folder / "tp53.variant.truth.h5ad", folder / tables[0])
        for folder in (tmp_path, truth_files[0].parent)
    )
    for name in ("lowest", "highest", "sd"):
        for found, expected in zip(one.folds, two.folds, strict=True):
            np.testing.assert_array_equal(getattr(found.extras.spread, name), getattr(expected.extras.spread, name))


def test_another_seed_changes_nulls_not_values(world, truth_files, predictions, scored, tmp_path):
    arguments = ["--truth", truth_files[0], "--de", truth_files[1], "--predictions", *predictions.values(),
                 "--seed", "4", "--out", tmp_path / "x.parquet"]  # fmt: skip
    score.main([str(item) for item in arguments])
    keys = list(scoring.KEYS)
    both = read_scores(scored).merge(read_scores(tmp_path / "x.parquet"), on=keys, suffixes=("_a", "_b"))
    null = both.model.map(contract.is_evaluator)
    pd.testing.assert_series_equal(both.value_a[~null], both.value_b[~null], check_names=False)
    assert (both.value_a[null] != both.value_b[null]).mean() > 0.3


# ---------------------------------------------------------------------------------------------------------------------
# The tool for users


@pytest.fixture
def files(world, tmp_path):
    cells = world.cells
    labels, half = cells.obs["perturbation"].to_numpy(), cells.obs["control_half"].to_numpy()
    test = set(NAMES[::3] + NAMES[1::3])
    parts = {
        "truth": np.isin(labels, list(test)) | (half == "A"),
        "train": ~np.isin(labels, list(test)) & (half != "A"),
    }
    for name, keep in parts.items():
        part = ad.AnnData(X=cells.X[keep], obs=cells.obs.loc[keep, ["perturbation"]].copy(), var=cells.var.copy())
        part.write_h5ad(tmp_path / f"{name}.h5ad")
    x = cells.X.toarray().astype(np.float64)
    mean = np.mean([x[labels == name].mean(0) for name in NAMES if name not in test], axis=0)
    ids = sorted(test)
    rng = np.random.default_rng(0)
    good = np.stack([0.5 * x[labels == name].mean(0) + 0.5 * mean for name in ids]) + rng.normal(0, 0.02, (len(ids), G))
    write_prediction(tmp_path / "mine.h5ad", ids, good)
    return tmp_path


def run_evaluate(folder, *extra):
    arguments = ["--truth", folder / "truth.h5ad", "--train", folder / "train.h5ad",
                 "--predictions", folder / "mine.h5ad", "--out", folder / "out", *extra]  # fmt: skip
    evaluate.main([str(item) for item in arguments])
    return pd.read_csv(folder / "out" / "summary.tsv", sep="\t").set_index(["metric", "gene_set"])


def test_evaluate_scores_any_prediction_beside_the_baselines(files):
    found = run_evaluate(files, "--bench-compat", "--metrics", "extended")
    assert found.index.is_unique
    assert list(found.columns[:3]) == ["value", "n", "status"]
    row = found.loc["dpearson_pm", "expr_nt"]
    assert (row.n, row.status) == (8, "ok")
    assert row.value > 0.8
    assert np.isnan(row.train_mean)
    assert found.loc["nmse_ctrl", "expr_nt"].no_change == pytest.approx(1, abs=0.15)
    assert found.loc["nmse_ctrl", "expr_nt"].value < found.loc["nmse_ctrl", "expr_nt"].train_mean
    assert found.loc["gw_nmse", "eligible"].n == 8
    assert "bench_compat_auprc" in found.index.get_level_values(0)
    table = read_scores(files / "out" / "scores.parquet")
    assert {"predictions", "train_mean", "no_change", "tech_duplicate"} <= set(table.model)
    header = json.loads(pq.read_schema(files / "out" / "scores.parquet").metadata[b"vcbench"])
    assert header["n_genes"] == G
    assert header["target_sum"] == pytest.approx(300, rel=1e-5)  # estimated from the cells
    by_gene = pd.read_parquet(files / "out" / "genes.parquet")
    assert {"predictions", "train_mean", "truth"} == set(by_gene.model) & {"predictions", "train_mean", "truth"}
    of_mine = by_gene[(by_gene.model == "predictions") & (by_gene.metric == "gw_nmse")].value.astype(float)
    board = pd.read_csv(files / "out" / "leaderboard.tsv", sep="\t")
    mine = board[(board.model == "predictions") & (board.metric == "gw_nmse")].iloc[0]
    assert [mine.value, mine["median"]] == pytest.approx([of_mine.mean(), of_mine.median()], rel=1e-6)


def test_evaluate_uses_common_genes_by_name(files):
    full = ad.read_h5ad(files / "mine.h5ad")
    full[:, GENES[::-1][:100]].copy().write_h5ad(files / "mine.h5ad")
    run_evaluate(files)
    header = json.loads(pq.read_schema(files / "out" / "scores.parquet").metadata[b"vcbench"])
    assert header["n_genes"] == 100


def change(path, **columns):
    data = ad.read_h5ad(path)
    for name, value in columns.items():
        if name == "x":
            data.X = value(data.X)
        else:
            data.obs[name] = value(data.obs[name].astype(str))
    data.write_h5ad(path)


BAD = {
    "no file": ("mine.h5ad", lambda path: path.unlink(), "file not found"),
    "not h5ad": ("truth.h5ad", lambda path: path.write_text("hello"), "not a readable h5ad file"),
    "no labels": ("train.h5ad", lambda path: rename_label(path), "missing obs column"),
    "counts": ("truth.h5ad", lambda path: change(path, x=lambda x: x * 100), "are these raw counts"),
    "negative": ("truth.h5ad", lambda path: change(path, x=lambda x: x * -1), "negative values"),
    "no control": (
        "truth.h5ad",
        lambda path: change(path, perturbation=lambda s: s.replace("control", "ctrl")),
        "no control cells",
    ),
    "leak": (
        "train.h5ad",
        lambda path: change(path, perturbation=lambda s: s.replace(NAMES[2], NAMES[0])),
        "perturbation in both files",
    ),
    "missing": (
        "mine.h5ad",
        lambda path: change(path, perturbation=lambda s: s.replace(NAMES[0], "TP53~W1C")),
        "missing",
    ),
}


def rename_label(path):
    data = ad.read_h5ad(path)
    data.obs = data.obs.rename(columns={"perturbation": "condition"})
    data.write_h5ad(path)


@pytest.mark.parametrize("case", BAD)
def test_evaluate_explains_bad_input_in_one_line(files, case):
    name, spoil, message = BAD[case]
    spoil(files / name)
    with pytest.raises((InputError, ModelError)) as error:
        run_evaluate(files)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert name in str(error.value) or case == "leak"


def test_evaluate_refuses_shared_controls(files, world):
    truth, train = (ad.read_h5ad(files / f"{name}.h5ad") for name in ("truth", "train"))
    labels = train.obs["perturbation"].to_numpy()
    ad.concat([truth, train[labels == "control"][:5]], merge="same").write_h5ad(files / "truth.h5ad")
    with pytest.raises(InputError, match="5 control cells are in both files"):
        run_evaluate(files)


# ---------------------------------------------------------------------------------------------------------------------
# Catalogue


def test_documentation_is_current(project):
    assert (project / "docs" / "metrics.md").read_text() == docs.page(), (
        "run: python -m vcbench.metrics.docs > docs/metrics.md"
    )


def test_catalogue_holds_the_declared_columns():
    from vcbench.core import catalogue

    columns = {metric.column(s) for metric in METRICS.values() for s in metric.gene_sets}
    assert {"mse__de20_nt", "nmse_ctrl__expr_nt", "pearson__de20_nt", "dpearson_ctrl__de20_nt", "dpearson_pm__de20_nt",
            "c_acc__expr_nt", "c_acc_ctrl__expr_nt", "gw_pearson_wf", "gw_nmse", "ap_de__expr_nt",
            "ap_de_lift__expr_nt", "dpearson_pm__expr_nt", "r2w_delta__all", "dpearson_ctrl__expr_nt",
            "bench_compat_mse_cw_de",
            "bench_compat_pcc_cw_de", "bench_compat_dpcc_cw_de", "bench_compat_dspcc_cw_de", "bench_compat_c_acc",
            "bench_compat_pcc_gw", "bench_compat_mse_gw", "bench_compat_auprc"} <= columns  # fmt: skip
    groups = catalogue.load("metrics")["groups"]
    assert all(name in METRICS for names in groups.values() for name in names)
    for metric in METRICS.values():
        assert metric.direction in ("higher", "lower", "target 1", "none")
        assert set(metric.headline) <= set(metric.gene_sets)
        assert set(metric.undefined) <= {*contract.PREDICTION_REASONS, *contract.TRUTH_REASONS}
        for term in (metric.numerator, metric.denominator, metric.jackknife):
            assert not term or METRICS[term].level == "term"


def test_undefined_statuses_are_those_of_the_catalogue(scored):
    table = read_scores(scored)
    table = table[table.value.isna() & (table.perturbation != "") & ~table.model.map(contract.is_evaluator)]
    for (metric, status), _ in table.groupby(["metric", "status"]):
        assert status in METRICS[metric].undefined, (metric, status)
