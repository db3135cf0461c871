"""Values of level `gene` (metrics.md 2.1, 2.8, 10.5) against formulas gene by gene and the metrics they are behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
import toy

from vcbench.core.errors import InputError
from vcbench.metrics import bundle, ceilings, gene_values, registry, scoring
from vcbench.metrics.comparison import Predicted
from vcbench.stats import genes

K, G = 14, 40


@pytest.fixture(scope="module")
def world(make_fold):
    """Two folds of 14 perturbations on 40 genes: gene 3 does not vary, 30 genes are eligible."""
    rng = np.random.default_rng(5)
    folds = []
    for number in (1, 2):
        profile = rng.gamma(3, 1, G) + rng.normal(0, 0.5, (K, G))
        profile[:, 3] = 1.5 + number  # folds differ, perturbations do not
        folds.append(make_fold(profile, fold=number, variance=rng.uniform(0.01, 0.1, (K, G)),
                               ids=tuple(f"TP53~A{100 * number + i}V" for i in range(K))))  # fmt: skip
    eligible = np.arange(G) < 30
    folds = tuple(replace(fold, eligible=eligible) for fold in folds)
    reliability = np.where(eligible, rng.random(G), -0.1)
    names = np.array([f"gene{i:02d}" for i in rng.permutation(G)], dtype=object)
    facts = {"dataset": "d", "split": "s", "seed": 0}
    return bundle.TruthBundle(names, folds, reliability, eligible, facts)


def predict(world, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    made = {}
    for fold in world.folds:
        mean = fold.train_mean + 0.5 * fold.profile + rng.normal(0, noise, fold.profile.shape)
        mean[:, 7] = 2.0  # a gene that the model never changes
        made[fold.fold] = Predicted(mean, np.zeros_like(mean), np.ones(K, dtype=int))
    return made


def by_metric(world, predictions):
    return {one.metric: one for one in gene_values.of_model(world, predictions, "m", "e", "alt", 0)}


def test_each_gene_against_its_formula(world):
    predictions = predict(world)
    found = by_metric(world, predictions)
    for metric, one in found.items():
        assert one.n_perturbations == 2 * K
        assert one.genes.tolist() == sorted(world.genes[:30])
        for name, value, status in zip(one.genes, one.values, one.status, strict=True):
            g = world.genes.tolist().index(name)
            sides = [(fold.profile[:, g], predictions[fold.fold].mean[:, g]) for fold in world.folds]
            t, p = (np.concatenate([side[i] for side in sides]) for i in (0, 1))
            t_own, p_own = (np.concatenate([side[i] - side[i].mean() for side in sides]) for i in (0, 1))
            if metric == "gw_pearson_wf" and g in (3, 7):
                assert np.isnan(value)
                assert status == {3: "const_true", 7: "const_pred"}[g]
                continue
            expected = {
                "gw_mse": lambda t=t, p=p: ((t - p) ** 2).mean(),
                "gw_nmse": lambda t=t, p=p: ((t - p) ** 2).mean() / t.var(),
                "gw_pearson_wf": lambda t=t_own, p=p_own: scipy.stats.pearsonr(t, p)[0],
            }[metric]()
            assert value == pytest.approx(expected, abs=1e-10), (metric, name)
            assert status == "ok"


@pytest.mark.parametrize("case", ["all", "missing", "few", "constant", "no fold"])
def test_their_mean_is_the_score(world, case):
    predictions = predict(world)
    if case in ("missing", "few"):
        for p in predictions.values():
            p.mean[slice(2) if case == "missing" else slice(3, None)] = np.nan
            p.n_cells[slice(2) if case == "missing" else slice(3, None)] = 0
    if case == "constant":
        for p in predictions.values():
            p.mean[:] = p.mean[0]
    if case == "no fold":
        del predictions[2]
    rows = scoring.Rows("d", "s", "m", "e", "alt")
    metrics = {name: metric for name, metric in registry.load().items() if name in gene_values.METRICS}
    scoring.score_combination(world, predictions, metrics, rows, 0, nulls=False)
    for metric, one in by_metric(world, predictions).items():
        values = [row for row in rows.rows if row[8] == metric]
        score = np.array([row[10] for row in values])
        # gw_mse is scored perturbation by perturbation, the others over all of them
        score = np.nanmean(score) if (~np.isnan(score)).any() else np.nan
        known = one.values[~np.isnan(one.values)]
        assert (known.mean() if len(known) else np.nan) == pytest.approx(score, abs=1e-12, nan_ok=True), metric
        stored = gene_values.to_table("d", "s", [one]).column("value").to_numpy().astype(float)
        if len(known):
            assert np.nanmean(stored) == pytest.approx(score, rel=1e-6)
        status = set(one.status)
        expected = {"all": {"ok"}, "missing": {"missing_pred"}, "few": {"missing_pred"}, "no fold": {"missing_pred"}}
        if metric == "gw_mse":
            assert status == expected.get(case, {"ok"})
        elif case == "constant" and metric == "gw_pearson_wf":
            assert status == {"const_pred", "const_true"}
        elif case == "few":
            assert not len(known)
            # a gene that the truth leaves undefined is so whatever was predicted
            assert status <= {"missing_pred", "const_true"}


def test_what_the_truth_allows(world):
    few = replace(world, folds=tuple(replace(f, n_cells=np.where(np.arange(K) < 3, 50, 5)) for f in world.folds))
    found = by_metric(few, predict(few))
    assert set(found["gw_mse"].status) == {"ok"}
    assert found["gw_mse"].n_perturbations == 6
    assert set(found["gw_nmse"].status) == {"single_pert"}
    nothing = replace(world, folds=tuple(replace(f, n_cells=np.full(K, 5)) for f in world.folds))
    assert {str(s) for one in by_metric(nothing, predict(world)).values() for s in one.status} == {"few_cells"}
    assert {
        str(s) for one in gene_values.of_truth(nothing) if one.metric != "gene_reliability" for s in one.status
    } == {"single_pert"}


def test_ceiling_of_a_gene_is_its_share_of_variance_without_noise(make_fold):
    """Simulated: between-perturbation variance 0.5, sampling variance 0.25 -> 2/3, whatever the shift between folds."""
    rng = np.random.default_rng(2)
    n, g = 3, 4000
    folds = tuple(
        make_fold(rng.normal(5 * number, np.sqrt(0.75), (n, g)), fold=number, variance=np.full((n, g), 0.25))
        for number in range(1, 9)
    )
    names = np.array([f"g{i:04d}" for i in range(g)], dtype=object)
    truth = bundle.TruthBundle(names, folds, np.full(g, 0.4), np.ones(g, dtype=bool), {"dataset": "d", "split": "s"})
    found = {one.metric: one for one in gene_values.of_truth(truth)}
    assert found["gene_variance"].values.mean() == pytest.approx(0.75, abs=0.01)
    assert found["gene_noise"].values == pytest.approx(0.25)
    assert 1 - 0.25 / found["gene_variance"].values == pytest.approx(found["gene_ceiling"].values)
    assert np.median(found["gene_ceiling"].values) == pytest.approx(2 / 3, abs=0.02)
    assert found["gene_reliability"].values == pytest.approx(0.4)
    assert {(one.model, one.n_perturbations) for one in found.values()} == {("truth", 24)}
    cut = np.maximum(found["gene_ceiling"].values, 0).mean()
    assert cut == pytest.approx(ceilings.genewise_reliability(truth), abs=1e-12)


def test_files_of_models_and_truth_join_in_any_order(world, tmp_path):
    models = [
        one for seed in (0, 1) for one in gene_values.of_model(world, predict(world, seed=seed), "m", "e", "alt", seed)
    ]
    parts = {"a": gene_values.of_truth(world), "b": models}
    for name, found in parts.items():
        gene_values.write(gene_values.to_table("d", "s", found), tmp_path / f"{name}.genes.parquet")
        gene_values.write(gene_values.to_table("d", "s", found), tmp_path / f"z{name}.other.parquet")
    one = genes.read([tmp_path / "a.genes.parquet", tmp_path / "b.genes.parquet"])
    # the same parts under names that sort the other way round
    (tmp_path / "za.other.parquet").rename(tmp_path / "zz.parquet")
    other = genes.read([tmp_path / "zz.parquet", tmp_path / "zb.other.parquet"])
    for table, name in ((one, "one"), (other, "other")):
        gene_values.write(table, tmp_path / f"{name}.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "other.parquet").read_bytes()
    assert one.num_rows == 4 * G + 2 * 3 * 30
    frame = one.to_pandas()
    keys = frame[list(gene_values.KEYS)].astype({name: str for name in gene_values.KEYS if name != "seed"})
    assert keys.equals(keys.sort_values(list(gene_values.KEYS), ignore_index=True))

    of = {metric: np.mean([x.values for x in models if x.metric == metric], axis=0) for metric in gene_values.METRICS}
    for metric, (middle, spread) in ((m, v) for (m, _), v in genes.over_genes(one)["d", "s"].items()):
        known = of[metric][~np.isnan(of[metric])]
        assert middle == pytest.approx(np.median(known), rel=1e-6)
        assert spread == pytest.approx(np.std(known, ddof=1), rel=1e-5)
    assert set(genes.over_genes(one)["d", "s"]) == {(m, ("m", "e", "alt")) for m in gene_values.METRICS}

    with pytest.raises(InputError, match="given twice"):
        genes.read([tmp_path / "one.parquet", tmp_path / "b.genes.parquet"])
    pq.write_table(pa.table({"gene": ["a"]}), tmp_path / "wrong.parquet")
    with pytest.raises(InputError, match="not a table of genes"):
        genes.read([tmp_path / "wrong.parquet"])
    assert genes.read([]).num_rows == 0
    assert genes.over_genes(genes.read([])) == {}


def test_every_gene_wise_metric_of_the_catalogue_has_values_by_gene():
    eligible = {m.id for m in toy.METRICS.values() if m.gene_sets == ("eligible",) and m.level != "term"}
    assert set(gene_values.METRICS) == {name for name in eligible if name.startswith("gw_")}
