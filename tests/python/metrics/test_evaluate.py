"""vcb_evaluate on any files: forms of storage, missing and extra perturbations, compat lists, reproducibility."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from scipy import stats

from vcbench.core import blocks
from vcbench.core.errors import InputError
from vcbench.metrics import de, evaluate, profiles, scoring

G, CELLS, CONTROLS = 90, 40, 60
GENES = ["TP53", *(f"gene{i:03d}" for i in range(1, G))]
TEST = [f"TP53~A{100 + i}V" for i in range(10)]
TRAIN = [f"TP53~R{200 + i}H" for i in range(6)]
NAMES = ("truth", "train", "predictions")


def save(path: Path, x, labels, names, genes=GENES, uns=None) -> None:
    obs = pd.DataFrame({"perturbation": pd.Categorical(labels)}, index=names)
    ad.AnnData(X=x, obs=obs, var=pd.DataFrame(index=list(genes)), uns=uns or {}).write_h5ad(path)


@pytest.fixture(scope="module")
def parts():
    """Dense cells and labels of the three files; the prediction consists of cells."""
    rng = np.random.default_rng(5)
    base = rng.gamma(1.0, 1.5, G) + 0.05
    shared = rng.normal(0, 0.8, G) * (rng.random(G) < 0.3)
    own = {name: rng.normal(0, 0.9, G) * (rng.random(G) < 0.25) for name in (*TEST, *TRAIN)}

    def cells(names, strength, controls):
        counts, labels = [rng.poisson(base, (controls, G))], ["control"] * controls
        for name in names:
            counts.append(rng.poisson(base * np.exp(strength * (shared + own[name])), (CELLS, G)))
            labels += [name] * CELLS
        found = np.concatenate(counts).astype(np.float64)
        return np.log1p(found / found.sum(1, keepdims=True) * 300).astype(np.float32), np.array(labels, dtype=object)

    return {
        "truth": cells(TEST, 1.0, CONTROLS),
        "train": cells(TRAIN, 1.0, CONTROLS),
        "predictions": cells(TEST, 0.6, 0),
    }


@pytest.fixture(scope="module")
def files(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    for name, (x, labels) in parts.items():
        save(folder / f"{name}.h5ad", sp.csr_matrix(x), labels, [f"{name}{i:05d}" for i in range(len(x))])
    return folder


def run(folder: Path, out: Path, *extra: object, **replaced: Path) -> Path:
    given = {name: replaced.get(name, folder / f"{name}.h5ad") for name in NAMES}
    options = [item for name, path in given.items() for item in (f"--{name}", path)]
    evaluate.main([str(item) for item in [*options, "--out", out, "--bootstrap", 200, *extra]])
    return out


def scores(out: Path) -> pd.DataFrame:
    return pq.read_table(out / "scores.parquet").to_pandas()


def summary(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "summary.tsv", sep="\t").set_index(["metric", "gene_set"])


@pytest.fixture(scope="module")
def base(files):
    return run(files, files / "out", "--bench-compat")


def assert_same(one: pd.DataFrame, other: pd.DataFrame, tolerance: float = 1e-12) -> None:
    keys = list(scoring.KEYS)
    pd.testing.assert_frame_equal(one.drop(columns="value"), other.drop(columns="value"))
    assert not one.duplicated(keys).any()
    a, b = one.value.to_numpy(), other.value.to_numpy()
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    assert np.nanmax(np.abs(a - b) / np.maximum(1, np.abs(a))) <= tolerance


# ---------------------------------------------------------------------------------------------------------------------
# Reproducibility and forms of storage


def test_two_runs_write_the_same_bytes_whatever_the_threads(files, base, tmp_path):
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=2):
        again = run(files, tmp_path / "again", "--bench-compat")
    assert_same(scores(base), scores(again))
    for name in ("summary.tsv", "evaluation.json"):
        assert (base / name).read_bytes() == (again / name).read_bytes()


def test_storage_and_order_of_rows_and_genes_change_nothing(parts, base, tmp_path, monkeypatch):
    """Dense and by columns, rows and genes shuffled per file, other genes in between, read in many small blocks."""
    rng = np.random.default_rng(1)
    form = {"truth": sp.csc_matrix, "train": np.asarray, "predictions": np.asarray}
    for name, (x, labels) in parts.items():
        genes = np.array([*GENES, f"only in {name}"])
        wide = np.column_stack([x, np.zeros(len(x), dtype=np.float32)])
        rows, columns = rng.permutation(len(x)), rng.permutation(G + 1)
        names = np.array([f"{name}{i:05d}" for i in range(len(x))])
        save(tmp_path / f"{name}.h5ad", form[name](wide[rows][:, columns]), labels[rows], names[rows], genes[columns])
    monkeypatch.setattr(blocks.BlockReader.__init__, "__defaults__", (1500,))
    monkeypatch.setattr(de, "VALUES_PER_BATCH", 5000)
    found = run(tmp_path, tmp_path / "out", "--bench-compat")
    assert_same(scores(base), scores(found))
    one, other = summary(base), summary(found)
    pd.testing.assert_frame_equal(one, other, atol=1e-9)
    record = json.loads((found / "evaluation.json").read_text())
    assert [record["inputs"][name]["genes_left_out"] for name in NAMES] == [1, 1, 1]
    assert record["n_genes"] == G


def test_pipeline_tables_do_not_depend_on_the_order_of_cells(parts, tmp_path):
    from vcbench.core import h5ad
    from vcbench.core.tables import write_tsv
    from vcbench.metrics import score, truth_cli

    x = np.concatenate([parts["truth"][0], parts["train"][0]])
    labels = np.concatenate([parts["truth"][1], parts["train"][1]])
    half = np.where(labels == "control", np.repeat(["A", "B"], [len(parts["truth"][1]), len(parts["train"][1])]), "")
    every = sorted([*TEST, *TRAIN])
    write_tsv(tmp_path / "tp53.perturbations.tsv", [{"perturbation": n, "gene": "TP53", "pos": n[6:-1]} for n in every],
              ("perturbation", "gene", "pos"))  # fmt: skip
    roles = [{"perturbation": n, "fold": 1, "role": "test" if n in TEST else "train", "reason": ""} for n in every]
    write_tsv(tmp_path / "folds.tsv", roles, ("perturbation", "fold", "role", "reason"))
    tables = []
    for number, generator in enumerate((None, np.random.default_rng(3))):
        folder = tmp_path / str(number)
        folder.mkdir()

        def order(n, generator=generator):
            return np.arange(n) if generator is None else generator.permutation(n)

        at = order(len(x))
        obs = pd.DataFrame({"perturbation": labels[at], "control_half": half[at]}, index=[f"c{i:05d}" for i in at])
        h5ad.write(ad.AnnData(sp.csr_matrix(x[at]), obs=obs, var=pd.DataFrame(index=GENES)), folder / "tp53.h5ad",
                   {"target_sum": 300.0})  # fmt: skip
        predicted, names = parts["predictions"]
        at = order(len(predicted))
        unit = folder / "tp53.variant.f1.mine.none.none.s0.predictions.h5ad"
        obs = pd.DataFrame({"perturbation": names[at]}, index=[f"p{i:05d}" for i in at])
        h5ad.write(ad.AnnData(predicted[at], obs=obs, var=pd.DataFrame(index=GENES)), unit, {})
        truth_cli.main([str(item) for item in (
            "--dataset", folder / "tp53.h5ad", "--perturbations", tmp_path / "tp53.perturbations.tsv", "--folds",
            tmp_path / "folds.tsv", "--dataset-id", "tp53", "--split", "variant", "--out-dir", folder)])  # fmt: skip
        score.main([str(item) for item in (
            "--truth", folder / "tp53.variant.truth.h5ad", "--de", folder / "tp53.variant.de.parquet",
            "--predictions", unit, "--out", folder / "x.parquet")])  # fmt: skip
        written = ("x.parquet", "tp53.variant.reference.scores.parquet", "tp53.variant.de.parquet")
        tables.append([pq.read_table(folder / name).to_pandas() for name in written])
    for one, other in zip(tables[0][:2], tables[1][:2], strict=True):
        assert_same(one, other)
    pd.testing.assert_frame_equal(tables[0][2], tables[1][2], rtol=1e-12, atol=1e-12)


def test_blocks_give_every_value_once(parts, tmp_path):
    x = parts["truth"][0]
    stored = sp.csr_matrix(x)
    stored.data[:3] = 0  # stored zeros are no values
    for name, form in (("csr", stored), ("csc", sp.csc_matrix(x)), ("dense", x)):
        save(tmp_path / f"{name}.h5ad", form, ["a"] * len(x), [f"c{i}" for i in range(len(x))])
        with blocks.BlockReader(tmp_path / f"{name}.h5ad", values_per_block=700) as reader:
            rows = np.flatnonzero(np.arange(len(x)) % 7 == 2)
            columns = np.array([5, 3, 80])
            found = [(start, block) for start, block in reader.blocks()]
            assert len(found) > 10
            assert [start for start, _ in found] == np.cumsum([0, *(block.shape[0] for _, block in found)])[
                :-1
            ].tolist()
            np.testing.assert_array_equal(
                sp.vstack([block for _, block in found]).toarray(), stored.toarray() if name == "csr" else x
            )
            np.testing.assert_array_equal(reader.take(rows, columns).toarray(), x[np.ix_(rows, columns)])


# ---------------------------------------------------------------------------------------------------------------------
# Intervals, tests, ceilings beside the values


def test_references_intervals_and_tests_stand_beside_the_value(base):
    row = summary(base).loc["dpearson_pm", "expr_nt"]
    assert row.ci_low < row.value < row.ci_high
    assert row.best_baseline == "no_change"  # the training mean is undefined here and has no skill
    assert row.difference_low < row.difference < row.difference_high
    assert 0 < row.p <= row.p_holm <= 0.05
    assert row.verdict == "better"
    assert row.tech_duplicate < row.full_vs_full < 1
    assert row.null_low <= row.null_mean <= row.null_high < row.value
    every = scores(base)
    assert {"predictions", "train_mean", "no_change", "no_skill", "tech_duplicate", "full_vs_full"} <= set(every.model)


def test_genes_in_which_a_prediction_is_constant_are_said(parts, files, base, tmp_path, capsys):
    """The true profile in ten genes, the training mean in all others: gene by gene perfect, over few genes only."""
    x, labels = parts["truth"]
    mean = np.array([x[labels == name].mean(0, dtype=np.float64) for name in TEST])
    same = np.mean([parts["train"][0][parts["train"][1] == name].mean(0, dtype=np.float64) for name in TRAIN], axis=0)
    varies = np.arange(20, 30)
    profile = np.tile(same, (len(TEST), 1))
    profile[:, varies] = mean[:, varies]
    save(tmp_path / "few.h5ad", profile, TEST, TEST)
    out = run(files, tmp_path / "out", predictions=tmp_path / "few.h5ad")
    printed = capsys.readouterr().out
    genes = pq.read_table(out / "genes.parquet").to_pandas()
    eligible = genes[(genes.metric == "gene_reliability") & (genes.value > 0)].gene
    n = len(set(eligible) & set(np.array(GENES)[varies]))
    row = summary(out).loc["gw_pearson_wf", "eligible"]
    assert 0 < n < len(eligible) and row.n_genes == n
    assert row.value == pytest.approx(1, abs=1e-6)
    assert row.value_imputed == pytest.approx(n / len(eligible), abs=1e-6)
    assert "1*" in printed and f"gw_pearson_wf eligible {row.value_imputed:.3g}" in printed.split("\n* ")[1]
    # a prediction that is defined throughout has no mark, and one value
    every = summary(base)
    whole = every[(every.status == "ok") & every.value_imputed.notna()]
    np.testing.assert_allclose(whole.value, whole.value_imputed, rtol=1e-6)
    assert len(whole) > 20 and every.loc["gw_pearson_wf", "eligible"].n_genes == len(eligible)


def test_variants_of_one_residue_are_one_cluster():
    found = evaluate.clusters(["TP53~R175H", "TP53~R175C", "TP53~R248Q", "KLF1", "KRAS~A11T;G12D", "A~x1y"], None)
    assert found["TP53~R175H"] == found["TP53~R175C"] == "TP53 175"
    assert len(set(found.values())) == 5
    listed = evaluate.clusters(["a", "b", "c"], [{"perturbation": "a", "gene": "G", "pos": "1"},
                                                {"perturbation": "b", "gene": "G", "pos": "1"}])  # fmt: skip
    assert listed == {"a": "G 1", "b": "G 1", "c": "c"}


# ---------------------------------------------------------------------------------------------------------------------
# Missing and extra perturbations


def test_missing_and_extra_perturbations_are_counted(files, parts, base, tmp_path, capsys):
    x, labels = parts["predictions"]
    labels = np.where(labels == TEST[3], "TP53~W999C", labels)
    path = tmp_path / "mine.h5ad"
    save(path, x, labels, [f"p{i}" for i in range(len(x))])
    with pytest.raises(InputError) as error:
        run(files, tmp_path / "out", predictions=path)
    assert "1 missing" in str(error.value)
    assert TEST[3] in str(error.value)
    assert "1 not in --truth (first TP53~W999C)" in str(error.value)
    assert "--allow-missing" in str(error.value)
    found = summary(run(files, tmp_path / "out", "--allow-missing", predictions=path)).loc["dpearson_pm", "expr_nt"]
    assert (found.n, found.status) == (9, "missing_pred:1")
    ratio = summary(tmp_path / "out").loc["nmse_ctrl", "expr_nt"]
    assert (ratio.n, ratio.status) == (9, "missing_pred")  # the value stands, over the others
    assert (ratio.n_missing_pred, found.n_missing_pred) == (1, 1)
    printed = capsys.readouterr().out
    assert "(1 not predicted: no skill)" in printed
    # what differences and verdicts are of: the missing one at no skill, among ten
    both = summary(tmp_path / "out").loc[[("dpearson_pm", "expr_nt"), ("c_acc", "expr_nt")]]
    np.testing.assert_allclose(both.value_imputed, (9 * both.value + [0, 0.5]) / 10)
    assert f"dpearson_pm expr_nt {both.value_imputed.iloc[0]:.3g}" in printed.split("\n* ")[1]
    assert f"{both.value.iloc[0]:.3g}*" in printed
    assert summary(base).loc["dpearson_pm", "expr_nt"].n == 10
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (record["missing_perturbations"], record["extra_perturbations"]) == ([TEST[3]], ["TP53~W999C"])
    every = scores(tmp_path / "out")
    row = every[(every.model == "predictions") & (every.perturbation == TEST[3]) & (every.metric == "dpearson_pm")]
    row = row[row.gene_set == "expr_nt"]
    assert set(row.status) == {"missing_pred"}


# ---------------------------------------------------------------------------------------------------------------------
# VariantCellBench's formulas with each list, from the cells by hand


def lists_by_hand(kind: str, parts) -> dict[str, list[int]]:
    x, labels = (np.concatenate([parts[name][i] for name in ("truth", "train")]) for i in (0, 1))
    x = x.astype(np.float64)
    control = x[labels == "control"]
    found = {}
    for name in TEST:
        cells = x[labels == name]
        silenced = (cells.mean(0) == 0) & (control.mean(0) != 0)
        if kind == "gears_ttest":
            size = np.abs(stats.ttest_ind(cells, control, equal_var=False).statistic)
            allowed = ~silenced
        else:
            p = stats.mannwhitneyu(cells, control, method="asymptotic", use_continuity=False).pvalue
            allowed = ~silenced & (stats.false_discovery_control(p) < 0.05)
            means = [np.expm1(part).mean(0) * 1e4 / 300 + 0.01 for part in (cells, control)]
            size = np.abs(np.log2(means[0] / means[1]))
        found[name] = sorted(np.flatnonzero(allowed).tolist(), key=lambda g: (-round(size[g], 9), GENES[g]))[:20]
    return found


@pytest.mark.parametrize("kind", ["gears_ttest", "readme_wilcoxon", "file"])
def test_compat_columns_by_hand(kind, files, parts, base, tmp_path):
    options = ["--bench-compat", "--bench-compat-de-list", kind, "--metrics", "extended"]  # lists and groups together
    if kind == "file":
        rng = np.random.default_rng(8)
        listed = {name: [int(g) for g in rng.permutation(G)[:25]] for name in TEST[:-1]}
        listed[TEST[0]] = listed[TEST[0]][:7]
        uns = {name: np.array(["not on the axis", *(GENES[g] for g in genes)]) for name, genes in listed.items()}
        x, labels = parts["truth"]
        save(tmp_path / "truth.h5ad", sp.csr_matrix(x), labels, [f"truth{i:05d}" for i in range(len(x))],
             uns={"top_non_dropout": uns})  # fmt: skip
        listed = {name: genes[:20] for name, genes in listed.items()} | {TEST[-1]: []}
        out = run(files, tmp_path / "out", *options, truth=tmp_path / "truth.h5ad")
    else:
        listed = lists_by_hand(kind, parts)
        out = base if kind == "gears_ttest" else run(files, tmp_path / "out", *options)

    def mean(part, keep):
        x, labels = parts[part]
        return x[keep(labels)].astype(np.float64)

    both = np.concatenate([mean(part, lambda labels: labels == "control") for part in ("truth", "train")])
    c, m = both.mean(0), mean("truth", lambda labels: labels != "control").mean(0)
    t = {name: mean("truth", lambda labels, name=name: labels == name).mean(0) for name in TEST}
    p = {name: mean("predictions", lambda labels, name=name: labels == name).mean(0) for name in TEST}
    every = scores(out)
    every = every[every.model == "predictions"]

    def of(metric, gene_set):
        rows = every[(every.metric == metric) & (every.gene_set == gene_set) & (every.perturbation != "")]
        return rows.set_index("perturbation").value

    for name in TEST:
        g = listed[name]
        found = {metric: of(f"bench_compat_{metric}", kind)[name]
                 for metric in ("mse_cw_de", "pcc_cw_de", "dpcc_cw_de", "dspcc_cw_de")}  # fmt: skip
        if len(g) < 3:
            assert np.isnan(list(found.values())).all() == (len(g) == 0)
            continue
        assert found["mse_cw_de"] == pytest.approx(np.mean((p[name] - t[name])[g] ** 2), abs=1e-9)
        for metric, reference in (("pcc_cw_de", 0 * c), ("dpcc_cw_de", c), ("dspcc_cw_de", m)):
            r = np.corrcoef((p[name] - reference)[g], (t[name] - reference)[g])[0, 1]
            assert found[metric] == pytest.approx(r, abs=1e-9), metric
    columns = [*t.values(), c]
    for k, name in enumerate(TEST):
        distance = [np.sqrt(((p[name] - column) ** 2).sum()) for column in columns]
        assert of("bench_compat_c_acc", "all")[name] == sum(d > distance[k] for d in distance) / (len(columns) - 1)
    whole = summary(out)
    error = np.mean([(p[name] - t[name]) ** 2 for name in TEST])
    assert whole.loc["bench_compat_mse_gw", "all"].value == pytest.approx(error, abs=1e-9)
    r = [np.corrcoef([p[n][g] for n in TEST], [t[n][g] for n in TEST])[0, 1] for g in range(G)]
    assert whole.xs("bench_compat_pcc_gw").value.iloc[0] == pytest.approx(np.mean(r), abs=1e-9)
    header = json.loads(pq.read_schema(out / "scores.parquet").metadata[b"vcbench"])
    assert header["bench_compat_de_list"] == kind
    if out != base:
        assert whole.loc[("in_range_frac", "de20_nt")].n > 0


# ---------------------------------------------------------------------------------------------------------------------
# Errors


def test_lists_of_the_file_must_be_there(files, tmp_path):
    with pytest.raises(InputError, match=r"uns: no gene lists.*expected top_non_dropout"):
        run(files, tmp_path, "--bench-compat", "--bench-compat-de-list", "file")
    with pytest.raises(InputError, match="no effect without --bench-compat"):
        run(files, tmp_path, "--bench-compat-de-list", "file")


def edited(parts, name, path, change):
    x, labels = parts[name][0].copy(), parts[name][1].copy()
    names = np.array([f"{name}{i:05d}" for i in range(len(x))], dtype=object)
    genes = list(GENES)
    change(x, labels, names, genes, parts)
    save(path, x, labels, names, genes)


def renamed_control(x, labels, names, genes, parts):
    x[:7] = parts["truth"][0][:7]


WRONG = {
    "NaN": ("train", lambda x, labels, names, genes, parts: x.__setitem__((5, 2), np.nan), "not finite.*train00005"),
    "gene twice": ("truth", lambda x, labels, names, genes, parts: genes.__setitem__(4, genes[5]), "duplicate gene"),
    "cell twice": ("train", lambda x, labels, names, genes, parts: names.__setitem__(4, names[5]), "duplicate cell"),
    "same controls": ("train", renamed_control, "7 control cells are in both files"),
    "other genes": (
        "predictions",
        lambda x, labels, names, genes, parts: genes.__setitem__(slice(None), [f"ENSG{i}" for i in range(G)]),
        "no common genes.*--truth TP53.*--predictions ENSG0",
    ),
    "spaces": (
        "predictions",
        lambda x, labels, names, genes, parts: labels.__setitem__(slice(None), [f"{s} " for s in labels]),
        "no perturbation in common.*found 'TP53~A100V '; expected 'TP53~A100V'.*spaces",
    ),
    "other name of the control": (
        "train",
        lambda x, labels, names, genes, parts: labels.__setitem__(labels == "control", "Ctrl"),
        "no control cells.*found 'Ctrl'; expected label 'control'",
    ),
    "shallow counts": (
        "truth", lambda x, labels, names, genes, parts: x.__setitem__(slice(None), np.round(x)), "whole numbers only",
    ),
    "shallow counts predicted": (
        "predictions",
        lambda x, labels, names, genes, parts: x.__setitem__(slice(None), np.round(x)),
        "whole numbers only.*are these raw counts",
    ),
    "nothing measured": (
        "train", lambda x, labels, names, genes, parts: x.__setitem__(slice(None), 0), "300 of 300 rows are all 0",
    ),
    "half of the cells empty": (
        "train", lambda x, labels, names, genes, parts: x.__setitem__(slice(151), 0), "151 of 300 rows are all 0",
    ),
    "no label": ("truth", lambda x, labels, names, genes, parts: labels.__setitem__(3, ""), "without a perturbation"),
    "other labels": (
        "predictions",
        lambda x, labels, names, genes, parts: labels.__setitem__(slice(None), [s[5:] for s in labels]),
        "no perturbation in common.*found 'A100V'; expected 'TP53~A100V'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("option", [("--bootstrap", "0"), ("--target-sum", "-5")])
def test_numbers_out_of_range_are_an_error_of_the_command_line(files, tmp_path, option, capsys):
    with pytest.raises(SystemExit):
        run(files, tmp_path / "out", *option)
    assert f"argument {option[0]}: found {option[1]}; expected at least" in capsys.readouterr().err


def test_too_few_controls_are_an_error(parts, files, tmp_path):
    x, labels = parts["truth"]
    keep = np.flatnonzero((labels != "control") | (np.arange(len(labels)) < 9))
    save(tmp_path / "few.h5ad", x[keep], labels[keep], [f"truth{i:05d}" for i in keep])
    with pytest.raises(InputError, match=r"too few control cells.*found 9; expected at least 10"):
        run(files, tmp_path / "out", truth=tmp_path / "few.h5ad")


def test_truth_and_train_on_different_scales_are_said(parts, files, tmp_path, caplog):
    run(files, tmp_path / "out")
    assert "scaled to the same total" not in caplog.text
    x, labels = parts["truth"]
    save(tmp_path / "log2.h5ad", x / np.log(2), labels, [f"truth{i:05d}" for i in range(len(x))])
    run(files, tmp_path / "out", truth=tmp_path / "log2.h5ad")
    assert "are both files natural log1p of counts scaled to the same total?" in caplog.text


def test_predicted_scale_is_judged_on_the_common_genes(parts, files, tmp_path, caplog):
    x, labels = parts["predictions"]
    some = np.argsort(-x.mean(0))[G // 4 :]
    save(tmp_path / "part.h5ad", x[:, some], labels, [f"p{i}" for i in range(len(x))], [GENES[i] for i in some])
    out = run(files, tmp_path / "out", predictions=tmp_path / "part.h5ad")
    assert "predicted totals" not in caplog.text
    assert 0.8 < json.loads((out / "evaluation.json").read_text())["predicted_to_measured_total"] < 1.25


@pytest.mark.filterwarnings("ignore:.*names are not unique")
@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_named_in_one_line(case, files, parts, tmp_path, monkeypatch):
    name, change, message = WRONG[case]
    monkeypatch.setattr("vcbench.metrics.evaluate_inputs.MIN_GENES_FINGERPRINT", 10)
    edited(parts, name, tmp_path / "bad.h5ad", change)
    with pytest.raises(InputError, match=message) as error:
        run(files, tmp_path / "out", **{name: tmp_path / "bad.h5ad"})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_moments_do_not_depend_on_blocks(parts):
    x, labels = parts["truth"]
    groups = profiles.codes(labels, TEST)
    found = profiles.moments(sp.csr_matrix(x), groups, len(TEST))
    for k, name in enumerate(TEST):
        np.testing.assert_allclose(found.mean[k], x[labels == name].astype(np.float64).mean(0), rtol=1e-13)


def test_cells_of_several_files_in_any_order(parts, tmp_path, monkeypatch):
    from vcbench.metrics.stored_cells import StoredCells, in_order_of_names

    monkeypatch.setattr("vcbench.metrics.stored_cells.ROWS_MOVED", 7)

    readers, dense = [], []
    for name, form in (("truth", sp.csr_matrix), ("train", np.asarray)):
        x, labels = parts[name]
        order = np.random.default_rng(2).permutation(len(x))
        names = np.array([f"{i:05d}" for i in range(len(x))])[order]
        save(tmp_path / f"{name}.h5ad", form(x[order]), labels[order], names)
        readers.append(blocks.BlockReader(tmp_path / f"{name}.h5ad", values_per_block=900))
        dense.append(x)
    genes = np.array(GENES[::-1][:50], dtype=object)
    whole = np.concatenate([dense[1], dense[0]])[:, ::-1][:, :50]  # "train" sorts before "truth"
    cells = StoredCells(tuple(readers), genes, in_order_of_names(readers, ("truth", "train")))
    assert cells.shape == whole.shape
    wanted = np.random.default_rng(3).permutation(len(whole))[:77]
    np.testing.assert_array_equal(cells.take(wanted).toarray(), whole[wanted])
    assert cells.take(np.array([], dtype=int)).shape == (0, 50)
    found = np.full(whole.shape, np.nan)
    for at, block in cells.blocks():
        found[at] = block.toarray()
    np.testing.assert_array_equal(found, whole)
    for reader in readers:
        reader.close()


# ---------------------------------------------------------------------------------------------------------------------
# Several models in one call, and the baselines that need no features


@pytest.fixture(scope="module")
def several(parts, files):
    """Two own models and a training file with batches, unequal numbers of cells and a residue of the truth."""
    folder = files / "several"
    folder.mkdir()
    x, labels = parts["train"]
    labels = labels.copy()
    labels[labels == TRAIN[0]] = TEST[0].replace("V", "D")  # the residue of the first test variant
    keep = ~((labels == TRAIN[1]) & (np.arange(len(x)) % 2 == 0))
    x, labels = x[keep], labels[keep]
    batch = np.where(np.random.default_rng(1).random(len(x)) < 0.4, "one", "two").astype(object)
    batch[(labels == TRAIN[2]) & (np.arange(len(x)) % 3 == 0)] = "no control"
    obs = pd.DataFrame({"perturbation": labels, "batch": batch}, index=[f"train{i:05d}" for i in range(len(x))])
    ad.AnnData(sp.csr_matrix(x), obs=obs, var=pd.DataFrame(index=GENES)).write_h5ad(folder / "train.h5ad")
    worse = parts["predictions"][0] + np.random.default_rng(0).normal(0, 0.3, G).astype(np.float32)
    save(folder / "worse.h5ad", worse, parts["predictions"][1], [f"p{i}" for i in range(len(worse))])
    out = run_several(folder, folder / "out", f"mine={files / 'predictions.h5ad'}", folder / "worse.h5ad")
    return folder, out, (x.astype(np.float64), labels, batch)


def run_several(folder: Path, out: Path, *predictions: object, extra: tuple = ()) -> Path:
    arguments = ["--truth", folder.parent / "truth.h5ad", "--train", folder / "train.h5ad", "--predictions",
                 *predictions, "--out", out, "--bootstrap", 200, *extra]  # fmt: skip
    evaluate.main([str(item) for item in arguments])
    return out


def draws_in_memory(x, labels):
    """Return the profiles of the two models that draw, fitted on cells in memory as in the pipeline; genes by name."""
    from vcbench.models import registry
    from vcbench.models.base import Perturbation, PredictionRequest, TrainingData

    names = sorted(set(labels) - {"control"})
    train = tuple(Perturbation(name, ("TP53",)) for name in names)
    order = np.argsort(GENES)
    cells = sp.csr_matrix(x[:, order].astype(np.float32))
    data = TrainingData(cells, labels, labels, tuple(np.array(GENES)[order]), train, (), None, cells)
    asked = tuple(Perturbation(name, ("TP53",)) for name in TEST)
    request = PredictionRequest(asked, (CELLS,) * len(TEST), cells[:1], data.genes, None)
    found = {}
    for model, settings in (("sparse_mean", {"pool": 2000}), ("sample_gene_random", {})):
        fitted = registry.load(model)(settings)
        fitted.fit(data, 0, "cpu")
        values = np.empty((len(TEST), G))
        prediction = fitted.predict(request, 0, "cpu")
        values[:, order] = prediction.values  # noqa: PD011
        found[model] = dict(zip(TEST, values, strict=True))
    return found


def test_baselines_by_hand(several, parts):
    _, out, (x, labels, batch) = several
    names = sorted(set(labels) - {"control"})
    control = x[labels == "control"].mean(0)
    t = {name: x[labels == name].mean(0) for name in names}
    mean = np.mean(list(t.values()), axis=0)

    def change(name):
        used = (labels == name) & (batch != "no control")
        own = sum((batch[used] == b).mean() * x[(labels == "control") & (batch == b)].mean(0) for b in ("one", "two"))
        return x[used].mean(0) - own

    expected = {
        "no_change": dict.fromkeys(TEST, control),
        "train_mean": dict.fromkeys(TEST, mean),
        "train_mean_cellw": {name: x[labels != "control"].mean(0) for name in TEST},
        "ce_mean": {name: np.mean([*t.values(), control], axis=0) for name in TEST},
        "train_mean_delta": dict.fromkeys(TEST, control + np.mean([change(name) for name in names], axis=0)),
        "position_mean": {name: t[TEST[0].replace("V", "D")] if name == TEST[0] else mean for name in TEST},
    }
    detected = [(x[keep] > 0).mean(0) >= 0.05 for keep in (labels == "control", labels != "control")]
    g = np.flatnonzero(detected[0] | detected[1])[1:]  # without TP53, the target
    truth = {n: parts["truth"][0][parts["truth"][1] == n].astype(np.float64).mean(0) for n in TEST}
    every = scores(out)
    every = every[(every.metric == "mse") & (every.gene_set == "expr_nt")].set_index(["model", "perturbation"]).value
    for model, profile in expected.items():
        for name in TEST:
            by_hand = np.mean((profile[name] - truth[name])[g] ** 2)
            assert every[model, name] == pytest.approx(by_hand, abs=1e-6), (model, name)
    for model, drawn in draws_in_memory(x, labels).items():  # the same draws as of a dataset in memory
        for name in TEST:
            by_hand = np.mean((drawn[name] - truth[name])[g] ** 2)
            assert every[model, name] == pytest.approx(by_hand, abs=1e-6), (model, name)
    assert every["sample_gene_random"].mean() > every["train_mean"].mean()
    record = json.loads((out / "evaluation.json").read_text())
    assert set(record["baselines"]) == {*expected, "sparse_mean", "sample_gene_random"}
    board = pd.read_csv(out / "leaderboard.tsv", sep="\t")
    assert set(board.model) == {"mine", "worse", *record["baselines"]}


def test_too_many_batches_are_ignored(several, tmp_path, monkeypatch, caplog):
    folder = several[0]
    monkeypatch.setattr("vcbench.metrics.evaluate_baselines.MOST_BATCHES", 1)
    out = run_several(folder, tmp_path / "out", folder / "worse.h5ad")
    assert "2 batches with control cells, more than 1: batches are ignored" in caplog.text
    assert "train_mean_delta" in json.loads((out / "evaluation.json").read_text())["baselines_left_out"]


def test_baselines_that_say_nothing_else_are_left_out(base):
    record = json.loads((base / "evaluation.json").read_text())
    same = {"position_mean", "train_mean_delta", "train_mean_cellw"}  # no residue twice, one batch, equal numbers
    assert record["baselines_left_out"] == dict.fromkeys(same, "says the same as train_mean here")
    assert not same & set(scores(base).model)


def test_models_are_compared_with_each_other(several, files, base, capsys):
    folder, out, _ = several
    found = pd.read_csv(out / "contrasts.tsv", sep="\t")
    key = (found.metric == "mse") & (found.gene_set == "expr_nt")
    pairs = found[key & (found.reference == "pair")]
    record = json.loads((out / "evaluation.json").read_text())
    assert set(zip(pairs.model, pairs.reference_model, strict=True)) == {
        ("mine", "worse"), *((m, b) for m in ("mine", "worse") for b in record["baselines"])
    }  # fmt: skip
    every = scores(out)
    every = every[(every.metric == "mse") & (every.gene_set == "expr_nt") & (every.perturbation != "")]
    wide = every.pivot_table(index="perturbation", columns="model", values="value")
    signs = np.array([[1 - 2 * (i >> k & 1) for k in range(10)] for i in range(1024)])
    for row in pairs.itertuples():
        d = (wide[row.model] - wide[row.reference_model]).loc[TEST].to_numpy()
        assert row.difference == pytest.approx(d.mean(), rel=1e-6)
        p = (np.abs(signs @ d) >= abs(d.sum()) - 1e-9).mean()
        assert row.p == pytest.approx(p, abs=1e-9)
    p = np.sort(pairs.p.to_numpy())
    holm = np.minimum(1, np.maximum.accumulate(p * np.arange(len(p), 0, -1)))
    np.testing.assert_allclose(np.sort(pairs.p_holm), holm, rtol=1e-9)
    best = found[key & (found.reference == "best_baseline")].set_index("model")
    assert list(best.index) == ["mine", "worse"]  # Holm over the own models alone
    assert best.p_holm.min() == pytest.approx(min(1, 2 * best.p.min()))
    means = wide.drop(columns=["mine", "worse", "sample_gene_random", "no_skill", "tech_duplicate"], errors="ignore")
    baselines = means[[name for name in record["baselines"] if name in means]].mean()
    assert set(best.reference_model) == {baselines.idxmin()}
    assert best.n_references.iloc[0] == len(baselines)

    rows = pd.read_csv(out / "summary.tsv", sep="\t").set_index(["model", "metric", "gene_set"])
    alone = summary(run_several(folder, folder / "alone", folder / "worse.h5ad"))
    pd.testing.assert_series_equal(rows.loc["worse"].value, alone.value)
    assert set(alone.model) == {"predictions"}
    printed = capsys.readouterr().out
    assert "Between your models" not in printed  # one model has nothing to be compared with
    swapped = run_several(folder, folder / "swapped", folder / "worse.h5ad", f"mine={files / 'predictions.h5ad'}")
    for name in ("summary.tsv", "contrasts.tsv", "leaderboard.tsv"):
        assert sorted((swapped / name).read_text().split("\n")) == sorted((out / name).read_text().split("\n")), name
    printed = capsys.readouterr().out
    assert "Between your models, headline metrics:" in printed
    assert "worse" in printed and "mine" in printed


def test_names_of_models(files, several, tmp_path):
    mine = files / "predictions.h5ad"
    for given, message in (
        ((mine, mine), "two models of one name.*found predictions.*NAME=file"),
        ((f"train_mean={mine}",), "'train_mean' is the name of a baseline"),
        ((f"truth={mine}", f"b={mine}"), "'truth' is the name of a baseline, model or control"),
        ((f"my model={mine}",), "not a plain name of a model.*'my model'"),
        ((f"a={mine}", f"b={tmp_path / 'none.h5ad'}"), "none.h5ad: file not found"),
    ):
        with pytest.raises(InputError, match=message):
            run_several(several[0], tmp_path / "out", *given)
    assert not (tmp_path / "out").exists()


def test_doubles_without_genes_have_no_rule_for_combinations(parts, files, tmp_path):
    """Which singles a double is made of is not guessed from its label; with a table the rules are there."""
    singles = ["A", "B", "C"]
    paths = {}
    for name, names in (("truth", ["A+B", "B+C", "D"]), ("train", singles), ("predictions", ["A+B", "B+C", "D"])):
        x, labels = parts[name]
        keep = (labels == "control") | np.isin(labels, np.unique(labels[labels != "control"])[: len(names)])
        of = dict(zip(np.unique(labels[keep & (labels != "control")]), names, strict=True)) | {"control": "control"}
        paths[name] = tmp_path / f"{name}.h5ad"
        save(
            paths[name],
            x[keep],
            [of[label] for label in labels[keep]],
            [f"{name}{i:05d}" for i in np.flatnonzero(keep)],
        )
    record = json.loads((run(tmp_path, tmp_path / "out", **paths) / "evaluation.json").read_text())
    rules = {"additive", "max_effect", "matching_mean"}
    assert rules <= set(record["baselines_left_out"])
    assert "genes of 3 perturbations are not known (first A+B): give --perturbations" in str(record)
    rows = "".join(f"{name}\t{name.replace('+', ';')}\n" for name in ("A+B", "B+C", "A", "B", "C", "D"))
    (tmp_path / "table.tsv").write_text("perturbation\tgene\n" + rows)
    out = run(tmp_path, tmp_path / "with", "--perturbations", tmp_path / "table.tsv", **paths)
    record = json.loads((out / "evaluation.json").read_text())
    assert rules <= set(record["baselines"])
    every = scores(out)
    row = every[(every.model == "additive") & (every.metric == "mse") & (every.gene_set == "expr_nt")]
    row = row.set_index("perturbation")
    assert row.status["D"] == "missing_pred"
    t = {name: parts["train"][0][parts["train"][1] == old].astype(np.float64).mean(0)
         for name, old in zip(singles, sorted(TRAIN), strict=False)}  # fmt: skip
    c = parts["train"][0][parts["train"][1] == "control"].astype(np.float64).mean(0)
    truth = parts["truth"][0][parts["truth"][1] == sorted(TEST)[0]].astype(np.float64).mean(0)
    used = np.isin(parts["train"][1], sorted(TRAIN)[:3])
    g = ((parts["train"][0][used] > 0).mean(0) >= 0.05) | (
        (parts["train"][0][parts["train"][1] == "control"] > 0).mean(0) >= 0.05
    )
    assert row.value["A+B"] == pytest.approx(np.mean((t["A"] + t["B"] - c - truth)[g] ** 2), abs=1e-6)


TABLES = {
    "twice": ("TP53~A100V\tTP53\t100\nTP53~A100V\tTP53\t100\n", "line 3: duplicate perturbation.*also in line 2"),
    "no residue": ("TP53~A100V\tTP53\tA100\n", "line 2, column pos: not a residue.*found 'A100'"),
    "others": ("A100V\tTP53\t100\n", "no perturbation of --truth is listed.*found 'A100V'; expected 'TP53~A100V'"),
}


@pytest.mark.parametrize("case", TABLES)
def test_wrong_tables_of_perturbations(case, files, tmp_path):
    text, message = TABLES[case]
    (tmp_path / "p.tsv").write_text("perturbation\tgene\tpos\n" + text)
    with pytest.raises(InputError, match=message):
        run(files, tmp_path / "out", "--perturbations", tmp_path / "p.tsv")


def test_what_is_doubtful_is_said_in_the_log(parts, files, tmp_path, caplog):
    """Few cells, few perturbations, empty cells, the truth as prediction, a target sum below the totals."""
    x, labels = parts["truth"]
    keep = np.isin(labels, ["control", *TEST[:3]]) & ~((labels == TEST[0]) & (np.cumsum(labels == TEST[0]) > 9))
    x = x.copy()
    x[np.flatnonzero(labels == TEST[1])[:2]] = 0
    save(tmp_path / "few.h5ad", x[keep], labels[keep], [f"truth{i:05d}" for i in np.flatnonzero(keep)])
    run(files, tmp_path / "out", "--target-sum", 100, truth=tmp_path / "few.h5ad", predictions=tmp_path / "few.h5ad")
    for message in (
        "1 of 3 perturbations have fewer than 10 cells (first TP53~A100V)",
        "2 of 149 rows are all 0",
        "--truth: 3 perturbations, variants of one residue counted once: with fewer than 6 no difference",
        "--predictions is the same file as --truth",
        "--target-sum 100: the training cells add up to 300.0, which is more",
    ):
        assert message in caplog.text, message
    everyone = labels == "control"
    everyone[[np.flatnonzero(labels == name)[0] for name in TEST]] = True
    save(tmp_path / "one.h5ad", x[everyone], labels[everyone], [f"truth{i:05d}" for i in np.flatnonzero(everyone)])
    with pytest.raises(
        InputError, match=r"no perturbation with enough cells.*found at most 1 each; expected at least 10"
    ):
        run(files, tmp_path / "no", truth=tmp_path / "one.h5ad")
    (tmp_path / "file").touch()
    for given, message in (
        ({"predictions": tmp_path}, "a folder, not a file"),
        ({"truth": tmp_path / "no"}, "not found"),
    ):
        with pytest.raises(InputError, match=message):
            run(files, tmp_path / "no", **given)
    with pytest.raises(InputError, match="--out: not a folder"):
        run(files, tmp_path / "file")


def test_a_constant_prediction_has_no_value_and_is_no_error(parts, files, tmp_path, caplog):
    x, labels = parts["predictions"]
    for number, told in ((0, "400 of 400 rows are all 0"), (3, "predicted totals are")):
        save(tmp_path / "same.h5ad", np.full_like(x, number), labels, [f"p{i}" for i in range(len(x))])
        out = run(files, tmp_path / str(number), predictions=tmp_path / "same.h5ad")
        assert told in caplog.text
        row = summary(out).loc["pearson", "de20_nt"]
        assert (row.n, "const_pred:" in row.status) == (0, True)


def with_genes(parts, path, genes) -> Path:
    x, labels = parts["truth"]
    obs = pd.DataFrame({"perturbation": labels, "gene": genes}, index=[f"truth{i:05d}" for i in range(len(x))])
    ad.AnnData(sp.csr_matrix(x), obs=obs, var=pd.DataFrame(index=GENES)).write_h5ad(path)
    return path


def test_column_of_genes(parts, files, base, tmp_path, caplog):
    labels = parts["truth"][1]
    path = tmp_path / "truth.h5ad"
    same = with_genes(parts, path, pd.Categorical(np.where(labels == "control", None, "TP53")))
    pd.testing.assert_series_equal(
        summary(run(files, tmp_path / "out", truth=same)).value, summary(base).loc[lambda t: t.index.isin(
            summary(tmp_path / "out").index)].value,
    )  # fmt: skip
    assert "not among" not in caplog.text
    run(
        files,
        tmp_path / "some",
        truth=with_genes(parts, path, pd.Categorical(np.where(labels == TEST[0], "p53", None))),
    )
    assert "1 perturbed genes are not among the 90 genes of the files (first p53)" in caplog.text
    assert f"no target gene known for 9 perturbations (first {TEST[1]})" in caplog.text
    two = np.where(np.arange(len(labels)) % 2, "TP53", "gene001")
    with pytest.raises(
        InputError, match=r"different genes of TP53~A100V.*found 'TP53' and 'gene001'|'gene001' and 'TP53'"
    ):
        run(files, tmp_path / "no", truth=with_genes(parts, path, two))


def test_profiles_of_shallow_cells_are_on_the_scale_of_mean_profiles(parts, files, tmp_path, caplog):
    """The mean of logs has a third of the total of the cells here: right for a profile, doubtful for a cell."""
    paths, rng = {}, np.random.default_rng(0)
    for name in ("truth", "train"):
        x, labels = parts[name]
        kept = np.where(rng.random(x.shape) < 0.07, np.expm1(x), 0)
        kept[:, 0] += 1e-3
        shallow = np.log1p(kept / kept.sum(1, keepdims=True) * 300).astype(np.float32)
        paths[name] = tmp_path / f"{name}.h5ad"
        save(paths[name], sp.csr_matrix(shallow), labels, [f"{name}{i:05d}" for i in range(len(x))])
    mean = shallow[parts["train"][1] != "control"].mean(0)
    save(tmp_path / "profiles.h5ad", np.tile(mean, (len(TEST), 1)), TEST, TEST)
    twice = [f"{name}{i}" for name in TEST for i in "ab"]
    save(tmp_path / "cells.h5ad", np.tile(mean, (2 * len(TEST), 1)), np.repeat(TEST, 2), twice)
    out = run(files, tmp_path / "out", **paths, predictions=tmp_path / "profiles.h5ad")
    assert "predicted totals" not in caplog.text
    assert 0.8 < json.loads((out / "evaluation.json").read_text())["predicted_to_measured_total"] < 1.25
    run(files, tmp_path / "out", **paths, predictions=tmp_path / "cells.h5ad")
    assert "predicted totals are 0." in caplog.text
